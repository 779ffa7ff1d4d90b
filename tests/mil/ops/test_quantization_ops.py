"""Literal cases of affine quantisation."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, quantization_ops"


def int8(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int8)


def uint8(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8)


CASES = [
    OpCase(
        "quantize",
        "ties to even, clipped to int8",
        {"input": [1.0, 3.0, -5.0, 900.0, -900.0], "scale": 2.0},
        {"output_dtype": "int8"},
        int8(0, 2, -2, 127, -128),
        SPEC,
        opset="iOS17",
    ),
    OpCase(
        "quantize",
        "zero point, clipped to uint8",
        {"input": [4.0, -9.0, 300.0], "scale": 1.0, "zero_point": uint8(5).squeeze()},
        {"output_dtype": "uint8"},
        uint8(9, 0, 255),
        SPEC,
        opset="iOS17",
    ),
    OpCase(
        "quantize",
        "one scale per entry of an axis",
        {"input": [[4.0, 4.0]], "scale": [1.0, 2.0], "zero_point": int8(0, 1)},
        {"output_dtype": "int8", "axis": -1},
        int8(4, 3)[None],
        SPEC,
        opset="iOS17",
    ),
    OpCase("dequantize", "scale alone", {"input": int8(-2, 4), "scale": 0.5}, {}, [-1.0, 2.0], SPEC, opset="iOS17"),
    OpCase(
        "dequantize",
        "zero point does not wrap around",
        {"input": uint8(0, 255), "scale": 1.0, "zero_point": uint8(255).squeeze()},
        {},
        [-255.0, 0.0],
        SPEC,
        opset="iOS17",
    ),
    OpCase(
        "dequantize",
        "one scale per entry of axis 0",
        {"input": int8(4, 6)[:, None], "scale": [1.0, 0.5], "zero_point": int8(1, 2)},
        {"axis": 0},
        [[3.0], [2.0]],
        SPEC,
        opset="iOS17",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check(case)


def test_vector_without_axis_is_refused() -> None:
    with pytest.raises(ProgramError, match="with axis None does not fit"):
        OPS.lookup("dequantize", "iOS17")(int8(1, 2), torch.ones(2))
