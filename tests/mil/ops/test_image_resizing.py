"""Resizing and cropping of a few pixels; positions are those in the specification's tables."""

import math

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS
from edgesam_export.mil.ops.image_resizing import sample_positions

SPEC = "MIL spec, image_resizing"
RAMP = [[[0, 1]]]  # (1, 1, 2): the value is the position
TABLE = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
LADDER = [[[[0, 3]]], [[[30, 33]]]]  # two images


def bilinear(about: str, width: int, expected: list[float], x: object = RAMP, **attrs: object) -> OpCase:
    sizes = {"target_size_height": 1, "target_size_width": width}
    return OpCase("resize_bilinear", about, {"x": x}, {**sizes, **attrs}, [[expected]], SPEC)


def upsample(op: str, about: str, expected: object, x: object = RAMP, opset: str = "iOS15", **attrs: object) -> OpCase:
    return OpCase(f"upsample_{op}", about, {"x": x}, attrs, expected, SPEC, opset=opset)


def resize(about: str, expected: object, x: object = RAMP, **attrs: object) -> OpCase:
    return OpCase("resize", about, {"x": x}, attrs, expected, f"{SPEC} (iOS17)", opset="iOS17")


CASES = [
    bilinear("strict align corners", 5, [0, 0.25, 0.5, 0.75, 1], sampling_mode="STRICT_ALIGN_CORNERS"),
    bilinear("strict align corners to one", 1, [0], sampling_mode="STRICT_ALIGN_CORNERS"),
    bilinear("align corners", 5, [0, 0.25, 0.5, 0.75, 1], sampling_mode="ALIGN_CORNERS"),
    bilinear("align corners to one", 1, [0.5], sampling_mode="ALIGN_CORNERS"),
    bilinear("default", 5, [0, 0.4, 0.8, 1, 1]),
    bilinear("default to one", 1, [0]),
    bilinear("offset corners", 5, [0.1, 0.3, 0.5, 0.7, 0.9], sampling_mode="OFFSET_CORNERS"),
    bilinear("offset corners from one", 2, [7, 7], x=[[[7]]], sampling_mode="OFFSET_CORNERS"),
    bilinear("unalign corners", 5, [0, 0.1, 0.5, 0.9, 1], sampling_mode="UNALIGN_CORNERS"),
    bilinear("unalign corners down", 1, [1.5], x=[[[0, 1, 2, 3]]], sampling_mode="UNALIGN_CORNERS"),
    OpCase("resize_bilinear", "one by one by default", {"x": TABLE}, {}, [[[[1]]]], SPEC),
    OpCase(
        # rows 0, 1.5, 3 and columns 0, 3
        "resize_bilinear",
        "both axes",
        {"x": TABLE},
        {"target_size_height": 3, "target_size_width": 2, "sampling_mode": "STRICT_ALIGN_CORNERS"},
        [[[[1, 4], [7, 10], [13, 16]]]],
        SPEC,
    ),
    OpCase(
        "resize_bilinear",
        "both axes, default",
        {"x": [[[0, 1], [10, 11]]]},
        {"target_size_height": 4, "target_size_width": 2},
        [[[0, 1], [5, 6], [10, 11], [10, 11]]],
        SPEC,
    ),
    OpCase(
        "resize_bilinear",
        "five dimensions",
        {"x": [[[[[0, 3]]]], [[[[30, 33]]]]]},
        {"target_size_height": 1, "target_size_width": 4, "sampling_mode": "STRICT_ALIGN_CORNERS"},
        [[[[[0, 1, 2, 3]]]], [[[[30, 31, 32, 33]]]]],
        SPEC,
    ),
    OpCase(
        "resize_bilinear",
        "channels last in memory",
        {"x": LADDER},
        {"target_size_height": 1, "target_size_width": 4, "sampling_mode": "STRICT_ALIGN_CORNERS"},
        [[[[0, 1, 2, 3]]], [[[30, 31, 32, 33]]]],
        SPEC,
        permute=(0, 2, 3, 1),
    ),
    upsample("bilinear", "align corners by default", [[[0, 0.2, 0.4, 0.6, 0.8, 1]]], scale_factor_width=3),
    upsample("bilinear", "edges", [[[0, 0, 1 / 3, 2 / 3, 1, 1]]], scale_factor_width=3, align_corners=False),
    upsample("bilinear", "fraction is floored", [[[0, 0.1, 0.5, 0.9, 1]]], scale_factor_width=2.6, align_corners=False),
    upsample("bilinear", "height", [[[0, 1], [0, 1]]], scale_factor_height=2),
    upsample(
        "bilinear",
        "single precision of the factor",
        [[[0, 0.5, 1, 1.5, 2]]],
        x=[[[0, 1, 2]]],
        scale_factor_width=5 / 3 - 1e-8,
    ),
    upsample(
        "bilinear",
        "iOS16 default",
        [[[0, 0, 1 / 3, 2 / 3, 1, 1]]],
        scale_factor_width=3,
        align_corners=False,
        opset="iOS16",
    ),
    upsample(
        "bilinear",
        "half pixel",
        [[[0, 0, 1 / 3, 2 / 3, 1, 1]]],
        scale_factor_width=3,
        align_corners=False,
        half_pixel_centers=True,
        opset="iOS16",
    ),
    upsample(
        "bilinear",
        "neither",
        [[[0, 1 / 3, 2 / 3, 1, 1, 1]]],
        scale_factor_width=3,
        align_corners=False,
        half_pixel_centers=False,
        opset="iOS16",
    ),
    upsample(
        "bilinear",
        "align corners, iOS16",
        [[[0, 0.2, 0.4, 0.6, 0.8, 1]]],
        scale_factor_width=3,
        half_pixel_centers=False,
        opset="iOS16",
    ),
    upsample("nearest_neighbor", "whole factor", [[[0, 0, 0, 1, 1, 1]]], scale_factor_width=3),
    upsample(
        "nearest_neighbor", "height", [[[[0, 3], [0, 3]]], [[[30, 33], [30, 33]]]], x=LADDER, scale_factor_height=2
    ),
    upsample("nearest_neighbor", "fraction down", [[[0, 1]]], x=[[[0, 1, 2]]], scale_factor_width=0.67),
    upsample("nearest_neighbor", "fraction up", [[[0, 0, 1]]], scale_factor_width=1.5),
    OpCase(
        # centres 1/3, 1, 5/3 of two pixels
        "resize_nearest_neighbor",
        "up",
        {"x": RAMP},
        {"target_size_height": 1, "target_size_width": 3},
        [[[0, 1, 1]]],
        SPEC,
    ),
    OpCase(
        # centres 0.75, 2.25 of three pixels
        "resize_nearest_neighbor",
        "down",
        {"x": [[[0, 1, 2]]]},
        {"target_size_height": 1, "target_size_width": 2},
        [[[0, 2]]],
        SPEC,
    ),
    OpCase(
        "resize_nearest_neighbor",
        "whole factor",
        {"x": LADDER},
        {"target_size_height": 2, "target_size_width": 4},
        [[[[0, 0, 3, 3]] * 2], [[[30, 30, 33, 33]] * 2]],
        SPEC,
    ),
    resize("linear", [[[0, 0.4, 0.8, 1, 1]]], shape=[1, 1, 5], resized_dims=2),
    resize("only the last sizes count", [[[0, 0.4, 0.8, 1, 1]]], shape=[7, 5], resized_dims=1),
    resize("zero keeps the size", [[[0, 1]]], shape=[1, 0, 0], resized_dims=2),
    resize("three axes", [[[0, 1]], [[0, 1]]], shape=[2, 1, 2], resized_dims=3),
    resize("sampling mode", [[[0, 0.1, 0.5, 0.9, 1]]], shape=[1, 5], resized_dims=2, sampling_mode="UNALIGN_CORNERS"),
    resize("nearest", [[[0, 1, 1]]], shape=[1, 3], resized_dims=2, interpolation_mode="NEAREST_NEIGHBOR"),
    resize(
        "nearest, whole factor", [[[0, 0, 1, 1]]], shape=[1, 4], resized_dims=2, interpolation_mode="NEAREST_NEIGHBOR"
    ),
    resize("nearest, one axis", [[[0, 0, 1, 1]]], shape=[4], resized_dims=1, interpolation_mode="NEAREST_NEIGHBOR"),
    resize(
        # positions 0, 1.5, 3
        "nearest, aligned corners",
        [[[0, 2, 3]]],
        x=[[[0, 1, 2, 3]]],
        shape=[1, 3],
        resized_dims=2,
        interpolation_mode="NEAREST_NEIGHBOR",
        sampling_mode="STRICT_ALIGN_CORNERS",
    ),
    OpCase(
        "resize",
        "integers",
        {"x": [[[0, 4]]]},
        {"shape": [1, 3], "resized_dims": 2, "sampling_mode": "ALIGN_CORNERS"},
        [[[0, 2, 4]]],
        f"{SPEC} (iOS17)",
        opset="iOS17",
        integers=True,
    ),
    OpCase(
        "crop", "all sides", {"x": TABLE}, {"crop_height": [1, 0], "crop_width": [2, 1]}, [[[[7], [11], [15]]]], SPEC
    ),
    OpCase("crop", "nothing", {"x": RAMP}, {"crop_height": [0, 0], "crop_width": [0, 0]}, RAMP, SPEC),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)


def test_unknown_modes_are_refused_by_name() -> None:
    with pytest.raises(ProgramError, match="'CENTRED'"):
        sample_positions(4, 2, "CENTRED")
    with pytest.raises(ProgramError, match="'CUBIC'"):
        OPS.lookup("resize", "iOS17")(torch.ones(1, 2, 2), shape=[4], resized_dims=1, interpolation_mode="CUBIC")


def test_positions_stay_on_the_axis() -> None:
    assert sample_positions(2, 6, "DEFAULT").tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])
    assert sample_positions(2, 6, "OFFSET_CORNERS").tolist() == pytest.approx([k / 12 for k in (1, 3, 5, 7, 9, 11)])
    assert math.isclose(sample_positions(4, 1, "OFFSET_CORNERS").item(), 1.5)


def test_nearest_with_a_large_whole_factor_is_exact() -> None:
    x = torch.arange(50.0).view(1, 1, 50)
    y = OPS.lookup("upsample_nearest_neighbor", "iOS15")(x, scale_factor_width=49)
    assert torch.equal(y.view(50, 49), x.view(50, 1).expand(50, 49))
