"""Pooling against windows written out by hand."""

import math

import pytest
from case_table import OpCase, case_id, check

SPEC = "MIL spec, pool"
LINE = [[[1, 2, 3, 4, 5]]]
SQUARE = [[[[1, 2], [3, 4]]]]
CUBE = [[[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]]]


def pool(op: str, about: str, expected: object, x: object = LINE, opset: str = "iOS15", **attrs: object) -> OpCase:
    return OpCase(op, about, {"x": x}, {"pad_type": "valid", **attrs}, expected, SPEC, opset=opset)


CASES = [
    pool("max_pool", "valid", [[[2, 3, 4, 5]]], kernel_sizes=[2]),
    pool("max_pool", "stride drops the rest", [[[2, 4]]], kernel_sizes=[2], strides=[2]),
    pool("max_pool", "ceil_mode keeps the rest", [[[2, 4, 5]]], kernel_sizes=[2], strides=[2], ceil_mode=True),
    pool("max_pool", "same", [[[2, 4, 5]]], kernel_sizes=[2], strides=[2], pad_type="same"),
    pool("max_pool", "same_lower", [[[1, 3, 5]]], kernel_sizes=[2], strides=[2], pad_type="same_lower", opset="iOS16"),
    pool("max_pool", "upper case", [[[2, 4, 5]]], kernel_sizes=[2], strides=[2], pad_type="SAME"),
    pool(
        "max_pool",
        "padding never wins",
        [[[-1, -1, -2]]],
        x=[[[-1, -2]]],
        kernel_sizes=[2],
        pad_type="custom",
        pad=[1, 1],
    ),
    pool("max_pool", "asymmetric", [[[-1, -2]]], x=[[[-1, -2]]], kernel_sizes=[2], pad_type="custom", pad=[0, 1]),
    pool(
        # starts -2, 0, 2, 4; the fifth, at 6, would start in the padding behind
        "max_pool",
        "ceil_mode, padding over half a window",
        [[[1, 3, 5, 5]]],
        kernel_sizes=[3],
        strides=[2],
        pad_type="custom",
        pad=[2, 2],
        ceil_mode=True,
    ),
    pool("max_pool", "2-D", [[[[4]]]], x=SQUARE, kernel_sizes=[2, 2]),
    pool("max_pool", "2-D one axis padded", [[[[3, 4], [3, 4]]]], x=SQUARE, kernel_sizes=[2, 1], pad_type="same"),
    pool("max_pool", "3-D", [[[[[8]]]]], x=CUBE, kernel_sizes=[2, 2, 2]),
    pool("avg_pool", "valid", [[[1.5, 2.5, 3.5, 4.5]]], kernel_sizes=[2]),
    pool(
        "avg_pool",
        "padding counts as zero",
        [[[0.5, 1.5, 2.5, 3.5, 4.5, 2.5]]],
        kernel_sizes=[2],
        pad_type="custom",
        pad=[1, 1],
    ),
    pool(
        "avg_pool",
        "padding is excluded",
        [[[1, 1.5, 2.5, 3.5, 4.5, 5]]],
        kernel_sizes=[2],
        pad_type="custom",
        pad=[1, 1],
        exclude_padding_from_average=True,
    ),
    pool("avg_pool", "same counts", [[[1.5, 3.5, 2.5]]], kernel_sizes=[2], strides=[2], pad_type="same"),
    pool(
        "avg_pool",
        "same excludes",
        [[[1.5, 3.5, 5]]],
        kernel_sizes=[2],
        strides=[2],
        pad_type="same",
        exclude_padding_from_average=True,
    ),
    pool(
        "avg_pool",
        "same_lower counts",
        [[[0.5, 2.5, 4.5]]],
        kernel_sizes=[2],
        strides=[2],
        pad_type="same_lower",
        opset="iOS16",
    ),
    pool(
        "avg_pool",
        "same_lower excludes",
        [[[1, 2.5, 4.5]]],
        kernel_sizes=[2],
        strides=[2],
        pad_type="same_lower",
        exclude_padding_from_average=True,
        opset="iOS16",
    ),
    pool(
        "avg_pool", "what ceil_mode adds never counts", [[[1.5, 3.5, 5]]], kernel_sizes=[2], strides=[2], ceil_mode=True
    ),
    pool(
        # windows of 3 at -2, 0, 2, 4 over 0 0 1 2 3 4 5 0 0: the last one reaches both zeros
        "avg_pool",
        "ceil_mode, padding over half a window",
        [[[1 / 3, 2, 4, 5 / 3]]],
        kernel_sizes=[3],
        strides=[2],
        pad_type="custom",
        pad=[2, 2],
        ceil_mode=True,
    ),
    pool(
        # windows of 3 at -2, 1, 4 over 0 0 1 2 3 4 5 0 0
        "avg_pool",
        "over half a window, excluded",
        [[[1, 3, 5]]],
        kernel_sizes=[3],
        strides=[3],
        pad_type="custom",
        pad=[2, 2],
        exclude_padding_from_average=True,
    ),
    pool(
        # ceil: windows of 4 at -3, 0, 3; the last holds 4 5 0 0 of the padding and nothing of what ceil_mode added
        "avg_pool",
        "ceil_mode adds nothing to wide padding",
        [[[0.25, 2.5, 2.25]]],
        kernel_sizes=[4],
        strides=[3],
        pad_type="custom",
        pad=[3, 3],
        ceil_mode=True,
    ),
    pool("avg_pool", "2-D", [[[[2.5]]]], x=SQUARE, kernel_sizes=[2, 2]),
    pool(
        "avg_pool",
        "2-D asymmetric",
        [[[[0.75, 0.5], [2.5, 1.5]]]],
        x=SQUARE,
        kernel_sizes=[2, 2],
        pad_type="custom",
        pad=[1, 0, 0, 1],
    ),
    pool("avg_pool", "3-D", [[[[[4.5]]]]], x=CUBE, kernel_sizes=[2, 2, 2]),
    pool("l2_pool", "a sum, not a mean", [[[5]]], x=[[[3, 4]]], kernel_sizes=[2]),
    pool("l2_pool", "same", [[[math.sqrt(5), 5, 5]]], kernel_sizes=[2], strides=[2], pad_type="same"),
    pool("l2_pool", "ceil_mode", [[[math.sqrt(5), 5, 5]]], kernel_sizes=[2], strides=[2], ceil_mode=True),
    pool("l2_pool", "2-D", [[[[math.sqrt(30)]]]], x=SQUARE, kernel_sizes=[2, 2]),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)
