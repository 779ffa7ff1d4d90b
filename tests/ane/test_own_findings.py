"""What the rules say of the bundled model's export: a changed rule shows here what it changes."""

from __future__ import annotations

from collections import Counter

from edgesam_export.ane.analyzer import analyze
from edgesam_export.ane.render.summary import placement_counts

ENCODER = {"A27 warning": 4, "N02 warning": 2, "N08 info": 5}
"""Interpolation by constant matrices; LayerNorm's epsilon in the neck; squeeze and excitation."""
DECODER = {
    **{"A03 warning": 2, "A25 warning": 4, "A27 info": 35, "N02 warning": 10},
    **{"N08 info": 6, "N11 warning": 1, "P03 info": 1},
}
"""The prompt's encoding in FP32; layout changes around attention; the IoU head, whose scores are an FP32 output."""


def test_the_bundled_model_has_the_reviewed_findings(exported):
    folder = exported("edge_sam_tiny", "coreml")
    for component, findings in (("encoder", ENCODER), ("decoder", DECODER)):
        report = analyze(folder / f"edge_sam_tiny_{component}.mlpackage")
        assert Counter(f"{f.rule} {f.severity}" for f in report.findings) == findings
        counts = placement_counts(report)
        assert counts["at-risk"] == counts["rejected"] == 0
        assert [segment.on_ane for segment in report.segments].count(True) == 1
        assert (counts["off"] == 0) == (component == "encoder")
