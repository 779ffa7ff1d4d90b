"""Literal cases of the chapter scatter_gather; numbers worked out by hand from the op's definition."""

import pytest
import torch
from literal_case import OpCase, check_case, parametrize_cases

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

TABLE = [[1, 2, 3], [4, 5, 6]]

GATHER = [
    OpCase(op="gather", branch="scalar index drops the axis", inputs=(TABLE, 1), expected=[4, 5, 6]),
    OpCase(
        op="gather",
        branch="negative index and axis",
        inputs=(TABLE, [-1, 0]),
        attrs={"axis": -1},
        expected=[[3, 1], [6, 4]],
    ),
    OpCase(
        op="gather",
        branch="matrix of indices",
        inputs=([10, 20, 30], [[0, 1], [2, 2]]),
        expected=[[10, 20], [30, 30]],
    ),
    OpCase(
        op="gather",
        branch="one batch axis",
        opset="iOS16",
        inputs=(TABLE, [[0, 2], [1, 1]]),
        attrs={"axis": 1, "batch_dims": 1},
        expected=[[1, 3], [5, 5]],
    ),
    OpCase(
        op="gather",
        branch="one index per batch entry",
        opset="iOS16",
        inputs=(TABLE, [2, 0]),
        attrs={"axis": 1, "batch_dims": 1},
        expected=[3, 4],
    ),
    OpCase(
        op="gather",
        branch="an axis between batch and gathered axis",
        opset="iOS16",
        inputs=([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], [[1], [0]]),
        attrs={"axis": 2, "batch_dims": 1},
        expected=[[[2], [4]], [[5], [7]]],
    ),
    OpCase(
        op="gather_along_axis",
        branch="axis 1, negative index",
        inputs=(TABLE, [[0, 0, -1], [1, 2, 0]]),
        attrs={"axis": 1},
        expected=[[1, 1, 3], [5, 6, 4]],
    ),
    OpCase(
        op="gather_along_axis", branch="fewer indices than elements", inputs=(TABLE, [[1, 0, 1]]), expected=[[4, 2, 6]]
    ),
    OpCase(op="gather_nd", branch="elements", inputs=(TABLE, [[0, 2], [1, -1]]), expected=[3, 6]),
    OpCase(op="gather_nd", branch="rows", inputs=(TABLE, [[[1]], [[0]]]), expected=[[[4, 5, 6]], [[1, 2, 3]]]),
    OpCase(
        op="gather_nd",
        branch="one batch axis",
        opset="iOS16",
        inputs=(TABLE, [[2], [0]]),
        attrs={"batch_dims": 1},
        expected=[3, 4],
    ),
]

MODES = {
    "update": [9, 2, 8],
    "add": [10, 2, 11],
    "sub": [-8, 2, -5],
    "mul": [9, 2, 24],
    "max": [9, 2, 8],
    "min": [1, 2, 3],
}
SCATTER = [
    *[
        OpCase(op="scatter", branch=mode, inputs=([1, 2, 3], [2, 0], [8, 9]), attrs={"mode": mode}, expected=expected)
        for mode, expected in MODES.items()
    ],
    OpCase(op="scatter", branch="add is the default", inputs=([1, 2], [0], [5]), expected=[6, 2]),
    OpCase(op="scatter", branch="div", inputs=([6.0, 9.0], [1], [2.0]), attrs={"mode": "div"}, expected=[6.0, 4.5]),
    OpCase(op="scatter", branch="div of integers", inputs=([6, -9], [1], [2]), attrs={"mode": "div"}, expected=[6, -4]),
    OpCase(op="scatter", branch="the same place twice", inputs=([1, 2], [1, 1], [5, 7]), expected=[1, 14]),
    OpCase(
        op="scatter",
        branch="slices of axis 1",
        inputs=(TABLE, [-1, 0], [[10, 20], [30, 40]]),
        attrs={"axis": 1},
        expected=[[21, 2, 13], [44, 5, 36]],
    ),
    OpCase(
        op="scatter_along_axis",
        branch="update along axis 1",
        inputs=(TABLE, [[2, 0, 1], [1, 2, 0]], [[7, 8, 9], [7, 8, 9]]),
        attrs={"axis": 1, "mode": "update"},
        expected=[[8, 9, 7], [9, 7, 8]],
    ),
    OpCase(
        op="scatter_along_axis",
        branch="add is the default",
        inputs=(TABLE, [[1, 0, 1]], [[10, 20, 30]]),
        expected=[[1, 22, 3], [14, 5, 36]],
    ),
    OpCase(
        op="scatter_nd",
        branch="elements",
        inputs=(TABLE, [[0, 1], [1, -1]], [10, 20]),
        expected=[[1, 12, 3], [4, 5, 26]],
    ),
    OpCase(
        op="scatter_nd",
        branch="rows",
        inputs=(TABLE, [[1]], [[7, 8, 9]]),
        attrs={"mode": "update"},
        expected=[[1, 2, 3], [7, 8, 9]],
    ),
]


@parametrize_cases(GATHER + SCATTER)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check_case(case)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("gather", ([1, 2], [2]), {}),
        ("gather", ([1, 2], [-1]), {"validate_indices": True}),
        ("gather_along_axis", ([1, 2], [-3]), {}),
        ("gather_nd", ([1, 2], [[5]]), {}),
        ("scatter", ([1, 2], [2], [0]), {}),
        ("scatter_along_axis", ([1, 2], [-1], [0]), {"validate_indices": True}),
        ("scatter_nd", ([[1, 2]], [[0, 2]], [0]), {}),
    ],
)
def test_index_outside_the_axis_is_refused(op: str, inputs: tuple, attrs: dict) -> None:
    tensors = [torch.tensor(value, dtype=torch.int32) for value in inputs]
    with pytest.raises(ProgramError, match=r"indices -?\d+ to -?\d+ leave axis \d of size \d"):
        OPS.lookup(op, "iOS17")(*tensors, **attrs)


def test_unknown_scatter_mode_is_refused() -> None:
    data, index = torch.zeros(2), torch.zeros(1, dtype=torch.int32)
    with pytest.raises(ProgramError, match="'average'"):
        OPS.lookup("scatter", "iOS15")(data, index, torch.ones(1), mode="average")


def test_scatter_leaves_its_input_alone() -> None:
    data = torch.zeros(2)
    OPS.lookup("scatter", "iOS15")(data, torch.tensor([0]), torch.ones(1))
    assert data.tolist() == [0.0, 0.0]
