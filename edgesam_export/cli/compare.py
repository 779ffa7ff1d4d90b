"""The command ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import RECORDS, common
from edgesam_export.cli.output import emit, note
from edgesam_export.cli.paths import UserPath
from edgesam_export.errors import UsageError

__all__ = ["compare"]


@cli.command()
@click.argument("records", nargs=-1, metavar="[RECORD...]", type=UserPath())
@click.option("--published", is_flag=True, help="Also the figures of papers and other projects.")
@click.option("--model", help="Only models whose name begins like this: edgesam, mobilesam, ...")
@click.option("--across-methods", is_flag=True, help="Rank different methods, chips and systems in one table.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--output", type=UserPath(), metavar="PNG", help="Also a plot; .svg, .md and .txt too.")
@common()
def compare(records: tuple[Path, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Put records (files or folders) and published figures side by side: table and plot."""
    from edgesam_export.bench.compare import compare as compare_rows
    from edgesam_export.bench.record import read_records
    from edgesam_export.bench.render import markdown, text, write_comparison

    if not records and not options["published"]:
        if not RECORDS.is_dir():
            raise UsageError(f"nothing to compare; give records, or --published ('{RECORDS}' does not exist here)")
        records = (RECORDS,)
    comparison = compare_rows(
        read_records(records),
        published=options["published"],
        model=options["model"],
        across_methods=options["across_methods"],
    )
    if options["output"] is not None:  # before anything is printed: a command that fails has no result
        write_comparison(comparison, options["output"])
    if as_json:
        emit(comparison.document())
    else:
        click.echo((markdown if options["markdown"] else text).render(comparison), nl=False)
    if options["output"] is not None:
        note(quiet, f"wrote {options['output']}")
