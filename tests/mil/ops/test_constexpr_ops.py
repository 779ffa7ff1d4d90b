"""Literal cases of compressed constants; the packed bytes are written out bit by bit."""

import pytest
import torch
from literal_case import OpCase, check_case, parametrize_cases

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS


def uint8(value: list) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.uint8)


def int8(value: list) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.int8)


IOS16 = [
    OpCase(
        op="constexpr_affine_dequantize",
        branch="scalars",
        opset="iOS16",
        inputs=(uint8([0, 255]), torch.tensor(255, dtype=torch.uint8), 0.5),
        attrs={"axis": 0},
        expected=[-127.5, 0.0],
    ),
    OpCase(
        op="constexpr_affine_dequantize",
        branch="one per column",
        opset="iOS16",
        inputs=(int8([[1, 2], [3, 4]]), int8([1, 0]), [2.0, 10.0]),
        attrs={"axis": 1},
        expected=[[0.0, 20.0], [4.0, 40.0]],
    ),
    OpCase(
        op="constexpr_cast",
        branch="fp16 to fp32",
        opset="iOS16",
        inputs=([1.5],),
        attrs={"output_dtype": "fp32"},
        expected=[1.5],
    ),
    OpCase(
        op="constexpr_lut_to_dense",
        branch="2 bits, lowest first, last byte partly used",
        opset="iOS16",
        inputs=(uint8([0b01_10_11_00, 0b11]), [10.0, 11.0, 12.0, 13.0]),
        attrs={"shape": [5]},
        expected=[10.0, 13.0, 12.0, 11.0, 13.0],
    ),
    OpCase(
        op="constexpr_lut_to_dense",
        branch="6 bits: an index that crosses a byte",
        opset="iOS16",
        inputs=(uint8([0b10_000001, 0b0000]), [float(value) for value in range(64)]),
        attrs={"shape": [1, 2]},
        expected=[[1.0, 2.0]],
    ),
    OpCase(
        op="constexpr_sparse_to_dense",
        branch="mask bits, lowest first",
        opset="iOS16",
        inputs=([5.0, 6.0], uint8([0b01100])),
        attrs={"shape": [5]},
        expected=[0.0, 0.0, 5.0, 6.0, 0.0],
    ),
]

LOOKUP = [
    OpCase(
        op="constexpr_lut_to_dense",
        branch="two groups of rows",
        opset="iOS18",
        inputs=(
            uint8([[2, 3], [3, 0], [1, 0], [3, 0], [2, 1], [0, 3]]),
            [[[[1.0], [5.0], [9.0], [13.0]]], [[[2.0], [10.0], [18.0], [26.0]]]],
        ),
        expected=[[9.0, 13.0], [13.0, 1.0], [5.0, 1.0], [26.0, 2.0], [18.0, 10.0], [2.0, 26.0]],
    ),
    OpCase(
        op="constexpr_lut_to_dense",
        branch="vectors along the first axis",
        opset="iOS18",
        inputs=(uint8([[0, 1]]), [[[[1.0, 2.0], [3.0, 4.0]]]]),
        attrs={"vector_axis": 0},
        expected=[[1.0, 3.0], [2.0, 4.0]],
    ),
    OpCase(
        op="constexpr_lut_to_dense",
        branch="vectors along the last axis, int8 palette",
        opset="iOS18",
        inputs=(uint8([[0, 1]]), int8([[[[1, 2], [3, 4]]]])),
        attrs={"vector_axis": -1},
        expected=int8([[1, 2, 3, 4]]),
    ),
    OpCase(
        op="constexpr_lut_to_sparse",
        branch="scalars keep the mask",
        opset="iOS18",
        inputs=(uint8([[1, 0], [1, 1]]), uint8([0, 1, 0]), [[[[2.0], [3.0]]]]),
        expected=(uint8([[1, 0], [1, 1]]), [2.0, 3.0, 2.0]),
    ),
    OpCase(
        op="constexpr_lut_to_sparse",
        branch="vectors widen the mask",
        opset="iOS18",
        inputs=(uint8([[1, 0], [1, 1]]), uint8([0, 1, 0]), [[[[2.0, 20.0], [3.0, 30.0]]]]),
        attrs={"vector_axis": 0},
        expected=(uint8([[1, 0], [1, 0], [1, 1], [1, 1]]), [2.0, 20.0, 3.0, 2.0, 30.0, 20.0]),
    ),
]

SCALED = [
    OpCase(
        op="constexpr_sparse_to_dense",
        branch="mask of whole elements",
        opset="iOS18",
        inputs=([5.0, 6.0], uint8([[0, 1], [1, 0]])),
        expected=[[0.0, 5.0], [6.0, 0.0]],
    ),
    OpCase(
        op="constexpr_blockwise_shift_scale",
        branch="blocks of two columns",
        opset="iOS18",
        inputs=(int8([[1, 2, 3, 4]]), [[2.0, 10.0]]),
        expected=[[2.0, 4.0, 30.0, 40.0]],
    ),
    OpCase(
        op="constexpr_blockwise_shift_scale",
        branch="offset per row does not wrap around",
        opset="iOS18",
        inputs=(uint8([[0, 2], [3, 4]]), [[0.5], [1.0]], uint8([[2], [0]])),
        expected=[[-1.0, 0.0], [3.0, 4.0]],
    ),
    OpCase(
        op="constexpr_sparse_blockwise_shift_scale",
        branch="scale of the column a value stands in",
        opset="iOS18",
        inputs=(uint8([[1, 0], [1, 1]]), int8([10, 3, 4]), [[0.5, 2.0]], int8([[2, 1]])),
        expected=(uint8([[1, 0], [1, 1]]), [4.0, 0.5, 6.0]),
    ),
]


@parametrize_cases(IOS16 + LOOKUP + SCALED)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check_case(case)


REFUSED = [
    ("constexpr_lut_to_dense", "iOS16", (uint8([0]), torch.ones(4)), {"shape": [5]}, "cannot hold 5 values of 2 bits"),
    ("constexpr_lut_to_dense", "iOS16", (uint8([0]), torch.ones(4)), {"shape": [2**40]}, "the limit is"),
    ("constexpr_sparse_to_dense", "iOS18", (torch.ones(3), uint8([1, 1])), {}, "2 ones for 3 values"),
    ("constexpr_blockwise_shift_scale", "iOS18", (int8([1, 2, 3]), torch.ones(2)), {}, "do not divide"),
    ("constexpr_lut_to_dense", "iOS18", (uint8([0]), torch.ones(1, 2, 2)), {}, "without vector_axis"),
    ("constexpr_cast", "iOS16", (torch.ones(1),), {"output_dtype": "int8"}, "'int8'"),
]


@pytest.mark.parametrize(("op", "opset", "inputs", "attrs", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_damaged_constant_is_refused(op: str, opset: str, inputs: tuple, attrs: dict, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        OPS.lookup(op, opset)(*inputs, **attrs)
