"""Literal cases of the chapter tensor_transformation; numbers worked out by hand from the op's definition."""

import pytest
import torch
from literal_case import OpCase, Variadic, check_case, parametrize_cases

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

GRID = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
PICTURE = [[[[1, 2, 3, 4], [5, 6, 7, 8]]]]
EIGHT_CHANNELS = [[[[value]] for value in range(8)]]

BLOCKS = [
    OpCase(
        op="depth_to_space",
        branch="place in the block is the slow part of a channel",
        inputs=(EIGHT_CHANNELS,),
        attrs={"block_size": 2},
        expected=[[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]],
    ),
    OpCase(
        op="space_to_depth",
        branch="inverse of depth_to_space",
        inputs=([[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]],),
        attrs={"block_size": 2},
        expected=EIGHT_CHANNELS,
    ),
    OpCase(
        op="pixel_shuffle",
        branch="place in the block is the fast part of a channel",
        inputs=(EIGHT_CHANNELS,),
        attrs={"upscale_factor": 2},
        expected=[[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]],
    ),
    OpCase(
        op="pixel_unshuffle",
        branch="inverse of pixel_shuffle",
        opset="iOS16",
        inputs=([[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]],),
        attrs={"downscale_factor": 2},
        expected=EIGHT_CHANNELS,
    ),
    OpCase(
        op="space_to_batch",
        branch="padded on the left",
        inputs=(PICTURE,),
        attrs={"block_shape": [2, 2], "paddings": [[0, 0], [2, 0]]},
        expected=[[[[0, 1, 3]]], [[[0, 2, 4]]], [[[0, 5, 7]]], [[[0, 6, 8]]]],
    ),
    OpCase(
        op="batch_to_space",
        branch="cropped on the left",
        inputs=([[[[0, 1, 3]]], [[[0, 2, 4]]], [[[0, 5, 7]]], [[[0, 6, 8]]]],),
        attrs={"block_shape": [2, 2], "crops": [[0, 0], [2, 0]]},
        expected=PICTURE,
    ),
    OpCase(
        op="batch_to_space",
        branch="two pictures, block of 2 x 1",
        inputs=([[[[1]]], [[[2]]], [[[3]]], [[[4]]]],),
        attrs={"block_shape": [2, 1], "crops": [[0, 0], [0, 0]]},
        expected=[[[[1], [3]]], [[[2], [4]]]],
    ),
]

SHAPES = [
    OpCase(
        op="expand_dims",
        branch="places of the result",
        inputs=([1, 2],),
        attrs={"axes": [0, -1]},
        expected=[[[1], [2]]],
    ),
    OpCase(op="expand_dims", branch="scalar", inputs=(5,), attrs={"axes": [0]}, expected=[5]),
    OpCase(op="squeeze", branch="all", inputs=([[[1], [2]]],), expected=[1, 2]),
    OpCase(op="squeeze", branch="named", inputs=([[[1], [2]]],), attrs={"axes": [0]}, expected=[[1], [2]]),
    OpCase(
        op="squeeze", branch="an axis that is not 1 stays", inputs=([[1, 2]],), attrs={"axes": [0, 1]}, expected=[1, 2]
    ),
    OpCase(
        op="reshape",
        branch="-1 is the rest",
        inputs=(GRID,),
        attrs={"shape": [2, -1]},
        expected=[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]],
    ),
    OpCase(op="reshape", branch="0 is the same axis", inputs=([[1, 2]],), attrs={"shape": [0, -1]}, expected=[[1, 2]]),
    OpCase(
        op="reshape",
        branch="0 counts from the end",
        opset="iOS17",
        inputs=([[1, 2], [3, 4]],),
        attrs={"shape": [1, 0, -1, 0]},
        expected=[[[[1, 2], [3, 4]]]],
    ),
    OpCase(
        op="reshape",
        branch="fewer axes than before",
        opset="iOS17",
        inputs=([[[1, 2]]],),
        attrs={"shape": [0]},
        expected=[1, 2],
    ),
    OpCase(
        op="reshape_like",
        branch="parts of two shapes",
        opset="iOS16",
        inputs=([1, 2, 3, 4, 5, 6], Variadic([[0], [0]], [[0, 0, 0]])),
        attrs={"begins": [0, 1], "ends": [1, 0], "end_masks": [False, True]},
        expected=[[1, 2, 3], [4, 5, 6]],
    ),
    OpCase(
        op="transpose", branch="negative axes", inputs=([[1, 2, 3]],), attrs={"perm": [-1, 0]}, expected=[[1], [2], [3]]
    ),
    OpCase(
        op="sliding_windows",
        branch="stride",
        inputs=([1, 2, 3, 4, 5],),
        attrs={"axis": 0, "size": 3, "stride": 2},
        expected=[[1, 2, 3], [3, 4, 5]],
    ),
    OpCase(
        op="sliding_windows",
        branch="the window follows its axis",
        inputs=([[1, 2], [3, 4], [5, 6]],),
        attrs={"axis": -2, "size": 2},
        expected=[[[1, 2], [3, 4]], [[3, 4], [5, 6]]],
    ),
]

ORDER = [
    OpCase(op="reverse", branch="all axes", inputs=([[1, 2], [3, 4]],), expected=[[4, 3], [2, 1]]),
    OpCase(
        op="reverse", branch="one axis", inputs=([[1, 2], [3, 4]],), attrs={"axes": [-1]}, expected=[[2, 1], [4, 3]]
    ),
    OpCase(
        op="reverse_sequence",
        branch="batch before sequence",
        inputs=([[1, 2, 3], [4, 5, 6]],),
        attrs={"lengths": [2, 3], "seq_axis": 1, "batch_axis": 0},
        expected=[[2, 1, 3], [6, 5, 4]],
    ),
    OpCase(
        op="reverse_sequence",
        branch="sequence before batch",
        inputs=([[1, 2, 3], [4, 5, 6]],),
        attrs={"lengths": [2, 1, 0], "seq_axis": 0, "batch_axis": 1},
        expected=[[4, 2, 3], [1, 5, 6]],
    ),
]

SLICES = [
    OpCase(
        op="slice_by_index",
        branch="begin and end",
        inputs=(GRID,),
        attrs={"begin": [0, 1], "end": [2, 3]},
        expected=[[1, 2], [5, 6]],
    ),
    OpCase(
        op="slice_by_index",
        branch="from the end",
        inputs=(GRID,),
        attrs={"begin": [-1, -3], "end": [3, -1]},
        expected=[[9, 10]],
    ),
    OpCase(
        op="slice_by_index",
        branch="beyond the end",
        inputs=(GRID,),
        attrs={"begin": [2, 0], "end": [99, 99]},
        expected=[[8, 9, 10, 11]],
    ),
    OpCase(
        op="slice_by_index",
        branch="stride",
        inputs=(GRID,),
        attrs={"begin": [0, 0], "end": [3, 4], "stride": [2, 3]},
        expected=[[0, 3], [8, 11]],
    ),
    OpCase(
        op="slice_by_index",
        branch="masks open both ends",
        inputs=(GRID,),
        attrs={"begin": [1, 2], "end": [2, 3], "begin_mask": [True, False], "end_mask": [False, True]},
        expected=[[2, 3], [6, 7]],
    ),
    OpCase(
        op="slice_by_index",
        branch="negative stride",
        inputs=(GRID,),
        attrs={"begin": [2, 3], "end": [0, 0], "stride": [-1, -2]},
        expected=[[11, 9], [7, 5]],
    ),
    OpCase(
        op="slice_by_index",
        branch="negative stride, open ends",
        inputs=(GRID,),
        attrs={
            "begin": [0, 0],
            "end": [1, 0],
            "stride": [1, -3],
            "begin_mask": [False, True],
            "end_mask": [False, True],
        },
        expected=[[3, 0]],
    ),
    OpCase(
        op="slice_by_index",
        branch="squeeze takes one index and drops the axis",
        inputs=(GRID,),
        attrs={"begin": [-1, 1], "end": [0, 3], "squeeze_mask": [True, False]},
        expected=[9, 10],
    ),
    OpCase(
        op="slice_by_index",
        branch="squeezed to a scalar",
        inputs=(GRID,),
        attrs={"begin": [1, 2], "end": [0, 0], "squeeze_mask": [True, True]},
        expected=6,
    ),
    OpCase(
        op="slice_by_index",
        branch="empty",
        inputs=(GRID,),
        attrs={"begin": [2, 0], "end": [1, 2]},
        expected=torch.zeros((0, 2), dtype=torch.int32),
    ),
    OpCase(
        op="slice_by_size",
        branch="-1 is the rest",
        inputs=(GRID,),
        attrs={"begin": [1, 2], "size": [1, -1]},
        expected=[[6, 7]],
    ),
    OpCase(
        op="slice_by_size",
        branch="from the end",
        inputs=(GRID,),
        attrs={"begin": [-1, 0], "size": [1, 2]},
        expected=[[8, 9]],
    ),
    OpCase(
        op="slice_update",
        branch="stride",
        opset="iOS18",
        inputs=([1, 2, 3, 4], [8, 9]),
        attrs={"begin": [0], "end": [4], "stride": [2]},
        expected=[8, 2, 9, 4],
    ),
    OpCase(
        op="slice_update",
        branch="backwards",
        opset="iOS18",
        inputs=([1, 2, 3, 4], [8, 9]),
        attrs={"begin": [3], "end": [1], "stride": [-1]},
        expected=[1, 2, 9, 8],
    ),
    OpCase(
        op="slice_update",
        branch="squeezed axis",
        opset="iOS18",
        inputs=([[1, 2], [3, 4]], [8, 9]),
        attrs={"begin": [1, 0], "end": [0, 0], "squeeze_mask": [True, False], "end_mask": [False, True]},
        expected=[[1, 2], [8, 9]],
    ),
]


@parametrize_cases(BLOCKS + SHAPES + ORDER + SLICES)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check_case(case)


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
