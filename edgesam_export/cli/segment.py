"""The command ``segment``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.loading import load
from edgesam_export.cli.options import common, coordinates, weights
from edgesam_export.cli.output import emit, note, steps
from edgesam_export.formats import format_names


@cli.command()
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--point", "points", multiple=True, type=coordinates("x,y"), metavar="X,Y", help="On the object; repeat for more."
)
@click.option(
    "--background", multiple=True, type=coordinates("x,y"), metavar="X,Y", help="Not on the object; repeat for more."
)
@click.option("--box", type=coordinates("x0,y0,x1,y1"), metavar="X0,Y0,X1,Y1", help="Around the object.")
@click.option("--mask-input", type=click.Path(path_type=Path), help="Logits of an earlier prediction, .npy.")
@click.option(
    "--artifact", "artifacts", multiple=True, type=click.Path(path_type=Path), help="Exported files or folder."
)
@click.option("--backend", type=click.Choice(["torch", *format_names()]), help="Which of them; torch without files.")
@click.option("--model", default="edge_sam_3x", show_default=True, help="Model of the torch backend.")
@click.option("--numerics", help="Of Core ML: fp32, fp16 (default), ane, native:all.")
@weights
@common(output="out")
def segment(image: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Cut an object out of an image: writes the mask, the logits and an overlay."""
    from edgesam_export.predict.segment import choose_files, segment_image

    files = choose_files(options["artifacts"], options["backend"])
    source = files if files else load(options["model"], options, quiet)
    with steps(quiet, f"segmenting {image.name}"):
        result = segment_image(
            image,
            source,
            output,
            points=options["points"],
            background=options["background"],
            box=options["box"],
            mask_input=options["mask_input"],
            numerics=options["numerics"],
        )
    if as_json:
        emit(result.document())
        return
    click.echo(f"mask     {result.mask_path}")
    click.echo(f"overlay  {result.overlay_path}")
    click.echo(f"logits   {result.logits_path}")
    note(quiet, result.summary())
