"""The file that an interrupted search goes on from."""

from __future__ import annotations

import pytest

from edgesam_export.errors import UsageError
from edgesam_export.shrink.state import State

IDENTITY = {"model": "tiny", "options": {"schemes": ("a", "b")}}


def refuse() -> None:
    raise AssertionError("computed again")


def test_a_finished_step_is_not_computed_again(tmp_path):
    path = tmp_path / "folder" / "state.ndjson"
    assert State(path, IDENTITY).step("one", lambda: [1, {"x": 0.1}]) == [1, {"x": 0.1}]
    again = State(path, IDENTITY)
    assert again.step("one", refuse) == [1, {"x": 0.1}]
    again.remove()
    assert State(path, IDENTITY).step("one", lambda: 2) == 2


def test_what_an_interrupted_write_left_is_dropped(tmp_path):
    path = tmp_path / "state.ndjson"
    state = State(path, IDENTITY)
    state.step("one", lambda: 1)
    state.step("two", lambda: 2)
    path.write_bytes(path.read_bytes()[:-4])
    state = State(path, IDENTITY)
    assert (state.step("one", refuse), state.step("two", lambda: 3)) == (1, 3)
    assert State(path, IDENTITY).step("two", refuse) == 3


def test_another_search_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "state.ndjson"
    State(path, IDENTITY).step("one", lambda: 1)
    with pytest.raises(UsageError, match=r"of another search \(model tiny, now other\); delete it, or choose another"):
        State(path, {**IDENTITY, "model": "other"})


@pytest.mark.parametrize("contents", [b"nonsense\n", b"[1]\n", b'{"model": "tiny"}\n{"x": 1}\n', b"\xff\xfe\n"])
def test_a_damaged_file_says_to_delete_it(tmp_path, contents):
    path = tmp_path / "state.ndjson"
    path.write_bytes(contents)
    with pytest.raises(UsageError, match="delete it"):
        State(path, IDENTITY)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write .* choose another --output"):
        State(tmp_path / "file" / "state.ndjson", IDENTITY).step("one", lambda: 1)
