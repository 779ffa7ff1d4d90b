"""One mask at source size as runs: the mask and the stability that whole maps at that size give."""

from __future__ import annotations

import numpy as np
import pytest

from edgesam_export.imaging import source_masks
from edgesam_export.imaging.geometry import PreparedImage, prepare
from edgesam_export.imaging.masks import iou, masks_to_source, resized, stability
from edgesam_export.imaging.source_masks import mask_at_source
from edgesam_export.spec import ImageFrame

FRAMES = {
    "sam": ImageFrame(size=256),
    "small prompt frame": ImageFrame(size=256, prompt_size=512),
    "direct": ImageFrame(size=256, fit="stretch", mask_resize="bilinear_direct"),
    "bicubic": ImageFrame(size=256, fit="stretch", mask_resize="bicubic"),
}
SIZES = [(61, 90), (300, 40), (700, 1300), (1, 5)]


def prepared_of(size: tuple[int, int], frame: ImageFrame) -> PreparedImage:
    return prepare(np.zeros((*size, 3), np.uint8), frame)


def smooth_logits(seed: int, level: float) -> np.ndarray:
    """Blobs whose values cross zero, and less often ``level`` above and below it."""
    noise = np.random.default_rng(seed).normal(0, 4, (1, 9, 9)).astype(np.float32)
    return resized(noise, (256, 256))[0] - level


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("level", [0, 5, 40])
def test_a_mask_is_the_one_of_the_whole_map(frame, size, level, monkeypatch):
    monkeypatch.setattr(source_masks, "STRIP_PIXELS", 50_000)
    prepared, logits = prepared_of(size, frame), smooth_logits(3, level)
    whole = masks_to_source(logits[None], prepared)
    runs, stable = mask_at_source(logits, prepared, offset=1.0)
    assert np.count_nonzero(runs.mask() != (whole[0] > 0)) <= 2  # the last bit of a value next to zero
    assert iou(runs.mask(), whole[0] > 0) > 0.999
    assert stable == pytest.approx(float(stability(whole, 1.0)[0]), abs=2e-3)
    if level == 40:
        assert runs.area == 0 and stable == 0


def test_a_crop_lies_where_it_was_cut_out():
    crop, logits = prepared_of((40, 60), FRAMES["sam"]), smooth_logits(4, 1)
    alone, stable = mask_at_source(logits, crop)
    inside, same = mask_at_source(logits, crop, image_size=(100, 90), corner=(25, 50))
    expected = np.zeros((100, 90), bool)
    expected[50:90, 25:85] = alone.mask()
    assert alone.area and np.array_equal(inside.mask(), expected) and stable == same


def test_only_a_part_around_the_mask_is_upsampled():
    logits = np.full((256, 256), -9, np.float32)
    logits[100:110, 200:220] = 9
    strips = list(source_masks.source_strips(logits, prepared_of((1024, 1024), FRAMES["sam"]), above=-1.0))
    assert sum(columns.size for *_, columns in strips) < 100 * 60
