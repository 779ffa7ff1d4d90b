"""Literal cases of affine quantisation."""

import pytest
import torch
from literal_case import OpCase, check_case, parametrize_cases

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS


def int8(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int8)


def uint8(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8)


@parametrize_cases(
    [
        OpCase(
            op="quantize",
            branch="ties to even, clipped to int8",
            opset="iOS17",
            inputs=([1.0, 3.0, -5.0, 900.0, -900.0], 2.0),
            attrs={"output_dtype": "int8"},
            expected=int8(0, 2, -2, 127, -128),
        ),
        OpCase(
            op="quantize",
            branch="zero point, clipped to uint8",
            opset="iOS17",
            inputs=([4.0, -9.0, 300.0], 1.0, uint8(5).squeeze()),
            attrs={"output_dtype": "uint8"},
            expected=uint8(9, 0, 255),
        ),
        OpCase(
            op="quantize",
            branch="one scale per entry of an axis",
            opset="iOS17",
            inputs=([[4.0, 4.0]], [1.0, 2.0], int8(0, 1)),
            attrs={"output_dtype": "int8", "axis": -1},
            expected=int8(4, 3)[None],
        ),
        OpCase(op="dequantize", branch="scale alone", opset="iOS17", inputs=(int8(-2, 4), 0.5), expected=[-1.0, 2.0]),
        OpCase(
            op="dequantize",
            branch="zero point does not wrap around",
            opset="iOS17",
            inputs=(uint8(0, 255), 1.0, uint8(255).squeeze()),
            expected=[-255.0, 0.0],
        ),
        OpCase(
            op="dequantize",
            branch="one scale per entry of axis 0",
            opset="iOS17",
            inputs=(int8(4, 6)[:, None], [1.0, 0.5], int8(1, 2)),
            attrs={"axis": 0},
            expected=[[3.0], [2.0]],
        ),
    ]
)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check_case(case)


def test_vector_without_axis_is_refused() -> None:
    with pytest.raises(ProgramError, match="with axis None does not fit"):
        OPS.lookup("dequantize", "iOS17")(int8(1, 2), torch.ones(2))
