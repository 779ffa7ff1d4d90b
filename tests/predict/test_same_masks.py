"""One object, its image stored in every way that an image can be: the same mask within 0.01 of IoU, or a warning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from edgesam_export.errors import collected_warnings
from edgesam_export.families import load_model
from edgesam_export.imaging.masks import iou
from edgesam_export.imaging.reading import any_image, open_image
from edgesam_export.predict.predictor import Predictor
from edgesam_export.resources import SAMPLES

SCENE = SAMPLES / "scene.png"
BOX = (346, 305, 496, 459)
EXPOSED, WARNED = 0.02, 0.05
"""Loss of IoU of an image that is darker by a quarter at most, and of one that a warning names."""


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    """The bundled scene in grey, uint8 (H, W)."""
    return np.asarray(Image.fromarray(open_image(SCENE)).convert("L"))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(load_model("edge_sam_tiny"))


@pytest.fixture(scope="module")
def expected(predictor: Predictor, grey: np.ndarray) -> np.ndarray:
    mask, _ = mask_of(predictor, grey)
    assert 0.04 < mask.mean() < 0.06  # the star at the right
    return mask


MASKS: dict[bytes, np.ndarray] = {}
"""By pixels: what is read as the same image needs no second prediction."""


def mask_of(predictor: Predictor, image) -> tuple[np.ndarray, list[str]]:
    with collected_warnings(silent=True) as found:
        pixels = any_image(image)
        key = pixels.tobytes()
        if key not in MASKS:
            MASKS[key] = predictor.set_image(pixels).predict(box=BOX).best
        return MASKS[key], found


STORED: dict[str, tuple[Callable[[np.ndarray], Image.Image], str, bool]] = {
    "8 bits": (Image.fromarray, "png", False),
    "grey as colours": (lambda grey: Image.fromarray(grey).convert("RGB"), "png", False),
    "with transparency": (lambda grey: Image.fromarray(grey).convert("LA"), "png", False),
    "palette": (lambda grey: Image.fromarray(grey).convert("P"), "png", False),
    "16 bits": (lambda grey: Image.fromarray(grey.astype(np.uint16) * 257), "png", False),
    "12 bits in 16": (lambda grey: Image.fromarray(grey.astype(np.uint16) * 16), "png", True),
    "10 bits in 16, TIFF": (lambda grey: Image.fromarray(grey.astype(np.uint16) * 4), "tiff", True),
    "32-bit integers": (lambda grey: Image.fromarray(grey.astype(np.int32)), "tiff", False),
    "floats to 1": (lambda grey: Image.fromarray((grey / 255).astype(np.float32)), "tiff", False),
    "floats to 4.5": (lambda grey: Image.fromarray((grey / 255 * 4.5).astype(np.float32)), "tiff", True),
    "floats around 0": (lambda grey: Image.fromarray((grey / 127.5 - 1).astype(np.float32)), "tiff", True),
    "CMYK": (lambda grey: Image.fromarray(grey).convert("RGB").convert("CMYK"), "tiff", False),
}


@pytest.mark.parametrize("how", STORED)
def test_every_way_to_store_an_image_gives_its_mask(predictor, grey, expected, tmp_path, how):
    make, suffix, warned = STORED[how]
    make(grey).save(tmp_path / f"image.{suffix}")
    mask, found = mask_of(predictor, tmp_path / f"image.{suffix}")
    assert iou(mask, expected) > 0.99
    assert bool(found) == warned, found


@seed(11)
@settings(max_examples=8, deadline=None)
@given(
    kind=st.sampled_from(("u2", "i4", "f2", "f4", "f8")),
    power=st.floats(-3, 7),
    colours=st.booleans(),
)
def test_any_range_of_an_array_gives_its_mask_or_a_warning(predictor, grey, expected, kind, power, colours):
    scale = 2.0**power if kind[0] == "f" else max(1.0, 2.0**power)
    values = (grey * scale).astype(kind)
    mask, found = mask_of(predictor, np.stack([values] * 3, axis=-1) if colours else values)
    assert len(found) <= 1
    assert iou(mask, expected) > 1 - (WARNED if found else EXPOSED)
