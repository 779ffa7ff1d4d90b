"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.paths import UserPath
from edgesam_export.errors import UsageError
from edgesam_export.files import check_output_folder
from edgesam_export.formats import format_names
from edgesam_export.spec import CANDIDATES, NUMERICS, PRECISIONS, PRESETS, ExportConfig, PackageConfig

__all__ = [
    "RECORDS",
    "Command",
    "common",
    "coordinates",
    "decoder_options",
    "numerics_of",
    "package_options",
    "prediction_source",
    "weights",
]

Command = Callable[..., Any]
RECORDS = Path("benchmarks/records")


def common(*, output: str | None = None) -> Callable[[Command], Command]:
    """Return a decorator that adds --json, --quiet, --debug and, with a default, --output."""

    def decorate(command: Command) -> Command:
        command = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(command)
        command = click.option("--quiet", is_flag=True, help="No progress and no summary on stderr.")(command)
        command = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")(command)
        if output is not None:
            kind = UserPath()
            option = click.option("--output", type=kind, default=output, show_default=True, callback=checked_folder)
            command = option(command)
        return command

    return decorate


def checked_folder(_: click.Context, __: click.Parameter, folder: Path) -> Path:
    """Return the output folder, checked before anything is fetched or computed for it."""
    check_output_folder(folder)
    return folder


def weights(command: Command) -> Command:
    """Add --checkpoint, --random-weights and --upsample."""
    for option in (
        click.option("--upsample", type=click.Choice(["bicubic", "bilinear"]), help="Override the neck's upsampling."),
        click.option("--random-weights", type=int, metavar="SEED", help="Stand-in weights: timing and tests only."),
        click.option("--checkpoint", type=UserPath(), help="Yours; FILE#KEY: one set in it. Else published."),
    ):
        command = option(command)
    return command


def prediction_source(command: Command) -> Command:
    """Add the options that name exported files or a model to predict with; ``cli/loading.py`` opens them."""
    for option in (
        click.option("--numerics", help="fp32, fp16 (default), ane, native:all (a Mac), apple (Core AI)."),
        click.option("--model", default="edge_sam_3x", show_default=True, help="Model of the torch backend."),
        click.option(
            "--backend", type=click.Choice(["torch", *format_names()]), help="Which of them; torch without files."
        ),
        click.option("--artifact", "artifacts", multiple=True, type=UserPath(), help="Exported files or folder."),
    ):
        command = option(command)
    return command


def decoder_options(command: Command) -> Command:
    """Add the options that every export format has."""
    for option in (
        click.option("--no-verify", is_flag=True, help="Skip parity with PyTorch after exporting."),
        click.option(
            "--profile", default=ExportConfig.profile, show_default=True, help="Tensor contract (see README)."
        ),
        click.option("--score", type=click.Choice(["iou", "stability"]), help="What scores are; default per family."),
        click.option(
            "--candidates",
            type=click.Choice([str(count) for count in CANDIDATES]),
            default=str(ExportConfig.candidates),
            show_default=True,
            help="Masks returned; dynamic: one, chosen by stability (SAM 2).",
        ),
        click.option("--object-score", is_flag=True, help="Let the decoder say whether an object is there (SAM 2)."),
        click.option(
            "--queries",
            type=int,
            default=ExportConfig.queries,
            show_default=True,
            help="Prompts that the decoder takes at once on one image; fewer may be given.",
        ),
        click.option("--mask-input/--no-mask-input", default=False, help="Let the decoder take an earlier mask."),
    ):
        command = option(command)
    return command


def package_options(command: Command) -> Command:
    """Add the options that the formats of Apple's frameworks share."""
    for option in (
        click.option(
            "--compress",
            metavar="SCHEME|PRESET|RECIPE.toml",
            help=f"Store weights compressed: {', '.join(PRESETS)}, a scheme (docs/recipes.md) or a recipe.",
        ),
        click.option("--tensor-input", is_flag=True, help="Encoder takes a normalised tensor instead of pixels."),
        click.option("--precision", type=click.Choice(PRECISIONS), default=PackageConfig.precision, show_default=True),
        click.option(
            "--also-points",
            type=int,
            multiple=True,
            help="Another number of slots in the same package (Core ML: iOS18).",
        ),
        click.option("--points", type=int, help="Prompt slots of the decoder; default: 8, or the model's own number."),
    ):
        command = option(command)
    return command


def numerics_of(text: str) -> tuple[str, ...]:
    """Return the kinds of numerics in a comma-separated list, each once.

    Raises: UsageError for one that no file can be opened with; formats that choose themselves would pass over it.
    """
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in (*NUMERICS, "apple") and not name.startswith("native"):
            known = ", ".join(NUMERICS)
            raise UsageError(f"numerics is '{name}'; choose one of: {known}, native:all (a Mac), apple (Core AI)")
    return names


def coordinates(names: str) -> Callable[[str], tuple[float, ...]]:
    """Return a converter of comma-separated numbers in source pixels, as many as there are ``names`` (``"x,y"``)."""

    def convert(text: str) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != len(names.split(",")):
            raise click.BadParameter(f"'{text}' is not {names} in source pixels")
        return numbers

    return convert
