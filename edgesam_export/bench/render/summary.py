"""Numbers and words that the formats of a comparison share; no markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from edgesam_export.bench.rows import Row

__all__ = ["PUBLISHED_NOTE", "Table", "number", "table_of", "unranked_lines"]

HEADINGS = (
    "#",
    "model",
    "part",
    "device",
    "system",
    "runtime",
    "p50 ms",
    "fps p50",
    "fps sustained",
    "method",
    "source",
)
NUMBERS = {"#", "p50 ms", "fps p50", "fps sustained"}
PUBLISHED_NOTE = "published figures, each by its own method: shown beside, not ranked"


@dataclass(frozen=True)
class Table:
    """Cells under their headings; ``right`` are the columns of numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: frozenset[int]


def number(value: float | None) -> str:
    """Return a figure with three significant digits; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table_of(rows: Iterable[Row], *, ranked: bool) -> Table:
    """Return the table of some rows without its empty columns; ranks start anew with each part."""
    lines = []
    for _, group in groupby(rows, key=lambda row: row.part_text):
        for rank, row in enumerate(group, 1):
            figures = (number(row.p50_ms), number(row.fps_p50), number(row.fps_sustained))
            subject = (str(rank) if ranked else "", row.model, row.part_text, row.device, row.system, row.runtime)
            lines.append((*subject, *figures, row.method, row.source))
    used = [column for column in range(len(HEADINGS)) if any(line[column] not in ("", "-") for line in lines)]
    headings = [HEADINGS[column] for column in used]
    right = frozenset(index for index, heading in enumerate(headings) if heading in NUMBERS)
    return Table(headings, [[line[column] for column in used] for line in lines], right)


def unranked_lines(rows: Iterable[Row]) -> list[str]:
    """Return one line for each case that is not ranked: its times and the reasons."""
    cases: dict[str, list[Row]] = {}
    for row in rows:
        name = f"{row.model} on {row.device}, {row.method if row.published else row.runtime}"
        points = "" if row.points in (None, 1) else f", {row.points} points"
        cases.setdefault(f"{name}{points} ({row.source})", []).append(row)
    lines = []
    for name, group in cases.items():
        times = ", ".join(f"{row.part} {number(row.p50_ms)} ms" for row in group if row.p50_ms is not None)
        reasons = "; ".join(dict.fromkeys(reason for row in group for reason in row.reasons))
        lines.append(f"{name}: {times}{'; ' if times else ''}{reasons}")
    return lines
