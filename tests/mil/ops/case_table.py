"""One row of an op table: an op, called by name through the registry, and the numbers that its specification asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from edgesam_export.mil.ops import OPS

__all__ = ["OpCase", "case_id", "check"]


@dataclass(frozen=True)
class OpCase:
    """Inputs and the expected result, written out; a tuple is a variadic input."""

    op: str
    about: str
    """The branch that this row is for."""
    inputs: dict[str, Any]
    attrs: dict[str, Any]
    expected: Any
    source: str
    opset: str = "iOS15"
    integers: bool = False
    """Numbers that are written out are int32 instead of float32."""
    permute: tuple[int, ...] = ()
    """The first input lies in memory in this order of its dimensions; its values stay the same."""


def case_id(case: OpCase) -> str:
    return f"{case.op}-{case.opset}-{case.about.replace(' ', '_')}"


def tensor(value: Any, integers: bool) -> Any:
    """Return numbers as a tensor: bool, int32 or float32; tensors as they are."""
    if isinstance(value, tuple):
        return [tensor(part, integers) for part in value]
    made = value if isinstance(value, torch.Tensor) else torch.tensor(value)
    if made is value or made.dtype == torch.bool:
        return made
    return made.to(torch.int32 if integers else torch.float32)


def check(case: OpCase) -> None:
    """Call the op and compare type, shape and every number; no input may be changed."""
    inputs = {name: tensor(value, case.integers) for name, value in case.inputs.items()}
    if case.permute:
        first = next(iter(inputs))
        back = [case.permute.index(axis) for axis in range(len(case.permute))]
        inputs[first] = inputs[first].permute(case.permute).contiguous().permute(back)
    before = {name: value.clone() for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    got = OPS.lookup(case.op, case.opset)(**inputs, **case.attrs)
    expected = tensor(case.expected, case.integers)
    assert got.dtype == expected.dtype
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6, equal_nan=True)
    for name, value in before.items():
        assert inputs[name].nan_to_num().equal(value.nan_to_num()), f"input '{name}' was changed"
