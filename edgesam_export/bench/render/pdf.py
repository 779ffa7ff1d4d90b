"""The plot of a comparison as a PDF page."""

from __future__ import annotations

from edgesam_export.bench.compare import Comparison
from edgesam_export.bench.render.plot import image_of

__all__ = ["SUFFIX", "render"]

SUFFIX = ".pdf"


def render(comparison: Comparison) -> bytes:
    """Return the plot; raises as the PNG's."""
    return image_of(comparison, "pdf")
