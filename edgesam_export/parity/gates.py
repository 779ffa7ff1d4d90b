"""Gates: what a comparison may differ by, and how a measured value is checked against it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgesam_export.errors import UsageError

__all__ = ["DEFAULT_GATES", "METRICS", "NUMERICS", "Check", "Gate"]

NUMERICS = ("fp32", "fp16", "ane")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Bound that a metric of an output must keep under one kind of numerics; exactly one of minimum and maximum."""

    output: Literal["image_embeddings", "masks", "scores", "boxes", "box_scores"]
    metric: str
    numerics: str
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None and not math.isnan(bound)]
        if len(bounds) != 1:
            raise UsageError(f"gate on {self.output} {self.metric}: give either a minimum or a maximum")
        if self.metric not in METRICS.get(self.output, ()):
            known = "; ".join(f"{output}: {', '.join(names)}" for output, names in METRICS.items())
            raise UsageError(f"gate on {self.output} {self.metric}: no such metric; choose of {known}")

    def passes(self, value: float) -> bool:
        """True when the value keeps the bound; NaN never does."""
        return value >= self.minimum if self.minimum is not None else value <= self.maximum  # type: ignore[operator]

    def shortfall(self, value: float) -> float:
        """How far the value is beyond the bound, in the metric's unit; negative within, infinite for NaN."""
        if math.isnan(value):
            return math.inf
        return self.minimum - value if self.minimum is not None else value - self.maximum  # type: ignore[operator]


METRICS = {
    "image_embeddings": ("psnr_db", "cosine", "max_abs_error", "rms_error"),
    "masks": ("mask_iou", "best_mask_iou", "sign_agreement", "sign_margin", "psnr_db", "max_abs_error"),
    "scores": ("best_mask_gap", "max_abs_error"),
    "boxes": ("psnr_db", "max_abs_error", "rms_error"),
    "box_scores": ("psnr_db", "max_abs_error", "rms_error"),
}
"""Metrics of each output. ``mask_iou`` is the worst of all masks returned, ``best_mask_iou`` that of the mask which the
reference scores highest; ``sign_agreement``, ``sign_margin`` and ``psnr_db`` are over all logits."""


def default_gates() -> tuple[Gate, ...]:
    """Gates of DESIGN.md section 2.

    "Same best mask" is a gap of at most one step of FP16 below 1 (2^-11, rounded up to 1e-3 for the score's own two
    roundings), or 1e-5 in fp32: scores nearer to each other than that are a tie, which FP16 cannot order. The bound is
    fixed, not derived from the candidate's error, which would let a bad candidate excuse itself.
    """
    psnr = {"fp32": 80.0, "fp16": 40.0, "ane": 35.0}
    iou = {"fp32": 0.99, "fp16": 0.99, "ane": 0.98}
    tie = {"fp32": 1e-5, "fp16": 1e-3, "ane": 1e-3}
    dense = ("image_embeddings", "boxes", "box_scores")
    gates = [Gate(output=o, metric="psnr_db", numerics=n, minimum=psnr[n]) for o in dense for n in NUMERICS]
    gates += [Gate(output="masks", metric="mask_iou", numerics=n, minimum=iou[n]) for n in NUMERICS]
    gates += [Gate(output="masks", metric="sign_agreement", numerics=n, minimum=0.999) for n in NUMERICS]
    gates += [Gate(output="scores", metric="best_mask_gap", numerics=n, maximum=tie[n]) for n in NUMERICS]
    return (*gates, Gate(output="masks", metric="psnr_db", numerics="fp32", minimum=80.0))


DEFAULT_GATES = default_gates()


@dataclass(frozen=True, kw_only=True)
class Check:
    """One gate applied to one value."""

    gate: Gate
    value: float

    @property
    def passed(self) -> bool:
        return self.gate.passes(self.value)

    @property
    def would_pass_at(self) -> float | None:
        """The strictest bound this value passes, which is the value itself; None when no bound would do."""
        return None if math.isnan(self.value) else self.value
