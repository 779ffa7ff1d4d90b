"""The orientation that a camera notes in EXIF: how the stored pixels are turned to be upright."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgesam_export.imaging.reading import opened, orientation_of

__all__ = ["UPRIGHT", "stored_orientation", "stored_size", "turned_upright"]

UPRIGHT = 1
"""Orientation of TIFF 6.0, section 8: the first row of pixels is the image's top, the first column its left."""


def stored_orientation(path: Path) -> int:
    """Return the EXIF orientation of an image file that can be read, 1 to 8; 1 where none is noted."""
    with opened(path, str(path)) as image:
        value = orientation_of(image)
    return value if value in range(1, 9) else UPRIGHT


def stored_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return height and width of the stored pixels, from those of the upright image."""
    return (size[1], size[0]) if orientation >= 5 else size


def turned_upright(masks: np.ndarray, orientation: int) -> np.ndarray:
    """Return masks of the stored pixels as masks of the upright image.

    Shapes: masks (K, H, W); returns (K, H, W), or (K, W, H) from orientation 5 on
    """
    if orientation >= 5:
        masks = masks.transpose(0, 2, 1)
    if orientation in (3, 4, 7, 8):
        masks = masks[:, ::-1]
    if orientation in (2, 3, 6, 7):
        masks = masks[:, :, ::-1]
    return np.ascontiguousarray(masks)
