"""A row of an op's test table: literal inputs by name, literal expected outputs, one row per branch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from edgesam_export.mil.ops import OPS

__all__ = ["OpCase", "case_id", "check"]


@dataclass(frozen=True)
class OpCase:
    """``op`` with named inputs and attributes must give ``expected`` (a tuple for several outputs)."""

    op: str
    about: str
    """The branch that this row covers."""
    inputs: dict[str, Any]
    """Operands by MIL name; nested lists of numbers become float32 tensors, of booleans bool ones."""
    attrs: dict[str, Any]
    expected: Any
    source: str
    """Where the definition of the op stands."""
    opset: str = "iOS15"
    permute: tuple[int, ...] | None = None
    """Axis order in which the first input lies in memory; its values stay the same."""
    atol: float = 1e-6
    rtol: float = 1e-5


def case_id(case: OpCase) -> str:
    """Return the name of the row's test."""
    return f"{case.op}-{case.opset}-{case.about}"


def as_tensor(value: Any) -> Any:
    """Return numbers and lists as tensors: bool for booleans, float32 otherwise; tensors and None as they are."""
    if value is None or isinstance(value, (Tensor, str)):
        return value
    made = torch.as_tensor(value)
    return made if made.dtype == torch.bool else made.float()


def check(case: OpCase) -> None:
    """Run the row and compare shapes, kinds of type and values."""
    operands = {name: as_tensor(value) for name, value in case.inputs.items()}
    if case.permute:
        first = next(iter(operands))
        inverse = [case.permute.index(axis) for axis in range(len(case.permute))]
        operands[first] = operands[first].permute(case.permute).contiguous().permute(inverse)
    found = OPS.lookup(case.op, case.opset)(**operands, **case.attrs)
    found = found if isinstance(found, tuple) else (found,)
    expected = case.expected if isinstance(case.expected, tuple) else (case.expected,)
    assert len(found) == len(expected)
    for got, wanted in zip(found, map(as_tensor, expected)):
        torch.testing.assert_close(
            got, wanted, rtol=case.rtol, atol=case.atol, equal_nan=True, check_dtype=got.is_floating_point()
        )
