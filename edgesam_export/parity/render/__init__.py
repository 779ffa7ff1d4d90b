"""Parity reports as files: one module with ``SUFFIX`` and ``render(report)`` for each format."""

from __future__ import annotations

from pathlib import Path

from edgesam_export import rendering
from edgesam_export.parity.report import ParityReport

__all__ = ["write_reports"]


def write_reports(report: ParityReport, folder: str | Path, *, stem: str = "parity") -> dict[str, Path]:
    """Write the report in every format, all files or none; return their paths by kind (``html``, ``json``, ...).

    Raises: UsageError when the folder cannot be written to.
    """
    paths = rendering.write_reports(__name__, report, folder, stem)
    return {suffix.removeprefix("."): path for suffix, path in paths.items()}
