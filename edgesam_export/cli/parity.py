"""The command ``parity``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import common, numerics_of, weights
from edgesam_export.cli.output import EXIT_GATE, emit, note, steps
from edgesam_export.cli.paths import UserPath
from edgesam_export.errors import UsageError
from edgesam_export.spec import NUMERICS

if TYPE_CHECKING:
    from edgesam_export.parity.verification import Verification

__all__ = ["show_verification"]


class ParityCommand(click.Command):
    """A command whose help ends with the formats that its reports are written in."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the formats; they are found only when help is asked for."""
        from edgesam_export.rendering import renderers

        suffixes = ", ".join(sorted(renderers("edgesam_export.parity.render")))
        with formatter.section("Reports"):
            formatter.write_text(f"parity{{{suffixes}}} in the output folder")


@cli.command(cls=ParityCommand)
@click.argument("artifacts", nargs=-1, required=True, type=UserPath())
@click.option("--image", "images", multiple=True, type=UserPath(), help="Image to compare on (2+).")
@click.option(
    "--numerics",
    default=",".join(NUMERICS),
    show_default=True,
    help="fp32, fp16, ane, native:all (a Mac), apple (Core AI); fp32 is asked of ONNX in FP16, too.",
)
@click.option("--prompts", type=UserPath(), help="Your own prompts: JSON, or COCO instances.")
@click.option("--gates", type=UserPath(), help="Your own gates: TOML.")
@click.option("--baseline", type=UserPath(), help="parity.json to be no worse than, in half precision.")
@click.option("--model", help="Of files that another exporter made; with --profile.")
@click.option("--profile", help="Tensor contract of another exporter's files; with --model.")
@click.option("--score", type=click.Choice(["iou", "stability"]), help="With --profile: what the files' scores are.")
@weights
@common(output="build/parity")
def parity(artifacts: tuple[Path, ...], output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Compare exported files with PyTorch; exit 1 when a gate fails."""
    from edgesam_export.parity.bar import read_bar
    from edgesam_export.parity.verification import verify_files, verify_foreign_files

    shared = {name: options[name] for name in ("checkpoint", "random_weights", "upsample")}
    shared["images"] = options["images"] or None
    shared["numerics"] = numerics_of(options["numerics"])
    shared["bar"] = read_bar(prompts=options["prompts"], gates=options["gates"], baseline=options["baseline"])
    foreign = foreign_options(options)
    with steps(quiet, "parity") as progress:
        if foreign:
            result = verify_foreign_files(artifacts, output, **foreign, **shared, progress=progress)
        else:
            result = verify_files(artifacts, output, **shared, progress=progress)
    show_verification(result, as_json=as_json, quiet=quiet)
    if as_json:
        emit(result.document())
    if not result.report.passed:
        raise click.exceptions.Exit(EXIT_GATE)


def foreign_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options for files of other exporters, none for ours.

    Raises:
        UsageError: one of them without the other.
    """
    chosen = {name: options[name] for name in ("model", "profile", "score") if options[name] is not None}
    if chosen and not {"model", "profile"} <= set(chosen):
        given = ", ".join(f"--{name}" for name in chosen)
        raise UsageError(f"{given} alone: files of other exporters need --model and --profile; ours need neither")
    return chosen


def show_verification(result: Verification, *, as_json: bool, quiet: bool) -> None:
    """Print the table of a parity report, unless JSON was asked for, and where its page lies."""
    if not as_json:
        click.echo(result.table())
    note(quiet, f"report: {result.paths['html']}")
