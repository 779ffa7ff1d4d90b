"""Prompts as ``SamPredictor`` takes them, checked, and what a decoder takes of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from edgesam_export.errors import UsageError, warn
from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.imaging.prompts import arranged, numbers, warn_if_no_logits, warn_of_shares
from edgesam_export.runners import Runner
from edgesam_export.spec import EMPTY_SLOT, MASK_SIDE

__all__ = ["Parts", "as_array", "one_box", "one_mask", "packed", "packed_parts", "points_or_none"]

LABELS = (-1, 0, 1, 2, 3)
"""Not a point, background, foreground, a box's corners."""
POINT_LABELS = (0, 1)
SHAPES: dict[str, tuple[int | None, ...]] = {
    "point_coords": (None, 2),
    "point_labels": (None,),
    "boxes": (4,),
    "mask_input": (1, MASK_SIDE, MASK_SIDE),
}
"""Of each part of one prompt; None is any length."""
OUTSIDE = 1.0
"""Pixels that a point may lie outside the image without a warning: rounding, and far edges."""


def as_array(values: Any, name: str) -> np.ndarray:
    """Return numbers in lists, arrays or tensors of any device as float64.

    Raises: UsageError when they are no numbers, or not equally many in each row.
    """
    return numbers(values.detach().cpu().float().numpy() if isinstance(values, Tensor) else values, name)


def points_or_none(values: Any, name: str) -> np.ndarray | None:
    """Return the points or labels of one prompt, None when there are none."""
    array = None if values is None else as_array(values, name)
    return array if array is not None and array.size else None


def one_box(box: Any) -> np.ndarray | None:
    """Return the box of one prompt as (1, 4), None when there is none.

    Raises: UsageError for several boxes, or another number of values.
    """
    corners = points_or_none(box, "box")
    if corners is None:
        return None
    if corners.ndim == 2 and len(corners) > 1 and corners.shape[1] == 4:
        raise UsageError(
            f"{len(corners)} boxes, but predict takes one; for all at once:"
            " predict_torch(None, None, boxes=predictor.transform.apply_boxes_torch(torch.as_tensor(boxes), size))"
        )
    if corners.size != 4:
        raise UsageError(f"box has shape {corners.shape}; give four numbers x0, y0, x1, y1")
    return corners.reshape(1, 4)


def one_mask(mask: Any) -> np.ndarray | None:
    """Return the mask of one prompt as a batch of one; sides of 1 before the last two may be missing."""
    if mask is None:
        return None
    array = as_array(mask, "mask_input")
    if array.shape[-2:] == (MASK_SIDE, MASK_SIDE) and array.size == MASK_SIDE * MASK_SIDE:
        return array.reshape(1, 1, MASK_SIDE, MASK_SIDE)
    return array[None]


class Parts(NamedTuple):
    """The parts of B prompts, each checked; what is missing has no entries.

    Shapes: coords (B, N, 2), labels (B, N), corners (B, 2, 2) or (B, 0, 2), mask (B, 1, 256, 256)
    """

    coords: np.ndarray
    labels: np.ndarray
    corners: np.ndarray
    mask: np.ndarray | None

    @property
    def batch(self) -> int:
        """Number of prompts."""
        return len(self.coords)


def packed_parts(points: Any, labels: Any, boxes: Any, masks: Any) -> Parts:
    """Return the parts of B prompts as ``SamPredictor.predict_torch`` takes them.

    Raises: UsageError for a prompt that is missing or malformed.
    """
    named = dict(zip(SHAPES, (points, labels, boxes, masks)))
    given = {name: checked(part, name) for name, part in named.items() if part is not None}
    if not given:
        raise UsageError("no prompt: give at least one point, a box or a mask")
    count = same_count(given)
    coords = given.get("point_coords", np.zeros((count, 0, 2), np.float32))
    kinds = given.get("point_labels", np.zeros((count, 0), np.float32))
    corners = given["boxes"].reshape(count, 2, 2) if "boxes" in given else np.zeros((count, 0, 2), np.float32)
    if coords.shape[:2] != kinds.shape:
        raise UsageError(f"{coords.shape[1]} points but {kinds.shape[1]} labels; give one label for each point")
    if not np.isin(kinds, LABELS).all():
        raise UsageError(f"point_labels holds {sorted({*kinds.flat} - {*LABELS})[0]:g}; labels are {LABELS}")
    return Parts(coords, kinds, corners, given.get("mask_input"))


def packed(parts: Parts, prepared: PreparedImage, runner: Runner) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the inputs of ``Runner.decode_many`` for prompts on an image; warns of doubtful ones."""
    coords, kinds, corners, mask = parts
    warn_of_coordinates(coords[np.isin(kinds, POINT_LABELS)], corners, prepared)
    if mask is not None:
        warn_if_no_logits(mask)
    if not coords.shape[1] and not corners.shape[1]:  # a mask alone: no token, as in segment-anything
        return np.zeros((parts.batch, 1, 2), np.float32), np.full((parts.batch, 1), EMPTY_SLOT, np.float32), mask
    return (*arranged(coords, kinds, corners, padding_point=runner.info.padding_point), mask)


def checked(part: Any, name: str) -> np.ndarray:
    """Return one part of B prompts as float32.

    Raises: UsageError when it has another shape, or holds NaN or infinity.
    """
    array = as_array(part, name).astype(np.float32)
    expected = (None, *SHAPES[name])
    fits = array.ndim == len(expected) and all(side in (None, found) for side, found in zip(expected, array.shape))
    if not fits:
        sides = ", ".join("N" if side is None else str(side) for side in SHAPES[name])
        advice = "; give the logits of an earlier prediction" if name == "mask_input" else ""
        raise UsageError(f"{name} has shape {array.shape}; expected (B, {sides}), B prompts{advice}")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds NaN or infinite values")
    return array


def same_count(parts: dict[str, np.ndarray]) -> int:
    """Return the number of prompts. Raises: UsageError when the parts differ in it."""
    (first, part), *others = parts.items()
    for name, other in others:
        if len(other) != len(part):
            raise UsageError(f"{first} is of {len(part)} prompts, {name} of {len(other)}; give one for each prompt")
    return len(part)


def warn_of_coordinates(points: np.ndarray, corners: np.ndarray, prepared: PreparedImage) -> None:
    """Warn of coordinates that are perhaps not meant as they are used; as in segment-anything, none is refused.

    Shapes: points (N, 2), corners (B, 2, 2) or (B, 0, 2), in the prompt frame
    """
    (height, width), extent = prepared.source_size, prepared.prompt_extent
    factors = np.array([extent[1] / width, extent[0] / height])
    moved, boxes = (
        np.round(part.reshape(shape) / factors, 3) for part, shape in ((points, (-1, 2)), (corners, (-1, 2, 2)))
    )
    warn_of_shares(moved, "point_coords", (height, width))
    far = (moved < -OUTSIDE) | (moved > np.array([width, height]) + OUTSIDE)
    here = f"the image of {width}x{height} pixels"
    if far.any():
        x, y = moved[far.any(axis=1)][0]
        warn(f"point ({x:g}, {y:g}) is outside {here}; masks may be of anything")
    for number, (low, high) in enumerate(boxes):
        shown = f"box {number} ({low[0]:g}, {low[1]:g}, {high[0]:g}, {high[1]:g})"
        if not (low < high).all():
            warn(f"{shown} is reversed or empty; it is read as two corners x0, y0, x1, y1, not with width and height")
        elif (high <= 0).any() or (low >= (width, height)).any():
            warn(f"{shown} is outside {here}; masks may be of anything")
        else:
            warn_of_shares(np.array([low, high]), f"box {number}", (height, width))
