"""Literal cases of the chapter tensor_transformation; numbers worked out by hand from the op's definition."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, tensor_transformation"
GRID = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
IMAGE = [[[[1, 2, 3, 4], [5, 6, 7, 8]]]]
EIGHT_CHANNELS = [[[[value]] for value in range(8)]]

BLOCKS = [
    OpCase(
        "depth_to_space",
        "position in the block is the slow part of a channel",
        {"x": EIGHT_CHANNELS},
        {"block_size": 2},
        [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "space_to_depth",
        "inverse of depth_to_space",
        {"x": [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]]},
        {"block_size": 2},
        EIGHT_CHANNELS,
        SPEC,
        integers=True,
    ),
    OpCase(
        "pixel_shuffle",
        "position in the block is the fast part of a channel",
        {"x": EIGHT_CHANNELS},
        {"upscale_factor": 2},
        [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "pixel_unshuffle",
        "inverse of pixel_shuffle",
        {"x": [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]},
        {"downscale_factor": 2},
        EIGHT_CHANNELS,
        SPEC,
        opset="iOS16",
        integers=True,
    ),
    OpCase(
        "space_to_batch",
        "padded on the left",
        {"x": IMAGE},
        {"block_shape": [2, 2], "paddings": [[0, 0], [2, 0]]},
        [[[[0, 1, 3]]], [[[0, 2, 4]]], [[[0, 5, 7]]], [[[0, 6, 8]]]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "batch_to_space",
        "cropped on the left",
        {"x": [[[[0, 1, 3]]], [[[0, 2, 4]]], [[[0, 5, 7]]], [[[0, 6, 8]]]]},
        {"block_shape": [2, 2], "crops": [[0, 0], [2, 0]]},
        IMAGE,
        SPEC,
        integers=True,
    ),
    OpCase(
        "batch_to_space",
        "two images, block of 2 x 1",
        {"x": [[[[1]]], [[[2]]], [[[3]]], [[[4]]]]},
        {"block_shape": [2, 1], "crops": [[0, 0], [0, 0]]},
        [[[[1], [3]]], [[[2], [4]]]],
        SPEC,
        integers=True,
    ),
]

SHAPES = [
    OpCase("expand_dims", "axes of the result", {"x": [1, 2]}, {"axes": [0, -1]}, [[[1], [2]]], SPEC, integers=True),
    OpCase("expand_dims", "scalar", {"x": 5}, {"axes": [0]}, [5], SPEC, integers=True),
    OpCase("squeeze", "all", {"x": [[[1], [2]]]}, {}, [1, 2], SPEC, integers=True),
    OpCase("squeeze", "named", {"x": [[[1], [2]]]}, {"axes": [0]}, [[1], [2]], SPEC, integers=True),
    OpCase("squeeze", "an axis that is not 1 stays", {"x": [[1, 2]]}, {"axes": [0, 1]}, [1, 2], SPEC, integers=True),
    OpCase(
        "reshape",
        "-1 is the rest",
        {"x": GRID},
        {"shape": [2, -1]},
        [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]],
        SPEC,
        integers=True,
    ),
    OpCase("reshape", "0 is the same axis", {"x": [[1, 2]]}, {"shape": [0, -1]}, [[1, 2]], SPEC, integers=True),
    OpCase(
        "reshape",
        "0 counts from the end",
        {"x": [[1, 2], [3, 4]]},
        {"shape": [1, 0, -1, 0]},
        [[[[1, 2], [3, 4]]]],
        SPEC,
        opset="iOS17",
        integers=True,
    ),
    OpCase(
        "reshape",
        "fewer axes than before",
        {"x": [[[1, 2]]]},
        {"shape": [0]},
        [1, 2],
        SPEC,
        opset="iOS17",
        integers=True,
    ),
    OpCase(
        "reshape_like",
        "parts of two shapes",
        {"x": [1, 2, 3, 4, 5, 6], "ref_tensors": ([[0], [0]], [[0, 0, 0]])},
        {"begins": [0, 1], "ends": [1, 0], "end_masks": [False, True]},
        [[1, 2, 3], [4, 5, 6]],
        SPEC,
        opset="iOS16",
        integers=True,
    ),
    OpCase("transpose", "negative axes", {"x": [[1, 2, 3]]}, {"perm": [-1, 0]}, [[1], [2], [3]], SPEC, integers=True),
    OpCase(
        "sliding_windows",
        "stride",
        {"x": [1, 2, 3, 4, 5]},
        {"axis": 0, "size": 3, "stride": 2},
        [[1, 2, 3], [3, 4, 5]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "sliding_windows",
        "the window follows its axis",
        {"x": [[1, 2], [3, 4], [5, 6]]},
        {"axis": -2, "size": 2},
        [[[1, 2], [3, 4]], [[3, 4], [5, 6]]],
        SPEC,
        integers=True,
    ),
]

ORDER = [
    OpCase("reverse", "all axes", {"x": [[1, 2], [3, 4]]}, {}, [[4, 3], [2, 1]], SPEC, integers=True),
    OpCase("reverse", "one axis", {"x": [[1, 2], [3, 4]]}, {"axes": [-1]}, [[2, 1], [4, 3]], SPEC, integers=True),
    OpCase(
        "reverse_sequence",
        "batch before sequence",
        {"x": [[1, 2, 3], [4, 5, 6]]},
        {"lengths": [2, 3], "seq_axis": 1, "batch_axis": 0},
        [[2, 1, 3], [6, 5, 4]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "reverse_sequence",
        "sequence before batch",
        {"x": [[1, 2, 3], [4, 5, 6]]},
        {"lengths": [2, 1, 0], "seq_axis": 0, "batch_axis": 1},
        [[4, 2, 3], [1, 5, 6]],
        SPEC,
        integers=True,
    ),
]

SLICES = [
    OpCase(
        "slice_by_index",
        "begin and end",
        {"x": GRID},
        {"begin": [0, 1], "end": [2, 3]},
        [[1, 2], [5, 6]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_index",
        "from the end",
        {"x": GRID},
        {"begin": [-1, -3], "end": [3, -1]},
        [[9, 10]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_index",
        "beyond the end",
        {"x": GRID},
        {"begin": [2, 0], "end": [99, 99]},
        [[8, 9, 10, 11]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_index",
        "stride",
        {"x": GRID},
        {"begin": [0, 0], "end": [3, 4], "stride": [2, 3]},
        [[0, 3], [8, 11]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_index",
        "masks open both ends",
        {"x": GRID},
        {"begin": [1, 2], "end": [2, 3], "begin_mask": [True, False], "end_mask": [False, True]},
        [[2, 3], [6, 7]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_index",
        "negative stride",
        {"x": GRID},
        {"begin": [2, 3], "end": [0, 0], "stride": [-1, -2]},
        [[11, 9], [7, 5]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_index",
        "negative stride, open ends",
        {"x": GRID},
        {
            "begin": [0, 0],
            "end": [1, 0],
            "stride": [1, -3],
            "begin_mask": [False, True],
            "end_mask": [False, True],
        },
        [[3, 0]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_index",
        "squeeze takes one index and drops the axis",
        {"x": GRID},
        {"begin": [-1, 1], "end": [0, 3], "squeeze_mask": [True, False]},
        [9, 10],
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_index",
        "squeezed to a scalar",
        {"x": GRID},
        {"begin": [1, 2], "end": [0, 0], "squeeze_mask": [True, True]},
        6,
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_index",
        "empty",
        {"x": GRID},
        {"begin": [2, 0], "end": [1, 2]},
        torch.zeros((0, 2), dtype=torch.int32),
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_size",
        "-1 is the rest",
        {"x": GRID},
        {"begin": [1, 2], "size": [1, -1]},
        [[6, 7]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "slice_by_size", "from the end", {"x": GRID}, {"begin": [-1, 0], "size": [1, 2]}, [[8, 9]], SPEC, integers=True
    ),
    OpCase(
        "slice_update",
        "stride",
        {"x": [1, 2, 3, 4], "update": [8, 9]},
        {"begin": [0], "end": [4], "stride": [2]},
        [8, 2, 9, 4],
        SPEC,
        opset="iOS18",
        integers=True,
    ),
    OpCase(
        "slice_update",
        "backwards",
        {"x": [1, 2, 3, 4], "update": [8, 9]},
        {"begin": [3], "end": [1], "stride": [-1]},
        [1, 2, 9, 8],
        SPEC,
        opset="iOS18",
        integers=True,
    ),
    OpCase(
        "slice_update",
        "squeezed axis",
        {"x": [[1, 2], [3, 4]], "update": [8, 9]},
        {"begin": [1, 0], "end": [0, 0], "squeeze_mask": [True, False], "end_mask": [False, True]},
        [[1, 2], [8, 9]],
        SPEC,
        opset="iOS18",
        integers=True,
    ),
]


@pytest.mark.parametrize("case", BLOCKS + SHAPES + ORDER + SLICES, ids=case_id)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check(case)


REFUSED = [
    ("reshape", (torch.zeros(2, 3),), {"shape": [0, 1, -1]}, "a 0 needs as many sizes"),
    ("slice_by_size", (torch.zeros(4),), {"begin": [2], "size": [3]}, "slice of 3 from 2 leaves axis 0 of size 4"),
    ("slice_by_index", (torch.zeros(4),), {"begin": [0, 0], "end": [1, 1]}, "2 begins"),
    ("slice_by_index", (torch.zeros(4),), {"begin": [0], "end": [1], "stride": [0]}, "stride 0 at axis 0"),
    (
        "slice_by_index",
        (torch.zeros(4),),
        {"begin": [4], "end": [0], "squeeze_mask": [True]},
        "index 4 is outside axis 0",
    ),
    ("space_to_batch", (torch.zeros(1, 1, 2, 2),), {"block_shape": [1, 1], "paddings": [[0, 2**40], [0, 0]]}, "limit"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_op_refuses_what_has_no_meaning(op: str, inputs: tuple, attrs: dict, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        OPS.lookup(op, "iOS15")(*inputs, **attrs)


def test_slice_update_leaves_its_input_alone() -> None:
    x = torch.zeros(3)
    OPS.lookup("slice_update", "iOS18")(x, torch.ones(1), begin=[1], end=[2])
    assert x.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("transpose", {"perm": [1, 0]}),
        ("slice_by_index", {"begin": [0, 0], "end": [2, 2]}),
        ("slice_by_size", {"begin": [0, 0], "size": [1, 1]}),
        ("expand_dims", {"axes": [0]}),
        ("reshape", {"shape": [3, 2]}),
        ("sliding_windows", {"axis": 1, "size": 2}),
    ],
)
def test_op_that_only_moves_data_returns_a_view(op: str, attrs: dict) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    assert OPS.lookup(op, "iOS15")(x, **attrs).data_ptr() == x.data_ptr()
