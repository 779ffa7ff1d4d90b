"""Normalisation of numbers whose mean and variance can be seen."""

import math

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, normalization"
PAIR = [[[1, 3], [10, 30]]]  # means 2, 20; variances 1, 100
TINY = 1e-12

CASES = [
    OpCase(
        "batch_norm",
        "all parameters",
        {"x": PAIR, "mean": [1, 10], "variance": [3, 99], "gamma": [4, 10], "beta": [100, 200]},
        {"epsilon": 1.0},
        [[[100, 104], [200, 220]]],
        SPEC,
    ),
    OpCase(
        "batch_norm",
        "scale and offset left out",
        {"x": PAIR, "mean": [1, 10], "variance": [3, 99]},
        {"epsilon": 1.0},
        [[[0, 1], [0, 2]]],
        SPEC,
    ),
    OpCase(
        "batch_norm",
        "default epsilon",
        {"x": [[[1]]], "mean": [0], "variance": [0]},
        {},
        [[[1 / math.sqrt(1e-5)]]],
        SPEC,
    ),
    OpCase(
        "batch_norm",
        "channels last in memory",
        {"x": [[[[1, 3]], [[10, 30]]]], "mean": [1, 10], "variance": [3, 99]},
        {"epsilon": 1.0},
        [[[[0, 1]], [[0, 2]]]],
        SPEC,
        permute=(0, 2, 3, 1),
    ),
    OpCase("instance_norm", "per channel", {"x": PAIR}, {"epsilon": TINY}, [[[-1, 1], [-1, 1]]], SPEC),
    OpCase(
        "instance_norm",
        "scale and offset",
        {"x": PAIR, "gamma": [2, 3], "beta": [5, 7]},
        {"epsilon": TINY},
        [[[3, 7], [4, 10]]],
        SPEC,
    ),
    OpCase("instance_norm", "epsilon", {"x": [[[1, 3]]]}, {"epsilon": 3.0}, [[[-0.5, 0.5]]], SPEC),
    OpCase("instance_norm", "default epsilon on a constant", {"x": [[[7]]]}, {}, [[[0]]], SPEC),
    OpCase(
        "instance_norm",
        "per image",
        {"x": [[[[1], [3]]], [[[10], [30]]]]},
        {"epsilon": TINY},
        [[[[-1], [1]]], [[[-1], [1]]]],
        SPEC,
    ),
    OpCase("l2_norm", "three dimensions together", {"x": [[[3]], [[4]]]}, {"epsilon": TINY}, [[[0.6]], [[0.8]]], SPEC),
    OpCase(
        "l2_norm",
        "leading dimensions apart",
        {"x": [[[[3, 4]]], [[[6, 8]]]]},
        {"epsilon": TINY},
        [[[[0.6, 0.8]]], [[[0.6, 0.8]]]],
        SPEC,
    ),
    OpCase("l2_norm", "epsilon is under the root", {"x": [[[1]]]}, {"epsilon": 3.0}, [[[0.5]]], SPEC),
    OpCase("l2_norm", "default epsilon", {"x": [[[1e-3]]]}, {}, [[[math.sqrt(0.5)]]], SPEC),
    OpCase("layer_norm", "last axis", {"x": PAIR}, {"axes": [-1], "epsilon": TINY}, [[[-1, 1], [-1, 1]]], SPEC),
    OpCase(
        "layer_norm",
        "axis in the middle",
        {"x": [[[1, 10], [3, 30]]]},
        {"axes": [1], "epsilon": TINY},
        [[[-1, -1], [1, 1]]],
        SPEC,
    ),
    OpCase(
        "layer_norm",
        "scale and offset on the channels",
        {"x": [[[[1, 10]], [[3, 30]]]], "gamma": [2, 3], "beta": [5, 7]},
        {"axes": [1], "epsilon": TINY},
        [[[[3, 3]], [[10, 10]]]],
        SPEC,
    ),
    OpCase(
        "layer_norm",
        "channels last in memory",
        {"x": [[[[1, 10]], [[3, 30]]]], "gamma": [2, 3], "beta": [5, 7]},
        {"axes": [1], "epsilon": TINY},
        [[[[3, 3]], [[10, 10]]]],
        SPEC,
        permute=(0, 2, 3, 1),
    ),
    # mean 4, variance 9 over all
    OpCase("layer_norm", "all axes by default", {"x": [[1, 7], [7, 1]]}, {"epsilon": TINY}, [[-1, 1], [1, -1]], SPEC),
    OpCase(
        # gamma has the shape of the axes in the order of the dimensions, whatever their order in the list
        "layer_norm",
        "axes out of order",
        {"x": [[[1, 7], [7, 1]]], "gamma": [[1, 2], [3, 4]]},
        {"axes": [2, 1], "epsilon": TINY},
        [[[-1, 2], [3, -4]]],
        SPEC,
    ),
    OpCase("layer_norm", "epsilon", {"x": [[1, 3]]}, {"axes": [1], "epsilon": 3.0}, [[-0.5, 0.5]], SPEC),
    OpCase("layer_norm", "default epsilon on a constant", {"x": [[7, 7]]}, {}, [[0, 0]], SPEC),
    OpCase(
        # (1 + 3/3 * sums of squares) ^ 0.5 with the sums 1+4, 1+4+4, 4+4
        "local_response_norm",
        "odd size",
        {"x": [[[1], [2], [2]]]},
        {"size": 3, "alpha": 3.0, "beta": 0.5, "k": 1.0},
        [[[1 / math.sqrt(6)], [2 / math.sqrt(10)], [2 / 3]]],
        SPEC,
    ),
    OpCase(
        # sums 1, 1+4: a channel and the one before it
        "local_response_norm",
        "even size",
        {"x": [[[1], [2]]]},
        {"size": 2, "alpha": 2.0, "beta": 1.0, "k": 3.0},
        [[[0.25], [0.25]]],
        "PyTorch, LocalResponseNorm",
    ),
    OpCase("local_response_norm", "defaults", {"x": [[[100]]]}, {"size": 1}, [[[100 / 2**0.75]]], SPEC),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)


def test_channel_layer_norm_keeps_channels_last() -> None:
    x = torch.ones(1, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    y = OPS.lookup("layer_norm", "iOS15")(x, axes=[1])
    assert y.is_contiguous(memory_format=torch.channels_last)
