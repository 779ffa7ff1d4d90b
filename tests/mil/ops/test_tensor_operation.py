"""Literal cases of the chapter tensor_operation; numbers worked out by hand from the op's definition."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS
from edgesam_export.mil.types import ValueType

SPEC = "MIL spec, tensor_operation"
MATRIX = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]
ROWS = [[1.0, 5.0, 3.0], [4.0, 2.0, 6.0]]
FP32, INT32, BOOL = (ValueType("fp32", None),), (ValueType("int32", None),), (ValueType("bool", None),)

BUILDING = [
    OpCase(
        "band_part",
        "lower 0 keeps the upper triangle",
        {"x": MATRIX},
        {"lower": 0, "upper": -1},
        [[1.0, 2.0, 3.0], [0.0, 5.0, 6.0], [0.0, 0.0, 9.0]],
        SPEC,
    ),
    OpCase(
        "band_part",
        "upper 0 keeps the lower triangle",
        {"x": MATRIX},
        {"lower": -1, "upper": 0},
        [[1.0, 0.0, 0.0], [4.0, 5.0, 0.0], [7.0, 8.0, 9.0]],
        SPEC,
    ),
    OpCase("band_part", "defaults keep everything", {"x": MATRIX}, {}, MATRIX, SPEC),
    OpCase(
        "band_part",
        "a band one wide below, of booleans",
        {"x": [[True, True], [True, True], [True, True]]},
        {"lower": 1, "upper": 0},
        [[True, False], [True, True], [False, True]],
        SPEC,
    ),
    OpCase("fill", "fp32", {}, {"shape": [2, 1], "value": 2.5, "out_types": FP32}, [[2.5], [2.5]], SPEC),
    OpCase("fill", "int32", {}, {"shape": [2], "value": 7, "out_types": INT32}, [7, 7], SPEC, integers=True),
    OpCase("fill", "bool", {}, {"shape": [1], "value": True, "out_types": BOOL}, [True], SPEC),
    OpCase(
        "fill_like",
        "type of the value, shape of the reference",
        {"ref_tensor": [[1.0], [2.0]]},
        {"value": 3, "out_types": INT32},
        [[3], [3]],
        SPEC,
        opset="iOS16",
        integers=True,
    ),
    OpCase(
        "one_hot",
        "last axis",
        {"indices": [1, 0]},
        {"one_hot_vector_size": 3, "out_types": INT32},
        [[0, 1, 0], [1, 0, 0]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "one_hot",
        "first axis, own values",
        {"indices": [1, 0]},
        {"one_hot_vector_size": 3, "axis": 0, "on_value": 5.0, "off_value": -1.0, "out_types": FP32},
        [[-1.0, 5.0], [5.0, -1.0], [-1.0, -1.0]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "one_hot",
        "an index outside stays off",
        {"indices": [3, -1]},
        {"one_hot_vector_size": 2, "out_types": INT32},
        [[0, 0], [0, 0]],
        SPEC,
        integers=True,
    ),
    OpCase("range_1d", "end is excluded", {"end": 5, "start": 1, "step": 2}, {}, [1, 3], SPEC, integers=True),
    OpCase("range_1d", "fraction", {"end": 1.0, "start": 0.0, "step": 0.25}, {}, [0.0, 0.25, 0.5, 0.75], SPEC),
    OpCase("range_1d", "downwards", {"end": 0, "start": 3, "step": -1}, {}, [3, 2, 1], SPEC, integers=True),
    OpCase(
        "range_1d",
        "empty",
        {"end": 1, "start": 4, "step": 2},
        {},
        torch.zeros(0, dtype=torch.int32),
        SPEC,
        integers=True,
    ),
    OpCase("tile", "each axis", {"x": [[1, 2]]}, {"reps": [2, 2]}, [[1, 2, 1, 2]] * 2, SPEC, integers=True),
    OpCase("shape", "sizes as int32", {"x": [[1.0, 2.0, 3.0]]}, {}, [1, 3], SPEC, integers=True),
    OpCase("identity", "the same", {"x": [1.0]}, {}, [1.0], SPEC),
    OpCase("non_zero", "rows of indices", {"x": [[0.0, 2.0], [3.0, 0.0]]}, {}, [[0, 1], [1, 0]], SPEC, integers=True),
]

JOINING = [
    OpCase(
        "concat", "axis -1", {"values": ([[1], [2]], [[3], [4]])}, {"axis": -1}, [[1, 3], [2, 4]], SPEC, integers=True
    ),
    OpCase(
        "concat",
        "interleave takes rows in turn",
        {"values": ([[1, 2], [3, 4]], [[5, 6], [7, 8]])},
        {"axis": 0, "interleave": True},
        [[1, 2], [5, 6], [3, 4], [7, 8]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "concat",
        "interleave along a negative axis",
        {"values": ([[1, 2]], [[5, 6]])},
        {"axis": -1, "interleave": True},
        [[1, 5, 2, 6]],
        SPEC,
        integers=True,
    ),
    OpCase("concat", "scalars", {"values": (1, 2)}, {"axis": 0}, [1, 2], SPEC, integers=True),
    OpCase("stack", "new last axis", {"values": ([1, 2], [3, 4])}, {"axis": -1}, [[1, 3], [2, 4]], SPEC, integers=True),
    OpCase(
        "split", "equal parts", {"x": [1, 2, 3, 4]}, {"axis": 0, "num_splits": 2}, ([1, 2], [3, 4]), SPEC, integers=True
    ),
    OpCase(
        "split",
        "given sizes",
        {"x": [[1, 2, 3]]},
        {"axis": 1, "split_sizes": [1, 2], "num_splits": 2},
        ([[1]], [[2, 3]]),
        SPEC,
        integers=True,
    ),
    OpCase("flatten2d", "axis 1 of a vector", {"x": [1.0, 2.0]}, {}, [[1.0], [2.0]], SPEC),
    OpCase("flatten2d", "axis -1 of a vector", {"x": [1.0, 2.0]}, {"axis": -1}, [[1.0, 2.0]], SPEC),
    OpCase(
        "flatten2d", "rank 3, axis 2", {"x": [[[1, 2], [3, 4]]]}, {"axis": 2}, [[1, 2], [3, 4]], SPEC, integers=True
    ),
]

ORDERING = [
    OpCase("cumsum", "inclusive", {"x": [1.0, 2.0, 3.0]}, {}, [1.0, 3.0, 6.0], SPEC),
    OpCase("cumsum", "exclusive", {"x": [1.0, 2.0, 3.0]}, {"exclusive": True}, [0.0, 1.0, 3.0], SPEC),
    OpCase("cumsum", "reverse", {"x": [1.0, 2.0, 3.0]}, {"reverse": True}, [6.0, 5.0, 3.0], SPEC),
    OpCase(
        "cumsum",
        "exclusive and reverse along the last axis, integers",
        {"x": [[1, 2, 3]]},
        {"exclusive": True, "reverse": True, "axis": -1},
        [[5, 3, 0]],
        SPEC,
        integers=True,
    ),
    OpCase("argsort", "descending by default", {"x": ROWS}, {}, [[1, 2, 0], [2, 0, 1]], SPEC, integers=True),
    OpCase(
        "argsort",
        "ascending, axis 0",
        {"x": ROWS},
        {"axis": 0, "ascending": True},
        [[0, 1, 0], [1, 0, 1]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "argsort", "equal values keep their order", {"x": [2.0, 3.0, 2.0, 3.0]}, {}, [1, 3, 0, 2], SPEC, integers=True
    ),
    OpCase("topk", "largest", {"x": ROWS}, {"k": 2}, ([[5.0, 3.0], [6.0, 4.0]], [[1, 2], [2, 0]]), SPEC, integers=True),
    OpCase(
        "topk",
        "smallest, axis 0",
        {"x": ROWS},
        {"axis": 0, "ascending": True},
        ([[1.0, 2.0, 3.0]], [[0, 1, 0]]),
        SPEC,
        integers=True,
    ),
    OpCase("topk", "values alone", {"x": ROWS}, {"return_indices": False}, [[5.0], [6.0]], SPEC, opset="iOS16"),
    OpCase(
        "topk",
        "indices too",
        {"x": ROWS},
        {"sort": False},
        ([[5.0], [6.0]], [[1], [2]]),
        SPEC,
        opset="iOS16",
        integers=True,
    ),
    OpCase("topk", "-1 is all", {"x": [1.0, 2.0]}, {"k": -1}, ([2.0, 1.0], [1, 0]), SPEC, opset="iOS17", integers=True),
    OpCase("topk", "values alone", {"x": [1, 2]}, {"return_indices": False}, [2], SPEC, opset="iOS17", integers=True),
]

PADDING = [
    OpCase("pad", "constant", {"x": [1.0, 2.0]}, {"pad": [1, 2], "constant_val": 9.0}, [9.0, 1.0, 2.0, 9.0, 9.0], SPEC),
    OpCase(
        "pad",
        "only the last axes",
        {"x": [[1, 2], [3, 4]]},
        {"pad": [0, 1]},
        [[1, 2, 0], [3, 4, 0]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "pad",
        "first pair, first axis",
        {"x": [[1, 2]]},
        {"pad": [1, 0, 0, 1]},
        [[0, 0, 0], [1, 2, 0]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "pad", "reflect", {"x": [1, 2, 3]}, {"pad": [2, 1], "mode": "reflect"}, [3, 2, 1, 2, 3, 2], SPEC, integers=True
    ),
    OpCase(
        "pad", "replicate", {"x": [1, 2]}, {"pad": [2, 1], "mode": "replicate"}, [1, 1, 1, 2, 2], SPEC, integers=True
    ),
    OpCase(
        "pad",
        "reflect on both axes",
        {"x": [[1, 2], [3, 4]]},
        {"pad": [1, 0, 0, 1], "mode": "reflect"},
        [[3, 4, 3], [1, 2, 1], [3, 4, 3]],
        SPEC,
        integers=True,
    ),
]

# Two boxes of 2 x 2 whose centres lie 1 apart: intersection 2, union 6, IoU 1/3. The third lies elsewhere.
BOXES = [[[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0], [9.0, 9.0, 2.0, 2.0]]]
SCORES = [[[0.5, 0.1], [0.2, 0.8], [0.3, 0.1]]]
SUPPRESSION = [
    OpCase(
        "non_maximum_suppression",
        "IoU above the threshold, padded",
        {"boxes": BOXES, "scores": SCORES},
        {"iou_threshold": 0.3, "score_threshold": 0.0, "max_boxes": 3},
        (
            [[BOXES[0][1], BOXES[0][2], [0.0] * 4]],
            [[[0.2, 0.8], [0.3, 0.1], [0.0, 0.0]]],
            [[1, 2, -1]],
            [2],
        ),
        SPEC,
        integers=True,
    ),
    OpCase(
        "non_maximum_suppression",
        "IoU below the threshold, no more than max_boxes",
        {"boxes": BOXES, "scores": SCORES},
        {"iou_threshold": 0.34, "score_threshold": 0.0, "max_boxes": 2},
        ([[BOXES[0][1], BOXES[0][0]]], [[[0.2, 0.8], [0.5, 0.1]]], [[1, 0]], [2]),
        SPEC,
        integers=True,
    ),
    OpCase(
        "non_maximum_suppression",
        "other classes are left alone",
        {"boxes": BOXES, "scores": SCORES},
        {"iou_threshold": 0.3, "score_threshold": 0.4, "max_boxes": 2, "per_class_suppression": True},
        ([[BOXES[0][1], BOXES[0][0]]], [[[0.2, 0.8], [0.5, 0.1]]], [[1, 0]], [2]),
        SPEC,
        integers=True,
    ),
    OpCase(
        "non_maximum_suppression",
        "a score threshold above all leaves the best",
        {"boxes": BOXES, "scores": SCORES},
        {"iou_threshold": 0.3, "score_threshold": 2.0, "max_boxes": 1},
        ([[BOXES[0][1]]], [[[0.2, 0.8]]], [[1]], [1]),
        SPEC,
        integers=True,
    ),
    OpCase(
        "non_maximum_suppression",
        "boxes along the last axis",
        {"boxes": [[[0.0, 1.0], [0.0, 0.0], [2.0, 2.0], [2.0, 2.0]]], "scores": [[[0.5, 0.8]]]},
        {"iou_threshold": 0.3, "max_boxes": 2},
        ([[[1.0, 0.0], [0.0, 0.0], [2.0, 0.0], [2.0, 0.0]]], [[[0.8, 0.0]]], [[1, -1]]),
        SPEC,
        opset="iOS17",
        integers=True,
    ),
]


@pytest.mark.parametrize("case", BUILDING + JOINING + ORDERING + PADDING + SUPPRESSION, ids=case_id)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check(case)


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
