"""``compare``: records and published figures as rows that can be ranked, or the reason why they cannot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesam_export.bench.published import load_published
from edgesam_export.bench.rows import PARTS, Row, record_rows
from edgesam_export.errors import UsageError

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows in order, fastest first within each part."""

    ranked: tuple[Row, ...]
    published: tuple[Row, ...]
    """Published figures beside the ranking; empty when they are in it."""
    unranked: tuple[Row, ...]
    across_methods: bool

    def document(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        names = ("ranked", "published", "unranked")
        lists = {name: [row.document() for row in getattr(self, name)] for name in names}
        return {"schema_version": 1, "across_methods": self.across_methods, **lists}


def compare(
    records: Iterable[tuple[Path | str, Mapping[str, Any]]],
    *,
    published: bool = False,
    model: str | None = None,
    across_methods: bool = False,
) -> Comparison:
    """Return records (with the names of their files) and published figures side by side.

    Raises:
        UsageError: records that were not measured alike, unless ``across_methods``; or nothing is left to compare.
    """
    rows = [row for path, record in records for row in record_rows(record, Path(path).name)]
    figures = load_published() if published else []
    if model is not None:
        rows, figures = ([row for row in group if fits(row.model, model)] for group in (rows, figures))
    if not rows and not figures:
        about = f" of model '{model}'" if model else ""
        raise UsageError(f"nothing{about} to compare; give records, or --published")
    valid = [row for row in rows if not row.reasons]
    if not across_methods:
        refuse_mixture(valid)
    latencies = [row for row in figures if not row.reasons]
    ranked = [*valid, *(latencies if across_methods else ())]
    return Comparison(
        ranked=in_order(ranked),
        published=() if across_methods else in_order(latencies),
        unranked=tuple(row for row in (*rows, *figures) if row.reasons),
        across_methods=across_methods,
    )


def fits(name: str, asked: str) -> bool:
    """Return whether one name begins with the other, whatever the case and spacing.

    ``edgesam`` is EdgeSAM in a table and edge_sam_3x in a record.
    """
    left, right = (re.sub(r"[^a-z0-9]", "", text.lower()) for text in (name, asked))
    return left.startswith(right) or right.startswith(left)


def refuse_mixture(rows: Sequence[Row]) -> None:
    """Raise UsageError when rows were not all measured by one method on one chip and build of the system."""
    groups = {row.group: row for row in rows}
    if len(groups) < 2:
        return
    texts = [f"{row.method} on {row.device}, {row.system} ({row.source})" for row in groups.values()]
    raise UsageError(
        f"not measured alike: {'; '.join(texts[:3])}{'; ...' if len(texts) > 3 else ''}; "
        "give records of one method, chip and system, or --across-methods, which shows the method of every row"
    )


def in_order(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return rows by part and number of points, fastest first."""
    return tuple(sorted(rows, key=lambda row: (PARTS.index(row.part), row.points or 1, row.p50_ms or 0.0, row.model)))
