"""What happens to a value after an op made it: the three numerics of the executor.

``fp32``: nothing; FP16 values keep float32 precision, so a difference from PyTorch is a conversion bug.
``fp16``: the program as it is typed; every FP16 result is rounded to the nearest FP16 number, ties to even, overflow to
infinity; sums inside an op are accumulated in FP32.
``ane``: as ``fp16``, with what is reported of the Apple Neural Engine: products of matrices and convolutions saturate
near 2^15, subnormals are zero. An estimate, made to find trouble before a phone does; not Apple's arithmetic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from edgesam_export.errors import UsageError
from edgesam_export.mil.op_kinds import ops_with
from edgesam_export.mil.types import ValueType
from edgesam_export.spec import NUMERICS

__all__ = ["Numerics", "numerics_for", "round_half_in_place"]

# 2^18 to 2^20 elements were fastest for a (1, 96, 256, 256) tensor on two cores: 0.45 ms, against 1.2 ms for
# ``value.copy_(value.half())`` and 1.5 ms for ``value.half().float()``; the buffer stays in the cache.
CHUNK = 1 << 20
SATURATION = 2.0**15
"""Magnitude at which ANE products are reported to become infinite (hollance and others, M1 to M5)."""
LARGEST_SUBNORMAL = 2.0**-14 - 2.0**-24

scratch = threading.local()


def half_buffer(device: torch.device) -> torch.Tensor:
    """Return this thread's reusable FP16 buffer of ``CHUNK`` elements."""
    buffers: dict[torch.device, torch.Tensor] = scratch.__dict__.setdefault("buffers", {})
    if device not in buffers:
        with torch.inference_mode(False):  # made inside, it could not be written from outside
            buffers[device] = torch.empty(CHUNK, dtype=torch.float16, device=device)
    return buffers[device]


def is_dense(value: torch.Tensor) -> bool:
    """Return whether the elements fill one gapless stretch of memory."""
    return value.is_contiguous() or (value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last))


def round_half_in_place(value: torch.Tensor) -> torch.Tensor:
    """Round a dense float32 tensor to FP16-representable numbers, in its own memory."""
    count = value.numel()
    if count <= CHUNK:
        return value.copy_(value.half())
    flat, buffer = value.as_strided((count,), (1,)), half_buffer(value.device)
    for part in torch.split(flat, CHUNK):
        half = buffer[: part.numel()]
        half.copy_(part)
        part.copy_(half)
    return value


def to_fp16(value: torch.Tensor, fresh: bool) -> torch.Tensor:
    if fresh and is_dense(value):
        return round_half_in_place(value)
    return value.half().to(value.dtype)


def to_bf16(value: torch.Tensor, fresh: bool) -> torch.Tensor:
    return value.bfloat16().to(value.dtype)


def flush(value: torch.Tensor) -> torch.Tensor:
    """Zero for every FP16 subnormal; NaN and infinities stay."""
    return torch.hardshrink(value, LARGEST_SUBNORMAL)


def saturate(value: torch.Tensor) -> torch.Tensor:
    """Infinity of the same sign from ``SATURATION`` on."""
    return torch.where(value.abs() >= SATURATION, torch.copysign(torch.full_like(value, torch.inf), value), value)


ROUNDING: dict[str, Callable[[torch.Tensor, bool], torch.Tensor]] = {"fp16": to_fp16, "bf16": to_bf16}
"""Element type -> how its values are rounded; types that are not here are exact."""


@dataclass(frozen=True)
class Numerics:
    """A policy: which declared types are rounded, and what the hardware is reported to add."""

    mode: str
    rounds: bool = True
    hardware: bool = False
    """Saturate and flush as reported of the ANE."""
    rounding: dict[str, Callable[[torch.Tensor, bool], torch.Tensor]] = field(
        default_factory=lambda: ROUNDING, repr=False
    )

    def concerns(self, declared: ValueType) -> bool:
        """Return whether values of this declared type are changed at all."""
        return self.rounds and declared.dtype in self.rounding

    def round(self, op_type: str, value: torch.Tensor, declared: ValueType, *, fresh: bool) -> torch.Tensor:
        """Return ``value`` as the declared type can hold it.

        Units:
            fresh: no one else has this memory, it may be overwritten.
        """
        if not self.concerns(declared):
            return value
        value = self.rounding[declared.dtype](value, fresh)
        if self.hardware and declared.dtype == "fp16":
            value = flush(value)
            if op_type in ops_with("accumulator"):
                value = saturate(value)
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
