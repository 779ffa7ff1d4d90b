"""A comparison for the terminal."""

from __future__ import annotations

from edgesam_export.bench.compare import Comparison
from edgesam_export.bench.render.summary import PUBLISHED_NOTE, Table, table_of, unranked_lines
from edgesam_export.rendering import text_table

__all__ = ["SUFFIX", "render"]

SUFFIX = ".txt"


def render(comparison: Comparison) -> str:
    """Return the tables, and the cases that are not ranked with their reasons."""
    parts = []
    if comparison.ranked:
        parts.append(aligned(table_of(comparison.ranked, ranked=True)))
    if comparison.published:
        parts.append(f"{PUBLISHED_NOTE}\n{aligned(table_of(comparison.published, ranked=False))}")
    if comparison.unranked:
        lines = "\n".join(f"  {line}" for line in unranked_lines(comparison.unranked))
        parts.append(f"not ranked\n{lines}")
    return "\n\n".join(parts) + "\n"


def aligned(table: Table) -> str:
    """Return a table with aligned columns."""
    return text_table(table.headings, table.rows, right=table.right)
