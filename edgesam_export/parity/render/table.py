"""Parity report as a table for the terminal."""

from __future__ import annotations

from edgesam_export.parity.render.summary import FAILURES_SHOWN, HEADINGS, cells, gate_lines, verdict
from edgesam_export.parity.report import ParityReport, ParityRow

__all__ = ["to_table"]


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
