"""The command ``coreml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.export import export, package_config
from edgesam_export.cli.options import common, decoder_options, package_options, weights
from edgesam_export.spec import TARGETS, CoreMLConfig

__all__ = ["coreml_config"]


@cli.command()
@click.argument("model")
@click.option("--target", type=click.Choice(TARGETS), default=CoreMLConfig.target, show_default=True)
@click.option("--split-encoder", is_flag=True, help="Encoder as two packages, for weights above 1 GB.")
@package_options
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
    return CoreMLConfig(
        target=options["target"], split_encoder=options["split_encoder"], **package_config(model, options)
    )
