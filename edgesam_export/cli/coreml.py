"""The command ``coreml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.export import export, shared_config
from edgesam_export.cli.options import common, decoder_options, weights
from edgesam_export.spec import COMPRESSIONS, PRECISIONS, TARGETS, CoreMLConfig

__all__ = ["coreml_config"]


@cli.command()
@click.argument("model")
@click.option("--points", type=int, help="Prompt slots of the decoder; default: 8, or the model's own number.")
@click.option("--also-points", type=int, multiple=True, help="Another number of slots in the same package (iOS18).")
@click.option("--target", type=click.Choice(TARGETS), default=CoreMLConfig.target, show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default=CoreMLConfig.precision, show_default=True)
@click.option("--tensor-input", is_flag=True, help="Encoder takes a normalised tensor instead of an image.")
@click.option("--split-encoder", is_flag=True, help="Encoder as two packages, for weights above 1 GB.")
@click.option("--compress", type=click.Choice(list(COMPRESSIONS)), help="Store weights compressed (linear4: iOS18).")
@decoder_options
@weights
@common(output="build")
def coreml(model: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Export encoder and decoder to Core ML packages, then check them against PyTorch."""
    export("coreml", model, coreml_config(model, options), output, options, as_json=as_json, quiet=quiet)


def coreml_config(model: str, options: dict[str, Any]) -> CoreMLConfig:
    """Return the options of the export.

    Raises:
        UsageError: values that do not fit together, or slots that the model cannot have.
    """
    from edgesam_export.families import model_info
    from edgesam_export.profiles import check_points

    chosen = {} if options["points"] is None else {"points": options["points"]}
    if chosen:
        check_points(model_info(model), options["points"])
    return CoreMLConfig(
        **chosen,
        functions=options["also_points"],
        target=options["target"],
        precision=options["precision"],
        tensor_input=options["tensor_input"],
        split_encoder=options["split_encoder"],
        compress=options["compress"],
        **shared_config(options),
    )
