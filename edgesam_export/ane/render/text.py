"""An ANE report for the terminal.

It never says that an operation runs on the ANE: only a phone can say that. The worst comes last, where a terminal
leaves it in view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgesam_export.ane.render.summary import (
    COST_HEADINGS,
    SEGMENT_HEADINGS,
    calibrations,
    cost_cells,
    grouped,
    measured_lines,
    plural,
    segment_cells,
    summary_line,
    totals_rows,
)
from edgesam_export.ane.report import AneReport, CostEstimate, Finding, Measurement, OpCost, Totals
from edgesam_export.rendering import text_table

__all__ = ["SUFFIX", "render"]

SUFFIX = ".txt"
ROWS_SHOWN = 6
"""Findings of one rule that are listed; the JSON has all."""
SEGMENTS_SHOWN = 12
SLOWEST_SHOWN = 5


def render(report: AneReport) -> str:
    """Return the report for a terminal; the summary is the last line."""
    blocks = [
        [heading(report), *([f"note: {report.target_note}"] if report.target_note else [])],
        totals_lines(report.totals),
        segment_lines(report),
        measured_block(report.measured),
        cost_lines(report.costs),
        finding_lines(report.findings),
        [f"against public reports of devices: {report.accuracy}"] if report.accuracy else [],
        [summary_line(report)],
    ]
    return "\n\n".join(text for text in ("\n".join(block) for block in blocks) if text) + "\n"


def heading(report: AneReport) -> str:
    families = "" if report.families == (report.target,) else f" ({' '.join(report.families)})"
    return f"{report.file}, function {report.function}, {report.opset}, for {report.target}{families}"


def totals_lines(totals: Totals) -> Iterator[str]:
    for name, text in totals_rows(totals):
        yield f"{name:17}{text}"


def segment_lines(report: AneReport) -> Iterator[str]:
    if not report.segments:
        return
    rows = [
        (*segment_cells(number, segment), f"{segment.first} .. {segment.last}")
        for number, segment in enumerate(report.segments[:SEGMENTS_SHOWN], 1)
    ]
    yield text_table((*SEGMENT_HEADINGS, "from .. to"), rows, right={0, 2, 3, 4})
    if len(report.segments) > SEGMENTS_SHOWN:
        yield f"         and {len(report.segments) - SEGMENTS_SHOWN} more segments"


def measured_block(measured: Sequence[Measurement]) -> Iterator[str]:
    if measured:
        yield "measured, this very file:"
    for line in measured_lines(measured):
        yield f"  {line}"


def cost_lines(costs: Sequence[CostEstimate]) -> Iterator[str]:
    if not costs:
        return
    yield text_table(COST_HEADINGS, [cost_cells(cost) for cost in costs], right={1, 2, 3, 4, 5})
    yield "for ranking, not a promise; against published figures:"
    for families, text in calibrations(costs):
        yield f"  {' '.join(families)}: {text}"
    yield f"slowest on {costs[0].family}:"
    for row in slowest(costs[0]):
        yield f"  {row.time_us:>8.0f} us  {row.op_type:18} {row.operation}, bound by {row.bound}"


def slowest(cost: CostEstimate) -> list[OpCost]:
    return sorted(cost.operations, key=lambda row: -row.time_us)[:SLOWEST_SHOWN]


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the findings by rule, notes first and errors last."""
    for group in grouped(findings):
        first = group[0]
        yield f"{first.severity} {first.rule} {first.name} ({first.evidence}), {plural(len(group), 'finding')}"
        for finding in group[:ROWS_SHOWN]:
            operation = f"{finding.op_type} '{finding.operation}': " if finding.operation else ""
            module = f"  [{finding.module}]" if finding.module else ""
            yield f"    {operation}{finding.message}{families_of(finding, findings)}{module}"
        if len(group) > ROWS_SHOWN:
            yield f"    and {len(group) - ROWS_SHOWN} more"
        yield f"    source: {first.source}"


def families_of(finding: Finding, findings: Sequence[Finding]) -> str:
    """Return the families of a finding when it does not hold for all that were asked about, else nothing."""
    everywhere = max(len(other.families) for other in findings)
    return f" ({' '.join(finding.families)})" if len(finding.families) < everywhere else ""
