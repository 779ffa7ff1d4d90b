"""An ANE report as Markdown, for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from edgesam_export.ane.render.strip import SUFFIX as IMAGE_SUFFIX
from edgesam_export.ane.render.summary import (
    COST_HEADINGS,
    SEGMENT_HEADINGS,
    calibrations,
    cost_cells,
    grouped,
    measured_lines,
    report_stem,
    segment_cells,
    summary_line,
    totals_rows,
)
from edgesam_export.ane.report import AneReport, CostEstimate, Finding
from edgesam_export.rendering import escape_markdown, markdown_table

__all__ = ["SUFFIX", "render"]

SUFFIX = ".md"
FINDING_HEADINGS = ("severity", "rule", "operation", "module", "message", "evidence")


def render(report: AneReport) -> str:
    """Return the report as Markdown, with the strip beside it as its image."""
    image = quote(report_stem(report) + IMAGE_SUFFIX)
    segments = [segment_cells(number, segment) for number, segment in enumerate(report.segments, 1)]
    blocks = [
        f"## ANE report: `{report.file}`",
        f"**{escape_markdown(summary_line(report))}**",
        f"Function `{report.function}`, {report.opset}, for {report.target} ({' '.join(report.families)})",
        escape_markdown(report.target_note),
        f"![operations by placement, width by estimated cost]({image})",
        bullets(f"{name}: {text}" for name, text in totals_rows(report.totals)),
        finding_table(report.findings),
        markdown_table(SEGMENT_HEADINGS, segments, right={0, 2, 3, 4}) if segments else "",
        bullets(escape_markdown(line) for line in measured_lines(report.measured)),
        *cost_blocks(report.costs),
        f"Against public reports of devices: {escape_markdown(report.accuracy)}." if report.accuracy else "",
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def bullets(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def finding_table(findings: Sequence[Finding]) -> str:
    rows = [
        (f.severity, f"{f.rule} {f.name}", f.operation or "whole program", f.module or "", f.message, f.evidence)
        for group in grouped(findings)
        for f in group
    ]
    return markdown_table(FINDING_HEADINGS, rows) if rows else ""


def cost_blocks(costs: Sequence[CostEstimate]) -> Iterator[str]:
    if costs:
        yield markdown_table(COST_HEADINGS, [cost_cells(cost) for cost in costs], right={1, 2, 3, 4, 5})
        yield "For ranking, not a promise. Against published figures:"
        yield bullets(f"{' '.join(families)}: {escape_markdown(text)}" for families, text in calibrations(costs))
