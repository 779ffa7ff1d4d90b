"""From a decoder's logits to masks of the source image, and the best of them."""

from __future__ import annotations

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.imaging.geometry import PreparedImage

__all__ = ["best_mask", "bounding_box", "iou", "masks_to_source", "resized", "stability"]


def masks_to_source(logits: np.ndarray, prepared: PreparedImage) -> np.ndarray:
    """Return logits at the size of the source image, as SAM's post-processing makes them.

    To the prompt frame, crop the padding, to source size; both steps bilinear with half-pixel centres. Frames with
    ``mask_resize`` "bicubic" or "bilinear_direct" go to source size in one step of that kind.

    Shapes: logits (M, 256, 256); returns float32 (M, h, w)
    Source: ``Sam.postprocess_masks`` of segment-anything.
    """
    side = prepared.frame.prompt_size
    height, width = prepared.prompt_extent
    if prepared.frame.mask_resize != "bilinear":
        return resized(logits, prepared.source_size, prepared.frame.mask_resize.removesuffix("_direct"))
    return resized(resized(logits, (side, side))[:, :height, :width], prepared.source_size)


def resized(logits: np.ndarray, size: tuple[int, int], mode: str = "bilinear") -> np.ndarray:
    """Return logits at another size, half-pixel centres. Shapes: (M, h, w); returns float32 (M, *size)"""
    import torch
    from torch.nn.functional import interpolate

    maps = torch.from_numpy(np.ascontiguousarray(logits, np.float32))[None]
    scaled: np.ndarray = interpolate(maps, size, mode=mode, align_corners=False)[0].numpy()
    return scaled


def stability(logits: np.ndarray, offset: float = 1.0) -> np.ndarray:
    """Return how little each mask changes when its threshold moves: area above ``offset`` / area above ``-offset``.

    A mask with nothing above ``-offset`` has stability 0.

    Shapes: logits (M, h, w); returns float32 (M,)
    """
    inner = np.count_nonzero(logits > offset, axis=(-2, -1))
    outer = np.count_nonzero(logits > -offset, axis=(-2, -1))
    ratio: np.ndarray = (inner / np.maximum(outer, 1)).astype(np.float32)
    return ratio


def best_mask(scores: np.ndarray, candidates: int) -> int:
    """Return the index of the highest score: the first of equals, never a NaN.

    Shapes: scores (M,) with M = candidates
    Raises: UsageError when all scores are NaN, or their number is not ``candidates``.
    """
    scores = np.asarray(scores, np.float64).reshape(-1)
    if len(scores) != candidates or not candidates:
        raise UsageError(
            f"{len(scores)} scores for {candidates} masks; the decoder must return one score for each mask"
        )
    if np.isnan(scores).all():
        raise UsageError(f"all {candidates} scores are NaN; check the exported files with `edgesam-export parity`")
    return int(np.nanargmax(scores))


def iou(left: np.ndarray, right: np.ndarray) -> float:
    """Return the intersection over union of two masks, 1 for two empty ones. Shapes: bool, both the same"""
    union = int(np.count_nonzero(left | right))
    return int(np.count_nonzero(left & right)) / union if union else 1.0


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return x0, y0, x1, y1 (exclusive) around the true pixels, None when there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
