"""Parity of files made for other programs: other tensor names, unpadded images, masks at source size."""

from __future__ import annotations

import numpy as np
import pytest

from edgesam_export.errors import UsageError
from edgesam_export.parity import check_parity

IMAGES = [
    (f"noise {height}x{width}", np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8))
    for height, width in ((60, 100), (120, 90))
]


@pytest.mark.parametrize("profile", ["sam6", "x-anylabeling"])
def test_a_consumers_files_pass_the_gates(model, exported, profile):
    files = exported("edge_sam_tiny", "onnx", profile=profile)
    report = check_parity(reference=model, candidate=files, images=IMAGES)
    assert report.passed, [row for row in report.rows if not row.passed]
    assert {row.component for row in report.rows} == {"encoder", "decoder"}
    assert {row.numerics for row in report.rows} == {"fp32"}, "ONNX Runtime computes as the files are typed"


def test_a_decoder_that_picks_the_mask_itself_is_refused(model, exported):
    files = exported("edge_sam_tiny", "onnx", profile="sam6", candidates=1, score="iou")
    with pytest.raises(UsageError, match="picks one mask itself; check an export with --candidates 4"):
        check_parity(reference=model, candidate=files, images=IMAGES)
