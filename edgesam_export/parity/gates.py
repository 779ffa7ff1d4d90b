"""Gates: what a comparison may differ by, and how a measured value is checked against it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgesam_export.errors import UsageError
from edgesam_export.parity.outputs import ENCODER_OUTPUT, HIGHER_IS_BETTER, METRICS, metrics_of

__all__ = ["DEFAULT_GATES", "Check", "Gate", "gates_on"]

PROPOSALS = ("boxes", "box_scores")
DENSE = ("masks", "masks_at_source", *PROPOSALS)
"""Outputs that exact arithmetic is held to by their values alone."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Bound that a metric of an output must keep under one kind of numerics; exactly one of minimum and maximum.

    Raises: UsageError for another number of bounds, a metric that the output does not have, or a bound on the side on
        which every good value lies: a largest PSNR passes what is broken.
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
        if (self.minimum is not None) != (self.metric in HIGHER_IS_BETTER):
            better, side = ("higher", "minimum") if self.metric in HIGHER_IS_BETTER else ("lower", "maximum")
            raise UsageError(f"gate on {self.output} {self.metric}: {better} is better, so give a {side}")

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
    names = (output, ENCODER_OUTPUT) if component == "encoder" and output not in METRICS else (output,)
    return tuple(replace(gate, output=output) for gate in gates if gate.output in names)


def default_gates() -> tuple[Gate, ...]:
    """Return the gates that apply unless others are given; docs/parity.md has the measurements behind each number.

    fp32 asks whether the file is the network. Exact arithmetic differs from PyTorch in the order of summation alone,
    so every output is held by its value: 80 dB, and scores to a ten thousandth.

    fp16 and ane ask whether half precision is good enough, by what a user gets: no mask may change visibly by more than
    1 %, no score and no probability of an object by more than 0.01 and no best mask by more than a tie (2^-11, FP16's
    step below 1, rounded up for both scores' own rounding), each beyond what half precision costs any correct
    implementation of this network on this input. That noise comes from the reference, so that no candidate can excuse
    itself. An embedding is judged by the masks made of it; alone it must be no more than recognisable.
    """
    gates = [Gate(output=ENCODER_OUTPUT, metric="psnr_db", numerics="fp32", minimum=80.0)]
    gates += [Gate(output=o, metric="psnr_db", numerics="fp32", minimum=80.0) for o in DENSE]
    gates += [Gate(output="scores", metric="score_error", numerics="fp32", maximum=1e-4)]
    gates += [Gate(output="scores", metric="choice_loss", numerics="fp32", maximum=1e-5)]
    gates += [Gate(output="object_score", metric="presence_error", numerics="fp32", maximum=1e-4)]
    for numerics, proposals in (("fp16", 40.0), ("ane", 35.0)):
        gates += [Gate(output=ENCODER_OUTPUT, metric="psnr_db", numerics=numerics, minimum=20.0)]
        gates += [Gate(output=o, metric="psnr_db", numerics=numerics, minimum=proposals) for o in PROPOSALS]
        gates += [Gate(output="masks", metric="visible_change", numerics=numerics, maximum=0.01)]
        gates += [Gate(output="scores", metric="score_error", numerics=numerics, maximum=0.01)]
        gates += [Gate(output="scores", metric="choice_loss", numerics=numerics, maximum=1e-3)]
        gates += [Gate(output="object_score", metric="presence_error", numerics=numerics, maximum=0.01)]
    return tuple(gates)


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
