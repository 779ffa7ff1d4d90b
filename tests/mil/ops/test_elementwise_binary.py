"""Binary functions, on numbers and on integers, with broadcasting."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, elementwise_binary"


def binary(op: str, about: str, x: object, y: object, expected: object, **more: object) -> OpCase:
    return OpCase(op, about, {"x": x, "y": y}, {}, expected, SPEC, **more)


X, Y = [1, 2, 3], [3, 2, 1]
F, T = False, True

CASES = [
    binary("add", "numbers", X, [0.5, 0.25, 0], [1.5, 2.25, 3]),
    binary("add", "both broadcast", [[1], [2]], [10, 20], [[11, 21], [12, 22]]),
    binary("add", "integers", X, Y, [4, 4, 4], integers=True),
    binary("sub", "numbers", X, Y, [-2, 0, 2]),
    binary("sub", "integers", X, Y, [-2, 0, 2], integers=True),
    binary("mul", "numbers", X, [0.5, 2, -1], [0.5, 4, -3]),
    binary("mul", "integers", X, Y, [3, 4, 3], integers=True),
    binary("real_div", "numbers", [1, -7], [4, 2], [0.25, -3.5]),
    binary("real_div", "by zero", [1, -1], [0, 0], [float("inf"), float("-inf")]),
    binary("real_div", "integers are truncated", [7, -7], [2, 2], [3, -3], integers=True),
    binary("floor_div", "numbers", [7, -7, 7.5], [2, 2, -2], [3, -4, -4]),
    binary("floor_div", "integers", [7, -7], [2, 2], [3, -4], integers=True),
    binary("mod", "sign of the divisor", [7, -7, 7, 5.5], [3, 3, -3, 2], [1, 2, -2, 1.5]),
    binary("mod", "integers", [7, -7, 7], [3, 3, -3], [1, 2, -2], integers=True),
    binary("pow", "numbers", [2, 9, 2], [3, 0.5, -1], [8, 3, 0.5]),
    binary("pow", "one exponent", [2, -3], 2, [4, 9]),
    binary("pow", "integers", [2, 3, 2], [10, 0, -1], [1024, 1, 0], integers=True),
    binary("maximum", "numbers", X, Y, [3, 2, 3]),
    binary("maximum", "integers", X, Y, [3, 2, 3], integers=True),
    binary("minimum", "numbers", X, Y, [1, 2, 1]),
    binary("minimum", "integers", X, Y, [1, 2, 1], integers=True),
    binary("equal", "numbers", X, Y, [F, T, F]),
    binary("not_equal", "numbers", X, Y, [T, F, T]),
    binary("greater", "numbers", X, Y, [F, F, T]),
    binary("greater_equal", "numbers", X, Y, [F, T, T]),
    binary("less", "numbers", X, Y, [T, F, F]),
    binary("less_equal", "numbers", X, Y, [T, T, F]),
    binary("less", "integers", X, Y, [T, F, F], integers=True),
    binary("equal", "not a number", [float("nan")], [float("nan")], [F]),
    binary("logical_and", "truth table", [F, F, T, T], [F, T, F, T], [F, F, F, T]),
    binary("logical_or", "truth table", [F, F, T, T], [F, T, F, T], [F, T, T, T]),
    binary("logical_xor", "truth table", [F, F, T, T], [F, T, F, T], [F, T, T, F]),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)


def test_int8_keeps_its_type() -> None:
    small = torch.tensor([7], dtype=torch.int8)
    assert OPS.lookup("real_div", "iOS17")(small, small).dtype == torch.int8
