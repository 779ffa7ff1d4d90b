"""Literal cases of the chapter scatter_gather; numbers worked out by hand from the op's definition."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, scatter_gather"
TABLE = [[1, 2, 3], [4, 5, 6]]

GATHER = [
    OpCase("gather", "scalar index drops the axis", {"x": TABLE, "indices": 1}, {}, [4, 5, 6], SPEC, integers=True),
    OpCase(
        "gather",
        "negative index and axis",
        {"x": TABLE, "indices": [-1, 0]},
        {"axis": -1},
        [[3, 1], [6, 4]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "gather",
        "matrix of indices",
        {"x": [10, 20, 30], "indices": [[0, 1], [2, 2]]},
        {},
        [[10, 20], [30, 30]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "gather",
        "one batch axis",
        {"x": TABLE, "indices": [[0, 2], [1, 1]]},
        {"axis": 1, "batch_dims": 1},
        [[1, 3], [5, 5]],
        SPEC,
        opset="iOS16",
        integers=True,
    ),
    OpCase(
        "gather",
        "one index per batch entry",
        {"x": TABLE, "indices": [2, 0]},
        {"axis": 1, "batch_dims": 1},
        [3, 4],
        SPEC,
        opset="iOS16",
        integers=True,
    ),
    OpCase(
        "gather",
        "an axis between batch and gathered axis",
        {"x": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "indices": [[1], [0]]},
        {"axis": 2, "batch_dims": 1},
        [[[2], [4]], [[5], [7]]],
        SPEC,
        opset="iOS16",
        integers=True,
    ),
    OpCase(
        "gather_along_axis",
        "axis 1, negative index",
        {"x": TABLE, "indices": [[0, 0, -1], [1, 2, 0]]},
        {"axis": 1},
        [[1, 1, 3], [5, 6, 4]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "gather_along_axis",
        "fewer indices than elements",
        {"x": TABLE, "indices": [[1, 0, 1]]},
        {},
        [[4, 2, 6]],
        SPEC,
        integers=True,
    ),
    OpCase("gather_nd", "elements", {"x": TABLE, "indices": [[0, 2], [1, -1]]}, {}, [3, 6], SPEC, integers=True),
    OpCase(
        "gather_nd",
        "rows",
        {"x": TABLE, "indices": [[[1]], [[0]]]},
        {},
        [[[4, 5, 6]], [[1, 2, 3]]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "gather_nd",
        "one batch axis",
        {"x": TABLE, "indices": [[2], [0]]},
        {"batch_dims": 1},
        [3, 4],
        SPEC,
        opset="iOS16",
        integers=True,
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
        OpCase(
            "scatter",
            mode,
            {"data": [1, 2, 3], "indices": [2, 0], "updates": [8, 9]},
            {"mode": mode},
            expected,
            SPEC,
            integers=True,
        )
        for mode, expected in MODES.items()
    ],
    OpCase(
        "scatter",
        "add is the default",
        {"data": [1, 2], "indices": [0], "updates": [5]},
        {},
        [6, 2],
        SPEC,
        integers=True,
    ),
    OpCase(
        "scatter",
        "div",
        {"data": [6.0, 9.0], "indices": [1], "updates": [2.0]},
        {"mode": "div"},
        [6.0, 4.5],
        SPEC,
        integers=True,
    ),
    OpCase(
        "scatter",
        "div of integers",
        {"data": [6, -9], "indices": [1], "updates": [2]},
        {"mode": "div"},
        [6, -4],
        SPEC,
        integers=True,
    ),
    OpCase(
        "scatter",
        "the same index twice",
        {"data": [1, 2], "indices": [1, 1], "updates": [5, 7]},
        {},
        [1, 14],
        SPEC,
        integers=True,
    ),
    OpCase(
        "scatter",
        "slices of axis 1",
        {"data": TABLE, "indices": [-1, 0], "updates": [[10, 20], [30, 40]]},
        {"axis": 1},
        [[21, 2, 13], [44, 5, 36]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "scatter_along_axis",
        "update along axis 1",
        {"data": TABLE, "indices": [[2, 0, 1], [1, 2, 0]], "updates": [[7, 8, 9], [7, 8, 9]]},
        {"axis": 1, "mode": "update"},
        [[8, 9, 7], [9, 7, 8]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "scatter_along_axis",
        "add is the default",
        {"data": TABLE, "indices": [[1, 0, 1]], "updates": [[10, 20, 30]]},
        {},
        [[1, 22, 3], [14, 5, 36]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "scatter_nd",
        "elements",
        {"data": TABLE, "indices": [[0, 1], [1, -1]], "updates": [10, 20]},
        {},
        [[1, 12, 3], [4, 5, 26]],
        SPEC,
        integers=True,
    ),
    OpCase(
        "scatter_nd",
        "rows",
        {"data": TABLE, "indices": [[1]], "updates": [[7, 8, 9]]},
        {"mode": "update"},
        [[1, 2, 3], [7, 8, 9]],
        SPEC,
        integers=True,
    ),
]


@pytest.mark.parametrize("case", GATHER + SCATTER, ids=case_id)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check(case)


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
