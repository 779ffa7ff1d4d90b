"""Where a mask generator looks: a grid of points on the image and on crops of it; and which boxes say the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from edgesam_export.errors import UsageError

__all__ = ["Crop", "crops_of", "is_cut_off", "point_grid", "suppressed"]

EDGE_PIXELS = 20.0
"""A mask whose box comes as near to the edge of its crop is cut off. Source: the tolerance of segment-anything 1.0."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A part of an image: x0, y0, x1, y1 (exclusive); layer 0 is the whole, layer n has 2**n crops a side."""

    box: tuple[int, int, int, int]
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        x0, y0, x1, y1 = self.box
        return y1 - y0, x1 - x0


def crops_of(size: tuple[int, int], layers: int, overlap: float) -> list[Crop]:
    """Return the whole image of ``size`` (height, width) and the crops of further layers, column by column.

    Crops of the first layer overlap by the share ``overlap`` of the image's shorter side, those of deeper layers by as
    much of their own size.

    Raises: UsageError when a crop would be empty.
    """
    height, width = size
    crops = [Crop(box=(0, 0, width, height), layer=0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        shared = int(overlap * min(size) * (2 / count))
        wide, high = (math.ceil((shared * (count - 1) + length) / count) for length in (width, height))
        for column, row in product(range(count), repeat=2):
            x0, y0 = (wide - shared) * column, (high - shared) * row
            box = (x0, y0, min(x0 + wide, width), min(y0 + high, height))
            if x0 >= width or y0 >= height:
                raise UsageError(
                    f"image of {width}x{height} pixels is too small for {layers} layers of crops; use fewer"
                )
            crops.append(Crop(box=box, layer=layer))
    return crops


def point_grid(side: int) -> np.ndarray:
    """Return the centres of ``side`` x ``side`` cells, row by row. Shapes: returns float64 (N, 2) x, y, 0..1"""
    centres = np.linspace(0.5 / side, 1 - 0.5 / side, side)
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.reshape(-1), y.reshape(-1)], axis=1)


def is_cut_off(corners: tuple[int, int, int, int], crop: Crop, size: tuple[int, int]) -> bool:
    """Return whether a mask reaches to an edge of its crop that is not an edge of the image of ``size``.

    ``corners`` are the first and the last column and row of the mask, x0, y0, x1, y1, in the image.
    """
    height, width = size
    edges = zip(corners, crop.box, (0, 0, width, height))
    return any(abs(at - edge) <= EDGE_PIXELS and abs(at - border) > EDGE_PIXELS for at, edge, border in edges)


def suppressed(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the indexes of the boxes that stay, best first: none has more IoU than ``threshold`` with a better one.

    Of equal scores the first is better. Boxes without area suppress nothing.

    Shapes: boxes (N, 4) x0, y0, x1, y1; scores (N,); returns int64 (K,)
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        shared = np.minimum(boxes[best, 2:], boxes[rest, 2:]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        inter = shared.clip(min=0).prod(axis=1)
        union = areas[best] + areas[rest] - inter
        order = rest[inter / np.where(union > 0, union, 1) <= threshold]
    return np.array(kept, np.int64)
