"""Rows of a comparison: the figures of a record's cases, each with how it was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesam_export.bench.record import invalid_reasons
from edgesam_export.bench.statistics import MS_PER_S, NS_PER_MS

__all__ = ["PARTS", "Row", "record_rows"]

PARTS = ("total", "encoder", "decoder", "classifier", "model", "frame", "everything", "load")
"""Order of the table; ``total`` is an encoder and a decoder call."""
STAGE_PARTS = {"end_to_end": "total", "encoder": "encoder", "decoder": "decoder"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: what was timed, where, how, and by whom."""

    model: str
    part: str
    points: int | None
    """Prompt points of a decoder or total; None where the source names none, or where there are none."""
    device: str
    system: str
    runtime: str
    """Runtime with its compute units; of a published figure, nothing."""
    p50_ms: float | None
    """Median; of a published figure, the time that its source gives."""
    fps_p50: float | None
    fps_sustained: float | None
    method: str
    source: str
    published: bool = False
    reasons: tuple[str, ...] = ()
    """Why it may not be ranked."""
    group: tuple[str, ...] = ()
    """Rows of one group were measured alike: method, device and build of the system."""

    @property
    def part_text(self) -> str:
        """Part with its number of points, when that is not one."""
        return self.part if self.points in (None, 1) else f"{self.part}, {self.points} points"

    def document(self) -> dict[str, Any]:
        """Return the row as JSON data."""
        left_out = ("group",)
        return {name: value for name, value in asdict(self).items() if name not in left_out}


def record_rows(record: Mapping[str, Any], source: str) -> list[Row]:
    """Return one row for each stage of each case of a record."""
    rows: list[Row] = []
    encoders: set[str] = set()
    for case in record["cases"]:
        reasons = invalid_reasons(case)
        stages = {STAGE_PARTS[name]: stage for name, stage in case["stages"].items() if name in STAGE_PARTS}
        times = {part: stage.get("p50") for part, stage in stages.items()}
        if "total" not in times and case.get("fps_p50"):
            times["total"] = NS_PER_MS * MS_PER_S / case["fps_p50"]
        if (name := runtime_text(case, "encoder")) in encoders:  # points do not concern it: one row is enough
            times.pop("encoder", None)
        encoders.add(name)
        rows += [row_of(record, case, part, time, reasons, source) for part, time in times.items()]
        if not times:
            rows.append(row_of(record, case, "total", None, reasons or ("nothing was timed",), source))
    return rows


def row_of(
    record: Mapping[str, Any],
    case: Mapping[str, Any],
    part: str,
    time_ns: float | None,
    reasons: tuple[str, ...],
    source: str,
) -> Row:
    """Return the row of one stage."""
    device = record["device"]
    total = part == "total"
    return Row(
        model=model_name(record["models"]),
        part=part,
        points=None if part == "encoder" else case.get("n_points"),
        device=case.get("accelerator") or device["marketing_name"],
        system=" ".join(text for text in (device["os_version"], build_text(device)) if text),
        runtime=runtime_text(case, part),
        p50_ms=None if time_ns is None else time_ns / NS_PER_MS,
        fps_p50=case.get("fps_p50") if total else None,
        fps_sustained=case.get("fps_sustained") if total else None,
        method=record["method"],
        source=source,
        reasons=reasons or (() if time_ns is not None else ("no samples",)),
        group=(record["method"], device["marketing_name"], device["os_version"], device.get("os_build") or ""),
    )


def build_text(device: Mapping[str, Any]) -> str:
    """Return the build of a system in brackets; the long kernel descriptions of computers are left out."""
    build = device.get("os_build") or ""
    return f"({build})" if re.fullmatch(r"[0-9A-Za-z.]{1,12}", build) else ""


def model_name(models: Sequence[Mapping[str, Any]]) -> str:
    """Return the model's name; older records have only the names of the files."""
    named = (entry["model"] for entry in models if entry.get("model"))
    return next(named, re.sub(r"_(encoder|decoder)$", "", Path(models[0]["id"]).stem))


def runtime_text(case: Mapping[str, Any], part: str) -> str:
    """Return runtime, precision where the case names it, and the compute units of the part."""
    units = case["compute_units"]
    both = [units[role] for role in ("encoder", "decoder") if role in units]
    used = units.get(part) or "/".join(dict.fromkeys(both))
    details = [text for text in (case.get("precision"), used) if text]
    hints = [value for value in (case.get("hints") or {}).values() if value]
    vary = ["varying points"] if case.get("vary_points") else []
    return " ".join([case["runtime"], *details, *hints, *vary])
