"""Reading devicectl's JSON, whatever state it is in."""

from __future__ import annotations

import json

import pytest

from edgesam_export.bench.devices.devicectl_json import integer_at, list_at, read_envelope, string_at


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "it wrote no JSON file"),
        ("", "its JSON file is empty"),
        ("  \n", "its JSON file is empty"),
        ("No devices found.", "its JSON file is not JSON"),
        ('{"info": {', "its JSON file is not JSON"),
        ("[" * 100000, "its JSON file is not JSON"),
        ("[1, 2]", "its JSON file holds a list instead of an object"),
        ("null", "its JSON file holds a NoneType instead of an object"),
    ],
    ids=["missing", "empty", "blank", "text", "cut-off", "deep", "array", "null"],
)
def test_a_file_that_is_no_answer(tmp_path, content, problem):
    path = tmp_path / "answer.json"
    if content is not None:
        path.write_text(content)
    envelope = read_envelope(path)
    assert envelope.problem == problem and not envelope.ok


def write(tmp_path, document):
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(document))
    return read_envelope(path)


@pytest.mark.parametrize("document", [{}, {"result": None}, {"result": []}, {"info": [], "error": "x", "result": 3}])
def test_a_missing_result_is_none_not_an_exception(tmp_path, document):
    envelope = write(tmp_path, document)
    assert envelope.result is None and envelope.chain == () and envelope.problem is None


@pytest.mark.parametrize("version", [2, 3, 5])
def test_known_versions_are_silent(tmp_path, version):
    assert write(tmp_path, {"info": {"jsonVersion": version, "outcome": "success"}, "result": {}}).ok


@pytest.mark.parametrize("version", [1, 99, "2", [2], 2.5])
def test_an_unknown_version_warns_and_is_read(tmp_path, version):
    with pytest.warns(UserWarning, match="not known here"):
        envelope = write(tmp_path, {"info": {"jsonVersion": version}, "result": {"a": 1}})
    assert envelope.result == {"a": 1}


def test_the_chain_of_a_locked_phone_is_walked_to_its_end(tmp_path, locked):
    assert [(domain, code) for domain, code, _ in write(tmp_path, locked).chain] == [
        ("com.apple.dt.CoreDeviceError", 10002),
        ("FBSOpenApplicationServiceErrorDomain", 1),
        ("FBSOpenApplicationErrorDomain", 7),
    ]


def test_a_chain_may_branch_and_have_wrong_types(tmp_path):
    error = {
        "domain": 7,
        "code": "x",
        "userInfo": {
            "A": "bare",
            "NSMultipleUnderlyingErrorsKey": [
                {"error": {"domain": "d1", "code": 1}},
                {"error": {"domain": "d2", "code": 2}},
            ],
            "B": {"error": None},
        },
    }
    assert write(tmp_path, {"error": error}).chain == (("unknown", None, ""), ("d1", 1, ""), ("d2", 2, ""))


def test_an_endless_chain_is_cut(tmp_path):
    error: dict = {"domain": "end", "code": 0}
    for level in range(100):
        error = {"domain": "d", "code": level, "userInfo": {"NSUnderlyingError": {"error": error}}}
    assert len(write(tmp_path, {"error": error}).chain) == 16


def test_values_of_wrong_types_are_absent():
    document = {"a": {"b": 5, "c": "text", "d": [1], "e": True, "f": ""}}
    assert string_at(document, "a", "c") == "text" and string_at(document, "a", "b") is None
    assert string_at(document, "a", "f") is None and string_at(document, "a", "c", "deeper") is None
    assert integer_at(document, "a", "b") == 5 and integer_at(document, "a", "e") is None
    assert list_at(document, "a", "d") == [1] and list_at(document, "a", "c") == []
