"""What happens to a value after an op made it: the three numerics of the executor.

``fp32``: nothing; FP16 values keep float32 precision, so a difference from PyTorch is a conversion bug.
``fp16``: the program as it is typed; every FP16 result is rounded to the nearest FP16 number, ties to even, overflow to
infinity; sums inside an op are accumulated in FP32.
``ane``: as ``fp16``, with what is reported of the Apple Neural Engine: products of matrices and convolutions saturate
near 2^15, subnormals are zero. An estimate, made to find trouble before a phone does; not Apple's arithmetic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from edgesam_export.errors import UsageError
from edgesam_export.mil.memory import CHUNK, is_dense, pieces
from edgesam_export.mil.op_kinds import ops_with
from edgesam_export.mil.types import ValueType
from edgesam_export.spec import NUMERICS

__all__ = ["Numerics", "Stage", "numerics_for"]

SATURATION = 2.0**15
"""Magnitude at which ANE products are reported to become infinite (hollance and others, M1 to M5)."""
BEYOND_FLOAT32 = 2.0**128 / SATURATION
"""``SATURATION`` times this is the first number that FP32 cannot hold."""
LARGEST_SUBNORMAL = 2.0**-14 - 2.0**-24
SMALL = 1 << 14
"""Elements up to which new memory costs less than finding the buffer."""
MAX_VIEWS = 64
"""Sizes of pieces whose views are kept; a program has a dozen."""

scratch = threading.local()

Stage = Callable[[torch.Tensor], object]
"""Changes a dense piece of at most ``CHUNK`` float32 numbers in its own memory."""


def half_buffer(size: int, device: torch.device) -> torch.Tensor:
    """Return ``size`` elements, at most ``CHUNK``, of this thread's reusable FP16 buffer."""
    views: dict[tuple[int, torch.device], torch.Tensor] = scratch.__dict__.setdefault("views", {})
    if (size, device) not in views:
        with torch.inference_mode(False):  # made inside, it could not be written from outside
            whole = views.get((CHUNK, device), torch.empty(CHUNK, dtype=torch.float16, device=device))
        if len(views) >= MAX_VIEWS:
            views.clear()
        views[CHUNK, device], views[size, device] = whole, whole[:size]
    return views[size, device]


def round_half(piece: torch.Tensor) -> None:
    """To the nearest FP16 number, ties to even; overflow to infinity."""
    if piece.numel() <= SMALL:
        piece.copy_(piece.half())
        return
    half = half_buffer(piece.numel(), piece.device).view(piece.shape)
    half.copy_(piece)
    piece.copy_(half)


def round_bfloat(piece: torch.Tensor) -> None:
    """To the nearest BF16 number, ties to even."""
    piece.copy_(piece.bfloat16())


def flush(piece: torch.Tensor) -> None:
    """Zero for every FP16 subnormal; NaN and infinities stay."""
    torch.hardshrink(piece, LARGEST_SUBNORMAL, out=piece)


def saturate(piece: torch.Tensor) -> None:
    """Infinity of the same sign from ``SATURATION`` on; exact for all smaller FP16 numbers that are not subnormal."""
    piece.mul_(BEYOND_FLOAT32).mul_(1 / BEYOND_FLOAT32)


ROUNDING: dict[str, Stage] = {"fp16": round_half, "bf16": round_bfloat}
"""Element type -> how its values are rounded; types that are not here are exact."""


@dataclass(frozen=True)
class Numerics:
    """A policy: which declared types are rounded, and what the hardware is reported to add."""

    mode: str
    rounds: bool = True
    hardware: bool = False
    """Saturate and flush as reported of the ANE."""
    rounding: Mapping[str, Stage] = field(default_factory=lambda: ROUNDING, repr=False)

    def concerns(self, declared: ValueType) -> bool:
        """Return whether values of this declared type are changed at all."""
        return self.rounds and declared.dtype in self.rounding

    def stages(self, op_type: str, declared: ValueType) -> tuple[Stage, ...]:
        """Return what is done, in this order, to each piece of a value that an op computed."""
        if not self.concerns(declared):
            return ()
        rounding = self.rounding[declared.dtype]
        if not self.hardware or declared.dtype != "fp16":
            return (rounding,)
        return (rounding, flush, saturate) if op_type in ops_with("accumulator") else (rounding, flush)

    def round(self, op_type: str, value: torch.Tensor, declared: ValueType, *, fresh: bool) -> torch.Tensor:
        """Return ``value`` as the declared type can hold it.

        Units:
            fresh: no one else has this memory, it may be overwritten.
        """
        stages = self.stages(op_type, declared)
        if not stages:
            return value
        if not (fresh and is_dense(value)):
            layout = torch.preserve_format if is_dense(value) else torch.contiguous_format
            value = value.clone(memory_format=layout)
        for piece in pieces(value):
            for stage in stages:
                stage(piece)
        return value

    def held_dtype(self, dtype: str) -> str:
        """Return the element type whose numbers a value of declared type ``dtype`` really has."""
        return "fp32" if dtype in self.rounding and not self.rounds else dtype


POLICIES = {
    "fp32": Numerics("fp32", rounds=False),
    "fp16": Numerics("fp16"),
    "ane": Numerics("ane", hardware=True),
}


def numerics_for(mode: str) -> Numerics:
    """Return the policy named ``mode``.

    Raises:
        UsageError: no such policy.
    """
    if mode not in POLICIES:
        raise UsageError(f"unknown numerics '{mode}'; choose one of: {', '.join(NUMERICS)}")
    return POLICIES[mode]
