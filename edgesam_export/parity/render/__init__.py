"""Parity reports as files: JSON, JUnit XML, Markdown, HTML."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.files import write_text
from edgesam_export.parity.render.json import to_json
from edgesam_export.parity.render.junit import to_junit
from edgesam_export.parity.render.markdown import to_markdown
from edgesam_export.parity.report import ParityReport

__all__ = ["write_reports"]


def write_reports(report: ParityReport, folder: str | Path, *, stem: str = "parity") -> dict[str, Path]:
    """Write all four files, each complete or not at all; returns their paths by kind.

    Raises: UsageError when the folder cannot be written to.
    """
    from edgesam_export.parity.render.html import to_html

    renderers = {"json": to_json, "xml": to_junit, "md": to_markdown, "html": to_html}
    paths = {kind: Path(folder) / f"{stem}.{kind}" for kind in renderers}
    for kind, render in renderers.items():
        # File names may hold bytes that are no text; a report must be writable all the same.
        write_text(paths[kind], render(report).encode("utf-8", "replace").decode("utf-8"))
    return paths
