"""Surfaces of drawn objects that are cut out of photographs, for scenes that look less drawn."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from edgesam_export.distill.scene_textures import Frame
from edgesam_export.errors import UsageError, collected_warnings
from edgesam_export.imaging.reading import IMAGE_SUFFIXES, image_files, open_image

__all__ = ["Photographs"]

SIDE = 1024
"""Longest side that a photograph is kept at."""
KEPT = 64
"""Photographs kept in memory, at most 3 MiB each."""
SMALLEST_CUT = 0.15
"""Least part of a photograph's shorter side that a surface shows: less is blur."""

Rng = np.random.Generator


class Photographs:
    """The images of a folder. What is cut out depends on their order by name and the random numbers alone.

    Raises: UsageError for a folder that cannot be read or holds no images.
    """

    def __init__(self, folder: Path) -> None:
        if not os.path.isdir(folder):  # False, too, for a name that no file system takes
            raise UsageError(f"photographs '{folder}': no such folder; give one with images")
        self.paths = image_files(folder)
        if not self.paths:
            raise UsageError(f"photographs '{folder}': holds no images ({', '.join(IMAGE_SUFFIXES)}); give another one")

    def cut(self, rng: Rng, frame: Frame, *, grey: bool) -> np.ndarray:
        """Return the part of a random square of a random photograph, turned and mirrored, that lies in a frame.

        Shapes: -> float32 (3, h, w), 0 to 255
        Raises: UsageError when the photograph cannot be read.
        """
        number, share, corner = rng.integers(len(self.paths)), rng.uniform(SMALLEST_CUT, 1), rng.random(2)
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        image = reduced(self.paths[number])
        side = max(1, round(share * min(image.size)))
        left, top = (int(part * (length - side + 1)) for part, length in zip(corner, image.size))
        square = image.crop((left, top, left + side, top + side)).rotate(90 * turns)
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else square
        pixels = frame.enlarged(square.convert("L").convert("RGB") if grey else square)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)


@lru_cache(maxsize=KEPT)
def reduced(path: Path) -> Image.Image:
    """Return an image with its longest side at most ``SIDE``."""
    with collected_warnings(silent=True):  # several frames, an orientation: nothing that a surface is worse for
        image = Image.fromarray(open_image(path))
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image
