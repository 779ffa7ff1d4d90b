"""The counts and words of an ANE report that several formats show; no markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from edgesam_export.ane.report import (
    AneReport,
    CostEstimate,
    Finding,
    Measurement,
    Placement,
    Segment,
    Severity,
    Totals,
)

__all__ = [
    "COST_HEADINGS",
    "LEVELS",
    "SEGMENT_HEADINGS",
    "calibrations",
    "cost_cells",
    "grouped",
    "measured_lines",
    "placement_counts",
    "plural",
    "report_stem",
    "segment_cells",
    "severity_counts",
    "size",
    "summary_line",
    "totals_rows",
]

LEVELS: tuple[Severity, ...] = ("info", "warning", "error")
NOUNS = {"info": "note"}
SEGMENT_HEADINGS = ("segment", "side", "operations", "bytes in", "bytes out")
COST_HEADINGS = ("estimate", "ms", "compute", "memory", "dispatch", "transfer")


def report_stem(report: AneReport) -> str:
    """Return the name of the report's files without their suffix: ``<package>_ane``."""
    return f"{Path(report.file).stem}_ane"


def severity_counts(findings: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(finding.severity for finding in findings)
    return {level: counts[level] for level in LEVELS}


def placement_counts(report: AneReport) -> dict[str, int]:
    """Return the number of operations by placement."""
    counts = Counter(placement.placement for placement in report.placements)
    return {placement: counts[placement] for placement in get_args(Placement)}


def summary_line(report: AneReport) -> str:
    """Return one line: whether a blocker is known, and the counts."""
    counts, placed = severity_counts(report.findings), placement_counts(report)
    total = len(report.placements)
    verdict = f"{placed['off']} of {total} operations expected off the ANE"
    if not placed["off"]:
        verdict = f"no known blocker for {' '.join(report.families)}"
    if placed["rejected"]:
        rules = sorted({rule for row in report.placements if row.placement == "rejected" for rule in row.rules})
        verdict = f"the ANE is expected to refuse the whole function, {total} operations ({', '.join(rules)})"
    if not report.placements:
        verdict = "no operations"
    risk = f", {placed['at-risk']} at risk" if placed["at-risk"] else ""
    findings = ", ".join(plural(counts[level], level) for level in reversed(LEVELS))
    return f"{verdict}{risk}; {plural(len(report.segments), 'segment')}; {findings}"


def plural(number: int, word: str) -> str:
    return f"{number} {NOUNS.get(word, word)}{'' if number == 1 else 's'}"


def totals_rows(totals: Totals) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each size of a program."""
    padding = totals.padded_activation_bytes / totals.activation_bytes - 1 if totals.activation_bytes else 0.0
    share = f", {totals.compressed_share:.0%} compressed" if totals.compressed_share else ""
    yield "operations", f"{totals.operations}, {totals.layout_operations} of them layout"
    integers = f", {totals.quantized_share:.0%} in 8-bit integers" if totals.quantized_share else ""
    yield "multiply-adds", f"{quantity(totals.multiply_adds)}{integers}"
    yield "parameters", f"{quantity(totals.parameters)} in {size(totals.weight_bytes)}{share}"
    yield "activations", f"{size(totals.activation_bytes)}, last-axis padding adds {padding:.1%}"


def segment_cells(number: int, segment: Segment) -> tuple[str, ...]:
    """Return a segment's cells under ``SEGMENT_HEADINGS``."""
    side = "ANE" if segment.on_ane else "off"
    return str(number), side, str(segment.operations), size(segment.bytes_in), size(segment.bytes_out)


def cost_cells(cost: CostEstimate) -> tuple[str, ...]:
    """Return an estimate's cells under ``COST_HEADINGS``, times in milliseconds."""
    times = (cost.time_ms, cost.compute_ms, cost.memory_ms, cost.dispatch_ms, cost.transfer_ms)
    return cost.family, *(f"{time:.2f}" for time in times)


def measured_lines(measured: Sequence[Measurement]) -> Iterator[str]:
    """Yield one line for every measurement of the file."""
    for m in measured:
        spread = f"{m.smallest_ms:.2f} to {m.largest_ms:.2f}, {m.samples} samples"
        yield f"{m.device} ({m.system}), {m.compute_units}: median {m.median_ms:.2f} ms ({spread}), {m.record}"


def calibrations(costs: Sequence[CostEstimate]) -> list[tuple[list[str], str]]:
    """Return the families whose error reads the same but for the family's name, with that error."""
    families: dict[str, list[str]] = {}
    for cost in costs:
        families.setdefault(cost.calibration.replace(cost.family, "this family"), []).append(cost.family)
    return [(names, text) for text, names in families.items()]


def grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Return the findings by severity and rule, notes first and errors last."""
    groups: dict[tuple[int, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((LEVELS.index(finding.severity), finding.rule), []).append(finding)
    return [groups[key] for key in sorted(groups)]


def quantity(number: int) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)


def size(number: int) -> str:
    """Return a number of bytes in kB, MB or GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number} B"
