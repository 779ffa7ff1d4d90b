"""Unary functions at points with known values; conversions for every pair that loses something."""

import math

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, elementwise_unary"
INF, NAN, PI = math.inf, math.nan, math.pi


def unary(op: str, about: str, x: object, expected: object, integers: bool = False, **attrs: object) -> OpCase:
    return OpCase(op, about, {"x": x}, attrs, expected, SPEC, integers=integers)


CASES = [
    unary("abs", "numbers", [-1.5, 0, 2], [1.5, 0, 2]),
    unary("abs", "integers", [-1, 2], [1, 2], integers=True),
    unary("acos", "known angles", [1, 0, -1], [0, PI / 2, PI]),
    unary("asin", "known angles", [1, 0, -1], [PI / 2, 0, -PI / 2]),
    unary("atan", "known angles", [1, 0, -1], [PI / 4, 0, -PI / 4]),
    unary("atanh", "known value", [0, 0.6], [0, math.log(2)]),
    unary("ceil", "both signs", [-1.5, 1.2, 3], [-1, 2, 3]),
    unary("clip", "both bounds", [-2, 0.5, 9], [-1, 0.5, 2], alpha=-1.0, beta=2.0),
    unary("cos", "known angles", [0, PI], [1, -1]),
    unary("cosh", "known value", [0, math.log(2)], [1, 1.25]),
    unary("erf", "known value", [0, 1, -1], [0, 0.8427007929, -0.8427007929]),
    unary("exp", "known values", [0, 1, math.log(5)], [1, math.e, 5]),
    unary("exp2", "numbers", [0, 3, -1], [1, 8, 0.5]),
    unary("exp2", "integers", [0, 10, -1], [1, 1024, 0], integers=True),
    unary("floor", "both signs", [-1.5, 1.8, 3], [-2, 1, 3]),
    unary("inverse", "default epsilon", [0], [1e4]),
    unary("inverse", "epsilon", [1.5, -2.5], [0.5, -0.5], epsilon=0.5),
    unary("log", "default epsilon is next to nothing", [1, math.e], [0, 1]),
    unary("log", "epsilon", [0, 1], [math.log(0.5), math.log(1.5)], epsilon=0.5),
    unary("logical_not", "truth table", [True, False], [False, True]),
    unary("round", "halves go to the even number", [0.5, 1.5, 2.5, -0.5, -1.5, 1.4], [0, 2, 2, 0, -2, 1]),
    unary("rsqrt", "default epsilon", [4, 0], [0.5, 1e6]),
    unary("rsqrt", "epsilon", [3.75], [0.5], epsilon=0.25),
    unary("sign", "numbers", [-2.5, 0, 7], [-1, 0, 1]),
    unary("sign", "integers", [-2, 0, 7], [-1, 0, 1], integers=True),
    unary("sin", "known angles", [0, PI / 2], [0, 1]),
    unary("sinh", "known value", [0, math.log(2)], [0, 0.75]),
    unary("sqrt", "squares", [0, 4, 9], [0, 2, 3]),
    unary("square", "numbers", [-1.5, 3], [2.25, 9]),
    unary("square", "integers", [-2, 3], [4, 9], integers=True),
    unary("tan", "known angles", [0, PI / 4], [0, 1]),
    unary("tanh", "known value", [0, math.log(2)], [0, 0.6]),
    unary("threshold", "lower bound", [-2, 0.5, 3], [0.5, 0.5, 3], alpha=0.5),
    unary("threshold", "integers", [-2, 3], [1, 3], integers=True, alpha=1),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)


F32, I8, U8, I16, I32, BOOL = torch.float32, torch.int8, torch.uint8, torch.int16, torch.int32, torch.bool
CONVERSIONS = [
    ("int32", F32, [1.9, -1.9, 0.0], [1, -1, 0], I32),
    ("int32", F32, [3e9, -3e9, INF, -INF, NAN], [2**31 - 1, -(2**31), 2**31 - 1, -(2**31), 0], I32),
    ("int32", BOOL, [True, False], [1, 0], I32),
    ("int32", I8, [-5], [-5], I32),
    ("int8", F32, [127.9, 300.0, -300.0], [127, 127, -128], I8),
    ("int8", I32, [127, 128, -129], [127, -128, 127], I8),
    ("uint8", F32, [255.9, 300.0, -1.5], [255, 255, 0], U8),
    ("uint8", I32, [255, 256, -1], [255, 0, 255], U8),
    ("int16", F32, [4e4, -4e4], [32767, -32768], I16),
    ("int16", I32, [32768], [-32768], I16),
    ("uint16", F32, [65535.0, 7e4, -1.5], [65535, 65535, 0], I32),  # int32 carries uint16
    ("uint16", I32, [65535, 65536, -1], [65535, 0, 65535], I32),
    ("fp32", I32, [-3, 7], [-3.0, 7.0], F32),
    ("fp16", I32, [-3, 7], [-3.0, 7.0], F32),  # float32 carries fp16; the loop rounds
    ("fp32", BOOL, [True, False], [1.0, 0.0], F32),
    ("bool", F32, [0.0, -0.5, NAN], [False, True, True], BOOL),
    ("bool", I32, [0, 256], [False, True], BOOL),
]


@pytest.mark.parametrize(("dtype", "source", "values", "expected", "carrier"), CONVERSIONS)
def test_cast_gives_the_literal(
    dtype: str, source: torch.dtype, values: list, expected: list, carrier: torch.dtype
) -> None:
    got = OPS.lookup("cast", "iOS17")(torch.tensor(values, dtype=source), dtype=dtype)
    assert got.dtype == carrier
    assert got.tolist() == expected


def test_cast_to_an_unknown_type_is_refused_by_name() -> None:
    with pytest.raises(ProgramError, match="'complex'"):
        OPS.lookup("cast", "iOS15")(torch.ones(1), dtype="complex")
