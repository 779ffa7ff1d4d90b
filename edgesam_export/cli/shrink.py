"""The command ``shrink``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.loading import load
from edgesam_export.cli.options import common, weights
from edgesam_export.cli.output import EXIT_GATE, emit, note, steps
from edgesam_export.cli.paths import UserPath
from edgesam_export.errors import UsageError
from edgesam_export.spec import TARGETS, CoreMLConfig, Progress, Recipe

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel
    from edgesam_export.shrink.shrinking import Images, Recover

RECOVERY_DATA = "scenes:90"
COUNT = 24
"""Images to search on, and as many held out."""
RECOVERY = "recovery"
"""Folder of the training, in the output folder."""


@cli.command("shrink")
@click.argument("model")
@click.option("--min-iou", type=float, metavar="IOU", help="Smallest packages that keep FP32 masks so well: 0.98.")
@click.option("--max-mb", type=float, metavar="MB", help="Best packages of this size, encoder and decoder together.")
@click.option(
    "--images",
    type=UserPath(str),
    metavar="DATA",
    help="Folder, COCO .json or scenes:SEED:COUNT; else bundled images, varied.",
)
@click.option(
    "--count", type=click.IntRange(2, 10_000), default=COUNT, show_default=True, help="Images; as many are held out."
)
@click.option("--scheme", "schemes", multiple=True, help="Choose among these for each kernel; repeatable.")
@click.option("--no-comparison", is_flag=True, help="Leave out uniform schemes and recipes of other sizes.")
@click.option("--no-verify", is_flag=True, help="Skip parity with PyTorch on the weights as stored.")
@click.option("--target", type=click.Choice(TARGETS), default=CoreMLConfig.target, show_default=True)
@click.option("--points", type=int, help="Prompt slots of the decoder; default: 8, or the model's own number.")
@click.option("--mask-input/--no-mask-input", default=False, help="Let the decoder take an earlier mask.")
@click.option("--recover", is_flag=True, help="Then train the weights on what was found (extra distill).")
@click.option("--recover-data", default=RECOVERY_DATA, show_default=True, metavar="DATA", help="Not those of --images.")
@click.option("--recover-steps", type=click.IntRange(min=1), default=150, show_default=True, help="Of 4 images each.")
@weights
@common(output="build")
def shrink(model: str, output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Find the smallest Core ML packages that keep the model's masks: a compression scheme for each kernel."""
    from edgesam_export.shrink.render.text import summary, to_table
    from edgesam_export.shrink.result import RECOVERED
    from edgesam_export.shrink.search import Goal
    from edgesam_export.shrink.shrinking import ShrinkConfig
    from edgesam_export.shrink.shrinking import shrink as search

    size = options["max_mb"]
    config = ShrinkConfig(
        goal=Goal(min_iou=options["min_iou"], max_bytes=None if size is None else round(size * 1e6)),
        export=export_config(model, options),
        schemes=options["schemes"],
        uniform=() if options["no_comparison"] else None,
        curve=0 if options["no_comparison"] else ShrinkConfig.curve,
        verify=not options["no_verify"],
    )
    loaded = load(model, options, quiet)
    images = open_images(loaded, options["images"], options["count"])
    with steps(quiet, "searching") as progress:
        recover = recovery(model, output, options, progress) if options["recover"] else None
        result = search(loaded, images, output, config, recover=recover, progress=progress)
    if as_json:
        emit(result.document())
    else:
        click.echo(to_table(result))
    for line in summary(result):
        note(quiet, line)
    note(quiet, f"wrote {', '.join(result.files.values())}")
    trained = recovered_weights(model, output) if result.found.name == RECOVERED else None
    again = ("edgesam-export", "coreml", model, "--compress", result.files["recipe"], *export_words(options, trained))
    note(quiet, f"the same packages again: {shlex.join(again)}")
    if not result.passed:
        raise click.exceptions.Exit(EXIT_GATE)


def export_words(options: dict[str, Any], trained: Path | None) -> Iterator[str]:
    """Yield the options with which ``coreml`` exports a recipe as this command did; ``trained`` are weights made by it.

    Parity's own gates allow a visible change of 1 %, so that an export of what was asked for would fail them.
    """
    named = {name: options[name] for name in ("target", "points", "checkpoint", "random_weights", "upsample")}
    if trained is not None:
        named |= {"checkpoint": trained, "random_weights": None}
    for name, value in named.items():
        if value is not None:
            yield from (f"--{name.replace('_', '-')}", str(value))
    yield from ("--mask-input",) if options["mask_input"] else ()
    yield "--no-verify"


def recovered_weights(model: str, output: Path) -> Path:
    """Return the file of the weights that ``--recover`` trains."""
    from edgesam_export.distill.runs import weights_file

    return weights_file(output / RECOVERY, model)


def recovery(model: str, output: Path, options: dict[str, Any], progress: Progress) -> Recover:
    """Return the function that trains a model on a recipe; an interrupted run in ``output`` goes on.

    Raises:
        UsageError: there are no weights to recover.
    """
    from edgesam_export.distill.config import Phase
    from edgesam_export.distill.run import recover_recipe
    from edgesam_export.families import load_model, model_info

    if options["random_weights"] is not None:
        raise UsageError("--recover trains weights on their own masks, and those of --random-weights mean nothing")
    size = model_info(model).frame.size
    folder = output / RECOVERY

    def recover(recipe: Recipe) -> SamModel:
        result = recover_recipe(
            model,
            recipe,
            folder,
            checkpoint=options["checkpoint"],
            data=options["recover_data"],
            schedule=(Phase(size=size, batch=4, steps=options["recover_steps"]),),
            resume=(folder / "config.json").exists(),
            progress=progress,
        )
        return load_model(model, result.weights, upsample=options["upsample"])

    return recover


def export_config(model: str, options: dict[str, Any]) -> CoreMLConfig:
    """Return the options of the packages.

    Raises:
        UsageError: slots that the model cannot have.
    """
    from edgesam_export.families import model_info
    from edgesam_export.profiles import check_points

    chosen = {} if options["points"] is None else {"points": options["points"]}
    if chosen:
        check_points(model_info(model), options["points"])
    return CoreMLConfig(target=options["target"], mask_input=options["mask_input"], **chosen)


def open_images(model: SamModel, data: str | None, count: int) -> Images:
    """Return the images that the options name, half of them held out.

    Raises:
        UsageError: they cannot be read, or are too few.
    """
    from edgesam_export.shrink.images import bundled_images, split_images
    from edgesam_export.shrink.shrinking import Images

    if data is None:
        search, held_out = bundled_images(model.info, count)
        return Images(name="bundled images", search=search, held_out=held_out)
    from edgesam_export.distill.data import open_data

    opened = open_data(data)
    search, held_out = split_images(opened, count)
    return Images(name=opened.name, search=search, held_out=held_out)
