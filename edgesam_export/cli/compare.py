"""The command ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.options import RECORDS, common
from edgesam_export.cli.output import emit, note
from edgesam_export.errors import UsageError

__all__ = ["compare"]


@cli.command()
@click.argument("records", nargs=-1, metavar="[RECORD...]", type=click.Path(path_type=Path))
@click.option("--published", is_flag=True, help="Also the figures of papers and other projects.")
@click.option("--model", help="Only models whose name begins like this: edgesam, mobilesam, ...")
@click.option("--across-methods", is_flag=True, help="Rank different methods, chips and systems in one table.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@click.option("--output", type=click.Path(path_type=Path), metavar="PNG", help="Also draw a picture.")
@common()
def compare(records: tuple[Path, ...], as_json: bool, quiet: bool, **options: Any) -> None:
    """Put records (files or folders) and published figures side by side: table and plot."""
    from edgesam_export.bench.compare import compare as compare_rows
    from edgesam_export.bench.record import read_records
    from edgesam_export.bench.render import save_plot, to_markdown, to_text

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
    if as_json:
        emit(comparison.document())
    else:
        click.echo(to_markdown(comparison) if options["markdown"] else to_text(comparison))
    if options["output"] is not None:
        for line in save_plot(comparison, options["output"]):
            note(quiet, line)
        note(quiet, f"picture: {options['output']}")
