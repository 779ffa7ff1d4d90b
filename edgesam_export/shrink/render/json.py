"""A search's result as JSON."""

from __future__ import annotations

from edgesam_export.files import json_text
from edgesam_export.shrink.result import ShrinkResult

__all__ = ["SUFFIX", "render"]

SUFFIX = ".json"


def render(result: ShrinkResult) -> str:
    """Return the document."""
    return json_text(result.document())
