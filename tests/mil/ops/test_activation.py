"""Activations at points where the formula can be worked out by hand."""

import math

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, activation"
E = math.e


def act(op: str, about: str, x: object, expected: object, **attrs: object) -> OpCase:
    return OpCase(op, about, {"x": x}, attrs, expected, SPEC)


CASES = [
    act("clamped_relu", "slope below, bound above", [-2, 1, 5], [-1, 1, 3], alpha=0.5, beta=3.0),
    act("clamped_relu", "bound also below zero", [-2, 1], [-3, -3], alpha=0.5, beta=-3.0),
    act("clamped_relu", "negative slope is bounded too", [-8], [3], alpha=-1.0, beta=3.0),
    act("elu", "both sides", [-1, 0, 2], [2 * (1 / E - 1), 0, 2], alpha=2.0),
    # Phi(1) = 0.8413447461
    act("gelu", "exact", [-1, 0, 1], [-0.1586552539, 0, 0.8413447461], mode="EXACT"),
    act("gelu", "exact is the default", [1], [0.8413447461]),
    # sqrt(2/pi) * 1.044715 = 0.8335649; tanh of it 0.6823839
    act("gelu", "tanh", [-1, 0, 1], [-0.1588080, 0, 0.8411920], mode="TANH_APPROXIMATION"),
    act("gelu", "sigmoid", [1, 0], [1 / (1 + math.exp(-1.702)), 0], mode="SIGMOID_APPROXIMATION"),
    act("leaky_relu", "both sides", [-2, 0, 3], [-0.5, 0, 3], alpha=0.25),
    act("linear_activation", "affine", [-1, 0, 2], [-1, 1, 5], alpha=2.0, beta=1.0),
    OpCase(
        "prelu", "a slope per channel", {"x": [[[-1, 1], [-1, 1]]], "alpha": [2, 3]}, {}, [[[-2, 1], [-3, 1]]], SPEC
    ),
    OpCase(
        "prelu",
        "four dimensions",
        {"x": [[[[-1]], [[-1]]]], "alpha": [2, 3]},
        {},
        [[[[-2]], [[-3]]]],
        SPEC,
        permute=(0, 2, 3, 1),
    ),
    act("relu", "both sides", [-2, 0, 3], [0, 0, 3]),
    act("relu6", "both bounds", [-2, 3, 7], [0, 3, 6]),
    act("scaled_tanh", "scales", [0, math.log(2)], [0, 5 * 0.8823529412], alpha=5.0, beta=2.0),  # tanh(ln 4) = 15/17
    act("sigmoid", "odds", [0, math.log(3)], [0.5, 0.75]),
    act("sigmoid_hard", "both bounds", [-9, 1, 9], [0, 0.75, 1], alpha=0.25, beta=0.5),
    act("silu", "odds", [0, math.log(3), -math.log(3)], [0, 0.75 * math.log(3), -0.25 * math.log(3)]),
    act("softplus", "value at zero and far out", [0, 40, -40], [math.log(2), 40, 0]),
    OpCase(
        "softplus_parametric",
        "per channel",
        {"x": [[[0], [math.log(3) / 2]]], "alpha": [1, 2], "beta": [7, 2]},
        {},
        [[[math.log(2)], [2 * math.log(4)]]],
        SPEC,
    ),
    act("softmax", "last axis by default", [[0, math.log(3)], [0, 0]], [[0.25, 0.75], [0.5, 0.5]]),
    act("softmax", "another axis", [[0, 0], [math.log(3), 0]], [[0.25, 0.5], [0.75, 0.5]], axis=0),
    act("softmax", "does not overflow", [1000, 1000], [0.5, 0.5]),
    act("softsign", "both sides", [-3, 0, 1], [-0.75, 0, 0.5]),
    act("thresholded_relu", "the threshold itself passes", [0.5, 1, 2], [0, 1, 2], alpha=1.0),
    act("thresholded_relu", "negative threshold", [-2, -1], [0, -1], alpha=-1.0),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)


def test_unknown_gelu_mode_is_refused_by_name() -> None:
    with pytest.raises(ProgramError, match="'FAST'"):
        OPS.lookup("gelu", "iOS15")(torch.ones(1), mode="FAST")
