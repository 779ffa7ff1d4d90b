"""Images and prompts that are taken where a user gives none: to check an export, and to calibrate one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from edgesam_export.imaging.phantoms import phantoms
from edgesam_export.imaging.reading import open_image
from edgesam_export.resources import SAMPLES
from edgesam_export.spec import ModelInfo

__all__ = ["SamplePrompt", "sample_images", "sample_prompts"]


class SamplePrompt(NamedTuple):
    """A prompt in pixels of the image; of kind ``mask`` it is the point that the mask belongs to."""

    kind: str
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None


def sample_prompts(size: tuple[int, int]) -> tuple[SamplePrompt, ...]:
    """Return one prompt of each kind for an image of this height and width, at fixed fractions of its sides."""
    height, width = size

    def at(x: float, y: float) -> tuple[float, float]:
        return math.floor(x * width), math.floor(y * height)

    point, box = (at(0.5, 0.5),), (*at(0.2, 0.15), math.ceil(0.8 * width), math.ceil(0.8 * height))
    return (
        SamplePrompt("point", point, (1,)),
        SamplePrompt("points", (at(0.5, 0.45), at(0.4, 0.6), at(0.05, 0.05)), (1, 1, 0)),
        SamplePrompt("box", box=box),
        SamplePrompt("box+point", (at(0.45, 0.5),), (1,), box),
        SamplePrompt("mask", point, (1,)),
    )


def sample_images(info: ModelInfo | None = None) -> tuple[tuple[str, np.ndarray], ...]:
    """Return two images by name of the kind that a model was trained on: without ``info`` the bundled photographs.

    Shapes: uint8 (H, W, 3)
    """
    if info is not None and info.sample_images == "phantoms":
        return phantoms()
    return tuple((path.name, open_image(path)) for path in sorted(SAMPLES.glob("*.jpg")))
