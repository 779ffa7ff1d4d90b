"""From pixel values of any type and range to 8 bits: which value is black, and which is white.

A file or an array says how wide its numbers are, not how much of that width is used: a 12-bit sensor in 16-bit pixels
fills a sixteenth of the range, and a network would see a black image. The rule, for everything but 8 bits:

* black is 0, or the smallest value where it is negative; white is then the largest value;
* otherwise white is the smallest of ``WHITES`` (1 for floats only) that holds all values, if the largest one reaches
  ``LEAST_USE`` of it, and the largest value itself if not;
* if all but a thousandth of the pixels stay below ``DARK`` of that white, white is the value that they stay below.

8-bit values are used as they are. Whatever differs from the full range of the type (65535 for 16 bits; 255 or 65535
for wider integers; 1, 255 or 65535 for floats), or does not reach ``PLAIN_USE`` of it, is said in a warning.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesam_export.errors import UsageError, first_line, warn

__all__ = ["NEARLY_BLACK", "array_pixels", "brightened", "grey_to_rgb", "over_white", "to_8_bits", "warn_if_black"]

WHITES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
"""Largest values of what cameras and programs write: floats to 1; 8, 10, 12, 14 and 16 bits."""
FULL_RANGES = {"u2": (65535.0,), "i": (255.0, 65535.0), "f": (1.0, 255.0, 65535.0)}
"""Whites that need no warning: of 16-bit pixels, of wider integers, of floats."""
LEAST_USE = 0.5
PLAIN_USE = 0.75
"""Share of white that the largest value of most photographs reaches; below it the range may be another one."""
DARK = 0.125
OUTLIERS = 0.001
NEARLY_BLACK = 16
"""No 8-bit photograph stays below it; 12-bit data cut to their upper byte do, and masks of 0 and 1."""
SAMPLES = 1_000_000
"""Pixels that the share of outliers is estimated on."""


def to_8_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Return values of any range as uint8 of the same shape, by the rule of this module; warns unless it is plain.

    Raises: UsageError for NaN or infinite values.
    """
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint8 or not values.size:
        warn_if_black(values, name)
        return values.astype(np.uint8)
    kind = "u2" if values.dtype.itemsize == 2 and values.dtype.kind == "u" else "f" if values.dtype.kind == "f" else "i"
    with np.errstate(over="ignore"):
        levels = values.astype(np.float32)
    if not np.isfinite(levels).all():
        raise UsageError(f"{name}: has NaN or infinite pixel values; replace them before")
    low, high = float(levels.min()), float(levels.max())
    black, white = black_and_white(levels, low, high, floats=kind == "f")
    plain = (black, white) in [(0.0, full) for full in FULL_RANGES[kind]] and high >= PLAIN_USE * white
    if high > low and not plain:
        warn(
            f"{name}: {values.dtype} values from {low:g} to {high:g} are read with {black:g} as black and {white:g} as"
            " white; scale them to 8 bits before if that is not what they mean"
        )
    return scaled(levels, black, white)


def warn_if_black(pixels: np.ndarray, name: str) -> None:
    """Warn of 8-bit values that all lie near 0, such as a mask of 0 and 1; they are used as they are."""
    highest = int(pixels.max(initial=0))
    if 0 < highest < NEARLY_BLACK:
        warn(
            f"{name}: is nearly black, no value is above {highest} of 255; scale its values if they mean more than that"
        )


def scaled(levels: np.ndarray, black: float, white: float) -> np.ndarray:
    """Return float32 values as uint8, ``black`` as 0 and ``white`` as 255, what lies beyond as the nearer of both."""
    stretched = (levels - np.float32(black)) * np.float32(255.0) / np.float32(max(white - black, 1e-30))
    pixels: np.ndarray = np.floor(stretched.clip(0, 255) + 0.5).astype(np.uint8)
    return pixels


def brightened(pixels: np.ndarray, name: str) -> np.ndarray:
    """Return 8-bit channels that are the upper halves of 16-bit ones; those of fewer bits are scaled, with a warning.

    Shapes: uint8 (H, W, 3) or (H, W, 4), transparency last; returns the same
    """
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    highest = int(colours.max())
    if highest >= 256 * LEAST_USE:
        return pixels
    warn(
        f"{name}: of its 16-bit colours only the upper 8 bits can be read, {highest + 1} levels, which are scaled to"
        " the full range; save it with 8 bits per channel"
    )
    parts = [colours] if not alpha.size or alpha.max() >= 256 * LEAST_USE else [colours, alpha]
    for part in parts:
        levels = part.astype(np.float32) * 257
        part[:] = scaled(levels, *black_and_white(levels, 0.0, float(levels.max()), floats=False))
    return pixels


def black_and_white(levels: np.ndarray, low: float, high: float, *, floats: bool) -> tuple[float, float]:
    """Return the values that become 0 and 255."""
    black, white = min(low, 0.0), high
    if low >= 0:
        known = WHITES if floats else WHITES[1:]
        full = next((level for level in known if high <= level), high)
        white = full if high == 0 or high >= LEAST_USE * full else high
    sample = levels.reshape(-1)[:: max(1, levels.size // SAMPLES)]
    bulk = float(np.quantile(sample, 1 - OUTLIERS))
    return black, bulk if black < bulk < black + DARK * (white - black) else white


def grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """Return one channel as three. Shapes: (H, W); returns (H, W, 3)"""
    return np.repeat(grey[..., None], 3, axis=2)


def array_pixels(image: Any, name: str = "image") -> np.ndarray:
    """Return an array as 8-bit RGB: grey is repeated, transparency composited over white, values by ``to_8_bits``.

    The order of three channels cannot be seen: they are taken for red, green, blue. Arrays of other libraries are
    taken as NumPy takes them; pixels that a masked array leaves out are black.

    Shapes: image (H, W), (H, W, 1), (H, W, 3), or of uint8 (H, W, 4); returns uint8 (H, W, 3)
    Raises: UsageError for another shape or type, or an array without pixels.
    """
    image = plain_array(image, name)
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "buif":
        found = f"an array of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(f"{name} is {found}; give an RGB array of numbers with shape (height, width, 3)")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise UsageError(f"{name} is {image.dtype} {image.shape}; {shape_advice(image.shape)}")
    if image.size == 0:
        raise UsageError(f"{name} has size {image.shape[1]}x{image.shape[0]}; both sides must be at least 1 pixel")
    if channels == 4:
        if image.dtype != np.uint8:
            raise UsageError(f"{name} is {image.dtype} {image.shape}; transparency is read from uint8 only, give RGB")
        return over_white(image)
    pixels = to_8_bits(image, name)
    return pixels if channels == 3 else grey_to_rgb(pixels.reshape(image.shape[:2]))


def plain_array(image: Any, name: str) -> Any:
    """Return an array of any library or subclass as NumPy's own, anything else as it is.

    Raises: UsageError for an array that NumPy cannot take, such as one on another device.
    """
    if isinstance(image, np.ma.MaskedArray):
        return image.filled(0)
    if not hasattr(image, "__array__") or isinstance(image, np.generic):
        return image
    try:
        return np.asarray(image)
    except Exception as error:  # each library has its own
        raise UsageError(
            f"{name} is {type(image).__name__}, which NumPy cannot take: {first_line(error)}; give a NumPy array"
        ) from None


def shape_advice(shape: tuple[int, ...]) -> str:
    """Return the way from an array of this shape to an image."""
    if len(shape) == 4 and shape[0] == 1:
        return "it is a batch; give its one image, image[0]"
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return "its channels come first; give image.transpose(1, 2, 0), of a tensor image.permute(1, 2, 0)"
    return "give an RGB array with shape (height, width, 3)"


def over_white(image: np.ndarray) -> np.ndarray:
    """Return RGB composited over white. Shapes: uint8 (H, W, 4), transparency last; returns uint8 (H, W, 3)"""
    alpha = image[..., 3:].astype(np.uint32)
    blended: np.ndarray = (image[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return blended.astype(np.uint8)
