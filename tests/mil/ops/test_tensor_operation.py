"""Literal cases of the chapter tensor_operation; numbers worked out by hand from the op's definition."""

import pytest
import torch
from literal_case import OpCase, Variadic, check_case, parametrize_cases

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS
from edgesam_export.mil.types import ValueType

MATRIX = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
ROWS = [[1.0, 5.0, 3.0], [4.0, 2.0, 6.0]]
FP32, INT32, BOOL = (ValueType("fp32", None),), (ValueType("int32", None),), (ValueType("bool", None),)

BUILDING = [
    OpCase(
        op="band_part",
        branch="lower 0 keeps the upper triangle",
        inputs=(MATRIX,),
        attrs={"lower": 0, "upper": -1},
        expected=[[1.0, 2.0, 3.0], [0.0, 5.0, 6.0], [0.0, 0.0, 9.0]],
    ),
    OpCase(
        op="band_part",
        branch="upper 0 keeps the lower triangle",
        inputs=(MATRIX,),
        attrs={"lower": -1, "upper": 0},
        expected=[[1.0, 0.0, 0.0], [4.0, 5.0, 0.0], [7.0, 8.0, 9.0]],
    ),
    OpCase(op="band_part", branch="defaults keep everything", inputs=(MATRIX,), expected=MATRIX),
    OpCase(
        op="band_part",
        branch="a band one wide below, of booleans",
        inputs=([[True, True], [True, True], [True, True]],),
        attrs={"lower": 1, "upper": 0},
        expected=[[True, False], [True, True], [False, True]],
    ),
    OpCase(op="fill", branch="fp32", attrs={"shape": [2, 1], "value": 2.5, "out_types": FP32}, expected=[[2.5], [2.5]]),
    OpCase(op="fill", branch="int32", attrs={"shape": [2], "value": 7, "out_types": INT32}, expected=[7, 7]),
    OpCase(op="fill", branch="bool", attrs={"shape": [1], "value": True, "out_types": BOOL}, expected=[True]),
    OpCase(
        op="fill_like",
        branch="type of the value, shape of the reference",
        opset="iOS16",
        inputs=([[1.0], [2.0]],),
        attrs={"value": 3, "out_types": INT32},
        expected=[[3], [3]],
    ),
    OpCase(
        op="one_hot",
        branch="last axis",
        inputs=([1, 0],),
        attrs={"one_hot_vector_size": 3, "out_types": INT32},
        expected=[[0, 1, 0], [1, 0, 0]],
    ),
    OpCase(
        op="one_hot",
        branch="first axis, own values",
        inputs=([1, 0],),
        attrs={"one_hot_vector_size": 3, "axis": 0, "on_value": 5.0, "off_value": -1.0, "out_types": FP32},
        expected=[[-1.0, 5.0], [5.0, -1.0], [-1.0, -1.0]],
    ),
    OpCase(
        op="one_hot",
        branch="an index outside stays off",
        inputs=([3, -1],),
        attrs={"one_hot_vector_size": 2, "out_types": INT32},
        expected=[[0, 0], [0, 0]],
    ),
    OpCase(op="range_1d", branch="end is excluded", inputs=(5, 1, 2), expected=[1, 3]),
    OpCase(op="range_1d", branch="fraction", inputs=(1.0, 0.0, 0.25), expected=[0.0, 0.25, 0.5, 0.75]),
    OpCase(op="range_1d", branch="downwards", inputs=(0, 3, -1), expected=[3, 2, 1]),
    OpCase(op="range_1d", branch="empty", inputs=(1, 4, 2), expected=torch.zeros(0, dtype=torch.int32)),
    OpCase(op="tile", branch="each axis", inputs=([[1, 2]],), attrs={"reps": [2, 2]}, expected=[[1, 2, 1, 2]] * 2),
    OpCase(op="shape", branch="sizes as int32", inputs=([[1.0, 2.0, 3.0]],), expected=[1, 3]),
    OpCase(op="identity", branch="the same", inputs=([1.0],), expected=[1.0]),
    OpCase(op="non_zero", branch="rows of indices", inputs=([[0.0, 2.0], [3.0, 0.0]],), expected=[[0, 1], [1, 0]]),
]

JOINING = [
    OpCase(
        op="concat",
        branch="axis -1",
        inputs=(Variadic([[1], [2]], [[3], [4]]),),
        attrs={"axis": -1},
        expected=[[1, 3], [2, 4]],
    ),
    OpCase(
        op="concat",
        branch="interleave takes rows in turn",
        inputs=(Variadic([[1, 2], [3, 4]], [[5, 6], [7, 8]]),),
        attrs={"axis": 0, "interleave": True},
        expected=[[1, 2], [5, 6], [3, 4], [7, 8]],
    ),
    OpCase(
        op="concat",
        branch="interleave along a negative axis",
        inputs=(Variadic([[1, 2]], [[5, 6]]),),
        attrs={"axis": -1, "interleave": True},
        expected=[[1, 5, 2, 6]],
    ),
    OpCase(op="concat", branch="scalars", inputs=(Variadic(1, 2),), attrs={"axis": 0}, expected=[1, 2]),
    OpCase(
        op="stack",
        branch="new last axis",
        inputs=(Variadic([1, 2], [3, 4]),),
        attrs={"axis": -1},
        expected=[[1, 3], [2, 4]],
    ),
    OpCase(
        op="split",
        branch="equal parts",
        inputs=([1, 2, 3, 4],),
        attrs={"axis": 0, "num_splits": 2},
        expected=([1, 2], [3, 4]),
    ),
    OpCase(
        op="split",
        branch="given sizes",
        inputs=([[1, 2, 3]],),
        attrs={"axis": 1, "split_sizes": [1, 2], "num_splits": 2},
        expected=([[1]], [[2, 3]]),
    ),
    OpCase(op="flatten2d", branch="axis 1 of a vector", inputs=([1.0, 2.0],), expected=[[1.0], [2.0]]),
    OpCase(
        op="flatten2d", branch="axis -1 of a vector", inputs=([1.0, 2.0],), attrs={"axis": -1}, expected=[[1.0, 2.0]]
    ),
    OpCase(
        op="flatten2d",
        branch="rank 3, axis 2",
        inputs=([[[1, 2], [3, 4]]],),
        attrs={"axis": 2},
        expected=[[1, 2], [3, 4]],
    ),
]

ORDERING = [
    OpCase(op="cumsum", branch="inclusive", inputs=([1.0, 2.0, 3.0],), expected=[1.0, 3.0, 6.0]),
    OpCase(
        op="cumsum", branch="exclusive", inputs=([1.0, 2.0, 3.0],), attrs={"exclusive": True}, expected=[0.0, 1.0, 3.0]
    ),
    OpCase(op="cumsum", branch="reverse", inputs=([1.0, 2.0, 3.0],), attrs={"reverse": True}, expected=[6.0, 5.0, 3.0]),
    OpCase(
        op="cumsum",
        branch="exclusive and reverse along the last axis, integers",
        inputs=([[1, 2, 3]],),
        attrs={"exclusive": True, "reverse": True, "axis": -1},
        expected=[[5, 3, 0]],
    ),
    OpCase(op="argsort", branch="descending by default", inputs=(ROWS,), expected=[[1, 2, 0], [2, 0, 1]]),
    OpCase(
        op="argsort",
        branch="ascending, axis 0",
        inputs=(ROWS,),
        attrs={"axis": 0, "ascending": True},
        expected=[[0, 1, 0], [1, 0, 1]],
    ),
    OpCase(op="argsort", branch="equal values keep their order", inputs=([2.0, 3.0, 2.0, 3.0],), expected=[1, 3, 0, 2]),
    OpCase(
        op="topk",
        branch="largest",
        inputs=(ROWS,),
        attrs={"k": 2},
        expected=([[5.0, 3.0], [6.0, 4.0]], [[1, 2], [2, 0]]),
    ),
    OpCase(
        op="topk",
        branch="smallest, axis 0",
        inputs=(ROWS,),
        attrs={"axis": 0, "ascending": True},
        expected=([[1.0, 2.0, 3.0]], [[0, 1, 0]]),
    ),
    OpCase(
        op="topk",
        branch="values alone",
        opset="iOS16",
        inputs=(ROWS,),
        attrs={"return_indices": False},
        expected=[[5.0], [6.0]],
    ),
    OpCase(
        op="topk",
        branch="indices too",
        opset="iOS16",
        inputs=(ROWS,),
        attrs={"sort": False},
        expected=([[5.0], [6.0]], [[1], [2]]),
    ),
    OpCase(
        op="topk",
        branch="-1 is all",
        opset="iOS17",
        inputs=([1.0, 2.0],),
        attrs={"k": -1},
        expected=([2.0, 1.0], [1, 0]),
    ),
    OpCase(
        op="topk", branch="values alone", opset="iOS17", inputs=([1, 2],), attrs={"return_indices": False}, expected=[2]
    ),
]

PADDING = [
    OpCase(
        op="pad",
        branch="constant",
        inputs=([1.0, 2.0],),
        attrs={"pad": [1, 2], "constant_val": 9.0},
        expected=[9.0, 1.0, 2.0, 9.0, 9.0],
    ),
    OpCase(
        op="pad",
        branch="only the last axes",
        inputs=([[1, 2], [3, 4]],),
        attrs={"pad": [0, 1]},
        expected=[[1, 2, 0], [3, 4, 0]],
    ),
    OpCase(
        op="pad",
        branch="first pair, first axis",
        inputs=([[1, 2]],),
        attrs={"pad": [1, 0, 0, 1]},
        expected=[[0, 0, 0], [1, 2, 0]],
    ),
    OpCase(
        op="pad",
        branch="reflect",
        inputs=([1, 2, 3],),
        attrs={"pad": [2, 1], "mode": "reflect"},
        expected=[3, 2, 1, 2, 3, 2],
    ),
    OpCase(
        op="pad",
        branch="replicate",
        inputs=([1, 2],),
        attrs={"pad": [2, 1], "mode": "replicate"},
        expected=[1, 1, 1, 2, 2],
    ),
    OpCase(
        op="pad",
        branch="reflect on both axes",
        inputs=([[1, 2], [3, 4]],),
        attrs={"pad": [1, 0, 0, 1], "mode": "reflect"},
        expected=[[3, 4, 3], [1, 2, 1], [3, 4, 3]],
    ),
]

# Two boxes of 2 x 2 whose centres lie 1 apart: intersection 2, union 6, IoU 1/3. The third lies elsewhere.
BOXES = [[[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0], [9.0, 9.0, 2.0, 2.0]]]
SCORES = [[[0.5, 0.1], [0.2, 0.8], [0.3, 0.1]]]
SUPPRESSION = [
    OpCase(
        op="non_maximum_suppression",
        branch="IoU above the threshold, padded",
        inputs=(BOXES, SCORES),
        attrs={"iou_threshold": 0.3, "score_threshold": 0.0, "max_boxes": 3},
        expected=(
            [[BOXES[0][1], BOXES[0][2], [0.0] * 4]],
            [[[0.2, 0.8], [0.3, 0.1], [0.0, 0.0]]],
            [[1, 2, -1]],
            [2],
        ),
    ),
    OpCase(
        op="non_maximum_suppression",
        branch="IoU below the threshold, no more than max_boxes",
        inputs=(BOXES, SCORES),
        attrs={"iou_threshold": 0.34, "score_threshold": 0.0, "max_boxes": 2},
        expected=([[BOXES[0][1], BOXES[0][0]]], [[[0.2, 0.8], [0.5, 0.1]]], [[1, 0]], [2]),
    ),
    OpCase(
        op="non_maximum_suppression",
        branch="other classes are left alone",
        inputs=(BOXES, SCORES),
        attrs={"iou_threshold": 0.3, "score_threshold": 0.4, "max_boxes": 2, "per_class_suppression": True},
        expected=([[BOXES[0][1], BOXES[0][0]]], [[[0.2, 0.8], [0.5, 0.1]]], [[1, 0]], [2]),
    ),
    OpCase(
        op="non_maximum_suppression",
        branch="a score threshold above all leaves the best",
        inputs=(BOXES, SCORES),
        attrs={"iou_threshold": 0.3, "score_threshold": 2.0, "max_boxes": 1},
        expected=([[BOXES[0][1]]], [[[0.2, 0.8]]], [[1]], [1]),
    ),
    OpCase(
        op="non_maximum_suppression",
        branch="boxes along the last axis",
        opset="iOS17",
        inputs=([[[0.0, 1.0], [0.0, 0.0], [2.0, 2.0], [2.0, 2.0]]], [[[0.5, 0.8]]]),
        attrs={"iou_threshold": 0.3, "max_boxes": 2},
        expected=([[[1.0, 0.0], [0.0, 0.0], [2.0, 0.0], [2.0, 0.0]]], [[[0.8, 0.0]]], [[1, -1]]),
    ),
]


@parametrize_cases(BUILDING + JOINING + ORDERING + PADDING + SUPPRESSION)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check_case(case)


REFUSED = [
    ("tile", (torch.zeros(1000, 1000),), {"reps": [1000, 1000]}, "takes 4000000000000 bytes"),
    ("tile", (torch.zeros(2),), {"reps": [1, 1]}, "one per axis"),
    ("fill", (), {"shape": [2**31, 2**31], "out_types": FP32}, "the limit is"),
    ("fill", (), {"shape": [-1], "out_types": FP32}, "negative size"),
    ("range_1d", (torch.tensor(1e30), torch.tensor(0.0), torch.tensor(1.0)), {}, "the limit is"),
    ("range_1d", (torch.tensor(5), torch.tensor(0), torch.tensor(0)), {}, "not a finite sequence"),
    ("range_1d", (torch.tensor(float("inf")), torch.tensor(0.0), torch.tensor(1.0)), {}, "not a finite sequence"),
    ("pad", (torch.zeros(2, 2),), {"pad": [0, 2**40]}, "the limit is"),
    ("pad", (torch.zeros(2),), {"pad": [-1, 0]}, "cannot be negative"),
    ("pad", (torch.zeros(2),), {"pad": [2, 0], "mode": "reflect"}, "longer than 2"),
    ("pad", (torch.zeros(2),), {"pad": [1, 0], "mode": "wrap"}, "'wrap'"),
    ("one_hot", (torch.zeros(9),), {"one_hot_vector_size": 2**40, "out_types": FP32}, "the limit is"),
    ("split", (torch.zeros(3),), {"axis": 0, "num_splits": 2}, "into 2 equal parts"),
    ("topk", (torch.zeros(3),), {"k": 4}, "topk wants 4 of the 3"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_op_refuses_before_it_allocates(op: str, inputs: tuple, attrs: dict, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        OPS.lookup(op, "iOS15")(*inputs, **attrs)


def test_split_returns_views() -> None:
    x = torch.arange(6.0)
    left, right = OPS.lookup("split", "iOS15")(x, axis=0, num_splits=2)
    assert left.data_ptr() == x.data_ptr() and right.data_ptr() == x[3:].data_ptr()
