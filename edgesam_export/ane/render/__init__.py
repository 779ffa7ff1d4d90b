"""ANE reports as files: a module with ``SUFFIX`` and ``render(report)`` is a format; ``plan`` renders comparisons."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.ane.render.summary import report_stem
from edgesam_export.ane.report import AneReport
from edgesam_export.rendering import write_reports

__all__ = ["write_ane_reports"]


def write_ane_reports(report: AneReport, folder: str | Path) -> list[Path]:
    """Write a report in every format as ``<package>_ane.*``, all or none; return the paths.

    Raises:
        UsageError: the folder cannot be written to, or the program has no operations to draw.
    """
    return list(write_reports(__name__, report, folder, report_stem(report)).values())
