"""One row of an op table: an op, called by name through the registry, and the numbers that its specification asks."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch

from edgesam_export.mil.ops import OPS

__all__ = ["OpCase", "case_id", "check"]


@dataclass(frozen=True)
class OpCase:
    """Inputs and the expected result, written out: an input that is a tuple is variadic."""

    op: str
    about: str
    """The branch that this row is for."""
    inputs: dict[str, Any]
    attrs: dict[str, Any]
    expected: Any
    """One output, or a tuple of several."""
    source: str
    opset: str = "iOS15"
    integers: bool = False
    """Integers that are written out are int32 instead of float32."""
    permute: tuple[int, ...] = ()
    """The first input lies in memory in this order of its dimensions; its values stay the same."""


def case_id(case: OpCase) -> str:
    return f"{case.op}-{case.opset}-{case.about.replace(' ', '_')}"


def tensor(value: Any, integers: bool) -> Any:
    """Return numbers as a tensor: bool, int32 or float32; tensors as they are, a tuple as a list of tensors."""
    if isinstance(value, tuple):
        return [tensor(part, integers) for part in value]
    if isinstance(value, torch.Tensor):
        return value
    made = torch.tensor(value)
    if made.dtype == torch.int64:
        return made.to(torch.int32 if integers else torch.float32)
    return made


def check(case: OpCase) -> None:
    """Call the op and compare number of outputs, type, shape and every number; no input may be changed."""
    inputs = {name: tensor(value, case.integers) for name, value in case.inputs.items()}
    if case.permute:
        first = next(iter(inputs))
        back = [case.permute.index(axis) for axis in range(len(case.permute))]
        inputs[first] = inputs[first].permute(case.permute).contiguous().permute(back)
    before = copy.deepcopy(inputs)
    result = OPS.lookup(case.op, case.opset)(**inputs, **case.attrs)
    expected = case.expected if isinstance(case.expected, tuple) else (case.expected,)
    outputs = result if isinstance(result, tuple) else (result,)
    assert len(outputs) == len(expected)
    for actual, numbers in zip(outputs, expected):
        values = tensor(numbers, case.integers)
        assert isinstance(actual, torch.Tensor) and actual.dtype == values.dtype
        torch.testing.assert_close(actual, values, rtol=1e-6, atol=1e-6, equal_nan=True)
    for name, value in before.items():
        torch.testing.assert_close(inputs[name], value, rtol=0, atol=0, equal_nan=True, msg=f"input '{name}' changed")
