"""What commands print: progress, notes, JSON, tables; and their exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

__all__ = ["emit", "note", "size_text", "steps", "table"]

EXIT_OK, EXIT_GATE, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


@contextmanager
def steps(quiet: bool, title: str) -> Iterator[Callable[..., None]]:
    """Yield a progress callback: a bar on a terminal, nothing elsewhere.

    The callback takes a text, or (done, total) with an optional text.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def update(*parts: Any) -> None:
            numbers = [part for part in parts if isinstance(part, int)]
            text = next((part for part in parts if isinstance(part, str)), title)
            done, total = (*numbers, None, None)[:2]
            bar.update(task, description=text, completed=done, total=total)

        yield update


def note(quiet: bool, line: str) -> None:
    """Print a summary line on stderr."""
    if not quiet:
        click.echo(line, err=True)


def emit(document: Any) -> None:
    """Print JSON on stdout."""
    click.echo(json.dumps(document, indent=2, sort_keys=True, allow_nan=False))


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return rows under headings, columns aligned."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def size_text(path: Path) -> str:
    """Return the size of a file or folder in MB."""
    from edgesam_export.files import files_of

    return f"{sum(member.stat().st_size for member in files_of(path)) / 1e6:.1f} MB"
