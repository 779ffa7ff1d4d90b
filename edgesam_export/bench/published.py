"""Published figures as rows of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesam_export.bench.rows import Row
from edgesam_export.bench.statistics import MS_PER_S
from edgesam_export.catalogue import published_rows
from edgesam_export.errors import SchemaError

__all__ = ["load_published"]


def load_published(path: Path | None = None) -> list[Row]:
    """Return the published figures as rows; images per second of a batch are no latency, which is their reason.

    Raises:
        SchemaError: the file is not a list of figures.
    """
    try:
        return [row_of(entry) for entry in published_rows(path)]
    except (KeyError, TypeError, ValueError) as error:
        where = path or "benchmarks/published.toml"
        raise SchemaError(f"{where}: is no list of published figures ({type(error).__name__}: {error})") from None


def row_of(entry: Mapping[str, Any]) -> Row:
    """Return one published figure as a row."""
    value, unit = float(entry["value"]), entry["unit"]
    throughput = unit not in ("ms", "fps")
    milliseconds = value if unit == "ms" else MS_PER_S / value
    rated = entry["part"] in ("total", "frame") or unit == "fps"
    return Row(
        model=entry["model"],
        part=entry["part"],
        points=None,
        device=entry["device"],
        system="-",
        runtime="-",
        p50_ms=None if throughput else milliseconds,
        fps_p50=MS_PER_S / milliseconds if rated and not throughput else None,
        fps_sustained=None,
        method=entry["setup"] + (" (inferred)" if entry["basis"] == "inferred" else ""),
        source=entry["source"],
        published=True,
        reasons=(f"{value:g} {unit}: {entry['why']}",) if throughput else (),
        group=(entry["setup"], entry["device"]),
    )
