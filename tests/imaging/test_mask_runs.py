"""Masks as runs of pixels: COCO's encodings, windows and regions, against pycocotools, SciPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco
from scipy import ndimage

from edgesam_export.imaging.mask_runs import MaskRuns, compressed, joined_runs, runs_of, runs_of_columns, shared_area
from edgesam_export.imaging.mask_runs import without_small_regions as cleaned
from edgesam_export.imaging.masks import bounding_box

EIGHT = np.ones((3, 3))
SHAPES = st.tuples(st.integers(1, 13), st.integers(1, 13))
MASKS = SHAPES.flatmap(lambda shape: arrays(bool, shape))


def test_runs_are_counted_column_by_column():
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)
    runs = runs_of(mask)
    assert (runs.starts.tolist(), runs.ends.tolist()) == ([1], [5])  # over the border of three columns
    assert runs.counts == [1, 4, 1] and runs.area == 4 and runs.bounds == (0, 0, 3, 2)
    assert runs_of(np.ones((2, 2), bool)).counts == [0, 4] and runs_of(np.zeros((2, 2), bool)).counts == [4]


@settings(max_examples=60, deadline=None)
@given(mask=MASKS, data=st.data())
def test_a_mask_comes_back_whole_and_in_parts(mask, data):
    runs = runs_of(mask)
    assert np.array_equal(runs.mask(), mask) and np.array_equal(runs.inverted().mask(), ~mask)
    assert runs.area == mask.sum() and runs.bounds == bounding_box(mask)
    assert coco.decode(runs.coco()).astype(bool).tolist() == mask.tolist()
    assert runs.coco()["counts"] == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    height, width = mask.shape
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    assert np.array_equal(runs.window((x0, y0, x1, y1)), mask[y0:y1, x0:x1])
    split = data.draw(st.integers(0, width))
    pieces = [runs_of_columns(mask[:, :split].T, height), runs_of_columns(mask[:, split:].T, height, x0=split)]
    joined = joined_runs(pieces, (height, width))
    assert joined.starts.tolist() == runs.starts.tolist() and joined.ends.tolist() == runs.ends.tolist()


@given(mask=MASKS, data=st.data())
def test_two_masks_share_the_pixels_that_both_have(mask, data):
    other = data.draw(arrays(bool, mask.shape))
    assert shared_area(runs_of(mask), runs_of(other)) == np.count_nonzero(mask & other)
    assert shared_area(runs_of(other), runs_of(mask)) == np.count_nonzero(mask & other)


def test_counts_of_a_large_image_are_compressed_as_pycocotools_does():
    counts = [0, 99_999_000, 15, 16, 31, 32, 100_000, 5, 48_000_000]
    encoded = coco.frPyObjects({"size": [12_500, 12_000], "counts": counts}, 12_500, 12_000)
    assert compressed(counts) == encoded["counts"].decode()


def reference(mask: np.ndarray, smallest: int) -> np.ndarray:
    """The same by SciPy's labels: holes first, then islands, the largest island kept."""
    labels, _ = ndimage.label(~mask, EIGHT)
    small = [n for n, area in enumerate(np.bincount(labels.flat)) if n and area < smallest]
    mask = mask | np.isin(labels, small)
    labels, _ = ndimage.label(mask, EIGHT)
    areas = np.bincount(labels.flat)[1:]
    kept = np.flatnonzero(areas >= smallest) + 1
    if not len(kept) and len(areas):
        kept = np.flatnonzero(areas == areas.max()) + 1
    return np.isin(labels, kept)


@settings(max_examples=80, deadline=None)
@given(mask=MASKS, smallest=st.integers(0, 9))
def test_small_regions_are_those_of_labelled_components(mask, smallest):
    found, changed = cleaned(runs_of(mask), smallest)
    expected = reference(mask, smallest)
    assert changed or np.array_equal(found.mask(), mask)
    # of several largest islands, all below the bound, one stays
    extra = expected & ~found.mask()
    assert not (found.mask() & ~expected).any() and (not extra.any() or ndimage.label(expected, EIGHT)[1] > 1)


def test_holes_are_filled_islands_removed_and_the_largest_stays():
    mask = np.zeros((9, 12), bool)
    mask[1:8, 1:8] = True
    mask[3, 3] = mask[4, 4] = False  # one hole of two pixels that touch by a corner
    mask[0, 10] = mask[1, 11] = True  # likewise an island
    found, changed = cleaned(runs_of(mask), 3)
    assert changed and found.area == 49 and found.bounds == (1, 1, 8, 8)
    same, changed = cleaned(runs_of(mask), 2)
    assert not changed and same.area == mask.sum()
    largest, changed = cleaned(runs_of(mask), 1000)
    assert changed and largest.area == 9 * 12  # the background was a hole too


@pytest.mark.parametrize("size", [(3, 1), (1, 3)])
def test_an_empty_mask_has_nothing(size):
    empty = joined_runs([], size)
    assert isinstance(empty, MaskRuns) and empty.area == 0 and empty.bounds is None
    assert empty.counts == [3] and not empty.mask().any() and cleaned(empty, 0)[0].area == 0
