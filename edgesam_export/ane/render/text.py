"""An ANE report for the terminal.

It never says that an operation runs on the ANE: only a phone can say that. The worst comes last, where a terminal
leaves it in view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from edgesam_export.ane.render.summary import LEVELS, plural, summary_line
from edgesam_export.ane.report import AneReport, CostEstimate, Finding, Measurement, Totals

__all__ = ["calibrations", "grouped", "measured_lines", "size", "to_text", "totals_lines"]

ROWS_SHOWN = 6
"""Findings of one rule that are listed; the JSON has all."""
SEGMENTS_SHOWN = 12
SLOWEST_SHOWN = 5


def to_text(report: AneReport) -> str:
    """The report for a terminal; the summary is the last line."""
    blocks = [
        [heading(report)],
        list(totals_lines(report.totals)),
        list(segment_lines(report)),
        list(measured_lines(report.measured)),
        list(cost_lines(report)),
        list(finding_lines(report.findings)),
        [summary_line(report)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def heading(report: AneReport) -> str:
    families = "" if report.families == (report.target,) else f" ({' '.join(report.families)})"
    return f"{report.file}, function {report.function}, {report.opset}, for {report.target}{families}"


def totals_lines(totals: Totals) -> Iterator[str]:
    waste = totals.padded_activation_bytes / totals.activation_bytes - 1 if totals.activation_bytes else 0.0
    yield f"operations       {totals.operations}, {totals.layout_operations} of them layout"
    yield f"multiply-adds    {quantity(totals.multiply_adds)}"
    share = f", {totals.compressed_share:.0%} compressed" if totals.compressed_share else ""
    yield f"parameters       {quantity(totals.parameters)} in {size(totals.weight_bytes)}{share}"
    yield f"activations      {size(totals.activation_bytes)}, last-axis padding adds {waste:.1%}"


def segment_lines(report: AneReport) -> Iterator[str]:
    if not report.segments:
        return
    yield f"{'segment':>7}  {'side':4}{'operations':>12}{'bytes in':>12}{'bytes out':>12}  from .. to"
    for number, segment in enumerate(report.segments[:SEGMENTS_SHOWN], 1):
        side = "ANE" if segment.on_ane else "off"
        crossing = f"{size(segment.bytes_in):>12}{size(segment.bytes_out):>12}"
        yield f"{number:>7}  {side:4}{segment.operations:>12}{crossing}  {segment.first} .. {segment.last}"
    if len(report.segments) > SEGMENTS_SHOWN:
        yield f"         and {len(report.segments) - SEGMENTS_SHOWN} more segments"


def measured_lines(measured: Sequence[Measurement]) -> Iterator[str]:
    if measured:
        yield "measured, this very file:"
    for m in measured:
        spread = f"{m.smallest_ms:.2f} to {m.largest_ms:.2f}, {m.samples} samples"
        yield f"  {m.device} ({m.system}), {m.compute_units}: median {m.median_ms:.2f} ms ({spread}), {m.record}"


def cost_lines(report: AneReport) -> Iterator[str]:
    if not report.costs:
        return
    yield f"{'estimate':10}{'ms':>8}{'compute':>9}{'memory':>8}{'dispatch':>10}{'transfer':>10}"
    for cost in report.costs:
        parts = f"{cost.compute_ms:>9.2f}{cost.memory_ms:>8.2f}{cost.dispatch_ms:>10.2f}{cost.transfer_ms:>10.2f}"
        yield f"{cost.family:10}{cost.time_ms:>8.2f}{parts}"
    yield "for ranking, not a promise; against published figures:"
    for families, text in calibrations(report.costs):
        yield f"  {' '.join(families)}: {text}"
    yield f"slowest on {report.costs[0].family}:"
    for row in slowest(report.costs[0]):
        yield f"  {row.time_us:>8.0f} us  {row.op_type:18} {row.operation}, bound by {row.bound}"


def calibrations(costs: Sequence[CostEstimate]) -> list[tuple[list[str], str]]:
    """Gather families whose error reads the same but for the family's name."""
    found: dict[str, list[str]] = {}
    for cost in costs:
        found.setdefault(cost.calibration.replace(cost.family, "this family"), []).append(cost.family)
    return [(families, text) for text, families in found.items()]


def slowest(cost: CostEstimate) -> list[Any]:
    return sorted(cost.operations, key=lambda row: -row.time_us)[:SLOWEST_SHOWN]


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Findings by rule, notes first and errors last."""
    for group in grouped(findings):
        first = group[0]
        yield f"{first.severity} {first.rule} {first.name} ({first.evidence}), {plural(len(group), 'place')}"
        for finding in group[:ROWS_SHOWN]:
            where = f"{finding.op_type} '{finding.operation}': " if finding.operation else ""
            module = f"  [{finding.module}]" if finding.module else ""
            yield f"    {where}{finding.message}{gate(finding, findings)}{module}"
        if len(group) > ROWS_SHOWN:
            yield f"    and {len(group) - ROWS_SHOWN} more"
        yield f"    source: {first.source}"


def gate(finding: Finding, findings: Sequence[Finding]) -> str:
    """Name the families of a finding when it does not hold for all that were asked about."""
    everywhere = max(len(other.families) for other in findings)
    return f" ({' '.join(finding.families)})" if len(finding.families) < everywhere else ""


def grouped(findings: Sequence[Finding]) -> list[list[Finding]]:
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
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return f"{number} B"
