"""From a picture and prompts to masks: resize, pad, normalise, pack prompts, bring masks back to the picture.

Three frames occur. *Source*: pixels of the picture as it was given. *Picture frame*: the ``ImageFrame.size`` square
that the encoder sees. *Prompt frame*: the ``ImageFrame.prompt_size`` square in which prompt coordinates and
low-resolution masks live. The last two are the same square for most models. The Swift module EdgeSAMCore does the same
arithmetic, and both are tested on ``tests/goldens/geometry.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from edgesam_export.errors import UsageError
from edgesam_export.picture import open_picture, rgb_array
from edgesam_export.spec import EMPTY_SLOT, NOT_A_POINT, ImageFrame

__all__ = [
    "MASK_SIDE",
    "Masks",
    "Predictor",
    "PreparedImage",
    "Runner",
    "best_mask",
    "masks_to_source",
    "pack_prompt",
    "prepare",
    "resized",
    "scaled_size",
    "stability",
    "to_frame",
]

BACKGROUND, FOREGROUND = 0, 1
BOX_LABELS = (2, 3)
"""Labels of a box's top left and bottom right corner."""
MASK_SIDE = 256
"""Side of low-resolution masks and of a mask prompt."""

PointsLike = Sequence[Sequence[float]] | np.ndarray
NumbersLike = Sequence[float] | np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedImage:
    """One picture in the form the encoder takes, with what is needed to map prompts and masks.

    Shapes:
        pixels uint8 (S, S, 3), padded right and bottom with ``frame.pad_colour``
        tensor float32 (1, 3, S, S), normalised, then padded with zeros
    """

    pixels: np.ndarray
    tensor: np.ndarray
    source_size: tuple[int, int]
    """Height and width of the picture as it was given."""
    scaled_size: tuple[int, int]
    """Height and width of the picture inside the picture frame."""
    frame: ImageFrame

    @property
    def prompt_extent(self) -> tuple[int, int]:
        """Height and width of the picture inside the prompt frame."""
        return fitted_size(self.source_size, self.frame.prompt_size, self.frame.fit)


@dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """What one prompt gave.

    Shapes: masks bool (M, h, w) at source size; scores float32 (M,); logits float32 (M, 256, 256)
    """

    masks: np.ndarray
    scores: np.ndarray
    logits: np.ndarray
    best_index: int
    """Index of the mask with the highest score."""

    @property
    def best(self) -> np.ndarray:
        """Mask with the highest score, bool (h, w)."""
        return self.masks[self.best_index]


class Runner(Protocol):
    """One way to execute an encoder and a decoder; see ``runners/``."""

    info: Any
    """``ModelInfo`` or anything else that has ``frame``."""
    slots: int | None
    """Prompt slots of the decoder, None when the number is free."""
    accepts_mask_input: bool

    def encode(self, prepared: PreparedImage) -> np.ndarray:
        """Return image embeddings (1, D, 64, 64)."""
        ...

    def decode(
        self,
        embeddings: np.ndarray,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (1, M, 256, 256) and scores (1, M)."""
        ...


def scaled_size(source_size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of a picture whose longest side becomes ``side``.

    The product is taken in double precision in this order, as ``ResizeLongestSide`` of segment-anything does, so that
    sizes that fall on a half round the same way. No side becomes less than 1.
    """
    scale = side * 1.0 / max(source_size)
    height, width = (max(1, int(length * scale + 0.5)) for length in source_size)
    return height, width


def fitted_size(source_size: tuple[int, int], side: int, fit: str) -> tuple[int, int]:
    """Height and width of a picture inside a square of ``side``, see ``ImageFrame.fit``."""
    return (side, side) if fit == "stretch" else scaled_size(source_size, side)


def stretched(image: np.ndarray, side: int) -> np.ndarray:
    """Picture with both sides ``side``: bilinear, half-pixel centres, no antialiasing, float32 0..255.

    In double precision, so that rounding to 8 bits gives the same picture in Swift.
    """
    whole = image.astype(np.float64)
    for axis in (1, 0):
        length = image.shape[axis]
        position = np.clip((np.arange(side) + 0.5) * (length / side) - 0.5, 0, None)
        low = position.astype(np.int64)
        share = (position - low).reshape(-1, *[1] * (2 - axis))
        high = np.minimum(low + 1, length - 1)
        whole = whole.take(low, axis) * (1 - share) + whole.take(high, axis) * share
    return whole.astype(np.float32)


def prepare(image: np.ndarray, frame: ImageFrame) -> PreparedImage:
    """Resize a picture to the frame, pad it right and bottom, and normalise it; see ``ImageFrame``.

    Shapes: image uint8 (H, W, 3) RGB
    Raises: UsageError when the array is not such a picture.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UsageError(f"image is {found}; give an RGB array of uint8 with shape (height, width, 3)")
    if image.size == 0:
        raise UsageError(f"image has size {image.shape[1]}x{image.shape[0]}; both sides must be at least 1 pixel")
    source_size = (image.shape[0], image.shape[1])
    height, width = fitted_size(source_size, frame.size, frame.fit)
    if frame.fit == "stretch":
        resized = stretched(image, frame.size)
    else:
        resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    pixels = np.empty((frame.size, frame.size, 3), np.uint8)
    pixels[:] = frame.pad_colour
    pixels[:height, :width] = resized if resized.dtype == np.uint8 else np.rint(resized)
    tensor = np.zeros((1, 3, frame.size, frame.size), np.float32)
    normalised = (resized.astype(np.float32) - np.float32(frame.mean)) / np.float32(frame.std)
    tensor[0, :, :height, :width] = normalised.transpose(2, 0, 1)  # (H, W, C) -> (C, H, W)
    return PreparedImage(
        pixels=pixels, tensor=tensor, source_size=source_size, scaled_size=(height, width), frame=frame
    )


def to_frame(points: PointsLike, prepared: PreparedImage) -> np.ndarray:
    """Points of the source picture in the prompt frame.

    Each axis has its own factor, new side / old side, because the new sides are whole pixels.

    Shapes: points (N, 2) x, y in source pixels; returns float32 (N, 2)
    """
    (height, width), (new_height, new_width) = prepared.source_size, prepared.prompt_extent
    factors = np.array([new_width / width, new_height / height], np.float64)
    return (np.asarray(points, np.float64).reshape(-1, 2) * factors).astype(np.float32)


def pack_prompt(
    prepared: PreparedImage,
    *,
    points: PointsLike | None = None,
    labels: NumbersLike | None = None,
    box: NumbersLike | None = None,
    slots: int | None = None,
    has_mask: bool = False,
    padding_point: bool = True,
    fixed_slots: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Decoder inputs for one prompt: points, then the box's corners, then empty slots.

    Points without a box are followed by one not-a-point token, as SAM was trained, unless ``padding_point`` is False;
    a mask prompt alone (``has_mask``) is that token and nothing else. ``labels`` default to foreground.
    ``fixed_slots``: every export of the model has this number of them.

    Shapes:
        points (N, 2) x, y in source pixels, inside the picture; labels (N,) 1 foreground, 0 background
        box x0, y0, x1, y1 in source pixels, from 0 to the picture's width and height inclusive
        returns point_coords float32 (1, S, 2) in the prompt frame; point_labels float32 (1, S)
    Raises: UsageError for a prompt that is missing, malformed, outside the picture or does not fit the slots.
    """
    points, labels = checked_points(points, labels, prepared.source_size)
    corners = checked_box(box, prepared.source_size)
    if not len(points) and not len(corners) and not has_mask:
        raise UsageError("no prompt: give at least one point, a box or a mask")
    coords = to_frame(np.concatenate([points, corners]), prepared)
    kinds = [*labels, *BOX_LABELS[: len(corners)]]
    padded = padding_point and not len(corners)
    if padded:
        coords = np.concatenate([coords, np.zeros((1, 2), np.float32)])
        kinds.append(NOT_A_POINT)
    if slots is not None and len(kinds) > slots:
        extra = ", the box takes 2" if len(corners) else ", 1 more because there is no box" if padded else ""
        has = f"the model always has {slots};" if fixed_slots else f"the decoder has {slots};"
        advice = "" if fixed_slots else f" export it again with --points {len(kinds)} or"
        raise UsageError(
            f"the prompt needs {len(kinds)} slots (points: {len(points)}{extra}) but {has}{advice} give fewer points"
        )
    free = 0 if slots is None else slots - len(kinds)
    coords = np.concatenate([coords, np.zeros((free, 2), np.float32)])
    return coords[None], np.array([[*kinds, *[EMPTY_SLOT] * free]], np.float32)


def checked_points(
    points: PointsLike | None, labels: NumbersLike | None, size: tuple[int, int]
) -> tuple[np.ndarray, list[int]]:
    """Points as (N, 2) and their labels, or a UsageError that names the bad one."""
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
                f"point ({x:g}, {y:g}) is outside the picture of {width}x{height} pixels;"
                f" x must be at least 0 and below {width}, y at least 0 and below {height}"
            )
    return points, [int(label) for label in labels]


def checked_box(box: NumbersLike | None, size: tuple[int, int]) -> np.ndarray:
    """Corners of the box as (2, 2), (0, 2) without a box, or a UsageError."""
    if box is None:
        return np.zeros((0, 2), np.float64)
    corners = numbers(box, "box").reshape(-1)
    if len(corners) != 4:
        raise UsageError(f"box has {len(corners)} values; give four: x0 y0 x1 y1")
    x0, y0, x1, y1 = corners
    shown = f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    height, width = size
    if not (np.isfinite(corners).all() and min(corners) >= 0 and max(x0, x1) <= width and max(y0, y1) <= height):
        raise UsageError(
            f"{shown} is outside the picture of {width}x{height} pixels;"
            f" x must lie in 0 to {width} and y in 0 to {height}"
        )
    if not (x0 < x1 and y0 < y1):
        raise UsageError(f"{shown} is reversed or empty; give x0 y0 x1 y1 with x0 below x1 and y0 below y1")
    return corners.reshape(2, 2)


def numbers(values: Any, name: str) -> np.ndarray:
    """Float64 array of what the caller gave, empty for None."""
    try:
        return np.asarray([] if values is None else values, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name} {values!r} are not numbers, or not equally many in each row") from None


def masks_to_source(logits: np.ndarray, prepared: PreparedImage) -> np.ndarray:
    """Logits at the size of the source picture, as SAM's post-processing makes them.

    To the prompt frame, crop the padding, to source size; both steps bilinear with half-pixel centres. Frames that say
    ``mask_resize="bicubic"`` go to source size in one bicubic step.

    Shapes: logits (M, 256, 256); returns float32 (M, h, w)
    Source: ``Sam.postprocess_masks`` of segment-anything.
    """
    side = prepared.frame.prompt_size
    height, width = prepared.prompt_extent
    if prepared.frame.mask_resize == "bicubic":
        return resized(logits, prepared.source_size, "bicubic")
    return resized(resized(logits, (side, side))[:, :height, :width], prepared.source_size)


def resized(logits: np.ndarray, size: tuple[int, int], mode: str = "bilinear") -> np.ndarray:
    """Logits at another size, half-pixel centres. Shapes: (M, h, w); returns float32 (M, *size)"""
    import torch
    from torch.nn.functional import interpolate

    maps = torch.from_numpy(np.ascontiguousarray(logits, np.float32))[None]
    return interpolate(maps, size, mode=mode, align_corners=False)[0].numpy()


def stability(logits: np.ndarray, offset: float = 1.0) -> np.ndarray:
    """How little each mask changes when its threshold moves: area above ``offset`` / area above ``-offset``.

    A mask with nothing above ``-offset`` has stability 0.

    Shapes: logits (M, h, w); returns float32 (M,)
    """
    inner = np.count_nonzero(logits > offset, axis=(-2, -1))
    outer = np.count_nonzero(logits > -offset, axis=(-2, -1))
    return (inner / np.maximum(outer, 1)).astype(np.float32)


def best_mask(scores: np.ndarray, candidates: int) -> int:
    """Index of the highest score; the first of equals, never a NaN.

    Shapes: scores (M,) with M = candidates
    Raises: UsageError when no score is a number or their number is another one.
    """
    scores = np.asarray(scores, np.float64).reshape(-1)
    if len(scores) != candidates or not candidates:
        raise UsageError(
            f"{len(scores)} scores for {candidates} masks; the decoder must return one score for each mask"
        )
    if np.isnan(scores).all():
        raise UsageError(f"all {candidates} scores are NaN; check the exported files with `edgesam-export parity`")
    return int(np.nanargmax(scores))


class Predictor:
    """Masks for prompts on one picture at a time; the embedding is computed once for each picture.

    ``source`` is a loaded model or exported files, whatever ``runners.open_runner`` knows; ``runner`` goes before it.
    """

    def __init__(self, source: Any = None, *, runner: Runner | None = None) -> None:
        if runner is None:
            from edgesam_export.runners import open_runner

            runner = open_runner(source)
        self.runner = runner
        self.prepared: PreparedImage | None = None
        self.embeddings: np.ndarray | None = None

    def set_image(self, image: np.ndarray | Image.Image | str | Path) -> Predictor:
        """Encode a picture: a path, a Pillow image or uint8 RGB (H, W, 3); returns the predictor."""
        if isinstance(image, Image.Image):
            image = rgb_array(image)
        elif isinstance(image, str | Path):
            image = open_picture(image)
        # A picture that fails must not leave the prompts of the next call to the picture before it.
        self.prepared = self.embeddings = None
        prepared = prepare(image, self.runner.info.frame)
        self.embeddings = self.runner.encode(prepared)
        self.prepared = prepared
        return self

    def predict(
        self,
        points: PointsLike | None = None,
        labels: NumbersLike | None = None,
        box: NumbersLike | None = None,
        mask_input: np.ndarray | None = None,
    ) -> Masks:
        """Masks for one prompt on the current picture; see ``pack_prompt`` for points, labels and box.

        Shapes: mask_input (256, 256) or (1, 1, 256, 256), logits of an earlier prediction
        Raises: UsageError before ``set_image``, for a bad prompt, or for a mask prompt the decoder does not take.
        """
        if self.prepared is None or self.embeddings is None:
            raise UsageError("no picture yet; call set_image before predict")
        mask_prompt = None if mask_input is None else self.checked_mask(mask_input)
        coords, kinds = pack_prompt(
            self.prepared,
            points=points,
            labels=labels,
            box=box,
            slots=self.runner.slots,
            has_mask=mask_input is not None,
            padding_point=self.runner.info.padding_point,
            fixed_slots=getattr(self.runner, "fixed_slots", False),
        )
        logits, scores = self.runner.decode(self.embeddings, coords, kinds, mask_prompt)
        logits, scores = np.asarray(logits[0], np.float32), np.asarray(scores[0], np.float32)
        # One mask at a time: four float maps of a 100 megapixel picture would be 1.6 GB.
        masks = np.stack([masks_to_source(one[None], self.prepared)[0] > 0 for one in logits])
        return Masks(masks=masks, scores=scores, logits=logits, best_index=best_mask(scores, len(logits)))

    def checked_mask(self, mask_input: np.ndarray) -> np.ndarray:
        """Mask prompt as float32 (1, 1, 256, 256)."""
        if not self.runner.accepts_mask_input:
            known = getattr(self.runner, "mask_prompts", True)
            advice = "export it again with --mask-input" if known else "no export of this model does"
            raise UsageError(f"this decoder takes no mask prompt; {advice}")
        mask = numbers(mask_input, "mask_input")
        if mask.shape not in ((MASK_SIDE, MASK_SIDE), (1, 1, MASK_SIDE, MASK_SIDE)):
            raise UsageError(
                f"mask_input has shape {mask.shape};"
                " give the logits of an earlier prediction, (256, 256) or (1, 1, 256, 256)"
            )
        if not np.isfinite(mask).all():
            raise UsageError("mask_input has NaN or infinite values; give the logits of an earlier prediction")
        return mask.reshape(1, 1, MASK_SIDE, MASK_SIDE).astype(np.float32)
