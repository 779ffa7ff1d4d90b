"""Literal cases of attention: with two keys, softmax of (0, ln 3) gives weights 1/4 and 3/4."""

import math

import pytest
from case_table import OpCase, case_id, check

SPEC = "MIL spec, transformers"
QUERY, KEY, VALUE = [[[2.0, 0.0, 0.0, 0.0]]], [[[0.0] * 4, [math.log(3.0), 0.0, 0.0, 0.0]]], [[[4.0], [8.0]]]
NAME = "scaled_dot_product_attention"


CASES = [
    OpCase(NAME, "no mask", {"query": QUERY, "key": KEY, "value": VALUE}, {}, [[[7.0]]], SPEC, opset="iOS18"),
    OpCase(
        NAME,
        "boolean mask",
        {"query": QUERY, "key": KEY, "value": VALUE, "attn_mask": [[True, False]]},
        {},
        [[[4.0]]],
        SPEC,
        opset="iOS18",
    ),
    OpCase(
        NAME,
        "mask is added",
        {"query": QUERY, "key": KEY, "value": VALUE, "attn_mask": [[math.log(3.0), 0.0]]},
        {},
        [[[6.0]]],
        SPEC,
        opset="iOS18",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check(case)
