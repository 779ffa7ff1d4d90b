"""Masks of COCO instances: polygons and run lengths to pixels, and a point deep inside a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from edgesam_export.errors import UsageError
from edgesam_export.imaging.masks import bounding_box
from edgesam_export.parity.metrics import grown

__all__ = ["inner_point", "is_crowd", "mask_of"]

MAX_SIDE = 16384
COARSE_SIDE = 96
"""Side that a mask is thinned out to before its middle is looked for."""


def mask_of(segmentation: Any, size: tuple[Any, Any], place: str) -> np.ndarray | None:
    """Return the mask of COCO's ``segmentation``, None where there is none. Shapes: bool (height, width)

    Raises: UsageError when it is neither polygons nor run lengths, or there is no such image size.
    """
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        size = tuple(segmentation.get("size") or size)[:2]
    if len(size) != 2 or not all(type(side) is int and 0 < side <= MAX_SIDE for side in size):
        raise UsageError(f"{place}: image size is {size}; give height and width, 1 to {MAX_SIDE}")
    if isinstance(segmentation, dict):
        return mask_of_runs(segmentation.get("counts"), size, place)
    drawn = Image.new("1", (size[1], size[0]))
    for polygon in segmentation if isinstance(segmentation, list) else [None]:
        numbers = polygon if isinstance(polygon, list) else []
        fits = all(type(item) in (int, float) and math.isfinite(item) for item in numbers)
        if len(numbers) < 6 or len(numbers) % 2 or not fits:
            raise UsageError(f"{place}: 'segmentation' holds no polygon of x, y, x, y ... and no run lengths")
        ImageDraw.Draw(drawn).polygon([(x, y) for x, y in zip(numbers[::2], numbers[1::2])], fill=1)
    return np.asarray(drawn)


def mask_of_runs(counts: Any, size: tuple[int, int], place: str) -> np.ndarray:
    """Return the mask of run lengths, column by column, background first; a list, or COCO's compressed text."""
    runs = uncompressed(counts) if isinstance(counts, str) else counts
    height, width = size
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise UsageError(f"{place}: 'counts' are no run lengths")
    if sum(runs) != height * width:
        raise UsageError(f"{place}: run lengths of {sum(runs)} pixels for an image of {height} x {width}")
    mask: np.ndarray = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    return mask


def uncompressed(text: str) -> list[int]:
    """Return the run lengths of COCO's text, five bits a character, the fourth and later ones relative to two before.

    Source: ``rleFrString`` of cocoapi's maskApi.c.
    """
    runs: list[int] = []
    value = shift = 0
    for sign in text:
        bits = ord(sign) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Return whether an annotation is of a crowd: ``iscrowd`` is not 0, a number or, as some programs write, text."""
    value = annotation.get("iscrowd")
    return value.strip().lower() not in ("", "0", "false") if isinstance(value, str) else bool(value)


def inner_point(mask: np.ndarray) -> tuple[float, float]:
    """Return x, y of a pixel of a mask that is far from its border: the last that repeated thinning leaves.

    Shapes: bool (H, W), not empty
    """
    box = bounding_box(mask)
    assert box is not None, "an empty mask has no inside"
    x0, y0, x1, y1 = box
    step = max(1, max(x1 - x0, y1 - y0) // COARSE_SIDE)
    part = mask[y0:y1:step, x0:x1:step]
    if not part.any():
        y, x = np.argwhere(mask)[0]
        return float(x), float(y)
    while True:
        thinner = ~grown(~np.pad(part, 1))[1:-1, 1:-1] & part
        if not thinner.any():
            break
        part = thinner
    left = np.argwhere(part)
    y, x = left[np.abs(left - left.mean(0)).sum(1).argmin()]
    return float(x0 + x * step), float(y0 + y * step)
