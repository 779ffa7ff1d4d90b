"""``compare``: records and published figures as rows that can be ranked, or the reason why they cannot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesam_export.bench.record import invalid_reasons
from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.resources import shipped_file

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

__all__ = ["PARTS", "Comparison", "Row", "compare", "load_published", "record_rows"]

PARTS = ("total", "encoder", "decoder", "classifier", "model", "frame", "everything", "load")
"""Order of the table; ``total`` is an encoder and a decoder call."""
STAGE_PARTS = {"end_to_end": "total", "encoder": "encoder", "decoder": "decoder"}
MS_PER_S, NS_PER_MS = 1000.0, 1e6


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: what was timed, where, how, and by whom."""

    model: str
    part: str
    points: int | None
    """Prompt points of a decoder or total; None where the source does not say, or where there are none."""
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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What ``compare`` found: rows in order, fastest first within each part."""

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


# --------------------------------------------------------------------------------------------------------- from records


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


# -------------------------------------------------------------------------------------------------------- published


def load_published(path: Path | None = None) -> list[Row]:
    """Return the published figures as rows; pictures per second of a batch are no latency and say so.

    Raises:
        SchemaError: the file is not a list of figures.
    """
    path = path or shipped_file("benchmarks/published.toml")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        entries = [*document["figure"], *document.get("reference", ())]
        return [published_row(entry) for entry in entries]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise SchemaError(f"{path}: is no list of published figures ({type(error).__name__}: {error})") from None


def published_row(entry: Mapping[str, Any]) -> Row:
    """Return one published figure."""
    value, unit = float(entry["value"]), entry["unit"]
    throughput = unit not in ("ms", "fps")
    milliseconds = value if unit == "ms" else MS_PER_S / value
    rated = entry["part"] in ("total", "frame") or unit == "fps"
    reasons = (f"{value:g} {unit}: {entry['why']}",) if throughput else ()
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
        reasons=reasons,
        group=(entry["setup"], entry["device"]),
    )


# -------------------------------------------------------------------------------------------------------- comparing


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
    printed = load_published() if published else []
    if model is not None:
        rows, printed = ([row for row in group if fits(row.model, model)] for group in (rows, printed))
    if not rows and not printed:
        about = f" of model '{model}'" if model else ""
        raise UsageError(f"nothing{about} to compare; give records, or --published")
    valid = [row for row in rows if not row.reasons]
    if not across_methods:
        refuse_mixture(valid)
    figures = [row for row in printed if not row.reasons]
    ranked = [*valid, *(figures if across_methods else ())]
    return Comparison(
        ranked=in_order(ranked),
        published=() if across_methods else in_order(figures),
        unranked=tuple(row for row in (*rows, *printed) if row.reasons),
        across_methods=across_methods,
    )


def fits(name: str, wanted: str) -> bool:
    """Return whether a model's name begins with what was asked for, whatever the case and spacing.

    ``edgesam`` is EdgeSAM in a table and edge_sam_3x in a record.
    """
    left, right = (re.sub(r"[^a-z0-9]", "", text.lower()) for text in (name, wanted))
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
