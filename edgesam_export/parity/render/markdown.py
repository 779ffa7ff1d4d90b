"""Parity report as Markdown, for a CI step summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgesam_export.parity.render.summary import (
    FAILURES_SHOWN,
    HEADINGS,
    RANGE_SHOWN,
    cells,
    gate_lines,
    reason_of,
    verdict,
)
from edgesam_export.parity.report import ParityReport

__all__ = ["markdown", "to_markdown"]


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


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *([markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
