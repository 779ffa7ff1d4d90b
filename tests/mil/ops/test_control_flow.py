"""Literal cases of the chapter control_flow."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, control_flow"


def op(name: str):
    return OPS.lookup(name, "iOS15")


CASES = [
    OpCase("select", "per element", {"cond": [True, False], "a": [1, 2], "b": [3, 4]}, {}, [1, 4], SPEC, integers=True),
    OpCase(
        "select",
        "broadcast",
        {"cond": [[True], [False]], "a": [1.0, 2.0], "b": 0.0},
        {},
        [[1.0, 2.0], [0.0, 0.0]],
        SPEC,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_op_gives_the_literal_result(case: OpCase) -> None:
    check(case)


@pytest.mark.parametrize(("predicate", "expected"), [(True, 1.0), (False, 2.0)])
def test_cond_runs_one_block_only(predicate: bool, expected: float) -> None:
    ran = []
    blocks = tuple(lambda value=value: ran.append(value) or (torch.tensor(value),) for value in (1.0, 2.0))
    (result,) = op("cond")(torch.tensor(predicate), blocks=blocks)
    assert result == expected
    assert ran == [expected]


def test_while_loop_feeds_the_variables_through_the_body() -> None:
    condition, body = (lambda i, total: (i < 4,)), (lambda i, total: (i + 1, total + i))
    i, total = op("while_loop")([torch.tensor(0), torch.tensor(10)], blocks=(condition, body))
    assert (int(i), int(total)) == (4, 16)  # 10 + 0 + 1 + 2 + 3


def test_while_loop_may_run_not_at_all() -> None:
    (value,) = op("while_loop")([torch.tensor(7)], blocks=(lambda x: (x < 0,), lambda x: (x + 1,)))
    assert int(value) == 7


def test_list_is_written_read_and_gathered() -> None:
    empty = op("make_list")(elem_shape=[2], init_length=3, dynamic_length=False)
    full = op("list_write")(empty, torch.tensor([1.0, 2.0]), index=1)
    assert op("list_read")(full, index=1).tolist() == [1.0, 2.0]
    assert op("list_read")(full, index=0).tolist() == [0.0, 0.0]
    assert op("list_read")(empty, index=1).tolist() == [0.0, 0.0]  # writing made a new list
    assert op("list_gather")(full, indices=[1, 0]).tolist() == [[1.0, 2.0], [0.0, 0.0]]
    assert op("list_gather")(full, indices=[]).shape == (0, 2)


def test_list_scatter_writes_several_and_grows_a_dynamic_list() -> None:
    short = op("make_list")(elem_shape=["size"], init_length=1, dtype="int32")
    long = op("list_scatter")(short, torch.tensor([[5], [6]], dtype=torch.int32), indices=[3, 0])
    assert int(op("list_length")(long)) == 4
    assert op("list_gather")(long, indices=[0, 1, 3]).tolist() == [[6], [0], [5]]
    assert int(op("list_length")(short)) == 1


def test_list_of_fixed_length_does_not_grow() -> None:
    fixed = op("make_list")(elem_shape=[1], init_length=1, dynamic_length=False)
    with pytest.raises(ProgramError, match="index 1 is outside a list of length 1"):
        op("list_write")(fixed, torch.zeros(1), index=1)


def test_list_refuses_an_index_that_no_memory_could_hold() -> None:
    growing = op("make_list")(elem_shape=[1])
    with pytest.raises(ProgramError, match="index 2147483647"):
        op("list_write")(growing, torch.zeros(1), index=2**31 - 1)
    with pytest.raises(ProgramError, match="make_list of length 2147483647"):
        op("make_list")(elem_shape=[1], init_length=2**31 - 1)


def test_list_of_unknown_shape_cannot_be_read_before_it_is_written() -> None:
    unknown = op("make_list")(elem_shape=["size"])
    with pytest.raises(ProgramError, match="before anything was written"):
        op("list_read")(unknown, index=0)
