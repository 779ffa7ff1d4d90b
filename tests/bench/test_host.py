"""This machine measured: order of calls, schedule, and one record of every runtime."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest

from edgesam_export.bench import host_record
from edgesam_export.bench.candidates import Candidate, FileCandidate, open_file
from edgesam_export.bench.host import Case, HostPlan, Loaded, is_enough, run_sustained, sample_stage
from edgesam_export.bench.host_record import plan_host, record_host
from edgesam_export.bench.machine import cpu_name, host_device, weights_digest
from edgesam_export.bench.record import read_record
from edgesam_export.bench.request import DAY_S, QUICK_SCHEDULE, Schedule, Workload
from edgesam_export.errors import InvalidResult, RunnerUnavailableError, UsageError
from edgesam_export.files import sha256_of

TWICE = Schedule(
    warmup_iterations=1,
    min_iterations=2,
    min_duration_s=0,
    max_duration_s=DAY_S,
    sustained_duration_s=0,
    load_repeats=1,
)


ONCE = replace(TWICE, warmup_iterations=0, min_iterations=1)


class Invented(Candidate):
    """A candidate whose calls take as long as it says."""

    def __init__(self, name, nanoseconds, log):
        self.runtime, self.nanoseconds, self.log = name, nanoseconds, log

    def prepare_calls(self, inputs):
        return {}

    def outputs(self, inputs):
        return None, None

    def timed(self, call):
        self.log.append(self.runtime)
        return self.nanoseconds


def loaded(candidate, *stages):
    return Loaded(candidate=candidate, calls=dict.fromkeys(stages, print), load_ms={}, first_ms={}, parity=None)


def sampled(schedule, **times_ns):
    """Order of the calls, and the samples of each candidate."""
    log = []
    ready = [loaded(Invented(name, ns, log), "encoder") for name, ns in times_ns.items()]
    return log, sample_stage("encoder", ready, schedule, lambda *_: None)


def case_of(schedule, **stages):
    candidate = Invented("slow", 1, [])
    return Case(
        candidate=candidate, points=1, threads=1, loaded=loaded(candidate), stages=stages, schedule=schedule
    ).as_record()


def test_candidates_take_turns_and_warm_ups_are_kept_apart():
    log, stages = sampled(TWICE, a=5, b=7)
    assert log == ["a", "b"] * 3
    assert stages["a"].as_record() == {"warmup_n": 1, "warmup_ns": [5], "samples_ns": [5, 5]}
    assert stages["b"].as_record()["samples_ns"] == [7, 7]


def test_a_candidate_without_the_stage_takes_no_turn():
    log = []
    ready = [loaded(Invented("a", 5, log), "encoder"), loaded(Invented("b", 7, log), "decoder")]
    assert set(sample_stage("encoder", ready, TWICE, lambda *_: None)) == {"a"}
    assert log == ["a"] * 3


def test_a_fast_candidate_goes_on_until_its_duration_is_reached():
    schedule = Schedule(warmup_iterations=0, min_iterations=2, min_duration_s=1.0, max_duration_s=5.0)
    _, stages = sampled(schedule, slow=600_000_000, fast=100_000_000)
    assert len(stages["slow"].samples_ns) == 2  # 1.2 s
    assert len(stages["fast"].samples_ns) == 10  # 1.0 s


def test_what_does_not_reach_its_iterations_in_time_is_not_valid():
    schedule = Schedule(warmup_iterations=0, min_iterations=100, min_duration_s=1.0, max_duration_s=3.0)
    _, stages = sampled(schedule, slow=1_000_000_000)
    assert len(stages["slow"].samples_ns) == 3
    assert case_of(schedule, encoder=stages["slow"])["validity"] == {
        "min_iterations_met": False,
        "min_duration_met": True,
        "reasons": ["3 of 100 iterations within 3 s"],
    }


def test_enough_is_iterations_and_duration_both():
    schedule = Schedule(min_iterations=2, min_duration_s=1.0, max_duration_s=2.0)
    assert not is_enough([600_000_000], schedule)
    assert not is_enough([100_000_000] * 9, schedule)
    assert is_enough([600_000_000] * 2, schedule)
    assert is_enough([2_000_000_000], schedule)  # its time is over


def test_a_sustained_run_counts_frames_in_its_window():
    whole = loaded(Invented("a", 1, []), "encoder", "decoder", "end_to_end")
    found = run_sustained(whole, 0.02, lambda *_: None)
    assert found["frames"] > 0 and found["window_s"] >= 0.02
    assert run_sustained(whole, 0.0, lambda *_: None) is None
    assert run_sustained(loaded(Invented("a", 1, []), "decoder"), 0.02, lambda *_: None) is None


def test_a_case_that_could_not_be_loaded_has_an_error_and_no_samples():
    case = Case(candidate=Invented("a", 1, []), points=4, threads=2, error="no memory").as_record()
    assert (case["id"], case["outcome"], case["stages"]) == ("a/n4", "failed", {})
    assert case["error"] == {"stage": "load", "message": "no memory"} and case["validity"] == {"reasons": []}
    assert "load" not in case and "parity" not in case


def test_times_of_loading_are_those_of_files(tmp_path):
    candidate = FileCandidate("onnxruntime", (), open_file)
    candidate.roles = ("decoder",)
    times = Loaded(
        candidate=candidate, calls={}, load_ms={"decoder": [3.0, 1.0]}, first_ms={"decoder": 2.0}, parity=None
    )
    case = Case(candidate=candidate, points=1, threads=1, loaded=times).as_record()
    assert case["load"] == {"freshly_installed": None, "decoder": {"first_ms": 3.0, "repeats_ms": [1.0]}}
    assert case["first_prediction_ms"] == {"decoder": 2.0}
    assert case_of(TWICE)["load"] is None  # a model in memory


def test_a_plan_of_nothing_is_refused():
    with pytest.raises(UsageError, match="nothing to measure"):
        HostPlan()


def test_the_processor_is_called_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nmodel name\t: other\n")
    assert cpu_name(tmp_path / "cpuinfo") == "Fast CPU @ 3 GHz"
    assert cpu_name(tmp_path / "none")  # the architecture, where nothing says more
    assert host_device()["active_cores"] >= 1


def test_the_digest_of_weights_tells_models_apart(model):
    from edgesam_export.families import load_model

    other = load_model("edge_sam_tiny", random_weights=1)
    assert weights_digest(model) == weights_digest(model) != weights_digest(other)


@pytest.fixture(scope="module")
def measured(coreml_files, onnx_files, model, tmp_path_factory):
    """One iteration of every runtime, without Swift."""
    folder = tmp_path_factory.mktemp("host")

    def missing(*_):
        raise RunnerUnavailableError("edgesam-bench-host is not built")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_record, "run_swift", missing)
        plan = plan_host([*coreml_files, *onnx_files], model, schedule=ONCE, workload=Workload())
        path = record_host(plan, records=folder / "records", runs=folder / "runs")
    return read_record(path)


def test_one_record_holds_every_runtime(measured):
    names = ["pytorch/n1", "onnxruntime/n1", "executor_fp32/n1", "executor_fp16/n1", "executor_ane/n1"]
    cases = {case["id"]: case for case in measured["cases"]}
    assert list(cases)[: len(names)] == names
    for name in names:
        stages = cases[name]["stages"]
        assert {stage: entry["n"] for stage, entry in stages.items()} == {"encoder": 1, "decoder": 1, "end_to_end": 1}
        assert all(value > 0 for entry in stages.values() for value in entry["samples_ns"])
        assert cases[name]["fps_p50"] > 0 and cases[name]["fps_sustained"] is None
        assert cases[name]["validity"]["reasons"]  # one iteration is no measurement
    assert len(cases["onnxruntime/n1"]["load"]["encoder"]["repeats_ms"]) == 1
    assert measured["schedule"]["min_iterations"] == 1


def test_what_cannot_run_is_a_skipped_case_with_the_reason(measured):
    skipped = measured["cases"][-1]
    assert skipped["outcome"] == "skipped" and skipped["stages"] == {}
    assert skipped["error"]["message"] == "edgesam-bench-host is not built"


def test_every_runtime_agrees_with_pytorch(measured):
    parity = {case["id"]: case.get("parity") for case in measured["cases"]}
    assert parity["pytorch/n1"] is None  # it is what the others are compared with
    assert parity["onnxruntime/n1"]["encoder"]["psnr_db"] > 100  # FP32 on both sides
    for name in ("executor_fp32/n1", "executor_fp16/n1", "executor_ane/n1"):
        assert parity[name]["encoder"]["psnr_db"] > 40 and parity[name]["decoder"]["mask_iou"] > 0.98


def test_the_files_are_listed_with_digest_and_origin(measured, coreml_files, onnx_files):
    files = [*coreml_files, *onnx_files]
    assert [entry["sha256"] for entry in measured["models"]] == [artifact.sha256 for artifact in files]
    assert {entry["model"] for entry in measured["models"]} == {"edge_sam_tiny"}
    assert measured["models"][0]["weights"]["random_seed"] == 11


def test_an_onnx_file_with_external_data_is_measured_and_listed_whole(onnx_files, tmp_path):
    decoder = onnx.load(onnx_files[1].path)
    path = tmp_path / onnx_files[1].path.name
    onnx.save(decoder, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=64)
    graph, data = (file.stat().st_size for file in (path, path.with_name(f"{path.name}.data")))
    assert data > graph
    plan = plan_host([path], None, schedule=ONCE, workload=Workload(stages=("decoder",)))
    record = read_record(record_host(plan, records=tmp_path / "records", runs=tmp_path, swift=False))
    assert [case["outcome"] for case in record["cases"]] == ["ok"]
    assert record["models"][0]["bytes"] == graph + data
    assert record["models"][0]["sha256"] == sha256_of(path)


def test_a_candidate_that_cannot_load_leaves_the_others_alone(coreml_files, tmp_path, monkeypatch):
    monkeypatch.setattr("edgesam_export.bench.candidates.FileCandidate.load", lambda *_: fail())
    plan = HostPlan(
        artifacts=(coreml_files[1],),
        numerics=("fp16",),
        schedule=QUICK_SCHEDULE,
        workload=Workload(stages=("decoder",)),
    )
    path = record_host(plan, records=tmp_path, runs=tmp_path, swift=False)
    (case,) = read_record(path)["cases"]
    assert case["outcome"] == "failed" and case["error"]["message"] == "no memory"
    with pytest.raises(InvalidResult, match="1 of 1 cases are not valid"):
        record_host(plan, records=tmp_path, runs=tmp_path, swift=False, strict=True)


def fail():
    raise RuntimeError("no memory\nand more")
