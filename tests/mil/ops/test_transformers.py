"""Literal cases of attention: with two keys, softmax of (0, ln 3) gives weights 1/4 and 3/4."""

import math

from literal_case import OpCase, check_case, parametrize_cases

QUERY, KEY, VALUE = [[[2.0, 0.0, 0.0, 0.0]]], [[[0.0] * 4, [math.log(3.0), 0.0, 0.0, 0.0]]], [[[4.0], [8.0]]]
NAME = "scaled_dot_product_attention"


@parametrize_cases(
    [
        OpCase(op=NAME, branch="no mask", opset="iOS18", inputs=(QUERY, KEY, VALUE), expected=[[[7.0]]]),
        OpCase(
            op=NAME,
            branch="boolean mask",
            opset="iOS18",
            inputs=(QUERY, KEY, VALUE, [[True, False]]),
            expected=[[[4.0]]],
        ),
        OpCase(
            op=NAME,
            branch="mask is added",
            opset="iOS18",
            inputs=(QUERY, KEY, VALUE, [[math.log(3.0), 0.0]]),
            expected=[[[6.0]]],
        ),
    ]
)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check_case(case)
