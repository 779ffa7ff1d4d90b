"""The bundled images as many: crops, mirrored and of other brightness; and drawn ones for models of scanners' images.

Search and held-out images come from different files, or different seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.imaging.phantoms import drawn_phantom
from edgesam_export.imaging.reading import open_image
from edgesam_export.resources import SAMPLES
from edgesam_export.shrink.prompts import Example, Examples
from edgesam_export.spec import ModelInfo

__all__ = ["BundledImage", "bundled_images", "split_images"]

SEARCH_FILES, HELD_OUT_FILES = ("cat.jpg", "scene.png"), ("coffee.jpg",)
CROP = (0.5, 0.9)
"""Sides of crops, of the image's."""
BRIGHTNESS = (0.7, 1.3)


@dataclass(frozen=True, kw_only=True, eq=False)
class BundledImage:
    """An image with the masks of its objects, none if they are not known.

    Shapes: image uint8 (H, W, 3); masks bool (K, H, W)
    """

    name: str
    image: np.ndarray
    masks: np.ndarray


def bundled_images(info: ModelInfo, count: int) -> tuple[list[Example], list[Example]]:
    """Return ``count`` images to search on and as many held out, of the kind that a model was trained on."""
    if info.sample_images == "phantoms":
        drawn = [BundledImage(name=f"phantom {seed}", **drawn_phantom(seed)) for seed in range(2 * count)]
        return list(drawn[:count]), list(drawn[count:])
    search, held_out = (
        [varied(files[number % len(files)], number) for number in range(count)]
        for files in (SEARCH_FILES, HELD_OUT_FILES)
    )
    return list(search), list(held_out)


def varied(file: str, number: int) -> BundledImage:
    """Return a crop of a bundled image, perhaps mirrored, darker or brighter; the same for the same number."""
    rng = np.random.default_rng(number)
    image = open_image(SAMPLES / file)
    height, width = (int(length * rng.uniform(*CROP)) for length in image.shape[:2])
    top, left = (int(rng.integers(whole - side + 1)) for whole, side in zip(image.shape, (height, width)))
    crop = image[top : top + height, left : left + width]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    bright = np.clip(crop * rng.uniform(*BRIGHTNESS), 0, 255).astype(np.uint8)
    return BundledImage(name=f"{file} {number}", image=bright, masks=np.zeros((0, height, width), bool))


def split_images(examples: Examples, count: int) -> tuple[list[Example], list[Example]]:
    """Return every other one of the first ``2 * count`` images to search on, and those between held out.

    Raises:
        UsageError: fewer than four images.
    """
    used = [examples[index] for index in range(min(2 * count, len(examples)))]
    if len(used) < 4:
        raise UsageError(f"{len(used)} images: half of them are held out, give at least 4 with --images")
    return used[::2], used[1::2]
