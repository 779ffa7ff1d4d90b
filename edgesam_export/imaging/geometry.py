"""From an image to the frame that an encoder takes: resize, pad, normalise; points into the prompt frame.

Three frames occur. *Source*: pixels of the image as it was passed. *Image frame*: the ``ImageFrame.size`` square
that the encoder takes. *Prompt frame*: the ``ImageFrame.prompt_size`` square in which prompt coordinates and
low-resolution masks live. The last two are the same square for most models. The Swift module EdgeSAMCore does the same
arithmetic, and both are tested on ``tests/goldens/geometry.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from edgesam_export.errors import UsageError
from edgesam_export.spec import ImageFrame

__all__ = [
    "PointsLike",
    "PreparedImage",
    "fitted_size",
    "framed",
    "linear_taps",
    "prepare",
    "scaled_size",
    "sizes_alone",
    "to_frame",
]

PointsLike = Sequence[Sequence[float]] | np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedImage:
    """One image in the form the encoder takes, with the sizes that map prompts and masks.

    Shapes:
        pixels uint8 (S, S, 3), padded right and bottom with ``frame.pad_colour``
        tensor float32 (1, 3, S, S), normalised, then padded with zeros
    """

    pixels: np.ndarray
    tensor: np.ndarray
    source_size: tuple[int, int]
    """Height and width of the image as it was passed."""
    scaled_size: tuple[int, int]
    """Height and width of the image inside the image frame."""
    frame: ImageFrame

    @property
    def prompt_extent(self) -> tuple[int, int]:
        """Height and width of the image inside the prompt frame."""
        return fitted_size(self.source_size, self.frame.prompt_size, self.frame.fit)


def scaled_size(source_size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return height and width of an image whose longest side becomes ``side``.

    The product is taken in double precision in this order, as ``ResizeLongestSide`` of segment-anything does, so that
    sizes that fall on a half round the same way. No side becomes less than 1.
    """
    scale = side * 1.0 / max(source_size)
    height, width = (max(1, int(length * scale + 0.5)) for length in source_size)
    return height, width


def fitted_size(source_size: tuple[int, int], side: int, fit: str) -> tuple[int, int]:
    """Return height and width of an image inside a square of ``side``, see ``ImageFrame.fit``."""
    return scaled_size(source_size, side) if fit == "longest_side" else (side, side)


def stretched(image: np.ndarray, side: int) -> np.ndarray:
    """Return the image with both sides ``side``: bilinear, half-pixel centres, no antialiasing, float64 0..255.

    In double precision, so that rounding to 8 bits gives the same image in Swift; in single precision values just below
    a half become one.
    """
    result = image.astype(np.float64)
    for axis in (1, 0):
        low, high, share = linear_taps(image.shape[axis], side)
        share = share.reshape(-1, *[1] * (2 - axis))
        result = result.take(low, axis) * (1 - share) + result.take(high, axis) * share
    return result


def linear_taps(length: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each position of an axis of ``side`` its two neighbours of ``length``, and the second one's share.

    Half-pixel centres; beyond the outermost centres both are the outermost value.

    Shapes: returns (side,) each
    """
    position = np.clip((np.arange(side) + 0.5) * (length / side) - 0.5, 0, None)
    low = position.astype(np.int64)
    return low, np.minimum(low + 1, length - 1), position - low


def stretched_with_antialiasing(image: np.ndarray, side: int) -> np.ndarray:
    """Return the image with both sides ``side``: bilinear, antialiased where it shrinks, float64 0..255.

    The triangle filter of Pillow and of PyTorch's ``antialias=True``, without rounding between the axes; in double
    precision, so that rounding to 8 bits gives the same image in Swift.
    """
    result = image
    for axis in (1, 0):
        taps, weights = triangle_taps(image.shape[axis], side)
        shape = [1] * result.ndim
        shape[axis] = side
        sides = [side if at == axis else length for at, length in enumerate(result.shape)]
        total = np.zeros(sides, np.float64)
        for tap, weight in zip(taps.T, weights.T):  # image by image: all taps of a large image would be gigabytes
            total += result.take(tap, axis) * weight.reshape(shape)
        result = total
    return result


def triangle_taps(length: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indexes and weights of the source values that make each output value of one axis, both (side, K).

    Weights sum to 1; indexes of unused taps repeat the last one, with weight 0.
    Source: the triangle filter of Pillow's ``Resample.c``, which PyTorch's antialiased ``interpolate`` follows.
    """
    scale = length / side
    support = max(scale, 1.0)
    centre = (np.arange(side) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), length)
    taps = first[:, None] + np.arange((last - first).max())
    weights = np.clip(1.0 - np.abs(taps - centre[:, None] + 0.5) / support, 0.0, None) * (taps < last[:, None])
    sums = np.cumsum(weights, axis=1)[:, -1:]  # one after the other, as Swift adds them: halves must round alike
    return np.minimum(taps, length - 1), weights / sums


def prepare(image: np.ndarray, frame: ImageFrame) -> PreparedImage:
    """Resize an image to the frame, pad it right and bottom, and normalise it; see ``ImageFrame``.

    Shapes: image uint8 (H, W, 3) RGB
    Raises: UsageError when the array is not such an image.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(f"image is {found}; give an RGB array of uint8 with shape (height, width, 3)")
    if image.size == 0:
        raise UsageError(f"image has size {image.shape[1]}x{image.shape[0]}; both sides must be at least 1 pixel")
    source_size = (image.shape[0], image.shape[1])
    height, width = fitted_size(source_size, frame.size, frame.fit)
    if frame.stretches:
        stretch = stretched if frame.fit == "stretch" else stretched_with_antialiasing
        resized = stretch(image, frame.size)
    else:
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    return framed(resized, source_size, frame)


def framed(resized: np.ndarray, source_size: tuple[int, int], frame: ImageFrame) -> PreparedImage:
    """Pad and normalise an image that has its size inside the frame already.

    Shapes: resized uint8 or floats 0..255 (h, w, 3) RGB; source_size height, width before
    Raises: UsageError when it has another size.
    """
    height, width = fitted_size(source_size, frame.size, frame.fit)
    if resized.shape != (height, width, 3):
        raise UsageError(f"resized image is {resized.shape}; of {source_size} it must be {(height, width, 3)}")
    pixels = np.empty((frame.size, frame.size, 3), np.uint8)
    pixels[:] = frame.pad_colour
    pixels[:height, :width] = resized if resized.dtype == np.uint8 else np.rint(resized)
    tensor = np.zeros((1, 3, frame.size, frame.size), np.float32)
    normalised = (resized.astype(np.float32) - np.array(frame.mean, np.float32)) / np.array(frame.std, np.float32)
    tensor[0, :, :height, :width] = normalised.transpose(2, 0, 1)  # (H, W, C) -> (C, H, W)
    return PreparedImage(
        pixels=pixels, tensor=tensor, source_size=source_size, scaled_size=(height, width), frame=frame
    )


def sizes_alone(source_size: tuple[int, int], frame: ImageFrame) -> PreparedImage:
    """Return an image without its pixels: all that prompts and masks need beside its embedding."""
    return PreparedImage(
        pixels=np.zeros((0, 0, 3), np.uint8),
        tensor=np.zeros((1, 3, 0, 0), np.float32),
        source_size=source_size,
        scaled_size=fitted_size(source_size, frame.size, frame.fit),
        frame=frame,
    )


def to_frame(points: PointsLike, prepared: PreparedImage) -> np.ndarray:
    """Return points of the source image in the prompt frame.

    Each axis has its own factor, new side / old side, because the new sides are integers.

    Shapes: points (N, 2) x, y in source pixels; returns float32 (N, 2)
    """
    (height, width), (new_height, new_width) = prepared.source_size, prepared.prompt_extent
    factors = np.array([new_width / width, new_height / height], np.float64)
    return (np.asarray(points, np.float64).reshape(-1, 2) * factors).astype(np.float32)
