"""The commands ``coreml`` and ``onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.loading import load
from edgesam_export.cli.options import common, decoder_options, weights
from edgesam_export.cli.output import EXIT_GATE, emit, note, size_text, steps
from edgesam_export.cli.parity import judge, write_and_show
from edgesam_export.spec import COMPRESSIONS


@cli.command()
@click.argument("model")
@click.option("--points", type=int, help="Prompt slots of the decoder; default: 8, or the model's own number.")
@click.option("--also-points", type=int, multiple=True, help="Another number of slots in the same package (iOS18).")
@click.option("--target", type=click.Choice(["iOS16", "iOS17", "iOS18"]), default="iOS17", show_default=True)
@click.option("--precision", type=click.Choice(["fp16", "fp32"]), default="fp16", show_default=True)
@click.option("--tensor-input", is_flag=True, help="Encoder takes a normalised tensor instead of an image.")
@click.option("--split-encoder", is_flag=True, help="Encoder as two packages, for weights above 1 GB.")
@click.option("--compress", type=click.Choice(list(COMPRESSIONS)), help="Store weights compressed (linear4: iOS18).")
@decoder_options
@weights
@common(output="build")
def coreml(model: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Export encoder and decoder to Core ML packages, then check them against PyTorch."""
    from edgesam_export.families import model_info
    from edgesam_export.profiles.default import check_points
    from edgesam_export.spec import CoreMLConfig

    chosen = {} if options["points"] is None else {"points": options["points"]}
    if chosen:
        check_points(model_info(model), options["points"])
    config = CoreMLConfig(
        **chosen,
        functions=options["also_points"],
        target=options["target"],
        precision=options["precision"],
        tensor_input=options["tensor_input"],
        split_encoder=options["split_encoder"],
        compress=options["compress"],
        **shared_config(options),
    )
    export("coreml", model, config, output, options, as_json=as_json, quiet=quiet)


@cli.command()
@click.argument("model")
@click.option("--points", type=int, help="Fix the number of prompt slots; default: any number.")
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True)
@click.option("--opset", type=int, default=17, show_default=True, help="ONNX operator set, 17 to 20.")
@decoder_options
@weights
@common(output="build")
def onnx(model: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Export encoder and decoder to ONNX, then check them against PyTorch."""
    from edgesam_export.spec import OnnxConfig

    config = OnnxConfig(
        points=options["points"],
        precision=options["precision"],
        opset=options["opset"],
        **shared_config(options),
    )
    export("onnx", model, config, output, options, as_json=as_json, quiet=quiet)


def shared_config(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``ExportConfig`` that both commands take."""
    return {
        "mask_input": options["mask_input"],
        "candidates": int(options["candidates"]),
        "score": options["score"],
        "profile": options["profile"],
    }


def export(
    format: str, model: str, config: Any, output: Path, options: dict[str, Any], *, as_json: bool, quiet: bool
) -> None:
    """Export, print what was written, then judge it unless told not to."""
    from edgesam_export.formats import find_format

    loaded = load(model, options, quiet)
    with steps(quiet, "exporting") as progress:
        artifacts = find_format(format).export(loaded, output, config, progress=progress)
    document: dict[str, Any] = {
        "artifacts": [
            {"path": str(a.path), "component": a.component, "format": a.format, "sha256": a.sha256} for a in artifacts
        ]
    }
    for artifact in artifacts:
        if as_json:
            break
        click.echo(f"{artifact.path}  {artifact.component}  {size_text(artifact.path)}  sha256 {artifact.sha256[:12]}")
    for artifact in artifacts:
        for warning in artifact.contract.get("warnings", ()):
            note(quiet, f"{artifact.path.name}: {warning}")
    passed = True
    if not options["no_verify"]:
        report = judge(loaded, artifacts, quiet=quiet)
        passed = report.passed
        document["parity"] = write_and_show(report, output, as_json=as_json, quiet=quiet)
    if as_json:
        emit(document)
    if not passed:
        raise click.exceptions.Exit(EXIT_GATE)
