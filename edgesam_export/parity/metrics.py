"""Distance of a candidate's output from the reference's: two NumPy arrays in, one number out.

The same four rules hold for every function. Shapes must agree, nothing is broadcast. Comparing nothing is an error.
Anything that is not finite, in either array, makes the result NaN, which passes no gate: an overflow cannot hide behind
a threshold. Sums run in float64.
"""

from __future__ import annotations

import math

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.imaging.masks import iou

__all__ = [
    "SMALLEST_MASK",
    "SURE",
    "best_mask_gap",
    "cosine",
    "grown",
    "mask_iou",
    "max_abs_error",
    "psnr_db",
    "rms_error",
    "sign_agreement",
    "sign_margin",
    "stability_slack",
    "visible_change",
]

SURE = 8.0
"""Multiple of the noise of half precision that no correct implementation reaches (docs/parity.md)."""
SMALLEST_MASK = 64
"""Area in cells of the 256 x 256 logits below which a mask counts as that large: a thousandth of the frame."""


def psnr_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio, 20 log10(max |reference| / rms error).

    Identical arrays give infinity; a reference of zeros that the candidate misses gives minus infinity.

    Units: dB
    Raises: UsageError when the shapes differ or the arrays are empty.
    """
    error = rms_error(reference, candidate)
    if math.isnan(error):
        return math.nan
    peak = float(np.abs(reference).max())
    if error == 0:
        return math.inf
    return 20 * math.log10(peak / error) if peak else -math.inf


def cosine(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Return the cosine of the angle between both arrays taken as vectors; two zero vectors give 1, one gives 0.

    Raises: UsageError when the shapes differ or the arrays are empty.
    """
    if not comparable(reference, candidate):
        return math.nan
    left, right = (np.asarray(array, np.float64).reshape(-1) for array in (reference, candidate))
    lengths = float(np.linalg.norm(left)), float(np.linalg.norm(right))
    if not any(lengths):
        return 1.0
    return float(left @ right) / (lengths[0] * lengths[1]) if all(lengths) else 0.0


def max_abs_error(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Return the largest absolute difference.

    Raises: UsageError when the shapes differ or the arrays are empty.
    """
    if not comparable(reference, candidate):
        return math.nan
    return float(np.abs(np.subtract(reference, candidate, dtype=np.float64)).max())


def rms_error(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Return the root of the mean squared difference.

    Raises: UsageError when the shapes differ or the arrays are empty.
    """
    if not comparable(reference, candidate):
        return math.nan
    difference = np.subtract(reference, candidate, dtype=np.float64)
    return math.sqrt(float(np.mean(np.square(difference))))


def mask_iou(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Return the intersection over union of both masks, the logits above 0; two empty masks give 1.

    Raises: UsageError when the shapes differ or the arrays are empty.
    """
    if not comparable(reference, candidate):
        return math.nan
    return iou(np.asarray(reference) > 0, np.asarray(candidate) > 0)


def sign_agreement(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Return the share of logits on the same side of the threshold 0 (above it or not), from 0 to 1.

    Raises: UsageError when the shapes differ or the arrays are empty.
    """
    if not comparable(reference, candidate):
        return math.nan
    return float(np.mean((np.asarray(reference) > 0) == (np.asarray(candidate) > 0)))


def sign_margin(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Return the largest magnitude of the reference where both lie on different sides of 0, over its rms.

    0 when no sign differs. Small: only logits that were next to 0 changed sides, as rounding does it; near 1 or above:
    the masks differ where the reference was sure.

    Raises: UsageError when the shapes differ or the arrays are empty.
    """
    if not comparable(reference, candidate):
        return math.nan
    left = np.asarray(reference, np.float64)
    largest = float(np.abs(left[(left > 0) != (np.asarray(candidate) > 0)]).max(initial=0.0))
    return largest / math.sqrt(float(np.mean(np.square(left)))) if largest else 0.0


def visible_change(reference: np.ndarray, candidate: np.ndarray, noise: float = 0.0) -> float:
    """Return the share of a mask that a user sees change.

    A cell of one mask counts when neither it nor a neighbour belongs to the other mask, so that a border may move by
    one cell, and when the reference's logit is more than ``SURE`` times the ``noise`` away from 0. The share is that of
    the area of both masks together, at least ``SMALLEST_MASK``.

    Shapes: both (H, W) logits
    Raises: UsageError when the shapes differ or the arrays are empty.
    """
    if not comparable(reference, candidate):
        return math.nan
    left, right = np.asarray(reference) > 0, np.asarray(candidate) > 0
    changed = (left & ~grown(right)) | (right & ~grown(left))
    sure = np.abs(np.asarray(reference, np.float64)) > SURE * noise
    return int(np.count_nonzero(changed & sure)) / max(int(np.count_nonzero(left | right)), SMALLEST_MASK)


def stability_slack(logits: np.ndarray, noise: np.ndarray, offset: float = 1.0) -> float:
    """Return by how much a stability score may move when every logit moves by ``SURE`` times the noise of its mask.

    Logits within that of ``-offset`` or ``offset`` may leave or join the areas whose ratio the score is; the largest of
    all masks counts.

    Shapes: logits (M, H, W), noise (M,)
    """
    reach = SURE * noise[:, None, None]
    unsure = np.count_nonzero((abs(logits - offset) <= reach) | (abs(logits + offset) <= reach), axis=(1, 2))
    return float(np.max(unsure / np.maximum(np.count_nonzero(logits > -offset, axis=(1, 2)), 1)))


def grown(mask: np.ndarray) -> np.ndarray:
    """Return the mask and the eight neighbours of each of its cells. Shapes: bool (H, W)"""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    result: np.ndarray = np.zeros_like(mask)
    for y, x in np.ndindex(3, 3):
        result |= padded[y : y + height, x : x + width]
    return result


def best_mask_gap(reference: np.ndarray, candidate: np.ndarray) -> float:
    """Return the loss of the candidate's choice of the best mask, in the reference's scores.

    It is the reference's score of its own best mask minus its score of the mask that the candidate scores highest: 0
    when both choose the same mask. Only the reference's scores are measured, so that a candidate cannot excuse a wrong
    choice by the size of its own error.

    Shapes: both (..., M), M at least 2, reduced to one row
    Raises: UsageError when the shapes differ or there is nothing to choose from.
    """
    if not comparable(reference, candidate):
        return math.nan
    left, right = (np.asarray(array, np.float64).reshape(-1) for array in (reference, candidate))
    if len(left) < 2:
        raise UsageError("best_mask_gap of one score says nothing; give the scores of at least two masks")
    return float(left.max() - left[right.argmax()])


def comparable(reference: np.ndarray, candidate: np.ndarray) -> bool:
    """Return whether both arrays are finite; a UsageError when they cannot be compared at all."""
    shapes = np.shape(reference), np.shape(candidate)
    if shapes[0] != shapes[1]:
        raise UsageError(f"reference has shape {shapes[0]} and candidate {shapes[1]}; compare arrays of one shape")
    if 0 in shapes[0]:
        raise UsageError(f"arrays of shape {shapes[0]} have no elements; comparing nothing proves nothing")
    return bool(np.isfinite(reference).all() and np.isfinite(candidate).all())
