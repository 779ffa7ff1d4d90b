"""The command ``parity``, and what ``coreml`` and ``onnx`` check their files with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import common, weights
from edgesam_export.cli.output import EXIT_GATE, emit, note, steps

__all__ = ["judge", "write_and_show"]


def judge(reference: Any, artifacts: Any, *, quiet: bool, **arguments: Any) -> Any:
    """Return the parity report, with progress on the way."""
    from edgesam_export.parity.check import check_parity

    with steps(quiet, "parity") as progress:
        return check_parity(reference, artifacts, progress=progress, **arguments)


def write_and_show(report: Any, folder: Path, *, as_json: bool, quiet: bool) -> dict[str, Any]:
    """Write the report's files, print its table; return what JSON output says about it."""
    from edgesam_export.parity.render import write_reports
    from edgesam_export.parity.render.table import to_table

    paths = write_reports(report, folder)
    if not as_json:
        click.echo(to_table(report))
    note(quiet, f"report: {paths['html']}")
    return {"passed": report.passed, "reports": {kind: str(path) for kind, path in paths.items()}}


class ParityCommand(click.Command):
    """A command whose help ends with the formats that its reports are written in."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the formats; they are found only when help is asked for."""
        from edgesam_export.rendering import renderers

        suffixes = ", ".join(sorted(renderers("edgesam_export.parity.render")))
        with formatter.section("Reports"):
            formatter.write_text(f"parity{{{suffixes}}} in the output folder")


@cli.command(cls=ParityCommand)
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="Picture to compare on (2+).")
@click.option("--numerics", default="fp32,fp16,ane", show_default=True, help="Of Core ML: fp32, fp16, ane, native:all.")
@weights
@common(output="build/parity")
def parity(artifacts: tuple[Path, ...], output: Path, as_json: bool, quiet: bool, **options: Any) -> None:
    """Compare exported files with PyTorch; exit 1 when a gate fails."""
    from edgesam_export.parity.inputs import load_reference

    with steps(quiet, "loading the reference") as progress:
        reference = load_reference(
            artifacts,
            checkpoint=options["checkpoint"],
            random_weights=options["random_weights"],
            upsample=options["upsample"],
            progress=progress,
        )
    arguments = {"numerics": tuple(options["numerics"].split(",")), "images": options["images"] or None}
    report = judge(reference, list(artifacts), quiet=quiet, **arguments)
    shown = write_and_show(report, output, as_json=as_json, quiet=quiet)
    if as_json:
        emit(shown)
    if not report.passed:
        raise click.exceptions.Exit(EXIT_GATE)
