"""Parity report as Markdown, for the step summary of a CI job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgesam_export.parity.ranges import RangeRow
from edgesam_export.parity.render.summary import (
    FAILURES_SHOWN,
    HEADINGS,
    cells,
    gate_lines,
    near_limits,
    reason_of,
    verdict,
)
from edgesam_export.parity.report import ParityReport
from edgesam_export.rendering import escape_markdown, markdown_table

__all__ = ["SUFFIX", "render"]

SUFFIX = ".md"


def render(report: ParityReport) -> str:
    """Return Markdown: verdict, gates, failures, explanations, ranges, files."""
    mark = "✅" if report.passed else "❌"
    parts = [
        f"## {mark} Parity of {escape_markdown(report.model)}",
        escape_markdown(verdict(report)) + ".",
        markdown_table(HEADINGS, [cells(line) for line in gate_lines(report)]),
        *failures(report),
        *bullets("Why", [str(item) for item in report.explanations]),
        *ranges(near_limits(report)),
        *bullets("Not as in the profile", report.differences),
        *bullets("Not compared", report.skipped),
    ]
    files = [(item.file, item.format, item.component, item.sha256) for item in report.artifacts]
    if files:
        parts += ["### Files", markdown_table(("file", "format", "component", "sha256"), files)]
    origin = f"edgesam-export {report.tool_version}, reference {escape_markdown(report.reference)}"
    return "\n\n".join([*parts, origin]) + "\n"


def failures(report: ParityReport) -> Iterator[str]:
    """Yield heading and table of the failed rows."""
    if failing := report.failures:
        more = f" (the first {FAILURES_SHOWN} of {len(failing)})" if len(failing) > FAILURES_SHOWN else ""
        rows = [(row.candidate, row.label, reason_of(row)) for row in failing[:FAILURES_SHOWN]]
        yield f"### Out of tolerance{more}"
        yield markdown_table(("candidate", "where", "why"), rows)


def ranges(near: Sequence[RangeRow]) -> Iterator[str]:
    """Yield heading and table of the operations near their limit."""
    if near:
        rows = [
            (r.component, f"{r.operation} ({r.type})", r.module, r.rule, f"{r.magnitude:.4g}", f"{r.limit:g}")
            for r in near
        ]
        yield "### Near the limits of FP16 and the ANE"
        yield markdown_table(("component", "operation", "module", "rule", "largest", "limit"), rows)


def bullets(heading: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield a heading and a list; nothing without lines."""
    if lines:
        yield f"### {heading}"
        yield "\n".join(f"- {escape_markdown(line)}" for line in lines)
