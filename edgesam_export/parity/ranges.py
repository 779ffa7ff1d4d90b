"""Largest values of a program beside the limits of FP16 and of the ANE."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgesam_export.mil.op_kinds import is_parameter, ops_with
from edgesam_export.parity.divergence import FP16_MAX, as_array, module_of, names_of

if TYPE_CHECKING:
    from edgesam_export.mil import Program
    from edgesam_export.mil.graph import Operation

__all__ = ["RangeRow", "range_report"]


@dataclass(frozen=True, kw_only=True)
class RangeRow:
    """Largest magnitude that an operation works on, beside the limit that applies to it."""

    operation: str
    type: str
    rule: str
    magnitude: float
    """Largest absolute value of the operand or output; infinite when a value is not finite."""
    limit: float
    of: Literal["operand", "output"]
    location: str = ""
    module: str = ""
    component: str = ""

    @property
    def share(self) -> float:
        """Magnitude / limit; 1 or more is beyond it."""
        return self.magnitude / self.limit


def limit_of(op: Operation) -> tuple[str, float, Literal["operand", "output"]]:
    """Return rule, limit and side that it applies to, for one operation.

    256 = sqrt(65504), 11.09 = ln(65504); 32750 is where sums were seen to saturate on the ANE, 4094 where slices of the
    last axis did; 65504 is the largest FP16 number.
    """
    names = names_of(op.inputs)
    if op.type in ops_with("squares") or (op.type == "mul" and len(names) == 2 and names[0] == names[1]):
        return "N03", 256.0, "operand"
    if op.type in ops_with("exponential"):
        return "N05", 11.09, "operand"
    if op.type in ops_with("accumulator"):
        return "N04", 32750.0, "output"
    if op.type in ops_with("slice"):
        return "A26", 4094.0, "operand"
    return "FP16", FP16_MAX, "output"


def range_report(
    program: Program, feed: Mapping[str, Any], *, numerics: str = "fp32", modules: Mapping[str, str] | None = None
) -> tuple[RangeRow, ...]:
    """Return the largest magnitude at every operation beside the limit that applies to it, nearest to its limit first.

    The limits are those of rules N03 to N05 and A26, and FP16's largest number for everything else. ``exp`` and its kin
    are measured upwards only: a very negative operand gives zero, which is harmless.
    """
    peaks: dict[str, tuple[float, float]] = {}

    def measure(op: Operation, name: str, value: Any) -> None:
        array = as_array(value)
        if array is not None and not is_parameter(op.type):
            finite = bool(np.isfinite(array).all())
            low, high = float(array.min()), float(array.max())
            peaks[name] = (high, max(abs(low), abs(high))) if finite else (math.inf, math.inf)

    for name, value in feed.items():
        array = as_array(np.asarray(value))
        if array is not None:
            peaks[name] = (float(array.max()), float(np.abs(array).max()))
    program.predict(feed, numerics=numerics, probe=measure)
    rows = [range_row(op, peaks, modules or {}) for op in program.operations if not is_parameter(op.type)]
    return tuple(sorted((row for row in rows if row), key=lambda row: -row.share))


def range_row(op: Operation, peaks: Mapping[str, tuple[float, float]], modules: Mapping[str, str]) -> RangeRow | None:
    """Return the row of one operation, None when no value of it was seen."""
    rule, limit, side = limit_of(op)
    names = names_of(op.outputs if side == "output" else op.inputs)
    values = [peaks[name][0 if rule == "N05" else 1] for name in names if name in peaks]
    if not values:
        return None
    return RangeRow(
        operation=op.name,
        type=op.type,
        rule=rule,
        magnitude=max(0.0, *values),
        limit=limit,
        of=side,
        location=str(op.location or ""),
        module=module_of(op, modules),
    )
