"""The command ``segment``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.loading import predicting_source
from edgesam_export.cli.options import common, coordinates, prediction_source, weights
from edgesam_export.cli.output import emit, note, steps
from edgesam_export.cli.paths import UserPath


@cli.command()
@click.argument("image", type=UserPath())
@click.option(
    "--point", "points", multiple=True, type=coordinates("x,y"), metavar="X,Y", help="On the object; repeat for more."
)
@click.option(
    "--background", multiple=True, type=coordinates("x,y"), metavar="X,Y", help="Not on the object; repeat for more."
)
@click.option("--box", type=coordinates("x0,y0,x1,y1"), metavar="X0,Y0,X1,Y1", help="Around the object.")
@click.option("--mask-input", type=UserPath(), help="Logits of an earlier prediction, .npy.")
@prediction_source
@weights
@common(output="out")
def segment(image: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Cut an object out of an image: writes the mask, the logits and an overlay."""
    from edgesam_export.predict.segment import check_inputs, segment_image

    prompts = {name: options[name] for name in ("points", "background", "box", "mask_input")}
    check_inputs(image, **prompts)  # weights may have to be fetched
    source = predicting_source(options, quiet)
    with steps(quiet, f"segmenting {image.name}"):
        result = segment_image(image, source, output, **prompts, numerics=options["numerics"])
    if as_json:
        emit(result.document())
        return
    click.echo(f"mask     {result.mask_path}")
    click.echo(f"overlay  {result.overlay_path}")
    click.echo(f"logits   {result.logits_path}")
    note(quiet, result.summary())
