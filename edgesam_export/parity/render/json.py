"""Parity report as JSON, and back.

A number that is not finite is written as the text "inf", "-inf" or "nan": JSON has no such numbers, and null would lose
which one it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from edgesam_export.errors import EdgeSAMExportError, SchemaError
from edgesam_export.files import json_text, stand_in
from edgesam_export.parity.divergence import Divergence, OpError
from edgesam_export.parity.gates import Check, Gate
from edgesam_export.parity.ranges import RangeRow
from edgesam_export.parity.report import SCHEMA_VERSION, ArtifactDigest, Explanation, ParityReport, ParityRow

__all__ = ["SUFFIX", "load_report", "render"]

SUFFIX = ".json"
T = TypeVar("T")


def render(report: ParityReport) -> str:
    """Return the report as JSON with sorted keys; images are left out."""
    return json_text(jsonable(document(report)))


def document(report: ParityReport) -> dict[str, Any]:
    """Return the report as dictionaries, with the derived values too, for readers without this package."""
    plain = {item.name: getattr(report, item.name) for item in fields(report) if item.name not in ("images", "rows")}
    rows = [
        {**asdict(row), "passed": row.passed, "checks": [check_entry(c) for c in row.checks]} for row in report.rows
    ]
    lists = ("artifacts", "divergences", "explanations", "ranges")
    parts = {name: [asdict(item) for item in plain[name]] for name in lists}
    return {**plain, **parts, "rows": rows, "passed": report.passed}


def check_entry(check: Check) -> dict[str, Any]:
    """Return one gate, its value and whether it passed."""
    return {**asdict(check), "passed": check.passed, "would_pass_at": check.would_pass_at}


def jsonable(value: Any) -> Any:
    """Return mappings and sequences with the numbers that JSON can hold as they are, the others as text."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def load_report(path: str | Path) -> ParityReport:
    """Return a report that ``render`` wrote; unknown fields are ignored, images are not stored.

    Raises: SchemaError when the file is missing, is no such report, or is of another schema version.
    """
    try:
        data = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise SchemaError(f"'{path}' cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"'{path}' {stand_in(Path(path)) or f'is not JSON: {error}'}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise SchemaError(f"'{path}' has schema version {version!r}; this version reads {SCHEMA_VERSION}")
    try:
        return report_of(data)
    except (KeyError, TypeError, ValueError, AttributeError, EdgeSAMExportError) as error:
        raise SchemaError(f"'{path}' is not a parity report: {type(error).__name__}: {error}") from None


def report_of(data: Mapping[str, Any]) -> ParityReport:
    """Return the report of a parsed document; raises whatever the conversion of a malformed one raises."""
    return build(
        ParityReport,
        data,
        artifacts=each(data["artifacts"], lambda item: build(ArtifactDigest, item)),
        rows=each(data["rows"], row_of),
        skipped=tuple(data.get("skipped", ())),
        differences=tuple(data.get("differences", ())),
        divergences=each(data.get("divergences", ()), divergence_of),
        explanations=each(data.get("explanations", ()), lambda item: build(Explanation, item)),
        ranges=each(data.get("ranges", ()), lambda item: build(RangeRow, item, magnitude=float(item["magnitude"]))),
        images=(),
    )


def row_of(data: Mapping[str, Any]) -> ParityRow:
    values = {name: float(value) for name, value in data["metrics"].items()}
    return build(ParityRow, data, shape=tuple(data["shape"]), metrics=values, checks=each(data["checks"], check_of))


def check_of(data: Mapping[str, Any]) -> Check:
    return Check(gate=build(Gate, data["gate"]), value=float(data["value"]))


def divergence_of(data: Mapping[str, Any]) -> Divergence:
    suspects = each(data.get("suspects", ()), lambda item: build(OpError, item, **floats(item, OP_FLOATS)))
    numbers = floats(data, (*OP_FLOATS, "peak"))
    return build(Divergence, data, numerics=tuple(data["numerics"]), suspects=suspects, **numbers)


OP_FLOATS = ("error", "operand_error")


def floats(data: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    return {name: float(data[name]) for name in names}


def each(items: Sequence[Any], convert: Callable[[Any], T]) -> tuple[T, ...]:
    return tuple(convert(item) for item in items)


def build(cls: type[T], data: Mapping[str, Any], **converted: Any) -> T:
    """Return a dataclass made from the fields it has in ``data``; a KeyError names a required one that is missing."""
    values = {}
    for item in fields(cls):  # type: ignore[arg-type]
        if item.name in converted:
            values[item.name] = converted[item.name]
        elif item.name in data:
            values[item.name] = data[item.name]
        elif item.default is MISSING and item.default_factory is MISSING:
            raise KeyError(item.name)
    return cls(**values)
