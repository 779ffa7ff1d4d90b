"""What the commands that export have in common; there is one for each format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.loading import load
from edgesam_export.cli.output import EXIT_GATE, emit, size_text, steps
from edgesam_export.cli.parity import show_verification
from edgesam_export.errors import warn
from edgesam_export.spec import CANDIDATES, Artifact, ExportConfig

__all__ = ["export", "package_config", "shared_config"]


def shared_config(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``ExportConfig`` that every format's command takes."""
    return {
        "queries": options["queries"],
        "mask_input": options["mask_input"],
        "candidates": next(known for known in CANDIDATES if str(known) == options["candidates"]),
        "object_score": options["object_score"],
        "score": options["score"],
        "profile": options["profile"],
    }


def package_config(model: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of ``PackageConfig`` that the commands of Apple's formats take.

    Raises:
        UsageError: prompt slots that the model cannot have, or no such compression.
        SchemaError: a file that is no recipe.
    """
    from edgesam_export.export.compression import compression_of
    from edgesam_export.families import model_info
    from edgesam_export.profiles import check_points

    chosen = {} if options["points"] is None else {"points": options["points"]}
    if chosen:
        check_points(model_info(model), options["points"])
    return {
        **chosen,
        "functions": options["also_points"],
        "precision": options["precision"],
        "tensor_input": options["tensor_input"],
        "compress": None if options["compress"] is None else compression_of(options["compress"]),
        **shared_config(options),
    }


def export(
    format: str,
    model: str,
    config: ExportConfig,
    output: Path,
    options: dict[str, Any],
    *,
    as_json: bool,
    quiet: bool,
    **further: Any,
) -> None:
    """Export, print what was written, then check it unless ``--no-verify`` was given.

    ``further`` are arguments of this format's export alone.
    """
    from edgesam_export.formats import find_format

    loaded = load(model, options, quiet)
    with steps(quiet, "exporting") as progress:
        artifacts = find_format(format).export(loaded, output, config, progress=progress, **further)
    show_artifacts(artifacts, as_json=as_json)
    document: dict[str, Any] = {"artifacts": [artifact_entry(artifact) for artifact in artifacts]}
    passed = True
    if not options["no_verify"]:
        from edgesam_export.parity.verification import verify_files

        with steps(quiet, "parity") as progress:
            result = verify_files(artifacts, output, reference=loaded, progress=progress)
        show_verification(result, as_json=as_json, quiet=quiet)
        document["parity"] = result.document()
        passed = result.report.passed
    if as_json:
        emit(document)
    if not passed:
        raise click.exceptions.Exit(EXIT_GATE)


def artifact_entry(artifact: Artifact) -> dict[str, str]:
    """Return the JSON entry of an exported file."""
    return {
        "path": str(artifact.path),
        "component": artifact.component,
        "format": artifact.format,
        "sha256": artifact.sha256,
    }


def activations_text(artifact: Artifact) -> str:
    """Return in how many layers of a file activations are quantised, empty for none."""
    entry = artifact.contract.get("activations")
    if entry is None:
        return ""
    return f", {entry['dtype']} activations in {len(entry['layers'])} layers ({entry['work_share']:.0%} of the work)"


def show_artifacts(artifacts: Sequence[Artifact], *, as_json: bool) -> None:
    """Print a line for each exported file, unless JSON was asked for; issue the warnings of the export."""
    for artifact in () if as_json else artifacts:
        size = f"{size_text(artifact.path)}{activations_text(artifact)}"
        click.echo(f"{artifact.path}  {artifact.component}  {size}  sha256 {artifact.sha256[:12]}")
    for artifact in artifacts:
        for warning in artifact.contract.get("warnings", ()):
            warn(f"{artifact.path.name}: {warning}")
