"""Matrix products written out by hand."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.mil.ops import OPS
from edgesam_export.mil.types import ValueType

SPEC = "MIL spec, linear"
A = [[1, 2], [3, 4]]
B = [[5, 6], [7, 8]]


def matmul(about: str, x: object, y: object, expected: object, integers: bool = False, **attrs: object) -> OpCase:
    return OpCase("matmul", about, {"x": x, "y": y}, attrs, expected, SPEC, integers=integers)


CASES = [
    matmul("two matrices", A, B, [[19, 22], [43, 50]]),
    matmul("left transposed", A, B, [[26, 30], [38, 44]], transpose_x=True),
    matmul("right transposed", A, B, [[17, 23], [39, 53]], transpose_y=True),
    matmul("both transposed", A, B, [[23, 31], [34, 46]], transpose_x=True, transpose_y=True),
    matmul("integers", A, B, [[19, 22], [43, 50]], integers=True),
    matmul(
        "batch dimensions broadcast",
        [[[[1, 2]]], [[[3, 4]]]],
        [[[1], [10]], [[100], [1000]]],
        [[[[21]], [[2100]]], [[[43]], [[4300]]]],
    ),
    matmul("row vector", [1, 10], A, [31, 42]),
    matmul("column vector", A, [1, 10], [21, 43]),
    matmul("two vectors", [1, 2], [3, 4], 11),
    matmul("a vector cannot be transposed", A, [1, 10], [21, 43], transpose_y=True),
    OpCase(
        "linear", "weight is transposed", {"x": [[1, 10]], "weight": [[1, 2], [3, 4], [5, 6]]}, {}, [[21, 43, 65]], SPEC
    ),
    OpCase("linear", "bias", {"x": [1, 10], "weight": [[1, 2], [3, 4]], "bias": [100, 200]}, {}, [121, 243], SPEC),
    OpCase(
        "linear",
        "integers",
        {"x": [[1, 10]], "weight": [[1, 2], [3, 4]], "bias": [100, 200]},
        {},
        [[121, 243]],
        SPEC,
        integers=True,
    ),
    OpCase(
        # out[c, h, r] = sum over w of x[c, h, w] * y[w, h, r]
        "einsum",
        "three dimensions",
        {"values": ([[[1, 2], [3, 4]]], [[[1], [10]], [[100], [1000]]])},
        {"equation": "chw,whr->chr"},
        [[[201], [4030]]],
        SPEC,
    ),
    OpCase(
        "einsum",
        "height broadcasts",
        {"values": ([[[1, 2], [3, 4]]], [[[1]], [[100]]])},
        {"equation": "chw,whr->chr"},
        [[[201], [403]]],
        SPEC,
    ),
    OpCase(
        "einsum",
        "four dimensions, batch broadcasts",
        {"values": ([[[[1, 2]]], [[[3, 4]]]], [[[[1]], [[100]]]])},
        {"equation": "nchw,nwhu->nchu"},
        [[[[201]]], [[[403]]]],
        SPEC,
    ),
]


MIXED = [("fp16", torch.float32, [[5.0, 10.0]]), ("int32", torch.int32, [[5, 10]])]


@pytest.mark.parametrize(("dtype", "carrier", "expected"), MIXED)
def test_product_of_mixed_types_has_the_declared_type(dtype: str, carrier: torch.dtype, expected: list) -> None:
    x, y = torch.tensor([[2.5]]), torch.tensor([[2], [4]], dtype=torch.int32)
    out_types = (ValueType(dtype, (1, 2)),)
    product = OPS.lookup("matmul", "iOS17")
    assert product(x, y, transpose_y=True, out_types=out_types).dtype == carrier
    assert product(x, y, transpose_y=True, out_types=out_types).tolist() == expected


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)
