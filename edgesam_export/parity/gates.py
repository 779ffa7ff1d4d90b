"""Gates: what a comparison may differ by, and how a measured value is checked against it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgesam_export.errors import UsageError
from edgesam_export.parity.outputs import ENCODER_OUTPUT, METRICS, metrics_of
from edgesam_export.spec import NUMERICS

__all__ = ["DEFAULT_GATES", "Check", "Gate", "gates_on"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Bound that a metric of an output must keep under one kind of numerics; exactly one of minimum and maximum.

    Raises: UsageError for another number of bounds, or a metric that the output does not have.
    """

    output: str
    """Name of the output, or ``ENCODER_OUTPUT`` for every output of the encoder."""
    metric: str
    numerics: str
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if len(bounds) != 1 or math.isnan(bounds[0]):
            raise UsageError(f"gate on {self.output} {self.metric}: give either a minimum or a maximum")
        if self.metric not in metrics_of(self.output):
            known = "; ".join(f"{output}: {', '.join(names)}" for output, names in METRICS.items())
            raise UsageError(f"gate on {self.output} {self.metric}: no such metric; choose one of {known}")

    @property
    def bound(self) -> float:
        """The minimum or the maximum, whichever the gate has."""
        return next(bound for bound in (self.minimum, self.maximum) if bound is not None)

    def passes(self, value: float) -> bool:
        """Return whether the value keeps the bound; NaN never does."""
        return value >= self.bound if self.minimum is not None else value <= self.bound

    def shortfall(self, value: float) -> float:
        """Return how far the value is beyond the bound, in the metric's unit; negative within, infinite for NaN."""
        if math.isnan(value):
            return math.inf
        return self.bound - value if self.minimum is not None else value - self.bound


def gates_on(gates: tuple[Gate, ...], component: str, output: str) -> tuple[Gate, ...]:
    """Return the gates that apply to an output of a component, each under the output's own name."""
    names = (output, ENCODER_OUTPUT) if component == "encoder" else (output,)
    return tuple(replace(gate, output=output) for gate in gates if gate.output in names)


def default_gates() -> tuple[Gate, ...]:
    """Return the gates that apply unless others are given.

    Dense outputs by PSNR. fp32, 80 dB: exact arithmetic on the file differs from PyTorch in the order of summation
    alone. fp16, 40 dB: an rms error of 1 % of the peak. ane, 35 dB: an estimate that is pessimistic on purpose; the
    threshold of ml-stable-diffusion's own parity check. Masks by what a user sees, the IoU, and by the share of logits
    that keep their sign; in fp32 by PSNR too.

    "Same best mask" is a gap of at most one step of FP16 below 1 (2^-11, rounded up to 1e-3 for the score's own two
    roundings), or 1e-5 in fp32: scores nearer to each other than that are a tie, which FP16 cannot order. The bound is
    fixed, not derived from the candidate's error, which would let a bad candidate excuse itself.
    """
    psnr = {"fp32": 80.0, "fp16": 40.0, "ane": 35.0}
    iou = {"fp32": 0.99, "fp16": 0.99, "ane": 0.98}
    tie = {"fp32": 1e-5, "fp16": 1e-3, "ane": 1e-3}
    dense = (ENCODER_OUTPUT, "boxes", "box_scores")
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
