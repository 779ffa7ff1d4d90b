"""Reports as files: one mechanism for every kind of report, and the tables that its formats share.

A kind of report has a package ``render``; a module in it that has ``SUFFIX`` and ``render(report)`` is a format.
Dropping the file in is enough: writing, the command line and the tests ask this module what there is.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from edgesam_export.errors import printable
from edgesam_export.files import staging_folder

__all__ = ["escape_markdown", "markdown_table", "rendered", "renderers", "text_table", "write_reports"]

MAX_CELL = 1000
MARKDOWN_SPECIAL = "\\`*_{}[]|"

Render = Callable[[Any], "str | bytes"]


def renderers(package: str) -> dict[str, Render]:
    """Return the formats of a ``render`` package: file suffix (``.json``) -> function from a report to its content."""
    path = importlib.import_module(package).__path__
    modules = [importlib.import_module(f"{package}.{item.name}") for item in pkgutil.iter_modules(path)]
    return {module.SUFFIX: module.render for module in modules if "SUFFIX" in vars(module)}


def rendered(render: Render, report: Any) -> bytes:
    """Return the content of a report's file in one format."""
    content = render(report)
    # File names may hold bytes that are no text; a report must be writable all the same.
    return content if isinstance(content, bytes) else content.encode("utf-8", "replace")


def write_reports(package: str, report: Any, folder: str | Path, stem: str) -> dict[str, Path]:
    """Write a report in every format of ``package`` as ``<stem><suffix>``, all or none; return the paths by suffix.

    Raises:
        UsageError: the folder cannot be written to.
    """
    contents = {suffix: rendered(render, report) for suffix, render in renderers(package).items()}
    with staging_folder(Path(folder)) as staging:
        for suffix, content in contents.items():
            (staging / f"{stem}{suffix}").write_bytes(content)
    return {suffix: Path(folder) / f"{stem}{suffix}" for suffix in contents}


def escape_markdown(text: str) -> str:
    """Return text on one line that a Markdown table cell shows as it is."""
    for sign in MARKDOWN_SPECIAL:
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.replace("<", "&lt;").replace(">", "&gt;").split())


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Return a Markdown table of plain-text cells; ``right`` are the columns aligned to the right."""
    marks = ["---:" if column in right else "---" for column in range(len(headings))]
    lines = [headings, marks, *([escape_markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> str:
    """Return rows under their headings for a terminal, columns aligned; ``right`` are those aligned to the right."""
    lines = [[printable(cell, MAX_CELL) for cell in row] for row in (headings, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )
