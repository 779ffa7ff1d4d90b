"""Parity reports as JSON, JUnit XML, Markdown and a table for the terminal; the HTML page is in ``report_html``.

A number that is not finite is written as the text "inf", "-inf" or "nan": JSON has no such numbers, and null would lose
which one it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

from edgesam_export.divergence import Divergence, OpError, RangeRow
from edgesam_export.errors import EdgeSAMExportError, SchemaError
from edgesam_export.files import write_text
from edgesam_export.parity_report import (
    SCHEMA_VERSION,
    ArtifactDigest,
    Check,
    Explanation,
    Gate,
    ParityReport,
    ParityRow,
)

__all__ = [
    "GateLine",
    "bound",
    "component_of",
    "gate_lines",
    "load_report",
    "markdown",
    "measured",
    "reason_of",
    "to_json",
    "to_junit",
    "to_markdown",
    "to_table",
    "verdict",
    "write_reports",
]

UNITS = {"psnr_db": "dB"}
RANGE_SHOWN = 0.5
"""Share of its limit from which on an operation is shown in summaries; the JSON has the nearest, whatever they are."""
FAILURES_SHOWN = 20
T = TypeVar("T")


# ---------------------------------------------------------------------------------------------------------------- JSON
def to_json(report: ParityReport) -> str:
    """The report as JSON with sorted keys; pictures are left out."""
    return json.dumps(jsonable(document(report)), indent=2, sort_keys=True, allow_nan=False) + "\n"


def document(report: ParityReport) -> dict[str, Any]:
    """The report as dictionaries, with what follows from the fields written out for readers without this package."""
    plain = {item.name: getattr(report, item.name) for item in fields(report) if item.name not in ("pictures", "rows")}
    rows = [
        {**asdict(row), "passed": row.passed, "checks": [check_entry(c) for c in row.checks]} for row in report.rows
    ]
    lists = ("artifacts", "divergences", "explanations", "ranges")
    parts = {name: [asdict(item) for item in plain[name]] for name in lists}
    return {**plain, **parts, "rows": rows, "passed": report.passed}


def check_entry(check: Check) -> dict[str, Any]:
    return {**asdict(check), "passed": check.passed, "would_pass_at": check.would_pass_at}


def jsonable(value: Any) -> Any:
    """Mappings and sequences with every number JSON can hold; the others as text."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def load_report(path: str | Path) -> ParityReport:
    """Read a report that ``to_json`` wrote; fields this version does not know are ignored, pictures are gone.

    Raises: SchemaError when the file is missing, is no such report, or is of another schema version.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SchemaError(f"'{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SchemaError(f"'{path}' is not JSON: {error}") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise SchemaError(f"'{path}' has schema version {version!r}; this version reads {SCHEMA_VERSION}")
    try:
        return report_of(data)
    except (KeyError, TypeError, ValueError, AttributeError, EdgeSAMExportError) as error:
        raise SchemaError(f"'{path}' is not a parity report: {type(error).__name__}: {error}") from None


def report_of(data: Mapping[str, Any]) -> ParityReport:
    return build(
        ParityReport,
        data,
        artifacts=each(data["artifacts"], lambda item: build(ArtifactDigest, item)),
        rows=each(data["rows"], row_of),
        skipped=tuple(data.get("skipped", ())),
        divergences=each(data.get("divergences", ()), divergence_of),
        explanations=each(data.get("explanations", ()), lambda item: build(Explanation, item)),
        ranges=each(data.get("ranges", ()), lambda item: build(RangeRow, item, magnitude=float(item["magnitude"]))),
        pictures=(),
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
    """An instance from the fields it has; a KeyError names a required one that is missing."""
    values = {}
    for item in fields(cls):  # type: ignore[arg-type]
        if item.name in converted:
            values[item.name] = converted[item.name]
        elif item.name in data:
            values[item.name] = data[item.name]
        elif item.default is MISSING and item.default_factory is MISSING:
            raise KeyError(item.name)
    return cls(**values)


# ------------------------------------------------------------------------------------------------------------- summary
@dataclass(frozen=True, kw_only=True)
class GateLine:
    """All rows that one gate was applied to in one place, and the worst of them."""

    candidate: str
    component: str
    embeddings: str
    gate: Gate
    count: int
    worst: Check
    row: ParityRow
    """The row that the worst value comes from."""

    @property
    def passed(self) -> bool:
        return self.worst.passed

    @property
    def place(self) -> str:
        return " ".join(filter(None, (self.row.image, self.row.prompt)))


def gate_lines(report: ParityReport) -> list[GateLine]:
    """One line for each candidate, component, embedding and gate; those that failed come last."""
    groups: dict[tuple[str, str, str, Gate], list[tuple[Check, ParityRow]]] = {}
    for row in report.rows:
        for check in row.checks:
            groups.setdefault((row.candidate, row.component, row.embeddings, check.gate), []).append((check, row))
    lines = []
    for (candidate, component, embeddings, gate), found in groups.items():
        worst, row = max(found, key=lambda pair: pair[0].gate.shortfall(pair[0].value))
        lines.append(
            GateLine(
                candidate=candidate,
                component=component,
                embeddings=embeddings,
                gate=gate,
                count=len(found),
                worst=worst,
                row=row,
            )
        )
    return sorted(lines, key=lambda line: not line.passed)


def measured(metric: str, value: float) -> str:
    """A value with its unit, in the digits that matter: shares to a hundredth of a per mille, never rounded up to 1."""
    if not math.isfinite(value):
        return str(value)
    if metric == "psnr_db":
        return f"{value:.1f} {UNITS[metric]}"
    if metric.endswith("iou") or metric == "sign_agreement":
        return f"{math.floor(value * 1e5) / 1e5:.5f}"
    return f"{value:.2g}"


def bound(gate: Gate) -> str:
    """A gate in signs: ``>= 40 dB``."""
    unit = f" {UNITS[gate.metric]}" if gate.metric in UNITS else ""
    return f">= {gate.minimum:g}{unit}" if gate.minimum is not None else f"<= {gate.maximum:g}{unit}"


def verdict(report: ParityReport) -> str:
    """The last line of every summary."""
    failed, total = len(report.failures), len(report.rows)
    if report.passed:
        return f"parity: all {total} outputs within their gates"
    divergence = f"; first divergence: {report.first_divergence}" if report.first_divergence else ""
    return f"parity: {failed} of {total} outputs out of tolerance{divergence}"


def component_of(line: GateLine) -> str:
    """``decoder end to end`` on the candidate's own embedding."""
    return line.component + {"own": " end to end", "reference": "", "": ""}[line.embeddings]


HEADINGS = ("candidate", "component", "output", "metric", "worst", "gate", "at", "result")


def cells(line: GateLine) -> tuple[str, ...]:
    gate = line.gate
    value = measured(gate.metric, line.worst.value)
    result = "ok" if line.passed else "FAIL"
    return line.candidate, component_of(line), gate.output, gate.metric, value, bound(gate), line.place, result


def to_table(report: ParityReport) -> str:
    """Aligned plain text: one line for each gate with the worst value it met, then what is bad, then the verdict."""
    rows = [HEADINGS, *(cells(line) for line in gate_lines(report))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines += [f"{row.candidate}: {row.label}: {row.problem}" for row in problems(report)]
    lines += [f"why: {item}" for item in report.explanations]
    lines += [f"not compared: {reason}" for reason in report.skipped]
    return "\n".join([*lines, verdict(report)])


def problems(report: ParityReport) -> list[ParityRow]:
    """Rows that are bad whatever the gates say, as many as one can read."""
    return [row for row in report.rows if row.problem][:FAILURES_SHOWN]


def markdown(text: str) -> str:
    """Text that a Markdown table cell shows as it is."""
    for sign in "\\`*_{}[]<>|":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return " ".join(text.split())


def to_markdown(report: ParityReport) -> str:
    """Markdown for a CI step summary: verdict, gates, failures, ranges, files."""
    mark = "✅" if report.passed else "❌"
    parts = [f"## {mark} Parity of {markdown(report.model)}", markdown(verdict(report)) + "."]
    parts.append(table(HEADINGS, [cells(line) for line in gate_lines(report)]))
    if failing := report.failures:
        more = f" (the first {FAILURES_SHOWN} of {len(failing)})" if len(failing) > FAILURES_SHOWN else ""
        parts += [f"### Out of tolerance{more}", table(("candidate", "where", "why"), list(failure_cells(report)))]
    if report.explanations:
        parts += ["### Why", "\n".join(f"- {markdown(str(item))}" for item in report.explanations)]
    if near := [row for row in report.ranges if row.share >= RANGE_SHOWN]:
        headings = ("component", "operation", "module", "rule", "largest", "limit")
        shown = [
            (r.component, f"{r.operation} ({r.type})", r.module, r.rule, f"{r.magnitude:.4g}", f"{r.limit:g}")
            for r in near
        ]
        parts += ["### Near the limits of FP16 and the ANE", table(headings, shown)]
    if report.skipped:
        parts += ["### Not compared", "\n".join(f"- {markdown(reason)}" for reason in report.skipped)]
    files = [(item.file, item.format, item.component, item.sha256) for item in report.artifacts]
    if files:
        parts += ["### Files", table(("file", "format", "component", "sha256"), files)]
    return "\n\n".join([*parts, f"edgesam-export {report.tool_version}, reference {markdown(report.reference)}"]) + "\n"


def failure_cells(report: ParityReport) -> Iterator[tuple[str, str, str]]:
    for row in report.failures[:FAILURES_SHOWN]:
        yield row.candidate, row.label, reason_of(row)


def reason_of(row: ParityRow) -> str:
    """Why a row failed, in words."""
    failed = [c for c in row.checks if not c.passed]
    broken = [f"{c.gate.metric} {measured(c.gate.metric, c.value)}, gate {bound(c.gate)}" for c in failed]
    if any(check.gate.metric in ("mask_iou", "sign_agreement") for check in failed) and "sign_margin" in row.metrics:
        broken.append(f"signs differ only below {row.metrics['sign_margin']:.2%} of the rms logit")
    return row.problem or "; ".join(broken)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *([markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --------------------------------------------------------------------------------------------------------------- JUnit
def to_junit(report: ParityReport) -> str:
    """JUnit XML: a suite for each candidate, a case for each row, a skipped case for each thing not compared."""
    root = ElementTree.Element("testsuites", name="parity")
    names = list(dict.fromkeys(row.candidate for row in report.rows))
    for name in names:
        rows = [row for row in report.rows if row.candidate == name]
        failed = sum(not row.passed for row in rows)
        suite = suite_under(root, name, tests=len(rows), failures=failed)
        for row in rows:
            case = ElementTree.SubElement(
                suite, "testcase", classname=xml(f"{name}.{row.component}"), name=xml(row.label)
            )
            if not row.passed:
                failure = ElementTree.SubElement(case, "failure", message=xml(reason_of(row)), type="ParityFailure")
                place = row.candidate, row.component
                why = [item.text for item in report.explanations if (item.candidate, item.component) == place]
                failure.text = xml("\n".join([*(f"{key} {value:g}" for key, value in row.metrics.items()), *why]))
    if report.skipped:
        suite = suite_under(root, "not compared", tests=len(report.skipped), skipped=len(report.skipped))
        for reason in report.skipped:
            case = ElementTree.SubElement(suite, "testcase", classname="skipped", name=xml(reason))
            ElementTree.SubElement(case, "skipped", message=xml(reason))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def suite_under(root: Any, name: str, *, tests: int, failures: int = 0, skipped: int = 0) -> Any:
    numbers = {"tests": str(tests), "failures": str(failures), "skipped": str(skipped), "errors": "0"}
    return ElementTree.SubElement(root, "testsuite", name=xml(name), **numbers)


def xml(text: str) -> str:
    """Text without the control characters that XML cannot hold, even escaped."""
    return "".join(sign if sign in "\t\n" or sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


# --------------------------------------------------------------------------------------------------------------- files
def write_reports(report: ParityReport, folder: str | Path, *, stem: str = "parity") -> dict[str, Path]:
    """Write all four files, each complete or not at all; returns their paths by kind.

    Raises: UsageError when the folder cannot be written to.
    """
    from edgesam_export.report_html import to_html

    renderers = {"json": to_json, "xml": to_junit, "md": to_markdown, "html": to_html}
    paths = {kind: Path(folder) / f"{stem}.{kind}" for kind in renderers}
    for kind, render in renderers.items():
        # File names may hold bytes that are no text; a report must be writable all the same.
        write_text(paths[kind], render(report).encode("utf-8", "replace").decode("utf-8"))
    return paths
