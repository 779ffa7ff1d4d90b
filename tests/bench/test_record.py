"""Statistics computed by hand, validity, and records that are written once."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from edgesam_export.bench.record import (
    check_strict,
    hash_udid,
    invalid_reasons,
    make_record,
    read_record,
    read_records,
    record_path,
    write_record,
)
from edgesam_export.bench.statistics import frame_rates, percentile, stage_statistics
from edgesam_export.errors import InvalidResult, SchemaError, UsageError

MS = 1_000_000
HOST = {"os": "macOS 15", "backend": "invented"}


def stage(samples):
    return {"warmup_n": 1, "warmup_ns": [9], "samples_ns": list(samples)}


def case(**fields):
    return {
        "id": "all/all/n1",
        "runtime": "coreml",
        "compute_units": {"encoder": "all", "decoder": "all"},
        "n_points": 1,
        "vary_points": False,
        "stages": {"encoder": stage([100 * MS] * 100), "decoder": stage([100 * MS] * 150)},
        "validity": {"reasons": []},
        "outcome": "ok",
        **fields,
    }


def result(*cases, **fields):
    return {
        "schema_version": 1,
        "protocol_version": 1,
        "run_id": "0a1b2c3d-0000-4000-8000-000000000000",
        "nonce": "0" * 32,
        "started_at": "2026-11-20T10:00:00+00:00",
        "device": {"marketing_name": "iPhone 14", "os_version": "18.1", "product_type": None},
        "models": [{"id": "net_encoder", "role": "encoder", "sha256": "a" * 64}],
        "cases": list(cases) or [case()],
        **fields,
    }


def test_statistics_of_eight_samples_computed_by_hand():
    # sorted: 1..8; p50 at index 3.5, p90 at 6.3, p95 at 6.65; deviations from 4.5 squared sum to 42
    found = stage_statistics([8, 1, 2, 3, 4, 5, 6, 7])
    assert found["n"] == 8 and found["min"] == 1 and found["max"] == 8
    assert found["p50"] == 4.5
    assert found["p90"] == pytest.approx(7.3)
    assert found["p95"] == pytest.approx(7.65)
    assert found["mean"] == 4.5
    assert found["std"] == pytest.approx(6**0.5)  # 42 / 7
    assert found["trimmed_mean"] == 4.5  # 10 % of 8 is no whole sample
    assert found["head_tail_ratio"] == pytest.approx(6.5 / 4.5)  # last two 6, 7; first two 8, 1
    assert found["p99"] is None


def test_trimming_drops_a_tenth_at_each_end():
    # of ten samples, 0 and 1000 go; 2..8 and 29 sum to 64
    assert stage_statistics([1000, 2, 3, 4, 5, 6, 7, 8, 29, 0])["trimmed_mean"] == 8.0


def test_p99_needs_a_hundred_samples():
    assert stage_statistics(range(99))["p99"] is None
    assert stage_statistics(range(100))["p99"] == pytest.approx(98.01)  # index 99 * 0.99


def test_percentiles_are_numpys_linear_ones():
    samples = sorted(np.random.default_rng(3).integers(1, 10**9, 137).tolist())
    for share in (0.0, 0.25, 0.5, 0.9, 0.99, 1.0):
        assert percentile(samples, share) == pytest.approx(np.percentile(samples, share * 100, method="linear"))


def test_too_few_samples_give_no_figures_rather_than_wrong_ones():
    assert stage_statistics([]) == {"n": 0, **dict.fromkeys(set(stage_statistics([1])) - {"n"})}
    one = stage_statistics([7])
    assert one["p50"] == one["mean"] == one["trimmed_mean"] == 7
    assert one["std"] is None and one["head_tail_ratio"] is None


def test_the_order_of_samples_matters_for_the_drift_only():
    rising = stage_statistics([10] * 4 + [15] * 8 + [20] * 4)
    falling = stage_statistics([20] * 4 + [15] * 8 + [10] * 4)
    assert rising["head_tail_ratio"] == 2.0 and falling["head_tail_ratio"] == 0.5
    assert {**rising, "head_tail_ratio": 0} == {**falling, "head_tail_ratio": 0}


def rates(**fields):
    stages = {"encoder": {"p50": 14 * MS}, "decoder": {"p50": 6 * MS}}
    return frame_rates({"n_points": 1, "stages": stages, **fields})


def test_frames_per_second_are_of_both_medians_with_one_point():
    assert rates()["fps_p50"] == 50.0  # 14 ms and 6 ms
    assert rates(n_points=4)["fps_p50"] is None
    assert rates(vary_points=True)["fps_p50"] is None
    assert rates(stages={"encoder": {"p50": 14 * MS}})["fps_p50"] is None


def test_sustained_frames_need_a_window_of_a_minute():
    assert rates(sustained={"window_s": 60.0, "frames": 2400})["fps_sustained"] == 40.0
    assert rates(sustained={"window_s": 59.9, "frames": 2400})["fps_sustained"] is None
    assert rates(sustained=None)["fps_sustained"] is None


def test_a_record_is_the_result_with_figures_and_origin():
    raw = result(case(sustained={"window_s": 64.0, "frames": 320}, new_measure=[1]), later="kept")
    request = {
        "models": [
            {"id": "net_encoder", "model": "net", "relative_path": "models/x", "sha256_tree": "b", "input_spec": []}
        ],
        "schedule": {"min_iterations": 100},
        "workload": {},
    }
    device = {"product_type": "iPhone14,7", "os_version": "17.0", "udid": None}
    record = make_record(raw, host=HOST, request=request, device=device, udid="00008110-SECRET")
    assert record["method"] == "edgesam-bench/1" and record["percentile_method"] == "linear"
    assert record["device"]["product_type"] == "iPhone14,7"  # the app said nothing of it
    assert record["device"]["os_version"] == "18.1"  # the app knows best
    assert record["device"]["udid_sha256_8"] == hashlib.sha256(b"00008110-SECRET").hexdigest()[:8]
    assert "SECRET" not in json.dumps(record)
    assert record["models"] == [{"id": "net_encoder", "model": "net", "role": "encoder", "sha256": "a" * 64}]
    assert record["later"] == "kept" and record["cases"][0]["new_measure"] == [1]
    assert record["cases"][0]["fps_p50"] == 5.0 and record["cases"][0]["fps_sustained"] == 5.0
    assert record["cases"][0]["stages"]["encoder"]["samples_ns"] == [100 * MS] * 100
    assert invalid_reasons(record["cases"][0]) == ()
    assert raw["cases"][0].get("fps_p50") is None  # the result itself is not changed


def test_a_hashed_udid_tells_phones_apart_and_nothing_else():
    assert hash_udid("a") == hashlib.sha256(b"a").hexdigest()[:8] != hash_udid("b")


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([100 * MS] * 99, "encoder: 99 iterations, edgesam-bench/1 asks for 100"),
        ([MS] * 100, "encoder: 0.1 s measured, edgesam-bench/1 asks for 10 s"),
    ],
)
def test_a_short_measurement_is_kept_but_not_valid(samples, reason):
    record = make_record(result(case(stages={"encoder": stage(samples)})), host=HOST)
    assert record["cases"][0]["validity"]["reasons"] == [reason]
    assert record["cases"][0]["stages"]["encoder"]["n"] == len(samples)


def test_a_failed_case_says_why_and_strict_turns_invalid_into_an_error():
    bad = case(outcome="crashed", error={"message": "the app was ended for its memory"}, id="cpu_only")
    record = make_record(result(case(), bad), host=HOST)
    assert invalid_reasons(record["cases"][1]) == ("crashed: the app was ended for its memory",)
    check_strict({"cases": record["cases"][:1]}, "r.json")
    with pytest.raises(InvalidResult, match="1 of 2 cases are not valid, first 'cpu_only'") as error:
        check_strict(record, "r.json")
    assert error.value.exit_code == 7 and error.value.record == "r.json"


def test_a_result_that_is_none_makes_no_record():
    with pytest.raises(SchemaError, match=r"\$\.cases"):
        make_record(result(cases=3), host=HOST)


def test_records_are_named_after_device_day_and_run_and_written_once(tmp_path):
    record = make_record(result(), host=HOST)
    path = write_record(record, tmp_path)
    assert path == tmp_path / "iphone-14" / "2026-11-20_0a1b2c3d.json"
    assert read_record(path) == json.loads(json.dumps(record))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="exists already; records are written once"):
        write_record(record, tmp_path)
    assert path.read_bytes() == before


def test_the_name_of_a_device_is_no_path(tmp_path):
    record = make_record(result(device={"marketing_name": "../..//Évil Phone", "os_version": "1"}), host=HOST)
    assert record_path(record, tmp_path).parent == tmp_path / "vil-phone"
    record["device"]["marketing_name"] = "../.."
    assert record_path(record, tmp_path).parent == tmp_path / "device"


def test_a_record_that_does_not_fit_is_not_written(tmp_path):
    record = make_record(result(), host=HOST)
    with pytest.raises(SchemaError, match=r"found no 'method'"):
        write_record({name: value for name, value in record.items() if name != "method"}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_records_are_found_in_folders_and_only_records_are_read(tmp_path):
    path = write_record(make_record(result(), host=HOST), tmp_path)
    assert [found for found, _ in read_records([tmp_path, path])] == [path]
    with pytest.raises(UsageError, match="does not exist"):
        read_records([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no records"):
        read_records([tmp_path / "empty"])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SchemaError, match=r"other\.json"):
        read_records([tmp_path])
