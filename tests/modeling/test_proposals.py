"""The proposal head: anchors, boxes, pyramid and merging against numbers worked out by hand."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from edgesam_export.modeling.proposals import (
    AnchorBoxes,
    Fusion,
    ProposalHead,
    WeightedPyramid,
    anchor_grid,
    merge_proposals,
)


@pytest.fixture(scope="module")
def head() -> ProposalHead:
    """A head for a frame of 256 pixels with everything random, the statistics of the norms too."""
    torch.manual_seed(0)
    head = ProposalHead(256).eval().requires_grad_(False)
    for name, value in head.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.01, 0.05)
        elif name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.2)
    return head


# ------------------------------------------------------------------------------------------------------------ anchors


def test_the_anchors_of_a_frame_of_1024_are_49104():
    # 9 on each cell of 64 x 64, 32 x 32, 16 x 16, 8 x 8 and 4 x 4
    assert anchor_grid(1024).shape == (4, 9 * (4096 + 1024 + 256 + 64 + 16))


def test_the_first_anchor_is_a_square_of_32_pixels_in_the_middle_of_the_first_cell():
    assert anchor_grid(256)[:, 0].tolist() == [8.0, 8.0, 32.0, 32.0]


def test_anchors_go_along_rows_then_scales_then_ratios_then_levels():
    anchors = anchor_grid(256)
    cells = 16 * 16
    assert anchors[:2, 1].tolist() == [24.0, 8.0]
    assert anchors[:2, 16].tolist() == [8.0, 24.0]
    assert anchors[2:, cells].tolist() == pytest.approx([32 * 2 ** (1 / 3)] * 2)
    # Half as high as wide, of the same area: 32 * sqrt(2) and 32 / sqrt(2).
    assert anchors[2:, 3 * cells].tolist() == pytest.approx([45.254834, 22.627417])
    assert anchors[2:, 6 * cells].tolist() == pytest.approx([22.627417, 45.254834])
    assert anchors[:, 9 * cells].tolist() == [16.0, 16.0, 64.0, 64.0]


def test_the_largest_anchor_is_as_large_as_efficientdets():
    assert float(anchor_grid(1024)[2:, -1].prod().sqrt()) == pytest.approx(128 * 4 * 2 ** (2 / 3))


# -------------------------------------------------------------------------------------------------------------- boxes


def corrected(index: int, *values: float) -> list[float]:
    """Return the box of one anchor of a frame of 256 pixels under a correction."""
    boxes = AnchorBoxes(256)
    corrections = torch.zeros(1, 4, boxes.anchors.shape[2])
    corrections[0, :, index] = torch.tensor(values)
    return boxes(corrections)[0, index].tolist()


def test_without_correction_a_box_is_its_anchor():
    # Row 4, column 5 of the finest level: centre (88, 72), 32 x 32.
    assert corrected(4 * 16 + 5, 0, 0, 0, 0) == [72.0, 56.0, 104.0, 88.0]


def test_a_correction_shifts_by_the_anchors_size_and_grows_exponentially():
    found = corrected(4 * 16 + 5, 0.25, -0.5, math.log(2), math.log(0.5))
    assert found == pytest.approx([64.0, 48.0, 128.0, 64.0])  # centre (96, 56), 64 x 16


def test_boxes_end_at_the_frame():
    assert corrected(0, 0, 0, 0, 0) == [0.0, 0.0, 24.0, 24.0]
    assert corrected(16 * 16 - 1, 0, 0, 50.0, 50.0) == [0.0, 0.0, 256.0, 256.0]


# --------------------------------------------------------------------------------------------------------------- head


def test_a_fusion_weighs_by_the_positive_part_of_its_weights():
    fusion = Fusion(3).eval().requires_grad_(False)
    fusion.weights.copy_(torch.tensor([3.0, -2.0, 1.0]))
    maps = [torch.randn(1, 64, 4, 4) for _ in range(3)]
    mean = (3 * maps[0] + 1 * maps[2]) / 4.0001
    expected = fusion.norm(fusion.conv(mean * torch.sigmoid(mean)))
    torch.testing.assert_close(fusion(*maps), expected)
    torch.testing.assert_close(fusion.folded()(*maps), expected)


def test_the_pyramid_hands_the_coarsest_level_down_and_the_finest_up():
    torch.manual_seed(1)
    pyramid = WeightedPyramid().eval().requires_grad_(False)
    levels = [torch.randn(1, 64, side, side) for side in (16, 8, 4, 2, 1)]
    found = pyramid(levels)

    def twice(x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def pooled(x):
        return F.max_pool2d(x, 3, 2, 1)

    down, up = pyramid.down, pyramid.up
    inner3 = down[3](levels[3], twice(levels[4]))
    inner2 = down[2](levels[2], twice(inner3))
    inner1 = down[1](levels[1], twice(inner2))
    out0 = down[0](levels[0], twice(inner1))
    out1 = up[0](levels[1], inner1, pooled(out0))
    out2 = up[1](levels[2], inner2, pooled(out1))
    out3 = up[2](levels[3], inner3, pooled(out2))
    out4 = up[3](levels[4], pooled(out3))
    for one, expected in zip(found, (out0, out1, out2, out3, out4), strict=True):
        torch.testing.assert_close(one, expected)


def test_every_anchor_gets_a_score_and_a_box(head):
    boxes, scores = head(torch.randn(1, 256, 16, 16, generator=torch.Generator().manual_seed(2)))
    assert boxes.shape == (1, 3069, 4) and scores.shape == (1, 3069)  # 9 * (256 + 64 + 16 + 4 + 1)
    assert float(scores.std()) > 0.1


def test_channels_of_scores_and_corrections_meet_at_the_anchor_of_their_ratio_and_scale(head):
    telling = copy.deepcopy(head)
    scores_end, boxes_end = telling.objectness.predict.pointwise, telling.correction.predict.pointwise
    for end in (scores_end, boxes_end):
        end.weight.zero_()
        end.bias.zero_()
    scores_end.bias[7] = 20.0  # the third ratio, 2, and the second scale
    boxes_end.bias[1 * 9 + 7] = 0.25  # y of the same anchors
    boxes, scores = telling(torch.randn(1, 256, 16, 16))
    anchors = telling.boxes.anchors[0]
    answering = torch.nonzero(scores[0] > 0.9).flatten()
    assert len(answering) == 256 + 64 + 16 + 4 + 1
    assert torch.allclose(anchors[3, answering] / anchors[2, answering], torch.tensor(2.0))
    # Row 1, column 4 of the finest level: centre (72, 24), area (32 * 2^(1/3))^2.
    width, height = 32 * 2 ** (1 / 3) / math.sqrt(2), 32 * 2 ** (1 / 3) * math.sqrt(2)
    y = 24 + 0.25 * height
    expected = [72 - width / 2, y - height / 2, 72 + width / 2, y + height / 2]
    assert boxes[0, answering[20]].tolist() == pytest.approx(expected, rel=1e-5)


def test_each_level_has_norms_of_its_own(head):
    x = torch.randn(1, 64, 4, 4)
    assert not torch.allclose(head.objectness(x, 0), head.objectness(x, 1))


# ------------------------------------------------------------------------------------------------------------ merging

BOXES = np.array(
    [
        [0, 0, 40, 40],  # centre (20, 20)
        [10, 10, 50, 50],  # centre (30, 30)
        [0, 0, 100, 100],  # centre (50, 50)
        [60, 60, 90, 90],  # does not contain (24, 24)
    ],
    np.float32,
)


def test_boxes_around_the_point_are_averaged_by_confidence():
    found = merge_proposals(BOXES, np.array([0.6, 0.2, 0.2, 0.9]), np.array([24, 24]))
    # 0.6 * (0, 0, 40, 40) + 0.2 * (10, 10, 50, 50) + 0.2 * (0, 0, 100, 100)
    assert found.tolist() == pytest.approx([2, 2, 54, 54])


def test_only_the_nearest_centres_count():
    # Distances from (24, 24): 5.66, 8.49 and 36.8.
    found = merge_proposals(BOXES, np.array([0.3, 0.9, 0.9, 0.9]), np.array([24, 24]), nearest=2)
    assert found.tolist() == pytest.approx([7.5, 7.5, 47.5, 47.5])
    assert merge_proposals(BOXES, np.full(4, 0.5), np.array([24, 24]), nearest=1).tolist() == [0, 0, 40, 40]


def test_five_are_merged_unless_told_otherwise():
    boxes = np.array(
        [[50 - size, 50 - size, 50 + size + shift, 50 + size] for shift, size in enumerate(range(10, 70, 10))]
    )
    found = merge_proposals(boxes, np.full(6, 0.5), np.array([50, 50]))
    assert found.tolist() == pytest.approx([20, 20, 82, 80])  # the mean of the first five


def test_weak_boxes_take_no_part():
    found = merge_proposals(BOXES, np.array([0.1, 0.5, 0.05, 0.9]), np.array([24, 24]))
    assert found.tolist() == [10, 10, 50, 50]


def test_a_point_that_no_box_contains_gives_none():
    assert merge_proposals(BOXES, np.full(4, 0.9), np.array([200, 24])) is None
    assert merge_proposals(BOXES, np.zeros(4), np.array([24, 24])) is None
    assert merge_proposals(BOXES[:1], np.ones(1), np.array([40, 20])) is None  # on the edge is not inside


def test_a_score_that_is_not_a_number_takes_no_part():
    found = merge_proposals(BOXES, np.array([math.nan, 0.5, 0.0, 0.9]), np.array([24, 24]))
    assert found.tolist() == [10, 10, 50, 50]
