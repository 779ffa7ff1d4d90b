"""Parity report as a table for the terminal; not a file, so no format."""

from __future__ import annotations

from edgesam_export.errors import printable
from edgesam_export.parity.render.summary import FAILURES_SHOWN, HEADINGS, cells, gate_lines, verdict
from edgesam_export.parity.report import ParityReport, ParityRow
from edgesam_export.rendering import text_table

__all__ = ["to_table"]

MAX_LINE = 4000


def to_table(report: ParityReport) -> str:
    """Return plain text: a line for each gate with the worst value it met, then the problems, then the verdict."""
    lines = [text_table(HEADINGS, [cells(line) for line in gate_lines(report)])]
    rest = [f"{row.candidate}: {row.label}: {row.problem}" for row in problems(report)]
    rest += [f"why: {item}" for item in report.explanations]
    rest += [f"not as in the profile: {difference}" for difference in report.differences]
    rest += [f"not compared: {reason}" for reason in report.skipped]
    lines += [printable(line, MAX_LINE) for line in [*rest, verdict(report)]]
    return "\n".join(lines)


def problems(report: ParityReport) -> list[ParityRow]:
    """Return the rows that fail whatever the gates, as many as one can read."""
    return [row for row in report.rows if row.problem][:FAILURES_SHOWN]
