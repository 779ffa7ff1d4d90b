"""The command ``coreml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.export import export, package_config
from edgesam_export.cli.options import common, decoder_options, package_options, weights
from edgesam_export.cli.paths import UserPath
from edgesam_export.errors import UsageError
from edgesam_export.spec import ACTIVATIONS, QUANTIZED_PARTS, TARGETS, CoreMLConfig

__all__ = ["coreml_config"]


@cli.command()
@click.argument("model")
@click.option("--target", type=click.Choice(TARGETS), default=CoreMLConfig.target, show_default=True)
@click.option("--split-encoder", is_flag=True, help="Encoder as two packages, for weights above 1 GB.")
@click.option("--activations", type=click.Choice(list(ACTIVATIONS)), help="Layers read 8-bit activations (iOS17).")
@click.option("--calibrate", type=UserPath(), help="Folder of images that their ranges come from.")
@click.option(
    "--activations-in",
    type=click.Choice(QUANTIZED_PARTS),
    default=CoreMLConfig.activations_in,
    show_default=True,
    help="Components that have them.",
)
@click.option(
    "--activations-db",
    type=float,
    default=CoreMLConfig.activations_db,
    show_default=True,
    help="Layers stay in FP16 until the outputs keep this signal to noise; 0: none does.",
)
@click.option("--keep-fp16", multiple=True, metavar="LAYER", help="A layer or module that stays in FP16.")
@package_options
@decoder_options
@weights
@common(output="build")
def coreml(model: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Export encoder and decoder to Core ML packages, then check them against PyTorch."""
    config = coreml_config(model, options)
    calibration = calibration_source(config, options["calibrate"])
    export("coreml", model, config, output, options, as_json=as_json, quiet=quiet, **calibration)


def calibration_source(config: CoreMLConfig, folder: Path | None) -> dict[str, Path]:
    """Return the further argument of the export, empty without a folder.

    Raises:
        UsageError: a folder for an export that needs none, or one that cannot be read.
    """
    if folder is None:
        return {}
    if config.activations is None:
        raise UsageError("--calibrate is for quantised activations; add --activations int8, or leave it out")
    from edgesam_export.imaging.reading import image_files

    image_files(folder)  # before a checkpoint is obtained
    return {"calibration": folder}


def coreml_config(model: str, options: dict[str, Any]) -> CoreMLConfig:
    """Return the options of the export.

    Raises:
        UsageError: values that do not fit together, or slots that the model cannot have.
    """
    return CoreMLConfig(
        target=options["target"],
        split_encoder=options["split_encoder"],
        activations=options["activations"],
        activations_in=options["activations_in"],
        activations_db=options["activations_db"],
        keep_fp16=options["keep_fp16"],
        **package_config(model, options),
    )
