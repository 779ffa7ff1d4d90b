"""The metrics of every output, measured on one output of both sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edgesam_export.imaging.masks import resized
from edgesam_export.parity import metrics
from edgesam_export.parity.noise import Noise

__all__ = [
    "ENCODER_OUTPUT",
    "HIGHER_IS_BETTER",
    "METRICS",
    "Metric",
    "Pair",
    "enlarged",
    "measure",
    "metrics_of",
    "problem_of",
]

ENCODER_OUTPUT = "encoder output"
"""Every output of the encoder, whatever its contract names it."""
MASK_SCALE = 4
"""Side of the prompt frame of 1024 over that of the logits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """One output of reference and candidate, of equal shape, the padding cropped."""

    expected: np.ndarray
    actual: np.ndarray
    best: int = 0
    """Index of the mask that the reference scores highest."""
    noise: Noise | None = None
    """What half precision costs; None in exact arithmetic."""
    slack: float = 0.0
    """Error of a score that half precision may cause."""
    expected_masks: np.ndarray | None = None
    """The masks of ``expected`` in the prompt frame where they are known already. Shapes: bool (M, H, W)"""
    due: np.ndarray | None = None
    """What the scores should be by the candidate's own masks; None when ``expected`` says it."""

    @cached_property
    def mask_ious(self) -> list[float]:
        """IoU of each mask in the prompt frame."""
        expected = enlarged(self.expected[0]) if self.expected_masks is None else self.expected_masks
        return [metrics.mask_iou(left, right) for left, right in zip(expected, enlarged(self.actual[0]), strict=True)]


Metric = Callable[[Pair], "float | None"]
"""From both sides of an output to a number; None when the metric does not apply to the pair."""


def of_arrays(metric: Callable[[np.ndarray, np.ndarray], float]) -> Metric:
    """Return a metric of two arrays as a metric of a pair."""
    return lambda pair: metric(pair.expected, pair.actual)


def worst_mask_iou(pair: Pair) -> float:
    """Return the lowest IoU of all masks; NaN when one of them is."""
    return float(np.min(pair.mask_ious))


def worst_mask_psnr(pair: Pair) -> float:
    """Return the lowest PSNR of all masks, each by its own peak; NaN when one of them is."""
    return float(np.min([metrics.psnr_db(*masks) for masks in zip(pair.expected[0], pair.actual[0], strict=True)]))


def visible_change(pair: Pair) -> float:
    """Return the largest ``metrics.visible_change`` of all masks; NaN when one of them is."""
    noises = np.zeros(len(pair.expected[0])) if pair.noise is None else pair.noise.logits
    masks = zip(pair.expected[0], pair.actual[0], noises, strict=True)
    return float(np.max([metrics.visible_change(*mask) for mask in masks]))


def noise_ratio(pair: Pair) -> float | None:
    """Return the largest rms error of a mask in units of the noise of half precision; None without noise."""
    if pair.noise is None or not pair.noise.logits.all():
        return None
    masks = zip(pair.expected[0], pair.actual[0], pair.noise.logits, strict=True)
    return float(np.max([metrics.rms_error(left, right) / noise for left, right, noise in masks]))


def best_mask_gap(pair: Pair) -> float | None:
    """Return ``metrics.best_mask_gap``; None for a decoder of one mask, which has nothing to choose."""
    return metrics.best_mask_gap(pair.expected, pair.actual) if pair.expected.size > 1 else None


def choice_loss(pair: Pair) -> float | None:
    """Return the best-mask gap beyond what half precision can make of it; None like the gap."""
    gap = best_mask_gap(pair)
    return None if gap is None else max(0.0, gap - pair.slack)


def score_error(pair: Pair) -> float:
    """Return the largest error of a score beyond what half precision can make of it."""
    if pair.due is not None:
        return metrics.max_abs_error(pair.due, pair.actual)
    return max(0.0, metrics.max_abs_error(pair.expected, pair.actual) - pair.slack)


def presence_error(pair: Pair) -> float:
    """Return the error of the probability that an object is there, beyond what half precision can make of its logit."""
    expected, actual = (1 / (1 + np.exp(-np.asarray(side, np.float64))) for side in (pair.expected, pair.actual))
    # A probability moves by at most a quarter of what its logit moves.
    return max(0.0, metrics.max_abs_error(expected, actual) - pair.slack / 4)


PSNR, LARGEST, RMS = of_arrays(metrics.psnr_db), of_arrays(metrics.max_abs_error), of_arrays(metrics.rms_error)
BY_VALUE: Mapping[str, Metric] = {
    "psnr_db": PSNR,
    "cosine": of_arrays(metrics.cosine),
    "max_abs_error": LARGEST,
    "rms_error": RMS,
}

METRICS: Mapping[str, Mapping[str, Metric]] = {
    ENCODER_OUTPUT: BY_VALUE,
    "masks": {
        "mask_iou": worst_mask_iou,
        "best_mask_iou": lambda pair: pair.mask_ious[pair.best],
        "sign_agreement": of_arrays(metrics.sign_agreement),
        "sign_margin": of_arrays(metrics.sign_margin),
        "visible_change": visible_change,
        "noise_ratio": noise_ratio,
        "psnr_db": worst_mask_psnr,
        "max_abs_error": LARGEST,
    },
    "masks_at_source": BY_VALUE,
    "scores": {
        "best_mask_gap": best_mask_gap,
        "choice_loss": choice_loss,
        "score_error": score_error,
        "max_abs_error": LARGEST,
    },
    "object_score": {"presence_error": presence_error, "max_abs_error": LARGEST},
    "boxes": {"psnr_db": PSNR, "max_abs_error": LARGEST, "rms_error": RMS},
    "box_scores": {"psnr_db": PSNR, "max_abs_error": LARGEST, "rms_error": RMS},
}
"""Output -> name of the metric -> function. ``mask_iou`` is the worst of all masks returned, ``best_mask_iou`` that of
the mask which the reference scores highest; ``visible_change``, ``noise_ratio`` and ``psnr_db`` are of the worst mask,
``sign_agreement`` and ``sign_margin`` over all logits."""


HIGHER_IS_BETTER = frozenset({"psnr_db", "cosine", "mask_iou", "best_mask_iou", "sign_agreement"})
"""Metrics that a gate bounds from below; all others are errors, which it bounds from above."""


def metrics_of(output: str) -> Mapping[str, Metric]:
    """Return the metrics of an output by name; those of an encoder output for every name that no other output has."""
    return METRICS.get(output, METRICS[ENCODER_OUTPUT])


def measure(output: str, pair: Pair) -> dict[str, float]:
    """Return every metric of one output that applies to it."""
    values = {name: metric(pair) for name, metric in metrics_of(output).items()}
    return {name: value for name, value in values.items() if value is not None}


def enlarged(logits: np.ndarray) -> np.ndarray:
    """Return logits at four times their size, as on a mask's way to the image's. Shapes: (M, h, w)"""
    height, width = logits.shape[-2:]
    return resized(logits, (MASK_SCALE * height, MASK_SCALE * width))


def problem_of(expected: np.ndarray, actual: np.ndarray | None) -> str:
    """Return why an output fails before any metric is computed; empty when it does not."""
    if actual is None:
        return "missing"
    if np.shape(actual) != expected.shape:
        return f"shape {tuple(np.shape(actual))} instead of {expected.shape}"
    broken = int(np.count_nonzero(~np.isfinite(actual)))
    return f"{broken} of {np.size(actual)} values are not finite" if broken else ""
