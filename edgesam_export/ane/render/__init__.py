"""ANE reports as files: JSON, text, Markdown, SARIF, and a picture."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.ane.render.json import to_json
from edgesam_export.ane.render.markdown import to_markdown
from edgesam_export.ane.render.text import to_text
from edgesam_export.ane.report import AneReport
from edgesam_export.files import staging_folder

__all__ = ["write_ane_reports"]


def write_ane_reports(report: AneReport, folder: str | Path) -> list[Path]:
    """Write JSON, text, Markdown, SARIF and the picture as ``<package>_ane.*``; return the paths.

    Raises:
        UsageError: the folder cannot be written to.
    """
    from edgesam_export.ane.render.sarif import to_sarif
    from edgesam_export.ane.render.strip import strip_picture

    stem = f"{Path(report.file).stem}_ane"
    contents = {
        f"{stem}.json": to_json(report).encode(),
        f"{stem}.txt": to_text(report).encode(),
        f"{stem}.md": to_markdown(report, picture=f"{stem}.png").encode(),
        f"{stem}.sarif": to_sarif(report).encode(),
        f"{stem}.png": strip_picture(report),
    }
    with staging_folder(Path(folder)) as staging:
        for name, content in contents.items():
            (staging / name).write_bytes(content)
    return [Path(folder) / name for name in contents]
