"""Masks and prompts drawn over an image."""

from __future__ import annotations

import numpy as np
import pytest

from edgesam_export.errors import UsageError
from edgesam_export.imaging import overlay as overlay_module
from edgesam_export.imaging.mask_runs import runs_of
from edgesam_export.imaging.overlay import coloured_overlay, distinct_colour, draw_mask, nearest, overlay

GREY = np.full((120, 160, 3), 100, np.uint8)


def square_mask() -> np.ndarray:
    mask = np.zeros((120, 160), bool)
    mask[30:90, 40:100] = True
    return mask


def test_overlay_tints_the_inside_and_leaves_the_outside():
    before = GREY.copy()
    out = overlay(GREY, square_mask(), colour=(0, 0, 255))
    assert out.shape == GREY.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(GREY, before)
    np.testing.assert_array_equal(out[60, 70], [58, 58, 165])  # 100 + 0.42 * (0 or 255 - 100)
    np.testing.assert_array_equal(out[10, 10], [100, 100, 100])


def test_overlay_contour_is_coloured_with_a_light_halo_on_both_sides():
    row = overlay(GREY, square_mask(), colour=(0, 0, 255))[60].astype(int)
    assert row[39, 2] > 180 and row[39, 0] < 130  # the contour lies between columns 39 and 40
    assert row[38, 0] > 150 and row[41, 0] > 110
    assert (row[:36] == 100).all()


def test_overlay_line_grows_with_the_image():
    def line_width(side: int) -> int:
        mask = np.zeros((side // 4, side), bool)
        mask[:, : side // 2] = True
        row = overlay(np.zeros((side // 4, side, 3), np.uint8), mask, colour=(255, 0, 0))[side // 8].astype(int)
        return int(((row[:, 0] > 200) & (row[:, 1] < 60)).sum())

    assert 2 <= line_width(1000) <= 4
    assert line_width(4000) >= 3 * line_width(1000)


def test_overlay_draws_no_contour_along_the_border_of_the_image():
    out = overlay(GREY, np.ones((120, 160), bool), colour=(0, 0, 255))
    assert (out == out[0, 0]).all()
    np.testing.assert_array_equal(overlay(GREY, np.zeros((120, 160), bool)), GREY)


def test_overlay_is_the_same_whatever_the_tiles(monkeypatch):
    rng = np.random.default_rng(1)
    mask = np.kron(rng.random((6, 8)) > 0.5, np.ones((20, 20))).astype(bool)
    whole = overlay(GREY, mask)
    monkeypatch.setattr(overlay_module, "TILE", 17)
    np.testing.assert_array_equal(overlay(GREY, mask), whole)


def test_overlay_draws_points_in_green_and_red_and_a_box():
    none = np.zeros((120, 160), bool)
    out = overlay(GREY, none, points=[(40, 60), (120, 60)], labels=[1, 0], box=(10, 20, 150, 100)).astype(int)
    assert out[60, 40, 1] > out[60, 40, 0] + 80
    assert out[56:65, 115:126, 0].max() > 200 and out[57, 120, 0] > out[57, 120, 1] + 80
    for y, x in ((20, 80), (99, 80), (60, 10), (60, 149)):
        assert out[y, x, 0] > out[y, x, 2] + 80
    np.testing.assert_array_equal(out[40, 80], [100, 100, 100])


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 2)])
def test_overlay_prompts_at_the_corners_of_small_images(size):
    height, width = size
    image = np.zeros((*size, 3), np.uint8)
    corners = [(0, 0), (width - 1, 0), (width - 0.01, height - 0.01), (0, height - 1)]
    out = overlay(image, np.ones(size, bool), points=corners, labels=[1, 0, 1, 0], box=(0, 0, width, height))
    assert out.shape == image.shape and out.any()


def test_overlay_refuses_what_does_not_belong_together():
    with pytest.raises(UsageError, match=r"\(3, 3\).*\(120, 160\)"):
        overlay(GREY, np.ones((3, 3), bool))
    with pytest.raises(UsageError, match="2 points but 1 labels"):
        overlay(GREY, square_mask(), points=[(1, 1), (2, 2)], labels=[1])


def test_many_masks_get_colours_of_their_own_small_ones_on_top():
    large, small = square_mask(), np.zeros((120, 160), bool)
    small[50:70, 60:80] = True
    out = coloured_overlay(GREY, [runs_of(small), runs_of(large), runs_of(np.zeros((120, 160), bool))])
    one, two = (np.array(distinct_colour(number)) for number in (0, 1))
    assert np.abs(out[40, 90] - (100 + 0.6 * (one - 100))).max() <= 1  # the large one is drawn first
    below = 100 + 0.6 * (one - 100)
    assert np.abs(out[60, 70] - (below + 0.6 * (two - below))).max() <= 1
    assert (out[:20] == 100).all() and (GREY == 100).all()
    with pytest.raises(UsageError, match=r"mask of an image of \(3, 4\), this one has \(120, 160\)"):
        coloured_overlay(GREY, [runs_of(np.ones((3, 4), bool))])


@pytest.mark.parametrize("inside", [(slice(30, 90), slice(40, 100)), (slice(0, 50), slice(100, 160))])
def test_a_mask_is_drawn_in_its_part_of_the_image_as_in_the_whole(inside):
    mask = np.zeros((120, 160), bool)
    mask[inside] = True
    whole = GREY.copy()
    draw_mask(whole, mask, 0.6, distinct_colour(0), 0.6)
    np.testing.assert_array_equal(coloured_overlay(GREY, [runs_of(mask)]), whole)


def test_neighbouring_colours_are_far_apart():
    colours = np.array([distinct_colour(number) for number in range(12)], float)
    assert min(np.linalg.norm(colours[i] - colours[j]) for i in range(12) for j in range(i) if i - j <= 3) > 60


def test_nearest_is_the_euclidean_distance_up_to_its_reach():
    target = np.random.default_rng(5).random((23, 31)) > 0.97
    rows, columns = np.nonzero(target)
    y, x = np.mgrid[:23, :31]
    expected = np.hypot(y[..., None] - rows, x[..., None] - columns).min(axis=-1)
    np.testing.assert_allclose(nearest(target, 5), np.minimum(expected, 6), rtol=1e-6)
