"""The command ``onnx``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.export import export, shared_config
from edgesam_export.cli.options import common, decoder_options, weights
from edgesam_export.spec import PRECISIONS, OnnxConfig


@cli.command()
@click.argument("model")
@click.option("--points", type=int, help="Fix the number of prompt slots; default: any number.")
@click.option("--precision", type=click.Choice(PRECISIONS), default=OnnxConfig.precision, show_default=True)
@click.option("--opset", type=int, default=OnnxConfig.opset, show_default=True, help="ONNX operator set, 17 to 20.")
@decoder_options
@weights
@common(output="build")
def onnx(model: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Export encoder and decoder to ONNX, then check them against PyTorch."""
    config = OnnxConfig(
        points=options["points"],
        precision=options["precision"],
        opset=options["opset"],
        **shared_config(options),
    )
    export("onnx", model, config, output, options, as_json=as_json, quiet=quiet)
