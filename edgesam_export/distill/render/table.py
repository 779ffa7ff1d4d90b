"""An evaluation as a table for the terminal."""

from __future__ import annotations

from edgesam_export.distill.comparison import Comparison
from edgesam_export.distill.results import Summary
from edgesam_export.rendering import text_table

__all__ = ["to_table"]

COLUMNS = ("mIoU", "std error", "quartiles", "objects")


def to_table(comparison: Comparison) -> str:
    """Return a row for each prompt, and four columns for each subject under its label."""
    reports = comparison.reports
    rows = list(dict.fromkeys(row for report in reports.values() for row in report.rows))
    lines = [
        (row.replace("_", " "), *(cell for report in reports.values() for cell in cells(report.summary(row))))
        for row in rows
    ]
    headings = ("prompt", *COLUMNS * len(reports))
    if len(reports) > 1:
        return text_table(("", *(cell for label in reports for cell in (label, "", "", ""))), [headings, *lines])
    ((label, report),) = reports.items()
    return f"{label} on {report.data}\n{text_table(headings, lines)}"


def cells(summary: Summary) -> tuple[str, ...]:
    """Return the four cells of a summary."""
    if summary.miou is None or summary.quartiles is None:
        return "-", "-", "-", "0"
    error = "-" if summary.standard_error is None else f"{summary.standard_error:.4f}"
    return f"{summary.miou:.4f}", error, " ".join(f"{value:.3f}" for value in summary.quartiles), str(summary.objects)
