"""Records of the benchmark beside an estimate: only this very file, only valid cases, only the hardware asked for."""

from __future__ import annotations

import copy
import json

import pytest

from edgesam_export.ane.measured import find_measurements
from edgesam_export.errors import SchemaError, UsageError

SHA = "a" * 64
RECORD = {
    "schema_version": 1,
    "device": {"marketing_name": "iPhone 14", "os_version": "18.1"},
    "models": [{"role": "encoder", "sha256": SHA}, {"role": "decoder", "sha256": "b" * 64}],
    "cases": [
        {
            "compute_units": {"encoder": "all", "decoder": "all"},
            "stages": {"encoder": {"samples_ns": [9_000_000, 11_000_000, 10_000_000]}},
            "outcome": "ok",
            "validity": {"reasons": []},
        },
        {
            "compute_units": {"encoder": "cpu_only", "decoder": "all"},
            "stages": {"encoder": {"samples_ns": [5_000_000]}},
            "outcome": "ok",
            "validity": {"reasons": ["throttled"]},
        },
    ],
}


def write(folder, document, name="iphone14.json"):
    (folder / name).write_text(json.dumps(document))
    return folder


def test_the_median_of_the_valid_case_is_found(tmp_path) -> None:
    (found,) = find_measurements(write(tmp_path, RECORD), SHA, ("H14",))
    assert (found.device, found.family, found.compute_units, found.stage) == ("iPhone 14", "H14", "all", "encoder")
    assert (found.median_ms, found.smallest_ms, found.largest_ms, found.samples) == (10.0, 9.0, 11.0, 3)


def test_another_file_and_other_hardware_are_left_out(tmp_path) -> None:
    write(tmp_path, RECORD)
    assert find_measurements(tmp_path, "c" * 64, ("H14",)) == ()
    assert find_measurements(tmp_path, SHA, ("H13", "H15")) == ()


def test_files_that_are_no_result_documents_are_passed_over(tmp_path) -> None:
    write(tmp_path, {"schema_version": 99, "devices": []}, "other.json")
    write(tmp_path, [1, 2], "list.json")
    assert find_measurements(tmp_path, SHA, ("H14",)) == ()


@pytest.mark.parametrize("damage", [("cases", None), ("device", []), ("models", [{"sha256": SHA}])])
def test_a_damaged_record_is_named(tmp_path, damage) -> None:
    document = copy.deepcopy(RECORD)
    document[damage[0]] = damage[1]
    with pytest.raises(SchemaError, match=r"iphone14\.json: not a benchmark record"):
        find_measurements(write(tmp_path, document), SHA, ("H14",))


def test_a_case_without_samples_is_named(tmp_path) -> None:
    document = copy.deepcopy(RECORD)
    document["cases"][0]["stages"]["encoder"]["samples_ns"] = []
    with pytest.raises(SchemaError, match="not a benchmark record"):
        find_measurements(write(tmp_path, document), SHA, ("H14",))


def test_a_missing_folder_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        find_measurements(tmp_path / "none", SHA, ("H14",))
