"""An ANE report as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgesam_export.ane.render.summary import placement_counts, severity_counts
from edgesam_export.ane.report import AneReport
from edgesam_export.files import json_text

__all__ = ["SUFFIX", "render", "to_document"]

SUFFIX = ".json"


def render(report: AneReport) -> str:
    """Return the report as JSON, see ``to_document``."""
    return json_text(to_document(report))


def to_document(report: AneReport) -> dict[str, Any]:
    """Return every field of the report, and the counts that follow from them, as JSON data."""
    return asdict(report) | {
        "worst": report.worst(),
        "counts": severity_counts(report.findings),
        "placement_counts": placement_counts(report),
    }
