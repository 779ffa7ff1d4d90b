"""Pixel values of every type, range and layout become the same 8-bit image, or a warning says what was assumed."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from edgesam_export.errors import EdgeSAMExportWarning, UsageError, collected_warnings
from edgesam_export.imaging.levels import array_pixels, to_8_bits
from edgesam_export.imaging.reading import any_image, open_image

TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "i8", "f2", "f4", "f8", "?")


def grey_image(number: int, *, top: int = 255) -> np.ndarray:
    """A smooth image with noise that reaches ``top``, uint8 (12, 17)."""
    noise = np.random.default_rng(number).random((12, 17)) * 0.2 + np.linspace(0, 0.8, 17)
    noise *= top / noise.max()
    return np.floor(noise + 0.5).astype(np.uint8)


def quiet_result(function, *arguments) -> tuple[np.ndarray, list[str]]:
    """Return what a function returns, and the warnings it issues."""
    with warnings.catch_warnings(), collected_warnings(silent=True) as found:
        return function(*arguments), found


@seed(1)
@settings(max_examples=150, deadline=None)
@given(
    number=st.integers(0, 10**6),
    top=st.integers(60, 255),
    kind=st.sampled_from(("u2", "i4", "f4", "f8")),
    scale=st.floats(-4, 8).map(lambda power: 2.0**power),
    offset=st.sampled_from((0.0, 0.0, 0.0, -0.5, -3.0)),
)
def test_any_range_gives_the_same_image_or_a_warning(number, top, kind, scale, offset):
    grey = grey_image(number, top=top)
    values = (grey.astype(np.float64) + offset * top) * scale
    if kind != "f4" and kind != "f8":
        offset, scale = 0.0, max(1.0, scale)
        values = np.round(grey.astype(np.float64) * scale)
    pixels, found = quiet_result(to_8_bits, values.astype(kind), "image")
    spread = np.corrcoef(pixels.ravel(), grey.ravel())[0, 1]
    assert spread > 0.999  # never clipped, inverted or flattened: an affine image of the original
    if not found:
        assert pixels.max() >= 0.74 * 255  # darkened by no more than a usual exposure
    else:
        assert len(found) == 1 and pixels.max() >= 127


@seed(2)
@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 10**6), form=st.sampled_from(("L", "LA", "P", "I;16", "I", "F", "RGB", "RGBA", "1")))
def test_every_mode_of_a_file_is_the_same_image(number, form):
    grey = grey_image(number)
    expected = np.repeat(grey[..., None], 3, 2)
    if form == "I;16":
        stored = Image.fromarray(grey.astype(np.uint16) * 257)
    elif form == "1":
        stored = Image.fromarray(grey > 127)
        expected = np.where(expected > 127, 255, 0)
    else:
        stored = Image.fromarray(grey).convert("RGB" if form == "P" else form)
        stored = stored.convert("P", palette=Image.Palette.ADAPTIVE, colors=256) if form == "P" else stored
    for file_form in ("PNG", "TIFF") if form not in ("F", "I") else ("TIFF",):
        file = io.BytesIO()
        stored.save(file, file_form)
        file.seek(0)
        pixels, found = quiet_result(open_image, file)
        assert np.abs(pixels.astype(int) - expected).max() <= 1 and not found


@seed(3)
@settings(max_examples=60, deadline=None)
@given(
    number=st.integers(0, 10**6),
    layout=st.sampled_from(("HW", "HW1", "HW3", "HW4")),
    kind=st.sampled_from(("u1", "u2", "f4 to 1", "f4 to 255", "f2 to 1", "i8")),
)
def test_every_layout_and_type_of_an_array_is_the_same_image(number, layout, kind):
    grey = grey_image(number)
    array = {"HW": grey, "HW1": grey[..., None], "HW3": np.stack([grey] * 3, -1)}.get(layout)
    if array is None:
        array, kind = np.concatenate([np.stack([grey] * 3, -1), np.full((*grey.shape, 1), 255, np.uint8)], -1), "u1"
    name, _, top = kind.partition(" to ")
    scale = {"u2": 257.0, "f4": float(top or 0) / 255, "f2": 1 / 255}.get(name, 1.0)
    pixels, found = quiet_result(any_image, (array * scale).astype(name))
    assert pixels.dtype == np.uint8 and pixels.shape == (*grey.shape, 3)
    assert np.abs(pixels.astype(int) - grey[..., None]).max() <= 1 and not found


@seed(4)
@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from((*TYPES, "c8", "O", "U3", "M8[s]")),
    shape=st.lists(st.integers(0, 5), min_size=0, max_size=4),
    value=st.sampled_from((0, 1, 7, 255, 300, -5, 2**15, 70000, np.nan, np.inf, 1e300)),
)
def test_any_array_is_an_image_or_refused_in_one_line(kind, shape, value):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of the casts that make the arrays
        array = np.full(shape, value, np.float64).astype(kind) if kind[0] not in "OUM" else np.zeros(shape, kind)
    try:
        pixels, _ = quiet_result(array_pixels, array)
    except UsageError as error:
        assert "\n" not in str(error) and "image" in str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.shape == (*array.shape[:2], 3) and pixels.size


def test_one_hot_pixel_does_not_darken_the_rest():
    values = np.repeat(grey_image(5).astype(np.uint16) * 8, 20, axis=0)
    values[0, 0] = 65535
    with pytest.warns(EdgeSAMExportWarning, match="to 65535 are read with 0 as black and 2040 as white"):
        pixels = to_8_bits(values, "scan")
    assert np.quantile(pixels, 0.99) > 200


def test_a_small_bright_object_on_black_stays_as_it_is():
    values = np.zeros((100, 100), np.uint16)
    values[5, 5] = 65535
    pixels = to_8_bits(values, "star")
    assert pixels[5, 5] == 255 and pixels.sum() == 255


@pytest.mark.parametrize(
    "shape, advice",
    [
        ((3, 20, 30), "its channels come first; give image.transpose"),
        ((1, 20, 30, 3), "it is a batch; give its one image"),
        ((20, 30, 2), "give an RGB array with shape"),
    ],
)
def test_another_layout_is_refused_with_the_way_out(shape, advice):
    with pytest.raises(UsageError, match=advice):
        array_pixels(np.zeros(shape, np.float32))


def test_arrays_of_other_libraries_are_taken_as_numpy_takes_them():
    levels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4
    masked = np.ma.masked_greater(levels.astype(np.int16), 200)
    for found in (torch.from_numpy(levels), np.ma.masked_array(levels), masked):
        assert np.array_equal(array_pixels(found), np.where(levels > 200, 0, levels) if found is masked else levels)
    with pytest.raises(UsageError, match=r"its channels come first; .*image\.permute\(1, 2, 0\)"):
        array_pixels(torch.zeros(3, 8, 9))
    with pytest.raises(UsageError, match=r"image is Tensor, which NumPy cannot take: .*; give a NumPy array"):
        array_pixels(torch.zeros(8, 9, 3, requires_grad=True))


def test_transparency_of_an_array_is_composited_as_of_a_file():
    pixels = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    assert array_pixels(pixels).tolist() == [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]
    with pytest.raises(UsageError, match="transparency is read from uint8 only"):
        array_pixels(pixels.astype(np.float32))
