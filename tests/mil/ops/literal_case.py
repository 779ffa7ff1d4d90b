"""A row of an op's test table: literal inputs, literal expected outputs, one row per branch of the op."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from edgesam_export.mil.ops import OPS

__all__ = ["OpCase", "Variadic", "check_case", "parametrize_cases", "tensor"]


@dataclass(frozen=True, kw_only=True)
class OpCase:
    """``op(*inputs, **attrs)`` must be ``expected``; lists of floats become float32 tensors, of ints int32 ones."""

    op: str
    branch: str
    """What this row is about."""
    expected: Any
    """One output, or a tuple of outputs."""
    inputs: tuple[Any, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    opset: str = "iOS15"

    def __str__(self) -> str:
        return f"{self.op}-{self.opset}: {self.branch}"


def tensor(value: Any) -> Any:
    """Return lists and numbers as tensors: int32 for integers, float32 for floats; anything else as it is."""
    if not isinstance(value, (list, int, float)):
        return value
    made = torch.tensor(value)
    return made.to(torch.int32) if made.dtype == torch.int64 else made


def check_case(case: OpCase) -> None:
    """Run a case and compare shapes, types and values."""
    inputs = [value if isinstance(value, Variadic) else tensor(value) for value in case.inputs]
    found = OPS.lookup(case.op, case.opset)(*inputs, **case.attrs)
    expected = case.expected if isinstance(case.expected, tuple) else (case.expected,)
    found = found if isinstance(found, tuple) else (found,)
    assert len(found) == len(expected)
    for got, wanted in zip(found, map(tensor, expected)):
        assert isinstance(got, Tensor)
        assert got.dtype == wanted.dtype
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6, equal_nan=True)


class Variadic(list):
    """A variadic input: a list of tensors."""

    def __init__(self, *values: Any) -> None:
        super().__init__(tensor(value) for value in values)


def parametrize_cases(cases: list[OpCase]) -> pytest.MarkDecorator:
    """Return the decorator of a test that takes ``case``."""
    return pytest.mark.parametrize("case", cases, ids=str)
