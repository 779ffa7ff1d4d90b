"""An ANE report as Markdown, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgesam_export.ane.render.summary import summary_line
from edgesam_export.ane.render.text import calibrations, grouped, measured_lines, size, totals_lines
from edgesam_export.ane.report import AneReport, CostEstimate

__all__ = ["to_markdown"]


def to_markdown(report: AneReport, *, picture: str | None = None) -> str:
    """The report as Markdown for a pull request; ``picture`` is the link of the strip."""
    lines = [f"## ANE report: `{report.file}`", "", f"**{escaped(summary_line(report))}**", ""]
    lines += [f"Function `{report.function}`, {report.opset}, for {report.target} ({' '.join(report.families)})", ""]
    lines += [f"![operations by placement, width by estimated cost]({picture})", ""] if picture else []
    lines += [*("- " + re.sub(r"\s{2,}", ": ", line, count=1) for line in totals_lines(report.totals)), ""]
    if report.findings:
        table = [
            (f.severity, f"{f.rule} {f.name}", f.operation or "whole program", f.module or "", f.message, f.evidence)
            for group in grouped(report.findings)
            for f in group
        ]
        lines += markdown_table(("severity", "rule", "operation", "module", "message", "evidence"), table)
    if report.segments:
        rows = [
            (str(n), "ANE" if s.on_ane else "off", str(s.operations), size(s.bytes_in), size(s.bytes_out))
            for n, s in enumerate(report.segments, 1)
        ]
        lines += markdown_table(("segment", "side", "operations", "bytes in", "bytes out"), rows)
    lines += [f"- {escaped(line.strip())}" for line in list(measured_lines(report.measured))[1:]]
    lines += [""] if report.measured else []
    lines += markdown_costs(report.costs)
    return "\n".join(lines).rstrip() + "\n"


def markdown_costs(costs: Sequence[CostEstimate]) -> list[str]:
    if not costs:
        return []
    names = ("time_ms", "compute_ms", "memory_ms", "dispatch_ms", "transfer_ms")
    rows = [(cost.family, *(f"{getattr(cost, name):.2f}" for name in names)) for cost in costs]
    lines = markdown_table(("estimate", "ms", "compute", "memory", "dispatch", "transfer"), rows)
    lines += ["For ranking, not a promise. Against published figures:", ""]
    return lines + [f"- {' '.join(families)}: {text}" for families, text in calibrations(costs)]


def markdown_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    cells = [header, ("---",) * len(header), *(tuple(escaped(cell) for cell in row) for row in rows)]
    return [f"| {' | '.join(row)} |" for row in cells] + [""]


def escaped(text: str) -> str:
    return re.sub(r"([|<>*`\\_\[\]])", r"\\\1", " ".join(text.split()))
