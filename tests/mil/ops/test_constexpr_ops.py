"""Literal cases of compressed constants; the packed bytes are written out bit by bit."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, constexpr_ops"


def uint8(value: list) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.uint8)


def int8(value: list) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.int8)


IOS16 = [
    OpCase(
        "constexpr_affine_dequantize",
        "scalars",
        {"quantized_data": uint8([0, 255]), "zero_point": torch.tensor(255, dtype=torch.uint8), "scale": 0.5},
        {"axis": 0},
        [-127.5, 0.0],
        SPEC,
        opset="iOS16",
    ),
    OpCase(
        "constexpr_affine_dequantize",
        "one per column",
        {"quantized_data": int8([[1, 2], [3, 4]]), "zero_point": int8([1, 0]), "scale": [2.0, 10.0]},
        {"axis": 1},
        [[0.0, 20.0], [4.0, 40.0]],
        SPEC,
        opset="iOS16",
    ),
    OpCase(
        "constexpr_cast", "fp16 to fp32", {"source_val": [1.5]}, {"output_dtype": "fp32"}, [1.5], SPEC, opset="iOS16"
    ),
    OpCase(
        "constexpr_lut_to_dense",
        "2 bits, lowest first, last byte partly used",
        {"indices": uint8([0b01_10_11_00, 0b11]), "lut": [10.0, 11.0, 12.0, 13.0]},
        {"shape": [5]},
        [10.0, 13.0, 12.0, 11.0, 13.0],
        SPEC,
        opset="iOS16",
    ),
    OpCase(
        "constexpr_lut_to_dense",
        "6 bits: an index that crosses a byte",
        {"indices": uint8([0b10_000001, 0b0000]), "lut": [float(value) for value in range(64)]},
        {"shape": [1, 2]},
        [[1.0, 2.0]],
        SPEC,
        opset="iOS16",
    ),
    OpCase(
        "constexpr_sparse_to_dense",
        "mask bits, lowest first",
        {"nonzero_data": [5.0, 6.0], "mask": uint8([0b01100])},
        {"shape": [5]},
        [0.0, 0.0, 5.0, 6.0, 0.0],
        SPEC,
        opset="iOS16",
    ),
]

LOOKUP = [
    OpCase(
        "constexpr_lut_to_dense",
        "two groups of rows",
        {
            "indices": uint8([[2, 3], [3, 0], [1, 0], [3, 0], [2, 1], [0, 3]]),
            "lut": [[[[1.0], [5.0], [9.0], [13.0]]], [[[2.0], [10.0], [18.0], [26.0]]]],
        },
        {},
        [[9.0, 13.0], [13.0, 1.0], [5.0, 1.0], [26.0, 2.0], [18.0, 10.0], [2.0, 26.0]],
        SPEC,
        opset="iOS18",
    ),
    OpCase(
        "constexpr_lut_to_dense",
        "vectors along the first axis",
        {"indices": uint8([[0, 1]]), "lut": [[[[1.0, 2.0], [3.0, 4.0]]]]},
        {"vector_axis": 0},
        [[1.0, 3.0], [2.0, 4.0]],
        SPEC,
        opset="iOS18",
    ),
    OpCase(
        "constexpr_lut_to_dense",
        "vectors along the last axis, int8 palette",
        {"indices": uint8([[0, 1]]), "lut": int8([[[[1, 2], [3, 4]]]])},
        {"vector_axis": -1},
        int8([[1, 2, 3, 4]]),
        SPEC,
        opset="iOS18",
    ),
    OpCase(
        "constexpr_lut_to_sparse",
        "scalars keep the mask",
        {"indices_mask": uint8([[1, 0], [1, 1]]), "indices_nonzero_data": uint8([0, 1, 0]), "lut": [[[[2.0], [3.0]]]]},
        {},
        (uint8([[1, 0], [1, 1]]), [2.0, 3.0, 2.0]),
        SPEC,
        opset="iOS18",
    ),
    OpCase(
        "constexpr_lut_to_sparse",
        "vectors widen the mask",
        {
            "indices_mask": uint8([[1, 0], [1, 1]]),
            "indices_nonzero_data": uint8([0, 1, 0]),
            "lut": [[[[2.0, 20.0], [3.0, 30.0]]]],
        },
        {"vector_axis": 0},
        (uint8([[1, 0], [1, 0], [1, 1], [1, 1]]), [2.0, 20.0, 3.0, 2.0, 30.0, 20.0]),
        SPEC,
        opset="iOS18",
    ),
]

SCALED = [
    OpCase(
        "constexpr_sparse_to_dense",
        "mask of whole elements",
        {"nonzero_data": [5.0, 6.0], "mask": uint8([[0, 1], [1, 0]])},
        {},
        [[0.0, 5.0], [6.0, 0.0]],
        SPEC,
        opset="iOS18",
    ),
    OpCase(
        "constexpr_blockwise_shift_scale",
        "blocks of two columns",
        {"data": int8([[1, 2, 3, 4]]), "scale": [[2.0, 10.0]]},
        {},
        [[2.0, 4.0, 30.0, 40.0]],
        SPEC,
        opset="iOS18",
    ),
    OpCase(
        "constexpr_blockwise_shift_scale",
        "offset per row does not wrap around",
        {"data": uint8([[0, 2], [3, 4]]), "scale": [[0.5], [1.0]], "offset": uint8([[2], [0]])},
        {},
        [[-1.0, 0.0], [3.0, 4.0]],
        SPEC,
        opset="iOS18",
    ),
    OpCase(
        "constexpr_sparse_blockwise_shift_scale",
        "scale of the column a value stands in",
        {
            "data_mask": uint8([[1, 0], [1, 1]]),
            "nonzero_data": int8([10, 3, 4]),
            "scale": [[0.5, 2.0]],
            "offset": int8([[2, 1]]),
        },
        {},
        (uint8([[1, 0], [1, 1]]), [4.0, 0.5, 6.0]),
        SPEC,
        opset="iOS18",
    ),
]


@pytest.mark.parametrize("case", IOS16 + LOOKUP + SCALED, ids=case_id)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check(case)


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
