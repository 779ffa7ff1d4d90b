"""Reductions of small tables."""

import math

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, reduction"
TABLE = [[1, -2, 3], [4, 5, -6]]
ROWS = {"axes": [-1]}


def reduce(op: str, about: str, expected: object, x: object = TABLE, integers: bool = False, **attrs: object) -> OpCase:
    opset = "iOS17" if "output_dtype" in attrs else "iOS15"
    return OpCase(f"reduce_{op}", about, {"x": x}, attrs, expected, SPEC, opset=opset, integers=integers)


CASES = [
    reduce("sum", "rows", [2, 3], **ROWS),
    reduce("sum", "columns, kept", [[5, 3, -3]], axes=[0], keep_dims=True),
    reduce("sum", "all by default", 5),
    reduce("sum", "all, kept", [[5]], keep_dims=True),
    reduce("sum", "integers", [2, 3], integers=True, **ROWS),
    reduce("mean", "rows", [2 / 3, 1], **ROWS),
    reduce("mean", "two axes", 5 / 6, axes=[0, 1]),
    reduce("mean", "integers are truncated", [0, -2], x=[[1, 0], [-2, -3]], integers=True, **ROWS),
    reduce("prod", "rows", [-6, -120], **ROWS),
    reduce("prod", "all by default", 720),
    reduce("prod", "all, kept", [[720]], keep_dims=True),
    reduce("prod", "negative axes", 720, axes=[-2, -1]),
    reduce("prod", "integers", [-6, -120], integers=True, **ROWS),
    reduce("max", "rows", [3, 5], **ROWS),
    reduce("max", "all by default", 5),
    reduce("max", "integers", [3, 5], integers=True, **ROWS),
    reduce("min", "rows", [-2, -6], **ROWS),
    reduce("min", "columns, kept", [[1, -2, -6]], axes=[0], keep_dims=True),
    reduce("min", "integers", [-2, -6], integers=True, **ROWS),
    reduce("l1_norm", "rows", [6, 15], **ROWS),
    reduce("l1_norm", "integers", [6, 15], integers=True, **ROWS),
    reduce("l2_norm", "rows", [5, 13], x=[[3, -4], [5, 12]], **ROWS),
    reduce("l2_norm", "integers are truncated", [5, 1], x=[[3, -4], [1, 1]], integers=True, **ROWS),
    reduce("sum_square", "rows", [14, 77], **ROWS),
    reduce("sum_square", "integers", [14, 77], integers=True, **ROWS),
    reduce("log_sum", "rows", [math.log(2), math.log(3)], **ROWS),
    reduce("log_sum", "integers are truncated", [1], x=[[2, 3]], integers=True, **ROWS),
    reduce("log_sum_exp", "rows", [math.log(4), math.log(2)], x=[[0, math.log(3)], [0, 0]], **ROWS),
    reduce("log_sum_exp", "does not overflow", [1000 + math.log(2)], x=[[1000, 1000]], **ROWS),
    reduce("log_sum_exp", "integers are truncated", [2], x=[[2, 2]], integers=True, **ROWS),
    reduce("argmax", "last axis by default", torch.tensor([2, 1], dtype=torch.int32)),
    reduce("argmax", "columns, kept", torch.tensor([[1, 1, 0]], dtype=torch.int32), axis=0, keep_dims=True),
    reduce("argmin", "last axis by default", torch.tensor([1, 2], dtype=torch.int32)),
    reduce("argmin", "integers", torch.tensor([0, 0, 1], dtype=torch.int32), integers=True, axis=0),
    reduce("argmax", "uint16", torch.tensor([2, 1], dtype=torch.int32), axis=1, output_dtype="uint16"),
    reduce("argmin", "int32", torch.tensor([1, 2], dtype=torch.int32), axis=1, output_dtype="int32"),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)


@pytest.mark.parametrize("op", ["reduce_argmax", "reduce_argmin"])
def test_other_index_types_are_refused_by_name(op: str) -> None:
    with pytest.raises(ProgramError, match="'int64'"):
        OPS.lookup(op, "iOS17")(torch.ones(2), output_dtype="int64")
