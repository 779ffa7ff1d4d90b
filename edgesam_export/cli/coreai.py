"""The command ``coreai``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.export import export, package_config
from edgesam_export.cli.options import common, decoder_options, package_options, weights
from edgesam_export.spec import CoreAIConfig


@cli.command()
@click.argument("model")
@package_options
@decoder_options
@weights
@common(output="build")
def coreai(model: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Experimental: export to Core AI (iOS 27) assets, then check them; coreml is the recommended export."""
    config = CoreAIConfig(**package_config(model, options))
    export("coreai", model, config, output, options, as_json=as_json, quiet=quiet)
