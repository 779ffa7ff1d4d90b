"""Sampling at points whose value can be read off a 2x2 or 4x4 image."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS
from edgesam_export.mil.ops.image_sampling import fold_positions

SPEC = "MIL spec, image_resizing"
SMALL = [[[[11, 22], [33, 44]]]]
TABLE = torch.arange(1.0, 17.0).view(1, 1, 4, 4)  # 1 + 4 row + column


def resample(
    about: str, points: list[list[float]], expected: list[float], x: object = SMALL, **attrs: object
) -> OpCase:
    settings = {
        "sampling_mode": "bilinear",
        "padding_mode": "constant",
        "padding_value": 0.0,
        "coordinates_mode": "unnormalized",
        "align_corners": True,
        **attrs,
    }
    return OpCase("resample", about, {"x": x, "coordinates": [[points]]}, settings, [[[expected]]], SPEC)


def affine(about: str, matrix: list[float], size: tuple[int, int], expected: object, **attrs: object) -> OpCase:
    settings = {
        "output_height": size[0],
        "output_width": size[1],
        "sampling_mode": "bilinear",
        "padding_mode": "constant",
        "padding_value": 0.0,
        "coordinates_mode": "normalized_minus_one_to_one",
        "align_corners": True,
        **attrs,
    }
    return OpCase("affine", about, {"x": SMALL, "transform_matrix": [matrix]}, settings, [[expected]], SPEC)


def crop(
    about: str, boxes: list[list[float]], expected: list, size: tuple[int, int] = (2, 2), **attrs: object
) -> OpCase:
    settings = {"target_height": size[0], "target_width": size[1], "sampling_mode": "ALIGN_CORNERS", **attrs}
    indices = torch.zeros(len(boxes), dtype=torch.int32)
    inputs = {"x": TABLE, "boxes": boxes, "box_indices": indices}
    return OpCase("crop_resize", about, inputs, settings, expected, f"{SPEC} (iOS17)", opset="iOS17")


def roi(
    about: str, boxes: list[list[float]], x: object, expected: object, opset: str = "iOS15", **attrs: object
) -> OpCase:
    settings = {"target_height": 2, "target_width": 2, "sampling_mode": "ALIGN_CORNERS", **attrs}
    rows = torch.tensor(boxes).view(len(boxes), 1, -1, 1, 1)
    return OpCase("crop_resize", about, {"x": x, "roi": rows}, settings, expected, SPEC, opset=opset)


TWO = torch.cat([TABLE, TABLE + 100])
MIDDLE = [[6, 7], [10, 11]]

CASES = [
    resample("pixel centres, x first", [[0, 0], [1, 0], [0, 1]], [11, 22, 33]),
    resample("between pixels", [[0.5, 0], [0, 0.5], [0.5, 0.5]], [16.5, 22, 27.5]),
    resample("constant outside", [[-1, 0], [2, 2]], [6, 6], padding_value=6.0),
    resample("constant is blended at the edge", [[-0.5, 0]], [8.5], padding_value=6.0),
    resample("border", [[-3, 0], [5, 0.5]], [11, 33], padding_mode="border"),
    # 0 1 2 1 0 ...: x = 3 of three pixels mirrors to 1
    resample("reflection", [[3, 0], [-1, 0], [4.5, 0]], [2, 2, 1.5], x=[[[[1, 2, 3]]]], padding_mode="reflection"),
    # 0 1 2 2 1 0: x = 3 is pixel 2 again, x = 4.5 lies between 1 and 0
    resample("symmetric", [[3, 0], [-1, 0], [4.5, 0]], [3, 1, 1.5], x=[[[[1, 2, 3]]]], padding_mode="symmetric"),
    resample(
        "minus one to one, centres",
        [[-1, -1], [1, -1], [0, 0]],
        [11, 22, 27.5],
        coordinates_mode="normalized_minus_one_to_one",
    ),
    resample(
        "minus one to one, edges",
        [[-0.5, -0.5], [-1, -0.5]],
        [11, 5.5],
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=False,
    ),
    resample(
        "zero to one, centres", [[0, 0], [1, 1], [0.5, 0]], [11, 44, 16.5], coordinates_mode="normalized_zero_to_one"
    ),
    resample(
        "zero to one, edges",
        [[0.25, 0.25], [0.5, 0.25]],
        [11, 16.5],
        coordinates_mode="normalized_zero_to_one",
        align_corners=False,
    ),
    resample("nearest", [[0.4, 0], [0.6, 0], [1.2, 0.9]], [11, 22, 44], sampling_mode="nearest"),
    resample("nearest, constant outside", [[1.6, 0]], [6], sampling_mode="nearest", padding_value=6.0),
    OpCase(
        "resample",
        "integer coordinates",
        {"x": SMALL, "coordinates": torch.tensor([[[[1, 0], [0, 1]]]], dtype=torch.int32)},
        {
            "sampling_mode": "nearest",
            "padding_mode": "border",
            "padding_value": 0.0,
            "coordinates_mode": "unnormalized",
            "align_corners": False,
        },
        [[[[22, 33]]]],
        SPEC,
    ),
    affine("identity", [1, 0, 0, 0, 1, 0], (2, 2), [[11, 22], [33, 44]]),
    affine("transposed", [0, 1, 0, 1, 0, 0], (2, 2), [[11, 33], [22, 44]]),
    affine("finer grid", [1, 0, 0, 0, 1, 0], (1, 3), [[22, 27.5, 33]]),  # a single row lies at y = 0
    affine("shifted out", [1, 0, 2, 0, 1, 0], (2, 2), [[22, 0], [44, 0]]),
    affine("edges", [1, 0, 0, 0, 1, 0], (2, 2), [[11, 22], [33, 44]], align_corners=False),
    affine("upper case", [1, 0, 0, 0, 1, 0], (2, 2), [[11, 22], [33, 44]], sampling_mode="BILINEAR"),
    crop("box of pixels", [[1, 1, 2, 2]], [[MIDDLE]]),
    crop("one point is the middle", [[1, 1, 2, 2]], [[[[8.5]]]], size=(1, 1)),
    crop("backwards", [[2, 2, 1, 1]], [[[[11, 10], [7, 6]]]]),
    crop("normalized", [[0, 0, 1 / 3, 1 / 3]], [[[[1, 2], [5, 6]]]], normalized_coordinates=True),
    crop("width first", [[1, 0, 2, 3]], [[[[2, 3], [14, 15]]]], box_coordinate_mode="CORNERS_WIDTH_FIRST"),
    crop("height first", [[1, 0, 2, 3]], [[[[5, 8], [9, 12]]]]),
    crop("centre and size", [[1.5, 1.5, 1, 1]], [[MIDDLE]], box_coordinate_mode="CENTER_SIZE_HEIGHT_FIRST"),
    crop(
        "centre and size, width first",
        [[1.5, 1, 3, 0]],
        [[[[5, 8], [5, 8]]]],
        box_coordinate_mode="CENTER_SIZE_WIDTH_FIRST",
    ),
    crop("spatial scale", [[2, 2, 4, 4]], [[MIDDLE]], spatial_scale=0.5),
    crop("outside is the pad value", [[0, 2, 1, 4]], [[[[3, 9], [7, 9]]]], pad_value=9.0),
    crop("outside is zero by default", [[-1, 0, 0, 1]], [[[[0, 0], [1, 2]]]]),
    # four pixels 0 .. 3 in two: 0, 2 by default; 0.5, 2.5 by edges; 0.75, 2.25 by offset corners
    crop("default mode", [[0, 0, 3, 3]], [[[[1, 3], [9, 11]]]], sampling_mode="DEFAULT"),
    crop("unaligned corners", [[0, 0, 3, 3]], [[[[3.5, 5.5], [11.5, 13.5]]]], sampling_mode="UNALIGN_CORNERS"),
    crop("offset corners", [[0, 0, 3, 3]], [[[[4.75, 6.25], [10.75, 12.25]]]], sampling_mode="OFFSET_CORNERS"),
    crop("two boxes", [[1, 1, 2, 2], [0, 0, 1, 1]], [[MIDDLE], [[[1, 2], [5, 6]]]]),
    OpCase(
        "crop_resize",
        "one point of the first pixel by default",
        {"x": TABLE, "boxes": [[1, 1, 2, 2]]},
        {},
        [[[[6]]]],
        f"{SPEC} (iOS17)",
        opset="iOS17",
    ),
    OpCase(
        "crop_resize",
        "image of each box",
        {
            "x": TWO,
            "boxes": [[0, 0, 0, 0]] * 2,
            "box_indices": torch.tensor([1, 0], dtype=torch.int32),
        },
        {},
        [[[[101]]], [[[1]]]],
        f"{SPEC} (iOS17)",
        opset="iOS17",
    ),
    OpCase(
        "crop_resize",
        "a box per image by default",
        {"x": TWO, "boxes": [[0, 0, 0, 0], [3, 3, 3, 3]]},
        {},
        [[[[1]]], [[[116]]]],
        f"{SPEC} (iOS17)",
        opset="iOS17",
    ),
    roi("each box of all images", [[1.0, 1, 2, 2]], TWO, [[[MIDDLE], [[[106, 107], [110, 111]]]]]),
    roi(
        "two boxes of two images",
        [[1.0, 1, 1, 1], [2, 2, 2, 2]],
        TWO,
        [[[[[6]]], [[[106]]]], [[[[11]]], [[[111]]]]],
        target_height=1,
        target_width=1,
    ),
    roi("image index first", [[1.0, 1, 1, 2, 2]], TWO, [[[[[106, 107], [110, 111]]]]]),
    roi("outside is zero", [[0.0, 2, 1, 4]], TABLE, [[[[[3, 0], [7, 0]]]]]),
    roi("outside is the pad value", [[0.0, 2, 1, 4]], TABLE, [[[[[3, 9], [7, 9]]]]], opset="iOS16", pad_value=9.0),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)


def test_one_pixel_reflects_into_itself() -> None:
    for padding in ("reflection", "symmetric", "border"):
        assert fold_positions(torch.tensor([-2.0, 0.0, 5.0]), 1, padding).tolist() == [0, 0, 0], padding


def test_unknown_modes_are_refused_by_name() -> None:
    sample = OPS.lookup("resample", "iOS15")
    x, points = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 1, 2)
    usual = {
        "sampling_mode": "bilinear",
        "padding_mode": "border",
        "padding_value": 0.0,
        "coordinates_mode": "unnormalized",
        "align_corners": True,
    }
    for name in ("sampling_mode", "padding_mode", "coordinates_mode"):
        with pytest.raises(ProgramError, match=f"{name} 'odd'"):
            sample(x, points, **{**usual, name: "odd"})
    with pytest.raises(ProgramError, match="box_coordinate_mode 'odd'"):
        OPS.lookup("crop_resize", "iOS17")(x, torch.ones(1, 4), box_coordinate_mode="odd")
