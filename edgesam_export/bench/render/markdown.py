"""A comparison as Markdown."""

from __future__ import annotations

from edgesam_export.bench.compare import Comparison
from edgesam_export.bench.render.summary import PUBLISHED_NOTE, Table, table_of, unranked_lines
from edgesam_export.rendering import escape_markdown, markdown_table

__all__ = ["SUFFIX", "render"]

SUFFIX = ".md"


def render(comparison: Comparison) -> str:
    """Return the tables, and a list of the cases that are not ranked with their reasons."""
    parts = []
    if comparison.ranked:
        parts.append(marked_up(table_of(comparison.ranked, ranked=True)))
    if comparison.published:
        table = marked_up(table_of(comparison.published, ranked=False))
        parts.append(f"{PUBLISHED_NOTE.capitalize()}.\n\n{table}")
    if comparison.unranked:
        lines = "\n".join(f"- {escape_markdown(line)}" for line in unranked_lines(comparison.unranked))
        parts.append(f"Not ranked:\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def marked_up(table: Table) -> str:
    """Return a table in Markdown."""
    return markdown_table(table.headings, table.rows, right=table.right)
