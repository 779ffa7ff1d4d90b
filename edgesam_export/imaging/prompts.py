"""From points and a box to the inputs of a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError, warn
from edgesam_export.imaging.feeds import fill_slots
from edgesam_export.imaging.geometry import PointsLike, PreparedImage, to_frame
from edgesam_export.spec import NOT_A_POINT, ModelInfo, PaddingPoint

__all__ = [
    "NumbersLike",
    "arranged",
    "check_prompt",
    "is_padded",
    "is_trained_on",
    "kind_of",
    "numbers",
    "pack_prompt",
    "untrained_text",
    "warn_if_no_logits",
    "warn_if_untrained",
    "warn_of_shares",
]

BACKGROUND, FOREGROUND = 0, 1
BOX_LABELS = (2, 3)
"""Labels of a box's top left and bottom right corner."""

NumbersLike = Sequence[float] | np.ndarray


def pack_prompt(
    prepared: PreparedImage,
    *,
    points: PointsLike | None = None,
    labels: NumbersLike | None = None,
    box: NumbersLike | None = None,
    slots: int | None = None,
    has_mask: bool = False,
    padding_point: PaddingPoint = True,
    fixed_slots: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return decoder inputs for one prompt: points, then the box's corners, then empty slots.

    Points without a box are followed by one not-a-point token, as SAM was trained, unless ``padding_point`` is False;
    a mask prompt alone (``has_mask``) is that token and nothing else. With "always" the corners precede the points, a
    box is followed by that token too, and a mask alone is an empty slot. ``labels`` default to foreground.
    ``fixed_slots``: every export of the model has this number of slots.

    Shapes:
        points (N, 2) x, y in source pixels, inside the image; labels (N,) 1 foreground, 0 background
        box x0, y0, x1, y1 in source pixels, from 0 to the image's width and height inclusive
        returns point_coords float32 (1, S, 2) in the prompt frame; point_labels float32 (1, S)
    Raises: UsageError for a prompt that is missing, malformed, outside the image or does not fit the slots.
    """
    size = prepared.source_size
    points, labels, corners = check_prompt(size, points=points, labels=labels, box=box, has_mask=has_mask)
    coords, kinds = arranged(
        to_frame(points, prepared)[None],
        np.array(labels, np.float32)[None],
        to_frame(corners, prepared)[None],
        padding_point=padding_point,
    )
    needed = kinds.shape[1]
    if slots is not None and needed > slots:
        parts = made_of(len(labels), box is not None, needed > len(points) + len(corners))
        raise too_many(needed, slots, parts, fixed=fixed_slots)
    # exported decoders take one point at least
    return fill_slots(coords, kinds, slots or needed or 1)


def check_prompt(
    size: tuple[int, int],
    *,
    points: PointsLike | None = None,
    labels: NumbersLike | None = None,
    box: NumbersLike | None = None,
    has_mask: bool = False,
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Return points (N, 2), their labels and the box's corners (2, 2) or (0, 2), in pixels of an image of a size.

    Raises: UsageError for a prompt that is missing, malformed or outside the image; see ``pack_prompt``.
    """
    checked, kinds = checked_points(points, labels, size)
    corners = checked_box(box, size)
    if not len(checked) and not len(corners) and not has_mask:
        raise UsageError("no prompt: give at least one point, a box or a mask")
    return checked, kinds, corners


def arranged(
    points: np.ndarray, labels: np.ndarray, corners: np.ndarray, *, padding_point: PaddingPoint
) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates and labels of prompts in the order that a model was trained on, see ``pack_prompt``.

    Shapes:
        points (B, N, 2) x, y in pixels of the prompt frame; labels (B, N); corners (B, 2, 2) of boxes, or (B, 0, 2)
        returns point_coords float32 (B, S, 2) and point_labels float32 (B, S), no slot empty
    """
    count = len(points)
    boxes = np.tile(np.array(BOX_LABELS[: corners.shape[1]]), (count, 1))
    parts = [(points, labels), (corners, boxes)]
    if padding_point == "always":
        parts.reverse()
    if is_padded(padding_point, has_points=points.shape[1] > 0, has_box=corners.shape[1] > 0):
        parts.append((np.zeros((count, 1, 2)), np.full((count, 1), NOT_A_POINT)))
    coords, kinds = (np.concatenate([part[at] for part in parts], axis=1, dtype=np.float32) for at in (0, 1))
    return coords, kinds


def is_padded(padding_point: PaddingPoint, *, has_points: bool, has_box: bool) -> bool:
    """Return whether a prompt is followed by a not-a-point token; without points and box it is a mask alone."""
    if padding_point == "always":
        return has_points or has_box
    return padding_point and not has_box


def made_of(points: int, has_box: bool, padded: bool) -> str:
    """Return what fills the slots of a prompt, in words."""
    parts = [f"points: {points}"]
    if has_box:
        parts.append("the box takes 2")
    if padded:
        parts.append("1 more for the padding point" if has_box else "1 more because there is no box")
    return ", ".join(parts)


def too_many(needed: int, slots: int, parts: str, *, fixed: bool) -> UsageError:
    """Return the error for a prompt that needs more slots than the decoder has."""
    has = f"the model always has {slots};" if fixed else f"the decoder has {slots};"
    advice = "" if fixed else f" export it again with --points {needed} or"
    return UsageError(f"the prompt needs {needed} slots ({parts}) but {has}{advice} give fewer points")


def checked_points(
    points: PointsLike | None, labels: NumbersLike | None, size: tuple[int, int]
) -> tuple[np.ndarray, list[int]]:
    """Return points as (N, 2) and their labels.

    Raises: UsageError that names the first invalid point or label.
    """
    points = numbers(points, "points")
    if points.size and (points.ndim != 2 or points.shape[1] != 2):
        raise UsageError(f"points have shape {points.shape}; give a list of (x, y)")
    points = points.reshape(-1, 2)
    labels = np.full(len(points), FOREGROUND, np.float64) if labels is None else numbers(labels, "labels").reshape(-1)
    if len(labels) != len(points):
        raise UsageError(f"{len(points)} points but {len(labels)} labels; give one label (1 or 0) for each point")
    for label in labels:
        if label not in (BACKGROUND, FOREGROUND):
            raise UsageError(f"label {label:g} is unknown; a point is 1 (foreground) or 0 (background)")
    height, width = size
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):  # also true for NaN
            raise UsageError(
                f"point ({x:g}, {y:g}) is outside the image of {width}x{height} pixels;"
                f" x must be at least 0 and below {width}, y at least 0 and below {height}"
            )
    warn_of_shares(points, "points", size)
    return points, [int(label) for label in labels]


def checked_box(box: NumbersLike | None, size: tuple[int, int]) -> np.ndarray:
    """Return the corners of the box as (2, 2), or (0, 2) without a box.

    Raises: UsageError for a box that is not four numbers, lies outside the image, or is reversed or empty.
    """
    if box is None:
        return np.zeros((0, 2), np.float64)
    corners = numbers(box, "box")
    if corners.ndim == 2 and len(corners) > 1 and corners.shape[1] == 4:
        raise UsageError(f"{len(corners)} boxes; a prompt has one; give each to predict_many as a prompt of its own")
    corners = corners.reshape(-1)
    if len(corners) != 4:
        raise UsageError(f"box has {len(corners)} values; give four: x0 y0 x1 y1")
    x0, y0, x1, y1 = corners
    shown = f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    height, width = size
    if not (np.isfinite(corners).all() and min(corners) >= 0 and max(x0, x1) <= width and max(y0, y1) <= height):
        raise UsageError(
            f"{shown} is outside the image of {width}x{height} pixels;"
            f" x must lie in 0 to {width} and y in 0 to {height}"
        )
    if not (x0 < x1 and y0 < y1):
        raise UsageError(
            f"{shown} is reversed or empty; give two corners x0 y0 x1 y1 with x0 below x1 and y0 below y1, not a corner"
            " with width and height"
        )
    warn_of_shares(corners.reshape(2, 2), "box", size)
    return corners.reshape(2, 2)


def warn_if_no_logits(mask: np.ndarray) -> None:
    """Warn of a mask prompt without a negative value, as a mask of 0 and 1 is; it is used as it is."""
    if mask.size and mask.min() >= 0:
        warn(
            f"mask_input has values from {mask.min():g} to {mask.max():g}, none negative; it is read as logits,"
            " which are negative outside the object, not as a mask or probabilities"
        )


def warn_of_shares(points: np.ndarray, name: str, size: tuple[int, int]) -> None:
    """Warn of coordinates that are all within the first pixel, as shares of the image's sides would be."""
    within = points.size and 0 < points.max() <= 1 < max(size)
    if within and (name.startswith("box") or (points % 1).any()):  # (1, 1) is a pixel like any other
        warn(
            f"{name} {points.reshape(-1).tolist()}: all within one pixel of the image of {size[1]}x{size[0]};"
            " coordinates are pixels, not shares of width and height"
        )


def numbers(values: Any, name: str) -> np.ndarray:
    """Return the values as a float64 array, empty for None.

    Raises: UsageError when they are not numbers in rows of one length.
    """
    try:
        return np.asarray([] if values is None else values, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name} {values!r} are not numbers, or not equally many in each row") from None


def kind_of(point_labels: np.ndarray, *, has_mask: bool) -> str:
    """Return the kind of a prompt, of ``spec.PROMPT_KINDS``. Shapes: point_labels (1, S) as ``pack_prompt`` returns"""
    points = int(np.isin(point_labels, (BACKGROUND, FOREGROUND)).sum())
    if has_mask:
        return "mask"
    if np.isin(point_labels, BOX_LABELS).any():
        return "box+point" if points else "box"
    return "points" if points > 1 else "point"


def is_trained_on(info: ModelInfo, kind: str) -> bool:
    """Return whether a model's weights were trained on prompts of a kind."""
    return not info.trained_prompts or kind in info.trained_prompts


def untrained_text(info: ModelInfo, kind: str) -> str:
    """Return the warning of a prompt that a model's weights were not trained on."""
    trained = ", ".join(info.trained_prompts)
    return f"the weights of {info.name} were trained on prompts of kind {trained}, not {kind}; masks may be wrong"


def warn_if_untrained(info: ModelInfo, kind: str) -> None:
    """Warn of a prompt of a kind that a model's weights were not trained on."""
    if not is_trained_on(info, kind):
        warn(untrained_text(info, kind), stacklevel=4)
