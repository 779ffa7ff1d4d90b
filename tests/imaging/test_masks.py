"""Boxes around masks and how far masks agree."""

from __future__ import annotations

import numpy as np
import pytest

from edgesam_export.imaging.masks import bounding_box, iou


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((12, 12), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "box"),
    [
        (np.zeros((4, 5), bool), None),
        (np.ones((4, 5), bool), (0, 0, 5, 4)),
        (np.arange(20).reshape(4, 5) == 7, (2, 1, 3, 2)),
        (np.isin(np.arange(20).reshape(4, 5), (6, 18)), (1, 1, 4, 4)),
    ],
)
def test_the_box_around_a_mask_is_exclusive_at_its_end(mask, box):
    assert bounding_box(mask) == box


@pytest.mark.parametrize("box", [(3, 5, 10, 9), (0, 0, 12, 12)])
def test_a_box_holds_the_last_column_and_row(box):
    assert bounding_box(rectangle(*box)) == box


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ((0, 0, 4, 2), (0, 0, 4, 2), 1.0),
        ((0, 0, 4, 2), (2, 0, 6, 2), 4 / 12),
        ((0, 0, 4, 2), (4, 0, 6, 2), 0.0),
        ((0, 0, 4, 2), (0, 0, 0, 0), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 1.0),
    ],
    ids=["same", "partly", "apart", "one empty", "both empty"],
)
def test_intersection_over_union(left, right, expected):
    assert iou(rectangle(*left), rectangle(*right)) == expected
