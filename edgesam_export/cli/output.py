"""What commands print: progress, notes and JSON; and their exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgesam_export.errors import collected_warnings, current_warnings, printable
from edgesam_export.files import files_of, json_text
from edgesam_export.spec import Progress, Provenance

__all__ = ["emit", "note", "note_weights", "one_line", "shown_warnings", "size_text", "steps"]

SHOWN_WARNINGS = 20
"""Most lines of warnings on a terminal: thousands of images may all be dark."""
MAX_LINE = 4000
"""Most characters of an error or a warning."""
EXIT_OK, EXIT_GATE, EXIT_USAGE = 0, 1, 2


@contextmanager
def steps(quiet: bool, title: str) -> Iterator[Progress]:
    """Yield a progress callback: a bar on a terminal, nothing elsewhere; without a text it shows ``title``."""
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(done: int, total: int, text: str) -> None:
            bar.update(task, description=text or title, completed=done, total=total or None)

        yield update


def note(quiet: bool, line: str) -> None:
    """Print a summary line on stderr."""
    if not quiet:
        click.echo(line, err=True)


def one_line(text: str) -> str:
    """Return text as one line: a name in it, of a file or a prompt, cannot begin another, which a CI may obey."""
    return printable(" ".join(text.split()), MAX_LINE)


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Print the warnings of what runs inside when it ends, however it ends; ``--quiet`` does not hide them."""
    with collected_warnings(silent=True) as found:
        try:
            yield
        finally:
            for line in found[:SHOWN_WARNINGS]:
                click.echo(one_line(f"warning: {line}"), err=True)
            if len(found) > SHOWN_WARNINGS:
                click.echo(f"warning: {len(found) - SHOWN_WARNINGS} more; --json lists all {len(found)}", err=True)


def note_weights(quiet: bool, provenance: Provenance | None) -> None:
    """Print the licence of a model's weights, or that they are random, and how they were found in a checkpoint."""
    if provenance is None:
        return
    if provenance.note is not None:
        note(quiet, provenance.note)
    if provenance.random_seed is not None:
        note(quiet, f"random weights (seed {provenance.random_seed}): for timing and tests, masks mean nothing")
    else:
        note(quiet, f"licence of the weights: {provenance.licence}")


def emit(document: dict[str, Any]) -> None:
    """Print JSON on stdout, with the warnings so far."""
    warnings = [*document.get("warnings", ()), *current_warnings()]
    click.echo(json_text({**document, "warnings": list(dict.fromkeys(warnings))}), nl=False)


def size_text(path: Path) -> str:
    """Return the size of an exported file or folder in MB."""
    return f"{sum(member.stat().st_size for member in files_of(path)) / 1e6:.1f} MB"
