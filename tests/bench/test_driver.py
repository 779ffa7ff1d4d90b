"""A run from push to result against a device whose life is scripted, on a clock that jumps."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fake_device import (
    NONCE,
    PHONE,
    RUN_ID,
    FakeClock,
    FakePhone,
    announced,
    beating,
    case,
    failure,
    lines,
    request,
    result,
    status,
    timeline,
)

from edgesam_export.bench.driver.drive import RunOutcome, drive, resume
from edgesam_export.bench.driver.run_state import RunFolder, read_state
from edgesam_export.bench.driver.watcher import Deadlines
from edgesam_export.bench.schema import check_document
from edgesam_export.errors import DeviceFailure, DeviceNotReady

ALL, CPU = case("all"), case("cpu_only")
RESULT = result(ALL, CPU)
DONE = status(100, "done", result=announced(RESULT))


class Session:
    """One run of one test."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.phone = FakePhone(self.clock)
        self.bundle = folder / RUN_ID / "in"
        self.bundle.mkdir(parents=True)
        self.said: list[dict[str, Any]] = []
        self.ask()
        self.phone.files["result.json"] = timeline((0, RESULT))
        self.phone.files["partial.ndjson"] = timeline((0, lines(ALL)), (40, lines(ALL, CPU)))

    def ask(self, **schedule: Any) -> None:
        (self.bundle / "request.json").write_text(json.dumps(request(**schedule)))

    def status(self, *events: tuple[float, Any]) -> None:
        self.phone.files["status.json"] = timeline(*events)

    def drive(self, **deadlines: Any) -> RunOutcome:
        return drive(
            self.phone,
            PHONE,
            self.bundle,
            run_id=RUN_ID,
            nonce=NONCE,
            on_status=self.said.append,
            deadlines=Deadlines(**deadlines),
            clock=self.clock,
        )

    def collect(self, **deadlines: Any) -> RunOutcome:
        folder = RunFolder(self.bundle.parent)
        self.phone.failures.clear()
        return resume(
            self.phone,
            folder,
            read_state(folder),
            on_status=self.said.append,
            deadlines=Deadlines(**deadlines),
            clock=self.clock,
        )

    @property
    def out(self) -> Path:
        return self.bundle.parent / "out"

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.bundle.parent / "run.json").read_text())

    def phases(self) -> list[str]:
        phases = [said["phase"] for said in self.said]
        return [name for index, name in enumerate(phases) if index == 0 or phases[index - 1] != name]


@pytest.fixture
def session(tmp_path) -> Session:
    return Session(tmp_path)


def ids(outcome: RunOutcome) -> dict[str, str]:
    check_document(outcome.document, "result", "outcome")
    return {entry["id"]: entry["outcome"] for entry in outcome.document["cases"]}


def test_a_run_that_goes_well(session):
    session.status((1, status(1, "loading")), (20, status(20, "running", case_index=0, case_count=2)), (45, DONE))
    outcome = session.drive()
    assert outcome.complete and outcome.failure is None
    assert outcome.document == json.loads(RESULT)
    assert outcome.folder == session.bundle.parent and outcome.host["transport"] == "wired"
    assert session.phone.commands() == ["install", "push", "launch", "pull", "terminate"]
    assert ("push", f"Documents/edgesam-in-{RUN_ID}") in session.phone.calls
    assert ("launch", {"EDGESAM_BENCH_RUN_ID": RUN_ID}) in session.phone.calls
    assert session.phases() == ["installing", "pushing", "launching", "loading", "running", "done"]
    assert session.state["phase"] == "done" and session.state["pid"] == 4242
    assert (session.out / "result.json").read_bytes() == RESULT
    assert (session.out / "partial.ndjson").read_bytes() == lines(ALL, CPU)


def test_the_wait_between_two_looks_grows_and_starts_again_with_a_case(session):
    looks: list[float] = []
    first, second = (status(1, "loading", case_index=index, case_count=2) for index in (0, 1))

    def content(age: float) -> bytes:
        looks.append(age)
        if age >= 80:
            return json.dumps(DONE).encode()
        return json.dumps((second if age >= 40 else first) | {"seq": len(looks), "iteration": len(looks)}).encode()

    session.phone.files["status.json"] = content
    assert session.drive().complete
    gaps = [round(after - before, 3) for before, after in pairwise(looks)]
    assert gaps[:5] == [1.0, 1.5, 2.25, 3.375, 5.0]
    at = next(index for index, age in enumerate(looks) if age >= 40)
    assert gaps[at - 1] == 5.0 and gaps[at : at + 2] == [1.0, 1.5]


def polled_run(session) -> list[float]:
    """Let a run of two cases of 100 s each come and go; return when the host looked."""
    looks: list[float] = []
    session.ask(max_duration_s=100.0, sustained_duration_s=0.0)

    def content(age: float) -> bytes:
        looks.append(age)
        case_index = int(age >= 110)
        phase = "loading" if age % 110 < 10 else "running"
        if age >= 220:
            return json.dumps(DONE).encode()
        return json.dumps(status(len(looks), phase, case_index=case_index, case_count=2, iteration=len(looks))).encode()

    session.phone.files["status.json"] = content
    return looks


def test_the_host_looks_rarely_while_samples_are_taken_and_says_how_often(session):
    looks = polled_run(session)
    outcome = session.drive()
    assert outcome.complete
    timing = [age for age in looks if age < 220 and age % 110 >= 10]
    inside = [round(after - before) for before, after in pairwise(timing) if int(before >= 110) == int(after >= 110)]
    assert set(inside) == {20}
    copies = [call for call in session.phone.calls if call[0] == "pull"]
    assert len(copies) < 40
    first, second = (sum(int(age >= 110) == index for age in timing) for index in (0, 1))
    assert outcome.host["timing_poll_s"] == 20.0
    assert outcome.host["polls_while_timing"] == {"all/all/n1": first, "cpu_only/cpu_only/n1": second}
    assert session.state["polls"] == outcome.host["polls_while_timing"]


def test_finished_cases_that_are_fetched_while_samples_are_taken_count_as_well(session):
    first, second = (status(index, "running", case_index=index, case_count=2) for index in (0, 1))
    session.status((0, first), (30, second), (45, DONE))
    polls = session.drive().host["polls_while_timing"]
    copies = [call[1].rsplit("/", 1)[1] for call in session.phone.calls if call[0] == "pull"]
    assert copies == ["status.json", "partial.ndjson", "status.json"] * 2 + [
        "partial.ndjson",
        "result.json",
        "partial.ndjson",
    ]
    assert sum(polls.values()) == 5  # those before the heartbeat that says done


def test_the_looks_of_an_earlier_host_count_too(session):
    looks = polled_run(session)
    press_at(session, "pull", 55)
    assert session.drive().failure.kind == "interrupted"
    before = session.state["polls"]["all/all/n1"]
    assert before == sum(10 <= age < 55 for age in looks)
    assert session.collect().host["polls_while_timing"]["all/all/n1"] > before


def test_a_process_of_this_machine_is_watched_closely(session):
    session.phone.polling_disturbs = False
    looks = polled_run(session)
    outcome = session.drive()
    assert max(after - before for before, after in pairwise(looks)) == 5.0 and outcome.host["timing_poll_s"] is None


def test_a_first_launch_that_is_refused_is_tried_again(session):
    session.phone.failures["launch"] = [failure("launch_refused")] * 3
    session.status((0, DONE))
    assert session.drive().complete
    assert [said["phase"] for said in session.said].count("retrying") == 3


def test_a_launch_that_stays_refused_is_reported(session):
    session.phone.failures["launch"] = [failure("launch_refused")] * 4
    with pytest.raises(DeviceFailure, match="right after an installation"):
        session.drive()


@pytest.mark.parametrize("kind", ["app_exited", "no_answer"])
def test_a_launch_to_prepare_whose_app_ends_early_is_no_failure(session, kind):
    session.phone.failures["push"] = [failure("container_missing")]
    session.phone.failures["launch"] = [failure(kind)] * (2 if kind == "no_answer" else 1)  # the latter is tried twice
    session.status((0, DONE))
    assert session.drive().complete
    assert session.phone.commands()[:5] == ["install", "push", "launch", "push", "launch"]


def test_a_container_that_a_launch_did_not_make_is_reported(session):
    session.phone.failures["push"] = [failure("container_missing")] * 2
    session.phone.failures["launch"] = [failure("app_exited")]
    with pytest.raises(DeviceFailure, match="no data folder") as caught:
        session.drive()
    assert caught.value.kind == "container_missing"


def test_a_phone_that_is_locked_while_preparing_is_waited_for(session):
    session.phone.failures["push"] = [failure("container_missing")]
    session.phone.failures["launch"] = [failure("untrusted")]
    with pytest.raises(DeviceNotReady, match="not trusted"):
        session.drive()


def test_locked_then_unlocked(session):
    session.phone.failures["launch"] = [failure("locked")] * 4
    session.status((0, DONE))
    assert session.drive().complete
    assert (
        session.phone.commands().count("launch") == 1 and len([c for c in session.phone.calls if c[0] == "launch"]) == 5
    )
    prompts = [said["message"] for said in session.said if said["phase"] == "waiting_unlock"]
    assert len(prompts) == 4 and "unlock the device" in prompts[0]


def test_locked_until_the_deadline(session):
    session.phone.failures["launch"] = [failure("locked")] * 1000
    with pytest.raises(DeviceNotReady, match=r"the device is locked.*\(waited 6\d s\)") as caught:
        session.drive(unlock_s=60)
    assert caught.value.kind == "locked" and caught.value.exit_code == 4 and session.state["phase"] == "pushed"


@pytest.mark.parametrize(
    ("kind", "failures", "succeeds"),
    [
        ("transient", 3, True), ("transient", 4, False), ("busy", 3, True), ("busy", 4, False),
        ("install_interrupted", 1, True), ("install_interrupted", 2, False), ("install_refused", 1, False),
        ("untrusted", 1, False), ("device_gone", 5, True), ("device_gone", 1000, False), ("tool_timeout", 1, True),
    ],
)  # fmt: skip
def test_how_often_an_installation_is_tried(session, kind, failures, succeeds):
    session.phone.failures["install"] = [failure(kind)] * failures
    session.status((0, DONE))
    if succeeds:
        assert session.drive().complete
        assert len([call for call in session.phone.calls if call[0] == "install"]) == failures + 1
    else:
        with pytest.raises(DeviceFailure) as caught:
            session.drive()
        assert caught.value.kind == kind


def test_the_waits_of_a_transient_failure_double(session):
    session.phone.failures["push"] = [failure("transient")] * 3
    session.status((0, DONE))
    start = session.clock.now
    session.drive()
    assert session.clock.now - start == 1 + 2 + 4


@pytest.mark.parametrize("kind", ["file_missing", "container_missing"])
def test_an_app_without_a_container_is_started_once_to_make_it(session, kind):
    session.phone.failures["push"] = [failure(kind)]
    session.status((0, DONE))
    assert session.drive().complete
    assert session.phone.commands()[:6] == ["install", "push", "launch", "terminate", "push", "launch"]
    assert ("launch", {"EDGESAM_BENCH_MODE": "prepare"}) in session.phone.calls


def test_a_full_disk_says_how_much_is_needed(session):
    (session.bundle / "model").write_bytes(b"x" * 3_000_000)
    session.phone.failures["push"] = [failure("disk_full")]
    with pytest.raises(DeviceFailure, match=r"free storage on the device.*; 6 MB are needed"):
        session.drive()


def test_a_first_load_of_minutes_is_waited_for(session):
    session.status(*beating(1500, "loading", case_index=0, case_count=2), (1500, DONE))
    assert session.drive().complete
    assert "processes" not in session.phone.commands()


def test_a_load_beyond_its_limit_is_a_hang_although_the_heart_beats(session):
    session.status(*beating(4000, "loading", case_index=0, case_count=2))
    outcome = session.drive()
    assert outcome.failure.kind == "hung" and "phase 'loading'" in str(outcome.failure)
    assert session.phone.age == pytest.approx(1800, abs=10)


def test_a_heartbeat_that_stops_while_the_process_lives_is_a_hang_at_the_phases_limit(session):
    session.ask(max_duration_s=100.0, sustained_duration_s=50.0, min_duration_s=1.0)
    session.status((0, status(1, "running", case_index=1, case_count=2, iteration=7)))
    outcome = session.drive(phase_s={"running": 200.0})
    assert not outcome.complete and outcome.failure.kind == "hung" and outcome.failure.exit_code == 6
    assert session.phone.age == pytest.approx(350, abs=10)  # 200 and what the schedule asks for
    assert "processes" in session.phone.commands()
    assert ("terminate", 4242) in session.phone.calls
    assert ids(outcome) == {"all/all/n1": "ok", "cpu_only/cpu_only/n1": "ok"}  # it hung after the last case


def test_a_list_of_processes_that_is_not_to_be_had_does_not_keep_us_for_ever(session):
    session.status((0, status(1, "running", case_index=0, case_count=2)))
    session.phone.failures["processes"] = [failure("no_answer")] * 10000
    assert session.drive(phase_s={"running": 100.0}).failure.kind == "hung"


def test_a_hang_marks_the_case_under_way(session):
    session.phone.files["partial.ndjson"] = timeline((0, lines(ALL)))
    session.status((0, status(1, "running", case_index=1, case_count=2)))
    outcome = session.drive()
    assert ids(outcome) == {"all/all/n1": "ok", "cpu_only/cpu_only/n1": "timeout"}
    assert outcome.document["cases"][1]["error"]["code"] == "hung"


def test_a_crash_keeps_what_was_finished(session):
    (session.bundle / "request.json").write_text(json.dumps(request(("all", "cpu_only", "cpu_and_ne"))))
    session.phone.files["partial.ndjson"] = timeline((0, lines(ALL)))
    session.status((0, status(9, "running", case_index=1, case_count=3)))
    session.phone.dies_at = 10
    outcome = session.drive()
    assert not outcome.complete and outcome.failure.kind == "crashed" and "while running" in str(outcome.failure)
    assert ids(outcome) == {
        "all/all/n1": "ok",
        "cpu_only/cpu_only/n1": "crashed",
        "cpu_and_ne/cpu_and_ne/n1": "skipped",
    }
    assert outcome.document["cases"][0] == ALL
    assert outcome.document["device"]["marketing_name"] == "iPhone 12"
    assert session.phone.age < 45  # a heartbeat of 30 s, not the phase's limit
    assert "crash_logs" in session.phone.commands() and session.state["phase"] == "failed"


def test_a_crash_before_the_first_heartbeat(session):
    session.phone.files = {}
    session.phone.dies_at = 1
    outcome = session.drive()
    assert outcome.failure.kind == "crashed" and "before its first heartbeat" in str(outcome.failure)
    assert ids(outcome) == {"all/all/n1": "crashed", "cpu_only/cpu_only/n1": "skipped"}


def test_an_app_that_ends_right_after_done_has_not_crashed(session):
    session.phone.command_s = 1.0
    session.phone.dies_at = 20
    # Looked at after 1 s, 32 s and, the process being gone at 33 s, after 34 s.
    session.status((0, status(1, "writing")), (33.5, DONE))
    assert session.drive(heartbeat_s=30.0, poll_s=(30.0, 30.0)).complete


def test_a_line_cut_off_by_the_crash_is_left_out(session):
    session.phone.files["partial.ndjson"] = timeline((0, lines(ALL) + lines(CPU)[:40]))
    session.status((0, status(9, "running", case_index=1, case_count=2)))
    session.phone.dies_at = 5
    assert ids(session.drive()) == {"all/all/n1": "ok", "cpu_only/cpu_only/n1": "crashed"}


def test_a_finished_case_of_a_wrong_form_counts_as_missing(session):
    strange = ALL | {"stages": {"encoder": {"samples_ns": ["x"]}}}
    session.phone.files["partial.ndjson"] = timeline((0, lines(strange)))
    session.status((0, status(9, "running", case_index=1, case_count=2)))
    session.phone.dies_at = 5
    assert ids(session.drive())["all/all/n1"] == "crashed"


def test_a_device_that_leaves_and_comes_back(session):
    session.phone.outages = [(10.0, 500.0)]
    session.status((0, status(1, "running", case_index=0, case_count=2)), (400, DONE))
    outcome = session.drive()
    assert outcome.complete and outcome.failure is None
    assert session.phases()[-3:] == ["disconnected", "reconnected", "done"]
    messages = {said["phase"]: said["message"] for said in reversed(session.said) if "message" in said}
    assert "the run goes on without the host" in messages["disconnected"]


def test_time_out_of_reach_is_not_held_against_the_app(session):
    session.phone.outages = [(10.0, 500.0)]
    session.status((0, status(1, "running", case_index=0, case_count=2)), (520, DONE))
    assert session.drive(phase_s={"running": 100.0}, heartbeat_s=25.0).complete


@pytest.mark.parametrize("kind", ["device_gone", "transient", "tool_timeout", "no_answer", "locked", "wifi_only"])
def test_any_failure_to_look_is_an_outage(session, kind):
    session.phone.outage = kind
    session.phone.outages = [(5.0, 100.0)]
    session.status((0, status(1, "running", case_index=0, case_count=2)), (50, DONE))
    assert session.drive().complete


def test_an_unknown_error_while_watching_is_an_outage_too(session):
    session.status((0, DONE))
    session.phone.failures["pull"] = [DeviceFailure("push failed: X 31337")] * 5
    assert session.drive().complete


def test_a_device_that_stays_away_is_collected_later(session):
    session.phone.polling_disturbs = False  # looks every 5 s, so that the outage is noticed as it begins
    session.phone.outages = [(30.0, 5000.0)]
    session.phone.files["partial.ndjson"] = timeline((0, lines(ALL)))
    session.status((0, status(1, "running", case_index=1, case_count=2)), (400, DONE))
    outcome = session.drive(reconnect_s=600)
    assert not outcome.complete and outcome.failure.kind == "out_of_reach" and outcome.failure.exit_code == 4
    assert f"edgesam-export bench collect {RUN_ID}" in str(outcome.failure)
    assert ids(outcome) == {"all/all/n1": "ok", "cpu_only/cpu_only/n1": "skipped"}
    assert session.state["phase"] == "out_of_reach" and session.phone.age == pytest.approx(630, abs=10)

    session.phone.outages = []
    session.phone.calls.clear()
    collected = session.collect()
    assert collected.complete and collected.document == json.loads(RESULT)
    assert {"install", "push", "launch"}.isdisjoint(session.phone.commands())
    assert session.state["phase"] == "done"


def test_collecting_a_run_that_goes_on_waits_for_it(session):
    session.phone.outages = [(30.0, 700.0)]
    session.status((0, status(1, "running", case_index=0, case_count=2)), (900, DONE))
    assert session.drive(reconnect_s=100).failure.kind == "out_of_reach"
    session.phone.outages = [(30.0, 160.0)]
    session.status(
        *[(float(t), status(t, "running", case_index=0, case_count=2, iteration=t)) for t in range(1, 900)], (900, DONE)
    )
    assert session.collect(reconnect_s=100).complete


def test_collecting_after_the_app_ended_takes_what_is_there(session):
    session.phone.outages = [(30.0, 5000.0)]
    session.status((0, status(1, "running", case_index=1, case_count=2)))
    session.drive(reconnect_s=10)
    session.phone.outages, session.phone.dies_at = [], 35
    session.phone.files["partial.ndjson"] = timeline((0, lines(ALL)))
    before = session.clock.now
    outcome = session.collect()
    assert outcome.failure.kind == "crashed" and ids(outcome)["all/all/n1"] == "ok"
    assert session.clock.now - before < 1  # it is not there: nothing to wait for


@pytest.mark.parametrize(
    "stale",
    [{"run_id": "99999999-1111-4222-8333-444455556666"}, {"nonce": "f" * 32}, {"run_id": None}],
    ids=["run", "nonce", "none"],
)
def test_a_heartbeat_of_another_run_is_ignored(session, stale):
    session.status((0, DONE | stale), (40, DONE))
    outcome = session.drive()
    assert outcome.complete and session.phone.age >= 40


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'{"a":' * 5000], ids=range(6))
def test_a_torn_heartbeat_is_ignored(session, junk):
    session.status((0, junk), (10, DONE))
    assert session.drive().complete


def test_an_app_that_never_writes_a_heartbeat_is_ended(session):
    session.phone.files = {}
    outcome = session.drive(first_status_s=90)
    assert outcome.failure.kind == "hung" and "no heartbeat of this run" in str(outcome.failure)
    assert "build and install it again" in str(outcome.failure) and session.phone.age == pytest.approx(90, abs=6)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_an_app_of_another_protocol_is_told_to_be_rebuilt(session, version):
    session.status((0, DONE | {"protocol_version": version}))
    outcome = session.drive()
    assert outcome.failure.kind == "old_app" and "build and install it again" in str(outcome.failure)
    assert not outcome.complete


def test_a_heartbeat_of_the_right_version_but_a_wrong_form(session):
    session.status((0, status(1, "dancing")))
    outcome = session.drive()
    assert outcome.failure.kind == "old_app" and "$.phase" in str(outcome.failure)


def test_a_result_that_arrives_cut_off_is_pulled_again(session):
    pulls: list[int] = []

    def content(age: float) -> bytes:
        pulls.append(1)
        return RESULT if len(pulls) > 1 else RESULT[:100]

    session.phone.files["result.json"] = content
    session.status((0, DONE))
    assert session.drive().complete and len(pulls) == 2


@pytest.mark.parametrize("content", [RESULT[:100], b"x" * len(RESULT), None], ids=["size", "sha256", "missing"])
def test_a_result_that_stays_damaged_leaves_the_finished_cases(session, content):
    session.phone.files["result.json"] = timeline((0, content))
    session.phone.files["partial.ndjson"] = timeline((0, lines(ALL, CPU)))
    session.status((0, DONE))
    outcome = session.drive()
    assert (
        not outcome.complete and outcome.failure.kind == "result_damaged" and "after 3 attempts" in str(outcome.failure)
    )
    assert ids(outcome) == {"all/all/n1": "ok", "cpu_only/cpu_only/n1": "ok"}
    assert (session.out / "partial.ndjson").is_file()
    assert (session.out / "result.json").is_file() == (content is not None)


@pytest.mark.parametrize(
    "content",
    [b"[]", result(ALL, nonce="f" * 32), result(ALL, schema_version=9), b'{"a": NaN}'],
    ids=["array", "other-run", "other-version", "nan"],
)
def test_a_result_that_is_none_leaves_the_finished_cases(session, content):
    session.phone.files["result.json"] = timeline((0, content))
    session.status((0, status(5, "done", result=announced(content))))
    outcome = session.drive()
    assert outcome.failure.kind == "result_damaged" and ids(outcome)["all/all/n1"] == "ok"


def test_done_without_a_result(session):
    session.status((0, status(5, "done")))
    outcome = session.drive()
    assert outcome.failure.kind == "no_result" and ids(outcome)["all/all/n1"] == "ok"


def test_what_the_app_says_about_its_failure_is_passed_on(session):
    error = {
        "stage": "loading",
        "code": "E7",
        "domain": "com.apple.CoreML",
        "message": "no such file",
        "hint": "push again",
    }
    session.phone.files["partial.ndjson"] = timeline((0, lines(ALL)))
    session.status((0, status(5, "failed", error=error)))
    outcome = session.drive()
    assert str(outcome.failure) == "the app gave up while loading: no such file (com.apple.CoreML E7); push again"
    assert ids(outcome) == {"all/all/n1": "ok", "cpu_only/cpu_only/n1": "failed"}


def test_a_failed_run_with_a_result_has_both(session):
    session.status((0, status(5, "failed", error={"message": "out of luck"}, result=announced(RESULT))))
    outcome = session.drive()
    assert not outcome.complete and outcome.failure.kind == "app_failed" and outcome.document == json.loads(RESULT)


def with_output(session, content: bytes | None, promised: bytes, file: str = "outputs/a.npy") -> None:
    entry = {"stage": "encoder", "name": "image_embeddings", "file": file, "sha256": announced(promised)["sha256"]}
    document = result(ALL | {"parity_outputs": [entry]}, CPU)
    session.phone.files["result.json"] = timeline((0, document))
    session.phone.files["outputs/a.npy"] = timeline((0, content))
    session.status((0, status(5, "done", result=announced(document))))


def test_outputs_are_fetched_and_checked(session):
    with_output(session, b"tensor", b"tensor")
    assert session.drive().failure is None
    assert (session.out / "outputs/a.npy").read_bytes() == b"tensor"


@pytest.mark.parametrize("content", [b"other!", None], ids=["damaged", "missing"])
def test_an_output_that_is_not_the_one_promised_fails_the_run_but_keeps_the_result(session, content):
    with_output(session, content, b"tensor")
    outcome = session.drive()
    assert outcome.complete and outcome.failure.kind == "output_missing" and "outputs/a.npy" in str(outcome.failure)


@pytest.mark.parametrize("file", ["../../escape", "/etc/passwd", "a/../../b"])
def test_a_path_that_leads_out_of_the_folder_is_refused(session, file):
    with_output(session, b"tensor", b"tensor", file)
    assert session.drive().failure.kind == "result_damaged"
    session.status((0, DONE | {"result": announced(RESULT, file)}))
    assert session.drive().failure.kind == "old_app"


def press_at(session, command: str, age: float = 0.0) -> None:
    """Let Ctrl-C be pressed during a command."""
    original = session.phone.enter

    def enter(name: str, *details: Any) -> None:
        original(name, *details)
        if name == command and session.phone.age >= age:
            session.phone.enter = original
            raise KeyboardInterrupt

    session.phone.enter = enter


def test_ctrl_c_leaves_the_run_to_be_collected(session):
    session.status((0, status(1, "running", case_index=0, case_count=2)), (100, DONE))
    press_at(session, "pull", 20)
    outcome = session.drive()
    assert outcome.failure.kind == "interrupted" and f"bench collect {RUN_ID}" in str(outcome.failure)
    assert "goes on on the device" in str(outcome.failure) and "terminate" not in session.phone.commands()
    assert session.state["phase"] == "interrupted" and session.state["pid"] == 4242
    session.clock.sleep(100)
    assert session.collect().complete


def test_ctrl_c_ends_a_process_of_this_machine(session):
    session.phone.survives_host = False
    session.status((0, status(1, "running", case_index=0, case_count=2)))
    session.phone.files["partial.ndjson"] = timeline((0, lines(ALL)))
    press_at(session, "pull", 20)
    outcome = session.drive()
    assert ("terminate", 4242) in session.phone.calls and "goes on" not in str(outcome.failure)
    session.phone.dies_at = 0
    collected = session.collect()
    assert collected.failure.kind == "stopped" and ids(collected) == {
        "all/all/n1": "ok",
        "cpu_only/cpu_only/n1": "skipped",
    }


@pytest.mark.parametrize(("command", "phase"), [("install", "prepared"), ("push", "installed"), ("launch", "pushed")])
def test_ctrl_c_before_the_start_says_so(session, command, phase):
    press_at(session, command)
    with pytest.raises(DeviceFailure, match="interrupted before the app was seen running") as caught:
        session.drive()
    assert caught.value.kind == "interrupted" and session.state["phase"] == phase


def refused(session) -> None:
    session.phone.failures["launch"] = [failure("untrusted")]
    with pytest.raises(DeviceNotReady):
        session.drive()
    session.phone.launched_at = session.clock.now


def test_a_run_that_was_refused_and_then_started_by_hand_is_collected(session):
    refused(session)
    session.status((10, status(1, "running", case_index=0, case_count=2)), (60, DONE))
    assert session.collect().complete and "terminate" not in session.phone.commands()


def test_a_run_that_was_refused_and_never_started_is_not_called_a_crash(session):
    refused(session)
    with pytest.raises(DeviceFailure, match="open it on the device, then collect again") as caught:
        session.collect()
    assert caught.value.kind == "not_started" and session.state["phase"] == "pushed"


def test_an_app_that_was_removed_in_the_middle_ends_the_run(session):
    session.status((0, status(1, "running", case_index=0, case_count=2)))
    session.phone.failures["pull"] = [failure("not_installed")]
    assert session.drive().failure.kind == "not_installed"
