"""Geometry, prompt packing and mask post-processing.

``goldens/geometry.json`` is shared with the Swift tests. Its values come from ``geometry_cases`` below, which applies
the rules in exact fractions and calls nothing of the package. ``python tests/imaging/test_geometry.py`` rewrites it.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from edgesam_export.errors import UsageError
from edgesam_export.imaging.geometry import prepare, scaled_size, to_frame
from edgesam_export.imaging.masks import best_mask, masks_to_source, stability
from edgesam_export.imaging.prompts import pack_prompt
from edgesam_export.spec import ImageFrame

GEOMETRY = Path(__file__).parents[1] / "goldens" / "geometry.json"
SOURCES = {  # name: (height, width, size, prompt_size)
    "square": (500, 500, 1024, 1024),
    "already 1024": (1024, 1024, 1024, 1024),
    "landscape, smaller": (300, 451, 1024, 1024),
    "portrait, smaller": (451, 300, 1024, 1024),
    "landscape, larger": (3024, 4032, 1024, 1024),
    "portrait, larger": (4032, 3024, 1024, 1024),
    "odd sides": (333, 777, 1024, 1024),
    "a half rounds up": (1025, 2048, 1024, 1024),
    "one pixel": (1, 1, 1024, 1024),
    "wide strip": (3, 4000, 1024, 1024),
    "tall strip": (4000, 3, 1024, 1024),
    "side that would vanish": (1, 4000, 1024, 1024),
    "picture 512, prompts 1024": (333, 777, 512, 1024),
}


def by_fractions(height: int, width: int, side: int) -> tuple[int, int]:
    """Longest side becomes ``side``; the other is rounded to the nearest pixel, halves up, at least 1."""
    longest = max(height, width)
    sizes = [int(Fraction(length * side, longest) + Fraction(1, 2)) for length in (height, width)]
    return max(1, sizes[0]), max(1, sizes[1])


def geometry_cases() -> list[dict]:
    """Expected values of every case, computed from the rules in fractions."""
    cases = []
    for name, (height, width, size, prompt_size) in SOURCES.items():
        extent = by_fractions(height, width, prompt_size)

        def moved(x, y, height=height, width=width, extent=extent):
            return [float(Fraction(x) * extent[1] / width), float(Fraction(y) * extent[0] / height)]

        inside = [[0, 0], [width / 2, height / 4], [width - 1, height - 1]]
        box = [width / 4, 0, width, height]
        box_out = [moved(*box[:2]), moved(*box[2:])]
        points_out = [moved(*point) for point in inside]
        empty = [0.0, 0.0]
        packed = [
            {
                "points": inside[1:2], "labels": [1], "box": None, "slots": None,
                "point_coords": [points_out[1], empty], "point_labels": [1, -1],
            },
            {
                "points": inside, "labels": [1, 0, 1], "box": None, "slots": 8,
                "point_coords": [*points_out, *[empty] * 5], "point_labels": [1, 0, 1, -1, -2, -2, -2, -2],
            },
            {
                "points": [], "labels": [], "box": box, "slots": 2,
                "point_coords": box_out, "point_labels": [2, 3],
            },
            {
                "points": inside[1:2], "labels": [0], "box": box, "slots": 5,
                "point_coords": [points_out[1], *box_out, empty, empty], "point_labels": [0, 2, 3, -2, -2],
            },
        ]  # fmt: skip
        refused = [
            {"why": "point on the right border", "points": [[width, 0]], "labels": [1], "box": None, "slots": 8},
            {"why": "point below the picture", "points": [[0, height]], "labels": [1], "box": None, "slots": 8},
            {"why": "negative point", "points": [[-0.5, 0]], "labels": [1], "box": None, "slots": 8},
            {"why": "unknown label", "points": [[0, 0]], "labels": [2], "box": None, "slots": 8},
            {"why": "labels missing", "points": [[0, 0], [0, 0]], "labels": [1], "box": None, "slots": 8},
            {"why": "no prompt", "points": [], "labels": [], "box": None, "slots": 8},
            {"why": "box too wide", "points": [], "labels": [], "box": [0, 0, width + 1, height], "slots": 8},
            {"why": "box reversed", "points": [], "labels": [], "box": [width, 0, 0, height], "slots": 8},
            {"why": "box empty", "points": [], "labels": [], "box": [0, 0, width, 0], "slots": 8},
            {"why": "no slot for the padding point", "points": [[0, 0]], "labels": [1], "box": None, "slots": 1},
        ]
        cases.append(
            {
                "name": name, "source_size": [height, width], "size": size, "prompt_size": prompt_size,
                "scaled_size": list(by_fractions(height, width, size)), "prompt_extent": list(extent),
                "points_in": inside, "points_out": points_out, "box_in": box, "box_out": box_out,
                "packed": packed, "refused": refused,
            }
        )  # fmt: skip
    return cases


def geometry_text() -> str:
    """The file as it is written: one line a case keeps differences readable."""
    note = (
        "Sizes are [height, width], points [x, y], boxes [x0, y0, x1, y1]; point_coords are in the prompt frame."
        " Computed in fractions by geometry_cases in tests/imaging/test_geometry.py; read by the Swift tests too."
    )
    lines = ",\n".join("  " + json.dumps(case, allow_nan=False) for case in geometry_cases())
    return f'{{\n "note": {json.dumps(note)},\n "cases": [\n{lines}\n ]\n}}\n'


def prepared_like(case: dict):
    height, width = case["source_size"]
    frame = ImageFrame(size=case["size"], prompt_size=case["prompt_size"])
    return prepare(np.zeros((height, width, 3), np.uint8), frame)


def blank(height: int, width: int, **frame):
    return prepare(np.zeros((height, width, 3), np.uint8), ImageFrame(**frame))


def prompt_of(entry: dict) -> dict:
    return {key: entry[key] for key in ("points", "labels", "box", "slots")}


def test_geometry_file_is_what_the_rules_give():
    assert GEOMETRY.read_text(encoding="utf-8") == geometry_text()


@pytest.mark.parametrize("case", geometry_cases(), ids=lambda case: case["name"])
def test_geometry_golden(case):
    prepared = prepared_like(case)
    assert prepared.source_size == tuple(case["source_size"])
    assert prepared.scaled_size == tuple(case["scaled_size"])
    assert prepared.prompt_extent == tuple(case["prompt_extent"])
    moved = to_frame(case["points_in"], prepared)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, case["points_out"], rtol=1.2e-7)  # one step of float32
    np.testing.assert_allclose(
        to_frame([case["box_in"][:2], case["box_in"][2:]], prepared), case["box_out"], rtol=1.2e-7
    )
    for entry in case["packed"]:
        coords, labels = pack_prompt(prepared, **prompt_of(entry))
        assert coords.dtype == labels.dtype == np.float32
        np.testing.assert_allclose(coords, [entry["point_coords"]], rtol=1.2e-7)
        np.testing.assert_array_equal(labels, [entry["point_labels"]])
    for entry in case["refused"]:
        with pytest.raises(UsageError):
            pack_prompt(prepared, **prompt_of(entry))


def test_sizes_that_fall_on_a_half_round_up_for_every_picture_up_to_5000_pixels():
    halves = 0
    for longest in range(1, 5001):
        for side in range(1, 5):  # odd multiples of the step at which a half occurs
            step = longest / 2048 * (2 * side - 1)
            if step == int(step) and step >= 1:
                halves += 1
                assert scaled_size((int(step), longest), 1024) == by_fractions(int(step), longest, 1024)
    assert halves > 0


def test_prepare_normalises_then_pads_with_zeros():
    image = np.zeros((1, 2, 3), np.uint8)
    image[:] = (255, 0, 124)
    prepared = prepare(image, ImageFrame(size=4, prompt_size=4))
    assert prepared.scaled_size == (2, 4)
    assert prepared.tensor.shape == (1, 3, 4, 4) and prepared.tensor.dtype == np.float32
    for channel, value in enumerate(((255 - 123.675) / 58.395, -116.28 / 57.12, (124 - 103.53) / 57.375)):
        np.testing.assert_allclose(prepared.tensor[0, channel, :2], value, rtol=1e-6)
    assert not prepared.tensor[:, :, 2:].any()
    np.testing.assert_array_equal(prepared.pixels[0, 0], [255, 0, 124])
    np.testing.assert_array_equal(prepared.pixels[2:], np.broadcast_to([124, 116, 104], (2, 4, 3)))


def test_prepare_shrinks_with_antialiasing():
    # Columns 0 255 255 0, shrunk four times. The triangle filter, 8 wide, weighs the columns at distance 0.5, 1.5, 2.5,
    # 3.5 with 3.5, 2.5, 1.5, 0.5 sixteenths: 255 * 2 * (3.5 + 0.5) / 16 = 127.5. Plain bilinear would give 255.
    row = np.tile(np.array([0, 255, 255, 0], np.uint8), 16)
    image = np.repeat(np.broadcast_to(row, (64, 64))[..., None], 3, axis=2)
    inner = prepare(image, ImageFrame(size=16, prompt_size=16)).pixels[:, 2:-2]
    assert inner.min() >= 127 and inner.max() <= 128


def test_prepare_leaves_its_input_alone():
    image = np.full((5, 7, 3), 9, np.uint8)
    prepare(image, ImageFrame(size=7, prompt_size=7)).pixels[:] = 0
    assert (image == 9).all()


@pytest.mark.parametrize(
    "image, said",
    [
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), "4x0"),
        ([[1, 2, 3]], "list"),
    ],
)
def test_prepare_refuses_what_is_no_picture(image, said):
    with pytest.raises(UsageError, match=said):
        prepare(image, ImageFrame())


@pytest.mark.parametrize(
    "prompt, said",
    [
        ({}, "no prompt"),
        ({"points": []}, "no prompt"),
        ({"points": [(1, 1)], "labels": [1, 0]}, "1 points but 2 labels"),
        ({"labels": [1]}, "0 points but 1 labels"),
        ({"points": [(1, 1)], "labels": [-1]}, "label -1 is unknown"),
        ({"points": [(1, 1)], "labels": [np.nan]}, "label nan is unknown"),
        ({"points": [(30, 1)]}, r"\(30, 1\) is outside the image of 30x20"),
        ({"points": [(np.nan, 1)]}, r"\(nan, 1\) is outside"),
        ({"points": [(1, np.inf)]}, "outside"),
        ({"points": (1, 1)}, r"shape \(2,\)"),
        ({"points": [(1, 1, 1)]}, r"shape \(1, 3\)"),
        ({"points": [("a", 1)]}, "not numbers"),
        ({"points": [(1, 1), (1,)]}, "not numbers"),
        ({"box": (1, 1, 5)}, "3 values"),
        ({"box": (1, 1, 5, 21)}, r"\(1, 1, 5, 21\) is outside the image of 30x20"),
        ({"box": (1, 1, np.nan, 5)}, "outside"),
        ({"box": (5, 1, 1, 5)}, "reversed or empty"),
        ({"box": (5, 1, 5, 5)}, "reversed or empty"),
        ({"points": [(1, 1)] * 4, "slots": 4}, "needs 5 slots .* has 4; .*--points 5"),
        ({"points": [(1, 1)] * 3, "box": (0, 0, 30, 20), "slots": 4}, "needs 5 slots .* has 4"),
    ],
)
def test_bad_prompt_is_refused_in_one_line(prompt, said):
    with pytest.raises(UsageError, match=said) as caught:
        pack_prompt(blank(20, 30), **prompt)
    assert "\n" not in str(caught.value)


def test_labels_default_to_foreground():
    _, labels = pack_prompt(blank(20, 30), points=[(1, 1), (2, 2)])
    np.testing.assert_array_equal(labels, [[1, 1, -1]])


def test_a_mask_alone_is_one_not_a_point_token():
    coords, labels = pack_prompt(blank(20, 30), has_mask=True, slots=3)
    np.testing.assert_array_equal(coords, np.zeros((1, 3, 2)))
    np.testing.assert_array_equal(labels, [[-1, -2, -2]])


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (1, 1), (3, 400), (1500, 1100)])
def test_constant_logits_stay_constant(size):
    out = masks_to_source(np.stack([np.full((256, 256), v, np.float32) for v in (2.5, -1.0)]), blank(*size))
    assert out.shape == (2, *size) and out.dtype == np.float32
    np.testing.assert_allclose(out[0], 2.5, rtol=1e-6)
    np.testing.assert_allclose(out[1], -1.0, rtol=1e-6)


def test_edge_between_two_halves_is_interpolated_with_half_pixel_centres():
    logits = np.full((1, 256, 256), -1, np.float32)
    logits[:, :, 128:] = 1
    out = masks_to_source(logits, blank(1024, 1024))[0]  # times four; the second step changes nothing
    # (x + 0.5) / 4 - 0.5 = 126.875, 127.125, 127.375, 127.625, 127.875, 128.125 for x = 509 to 514
    np.testing.assert_allclose(out[700, 509:515], [-1, -0.75, -0.25, 0.25, 0.75, 1], atol=1e-6)


@pytest.mark.parametrize("portrait", [False, True])
def test_padding_is_cropped_before_the_second_step(portrait):
    logits = np.full((1, 256, 256), -1, np.float32)
    logits[:, :128] = 1  # the picture is the upper half of the frame
    size = (1024, 2048)
    if portrait:
        logits, size = logits.transpose(0, 2, 1), size[::-1]
    out = masks_to_source(logits, blank(*size))[0]
    assert out.shape == size
    across = (out.T if portrait else out)[:, 1000]
    # Frame rows 509, 510, 511 are 1, 0.75, 0.25. Doubled: row 1021 lies at 510.25, 1022 at 510.75, 1023 past the last.
    np.testing.assert_allclose(across[1018:], [1, 0.9375, 0.8125, 0.625, 0.375, 0.25], atol=1e-6)


def bilinear_matrix(new: int, old: int) -> np.ndarray:
    """Rows of weights for half-pixel bilinear, edge clamped, no antialiasing."""
    matrix = np.zeros((new, old))
    for row in range(new):
        at = max(0.0, (row + 0.5) * old / new - 0.5)
        low = min(int(at), old - 1)
        matrix[row, low] += 1 - (at - low)
        matrix[row, min(low + 1, old - 1)] += at - low
    return matrix


@pytest.mark.parametrize(
    "size, frame",
    [((37, 101), {}), ((1100, 37), {}), ((5, 3), {}), ((37, 101), {"size": 512, "prompt_size": 1024})],
)
def test_masks_to_source_equals_two_bilinear_matrices(size, frame):
    prepared = blank(*size, **frame)
    logits = np.random.default_rng(3).normal(size=(2, 256, 256))
    rows, columns = by_fractions(*size, 1024)
    up = bilinear_matrix(1024, 256)
    vertical = bilinear_matrix(size[0], rows) @ up[:rows]
    horizontal = bilinear_matrix(size[1], columns) @ up[:columns]
    expected = vertical @ logits @ horizontal.T
    # Positions are float32 there: near 1024 they are off by up to 6e-5 pixels, and these logits are steep.
    np.testing.assert_allclose(masks_to_source(logits, prepared), expected, atol=3e-4)


def test_stability_counts_pixels_above_both_thresholds():
    logits = np.array([[[2, 0.5], [-0.5, -2]], [[2, 2], [2, 2]], [[-2, -2], [-2, -2]], [[2, 1], [-1, -1]]], np.float32)
    np.testing.assert_allclose(stability(logits), [1 / 3, 1, 0, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(stability(logits[:1], offset=0.25), [1.0])


def test_best_mask_is_the_highest_number():
    assert best_mask(np.array([0.1, 0.9, 0.5]), 3) == 1
    assert best_mask(np.array([0.5, 0.5]), 2) == 0
    assert best_mask(np.array([np.nan, -3.0, np.nan, -2.0]), 4) == 3


@pytest.mark.parametrize(
    "scores, candidates, said", [([np.nan] * 2, 2, "NaN"), ([1.0], 4, "1 scores for 4 masks"), ([], 0, "0 scores")]
)
def test_best_mask_refuses_scores_without_a_winner(scores, candidates, said):
    with pytest.raises(UsageError, match=said):
        best_mask(np.array(scores), candidates)


def test_a_stretched_frame_has_no_padding_and_each_axis_its_own_factor():
    frame = ImageFrame(size=8, prompt_size=16, fit="stretch", mean=(0, 0, 0), std=(1, 1, 1))
    row = np.array([0, 100, 200, 40], np.uint8)
    prepared = prepare(np.repeat(np.tile(row, (2, 1))[..., None], 3, axis=2), frame)
    # 4 samples to 8, half-pixel centres: a quarter of the way to the neighbour, edges repeated.
    np.testing.assert_array_equal(prepared.tensor[0, 0, 3], [0, 25, 75, 125, 175, 160, 80, 40])
    assert prepared.scaled_size == (8, 8) and prepared.prompt_extent == (16, 16)
    np.testing.assert_array_equal(to_frame([(1, 1)], prepared), [[4, 8]])


@pytest.mark.parametrize("size", [(300, 451), (1403, 1029), (31, 2900), (97, 97), (1, 1)], ids=str)
def test_antialiased_stretching_is_that_of_pytorch(size):
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    frame = ImageFrame(size=256, fit="stretch_antialias", mean=(0, 0, 0), std=(1, 1, 1))
    planes = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float64))
    expected = interpolate(planes, (256, 256), mode="bilinear", align_corners=False, antialias=True).numpy()
    prepared = prepare(image, frame)
    np.testing.assert_allclose(prepared.tensor, expected, rtol=0, atol=2e-5)
    assert prepared.scaled_size == (256, 256)
    # One rounding, at the end, of double precision: what differs lies within its noise of the middle of two bytes.
    planes = prepared.pixels.transpose(2, 0, 1)
    assert np.abs(planes - expected).max() <= 0.5 + 1e-9
    assert np.count_nonzero(planes != np.rint(expected[0])) <= 1e-5 * planes.size


def test_masks_of_a_direct_frame_go_to_source_size_in_one_bilinear_step():
    frame = ImageFrame(fit="stretch_antialias", mask_resize="bilinear_direct")
    logits = np.random.default_rng(4).standard_normal((2, 256, 256)).astype(np.float32)
    found = masks_to_source(logits, prepare(np.zeros((300, 200, 3), np.uint8), frame))
    expected = interpolate(torch.from_numpy(logits)[None], (300, 200), mode="bilinear", align_corners=False)[0]
    np.testing.assert_array_equal(found, expected.numpy())


def test_with_padding_always_a_box_comes_first_and_is_padded_too():
    prepared = blank(20, 30)
    coords, labels = pack_prompt(
        prepared, points=[(1, 2)], labels=[0], box=(3, 4, 5, 6), slots=5, padding_point="always"
    )
    assert labels.tolist() == [[2, 3, 0, -1, -2]]
    expected = to_frame([(3, 4), (5, 6), (1, 2)], prepared)
    np.testing.assert_array_equal(coords[0], [*expected, (0, 0), (0, 0)])
    assert pack_prompt(prepared, points=[(1, 2)], padding_point="always")[1].tolist() == [[1, -1]]
    # A mask alone is no token, not even padding; a decoder of any number of slots gets one that is empty.
    assert pack_prompt(prepared, has_mask=True, padding_point="always")[1].tolist() == [[-2]]
    assert pack_prompt(prepared, has_mask=True, slots=3, padding_point="always")[1].tolist() == [[-2, -2, -2]]
    with pytest.raises(UsageError, match=r"needs 4 slots \(points: 1, the box takes 2, 1 more for the padding point\)"):
        pack_prompt(prepared, points=[(1, 2)], box=(3, 4, 5, 6), slots=3, padding_point="always")


def test_bicubic_masks_go_to_source_size_in_one_step():
    frame = ImageFrame(fit="stretch", mask_resize="bicubic")
    prepared = prepare(np.zeros((512, 256, 3), np.uint8), frame)
    logits = np.zeros((1, 256, 256), np.float32)
    logits[0, :, 128:] = 1
    found = masks_to_source(logits, prepared)
    assert found.shape == (1, 512, 256)
    np.testing.assert_allclose(found[0, ::2], logits[0], atol=1e-6)  # width is unchanged, rows are constant
    # Doubling a height of two rows: cubic weights for a quarter sample (a = -0.75), edges repeated.
    rows = np.zeros((1, 256, 256), np.float32)
    rows[0, 128:] = 1
    near = masks_to_source(rows, prepared)[0, 253:259, 0]
    weights = [-0.10546875, 0.87890625, 0.26171875, -0.03515625]
    np.testing.assert_allclose(near[1:3], [weights[0], weights[2] + weights[3]], atol=1e-6)


def test_a_model_without_padding_point_gets_none():
    coords, labels = pack_prompt(blank(20, 30), points=[(1, 1)], slots=3, padding_point=False)
    assert labels.tolist() == [[1, -2, -2]] and coords.shape == (1, 3, 2)
    with pytest.raises(UsageError, match=r"needs 2 slots \(points: 2\) but the decoder has 1"):
        pack_prompt(blank(20, 30), points=[(1, 1), (2, 2)], slots=1, padding_point=False)


if __name__ == "__main__":
    GEOMETRY.write_text(geometry_text(), encoding="utf-8")
