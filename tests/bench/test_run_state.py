"""What a run leaves for another process to take it up."""

from __future__ import annotations

import json

import pytest
from fake_device import NONCE, PHONE, RUN_ID

from edgesam_export.bench.driver.run_state import RunFolder, RunState, find_run, read_state
from edgesam_export.errors import SchemaError, UsageError

STATE = RunState(run_id=RUN_ID, nonce=NONCE, backend="devicectl", device=PHONE.to_json(), settings={"bundle_id": "a.b"})


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / RUN_ID)
    STATE.at("launched", pid=7).write(folder)
    return folder


def test_a_state_comes_back_as_it_was(folder):
    state = read_state(folder)
    assert state == STATE.at("launched", pid=7) and state.description() == PHONE


def test_polls_that_are_no_counts_are_refused(folder):
    document = json.loads(folder.state.read_text())
    for polls in ({"a": "many"}, [1], None):
        folder.state.write_text(json.dumps(document | {"polls": polls}))
        with pytest.raises(SchemaError, match="is not the state of a run"):
            read_state(folder)


def test_unknown_fields_are_ignored(folder):
    document = json.loads(folder.state.read_text())
    document["device"]["colour"] = document["colour"] = "green"
    folder.state.write_text(json.dumps(document))
    assert read_state(folder).description() == PHONE


def test_a_run_is_found_by_its_id_and_by_a_beginning(folder, tmp_path):
    for name in (RUN_ID, RUN_ID[:8], RUN_ID[:6].upper()):
        assert find_run(name, tmp_path)[0].path == folder.path


@pytest.mark.parametrize("name", ["../x", "*", "", "abc", "zzzzzz", RUN_ID + "0", "12345678"])
def test_a_name_that_is_none_lists_what_is_there(folder, tmp_path, name):
    with pytest.raises(UsageError, match=r"no run id|names no run"):
        find_run(name, tmp_path)


def test_a_beginning_of_two_runs_is_not_enough(folder, tmp_path):
    STATE.write(RunFolder(tmp_path / (RUN_ID[:-1] + "7")))
    with pytest.raises(UsageError, match="names several runs"):
        find_run(RUN_ID[:8], tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"state_version": 2}', '{"state_version": 1}', '{"state_version": 1, "run_id": NaN}'],
)
def test_a_damaged_state_is_named(folder, content):
    folder.state.write_text(content)
    with pytest.raises(SchemaError, match=r"run\.json"):
        read_state(folder)


def test_a_state_without_a_device_is_damaged(folder):
    document = json.loads(folder.state.read_text()) | {"device": {}}
    folder.state.write_text(json.dumps(document))
    with pytest.raises(SchemaError, match="not the state of a run"):
        read_state(folder)
