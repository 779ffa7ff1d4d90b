"""Documents are judged by their schemas: what fits, what does not, and what the one line says."""

from __future__ import annotations

import copy
import json

import pytest

from edgesam_export.bench.schema import KINDS, MAX_BYTES, check_document, parse_document, read_document, validator_of
from edgesam_export.errors import SchemaError

RUN, NONCE = "0a1b2c3d-0000-4000-8000-000000000000", "0123456789abcdef" * 2
STAGE = {"warmup_n": 1, "warmup_ns": [5], "samples_ns": [10, 12]}
CASE = {
    "id": "all/all/n1",
    "runtime": "coreml",
    "compute_units": {"encoder": "all", "decoder": "all"},
    "n_points": 1,
    "stages": {"encoder": STAGE},
    "validity": {"reasons": []},
    "outcome": "ok",
}
RESULT = {
    "schema_version": 1,
    "protocol_version": 1,
    "run_id": RUN,
    "nonce": NONCE,
    "device": {"marketing_name": "iPhone 14", "os_version": "18.1"},
    "models": [{"id": "net_encoder", "role": "encoder", "sha256": "a" * 64}],
    "cases": [CASE],
}
STATUS = {"protocol_version": 1, "run_id": RUN, "nonce": NONCE, "seq": 3, "uptime_s": 1.5, "phase": "running"}


def changed(document, path, value):
    """A copy in which the field at a dotted path has another value; the value ... removes it."""
    found = copy.deepcopy(document)
    *way, last = path.split(".")
    inner = found
    for name in way:
        inner = inner[int(name) if name.isdigit() else name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one_itself_and_tells_its_history(kind):
    validator = validator_of(kind)
    validator.check_schema(validator.schema)
    assert "1: first version" in validator.schema["$comment"]


@pytest.mark.parametrize(("kind", "document"), [("result", RESULT), ("status", STATUS)])
def test_unknown_fields_are_tolerated_everywhere(kind, document):
    check_document(document, kind, "it")
    check_document({**document, "later": {"anything": [1, None]}}, kind, "it")


def test_unknown_fields_inside_a_case_are_tolerated():
    check_document(changed(RESULT, "cases.0.new_measure", {"x": 1}), "result", "it")
    check_document(changed(RESULT, "cases.0.stages.encoder.new", 1), "result", "it")


@pytest.mark.parametrize(
    ("path", "value", "where", "said"),
    [
        ("run_id", ..., "$", "found no 'run_id', expected"),
        ("run_id", "../../etc", "$.run_id", "expected text like"),
        ("device.marketing_name", 14, "$.device.marketing_name", "found 14, expected string"),
        ("cases.0.outcome", "fine", "$.cases[0].outcome", 'found "fine", expected one of "ok", "failed"'),
        (
            "cases.0.stages.encoder.samples_ns",
            [1, -1],
            "$.cases[0].stages.encoder.samples_ns[1]",
            "expected at least 0",
        ),
        ("cases.0.stages.encoder.samples_ns", [1.5], "$.cases[0].stages.encoder.samples_ns[0]", "expected integer"),
        ("cases.0.stages", ..., "$.cases[0]", "found no 'stages'"),
        ("models.0.sha256", "abc", "$.models[0].sha256", 'found "abc"'),
        ("models", [], "$.models", "found []"),
        ("schema_version", 2, "$.schema_version", "found 2, expected 1; it was written by another version"),
        ("schema_version", "1", "$.schema_version", 'found "1", expected 1'),
    ],
)
def test_a_wrong_field_is_named_with_what_was_found_and_expected(path, value, where, said):
    with pytest.raises(SchemaError) as error:
        check_document(changed(RESULT, path, value), "result", "out/result.json")
    assert str(error.value).startswith(f"out/result.json: {where}: ")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_case_that_failed_needs_no_samples():
    failed = {name: CASE[name] for name in ("id", "runtime", "compute_units")}
    check_document(changed(RESULT, "cases", [{**failed, "outcome": "crashed"}]), "result", "it")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.npy", "a/../../x.npy", "a\\..\\x.npy", "..", ""])
def test_a_path_that_leaves_the_folder_is_refused(path):
    output = {"stage": "encoder", "name": "image_embeddings", "file": path, "sha256": "a" * 64}
    with pytest.raises(SchemaError, match=r"parity_outputs\[0\].file"):
        check_document(changed(RESULT, "cases.0.parity_outputs", [output]), "result", "it")


def test_a_path_inside_the_folder_may_have_dots():
    output = {"stage": "encoder", "name": "e", "file": "outputs/a..b/c.npy", "sha256": "a" * 64}
    check_document(changed(RESULT, "cases.0.parity_outputs", [output]), "result", "it")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(number):
    with pytest.raises(SchemaError, match=r"status\.json: found .*, expected finite numbers only"):
        parse_document(f'{{"uptime_s": {number}}}', "status.json")


@pytest.mark.parametrize("text", ["", "{", "[1,", "[" * 100000, "9" * 5000])
def test_text_that_is_no_document_is_refused_in_one_line(text):
    with pytest.raises(SchemaError, match="found no JSON document") as error:
        parse_document(text, "x")
    assert "\n" not in str(error.value)


def test_reading_checks_size_encoding_and_presence(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    with pytest.raises(SchemaError, match="cannot be read"):
        read_document(path, "status")
    path.write_text(json.dumps(STATUS))
    assert read_document(path, "status") == STATUS
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SchemaError, match="not UTF-8"):
        read_document(path, "status")
    path.write_text(json.dumps(STATUS))
    monkeypatch.setitem(MAX_BYTES, "status", 10)
    with pytest.raises(SchemaError, match=r"bytes, expected at most 10"):
        read_document(path, "status")


def test_a_document_that_is_no_object_is_refused():
    for document in (None, [], 1, "x"):
        with pytest.raises(SchemaError, match=r"it: \$: found .*, expected object"):
            check_document(document, "result", "it")
