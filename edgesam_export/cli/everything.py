"""The command ``everything``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.loading import predicting_source
from edgesam_export.cli.options import common, prediction_source, weights
from edgesam_export.cli.output import emit, note, steps
from edgesam_export.cli.paths import UserPath

SHARE = click.FloatRange(0, 1)


@cli.command()
@click.argument("image", type=UserPath())
@click.option("--grid", type=click.IntRange(1, 256), default=32, show_default=True, help="Points along each side.")
@click.option("--crops", type=click.IntRange(0, 4), default=0, show_default=True, help="Layers of crops; 2: 4 and 16.")
@click.option("--min-score", type=SHARE, default=0.88, show_default=True, help="Masks of lower scores are dropped.")
@click.option("--min-stability", type=SHARE, default=0.95, show_default=True, help="Likewise by stability.")
@click.option("--max-overlap", type=SHARE, default=0.7, show_default=True, help="IoU of boxes of duplicates.")
@click.option("--min-area", type=click.IntRange(0), default=0, help="Smaller holes and islands are removed; pixels.")
@click.option("--cutouts", is_flag=True, help="Write each object as a PNG with transparency.")
@prediction_source
@weights
@common(output="out")
def everything(image: Path, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Find all masks of an image: writes them as COCO JSON, and an overlay."""
    from edgesam_export.imaging.reading import upright_size
    from edgesam_export.predict.everything import everything_image
    from edgesam_export.predict.mask_generator import GeneratorConfig

    config = GeneratorConfig(
        points_per_side=options["grid"],
        crop_n_layers=options["crops"],
        pred_iou_thresh=options["min_score"],
        stability_score_thresh=options["min_stability"],
        box_nms_thresh=options["max_overlap"],
        crop_nms_thresh=options["max_overlap"],
        min_mask_region_area=options["min_area"],
    )
    upright_size(image)  # weights may have to be fetched
    source = predicting_source(options, quiet)
    with steps(quiet, f"segmenting {image.name}") as progress:
        result = everything_image(
            image, source, output, config, numerics=options["numerics"], cutouts=options["cutouts"], progress=progress
        )
    if as_json:
        emit(result.document())
        return
    for name, path in result.files():
        click.echo(f"{name:8} {path}")
    note(quiet, result.summary())
