"""An ANE report as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from edgesam_export.ane.render.summary import placement_counts, severity_counts
from edgesam_export.ane.report import AneReport

__all__ = ["to_json"]


def to_json(report: AneReport) -> str:
    """The report as JSON with sorted keys, and the counts that follow from it."""
    document = asdict(report) | {
        "worst": report.worst(),
        "counts": severity_counts(report.findings),
        "placement_counts": placement_counts(report),
    }
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"
