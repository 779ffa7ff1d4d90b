"""A comparison as a file: a module here with ``SUFFIX`` and ``render(comparison)`` is a format of ``compare``."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.bench.compare import Comparison
from edgesam_export.errors import UsageError
from edgesam_export.files import write_beside
from edgesam_export.rendering import rendered, renderers

__all__ = ["write_comparison"]


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write a comparison in the format that the path's suffix names.

    Raises:
        UsageError: no such format, nothing to write, or the folder cannot be written to.
    """
    formats = renderers(__name__)
    if path.suffix.lower() not in formats:
        raise UsageError(f"cannot write '{path}'; formats are {', '.join(sorted(formats))}")
    content = rendered(formats[path.suffix.lower()], comparison)
    with write_beside(path) as temporary:
        temporary.write_bytes(content)
