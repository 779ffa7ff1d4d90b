"""Reading and writing of states."""

import torch

from edgesam_export.mil.ops import OPS
from edgesam_export.mil.types import StateBox


def op(name: str):
    return OPS.lookup(name, "iOS18")


def test_state_keeps_what_was_written() -> None:
    state = StateBox(torch.tensor([1.0]))
    before = op("read_state")(state)
    assert op("write_state")(state, torch.tensor([2.0])) == ()
    assert op("read_state")(state).tolist() == [2.0]
    assert before.tolist() == [1.0]  # a value that was read does not change afterwards


def test_update_returns_what_it_wrote() -> None:
    state = StateBox(torch.tensor([1.0]))
    assert op("coreml_update_state")(state, torch.tensor([3.0])).tolist() == [3.0]
    assert state.value.tolist() == [3.0]
