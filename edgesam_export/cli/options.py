"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["RECORDS", "Coordinates", "common", "decoder_options", "weights"]


def common(*, output: str | None = None) -> Callable:
    """Return a decorator that adds --json, --quiet and, with a default, --output."""

    def decorate(command: Callable) -> Callable:
        command = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(command)
        command = click.option("--quiet", is_flag=True, help="No progress and no summary on stderr.")(command)
        command = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")(command)
        if output is not None:
            option = click.option("--output", type=click.Path(path_type=Path), default=output, show_default=True)
            command = option(command)
        return command

    return decorate


def weights(command: Callable) -> Callable:
    """Add --checkpoint, --random-weights and --upsample."""
    for option in (
        click.option("--upsample", type=click.Choice(["bicubic", "bilinear"]), help="Override the neck's upsampling."),
        click.option("--random-weights", type=int, metavar="SEED", help="Stand-in weights: timing and tests only."),
        click.option("--checkpoint", type=click.Path(path_type=Path), help="Your file; else the published one."),
    ):
        command = option(command)
    return command


def decoder_options(command: Callable) -> Callable:
    """Add what both export formats share."""
    for option in (
        click.option("--no-verify", is_flag=True, help="Skip parity with PyTorch after exporting."),
        click.option("--profile", default="default", show_default=True, help="Tensor contract (see README)."),
        click.option("--score", type=click.Choice(["iou", "stability"]), help="What scores are; default per family."),
        click.option("--candidates", type=click.Choice(["4", "3", "1"]), default="4", show_default=True),
        click.option("--mask-input/--no-mask-input", default=False, help="Let the decoder take an earlier mask."),
    ):
        command = option(command)
    return command


class Coordinates(click.ParamType):
    """Comma-separated numbers: a point or a box in source pixels."""

    def __init__(self, names: str) -> None:
        self.name = names
        self.count = len(names.split(","))

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """Return the numbers, or say what was expected."""
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != self.count:
            self.fail(f"'{value}' is not {self.name} in source pixels", param, ctx)
        return numbers


RECORDS = Path("benchmarks/records")
