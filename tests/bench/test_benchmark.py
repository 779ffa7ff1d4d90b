"""From a plan to a record: once through the fake Apple tools, then every outcome against a scripted phone."""

from __future__ import annotations

import copy
import json
import plistlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_device import PHONE, FakeClock, FakePhone, announced, case, lines, result, status, timeline

from edgesam_export.bench.circumstances import WORDS, reason_of, with_reasons
from edgesam_export.bench.devices import DEVICES, BackendOptions
from edgesam_export.bench.devices.backends.devicectl import Devicectl
from edgesam_export.bench.driver.watcher import Deadlines
from edgesam_export.bench.record import read_record
from edgesam_export.bench.request import BenchPlan, MatrixRow, Workload
from edgesam_export.bench.run import collect_run, list_devices, run_benchmark
from edgesam_export.errors import BuildFailure, DeviceFailure, DeviceNotReady, InvalidResult, UsageError
from edgesam_export.spec import Artifact

QUICK = Deadlines(prepare_s=0.0)
GOLDEN = Path(__file__).parent.parent / "goldens" / "bench" / "result.json"
RESULT = json.loads(result(case("all")))


@pytest.fixture
def plan(tmp_path) -> BenchPlan:
    """One encoder, one case."""
    package = tmp_path / "files" / "enc.mlpackage"
    package.mkdir(parents=True)
    (package / "Manifest.json").write_text("{}")
    contract = {
        "inputs": [{"name": "image", "shape": [1, 3, 1024, 1024], "dtype": "fp16"}],
        "outputs": [],
        "precision": "fp16",
        "profile": "default",
        "weights": "w",
        "versions": {},
    }
    artifact = Artifact(
        path=package, format="coreml", component="encoder", model="edge_sam_3x", sha256="a" * 64, contract=contract
    )
    return BenchPlan(artifacts=(artifact,), matrix=(MatrixRow(),), workload=Workload(stages=("encoder",)))


class Bench:
    """Runs of one test: folders, a clock that jumps, what was said."""

    def __init__(self, folder: Path, plan: BenchPlan, backend: str) -> None:
        self.plan, self.backend = plan, backend
        self.clock = FakeClock()
        self.said: list[dict[str, Any]] = []
        self.common = {
            "runs": folder / "bench-runs",
            "records": folder / "records",
            "on_status": self.said.append,
            "deadlines": QUICK,
            "clock": self.clock,
        }

    def run(self, device: str | None = None, options: BackendOptions | None = None, **more: Any) -> Path:
        return run_benchmark(self.plan, device, backend=self.backend, options=options, **self.common | more)

    def collect(self, **more: Any) -> Path:
        return collect_run(self.folder.name, **self.common | more)

    @property
    def folder(self) -> Path:
        (folder,) = (path for path in self.common["runs"].iterdir() if not path.name.startswith("."))
        return folder

    @property
    def records(self) -> list[Path]:
        return sorted(self.common["records"].rglob("*.json"))


# ----------------------------------------------------------------------------------------------- through the fake tools


@pytest.fixture
def apple(tools, listed, plan, tmp_path, monkeypatch) -> Bench:
    """A Mac with one phone and an app that finishes."""
    monkeypatch.setitem(DEVICES.entries, "devicectl", partial(Devicectl, platform="darwin"))
    listed["result"]["devices"] = listed["result"]["devices"][:1] + listed["result"]["devices"][2:]
    entry = listed["result"]["devices"][0]
    tools.app = {"result": RESULT, "partial": [case("all")]}
    running = status(1, "running", case_index=0, case_count=1)
    tools.answer(
        list_devices=[{"json": listed}],
        device_info_details=[{"json": {"info": {"outcome": "success"}, "result": entry}}],
        statuses=[status(1, "loading"), running, running | {"seq": 2}, status(3, "done")],
    )
    return Bench(tmp_path, plan, "devicectl")


@pytest.fixture
def options(tmp_path) -> BackendOptions:
    app = tmp_path / "EdgeSAMBench.app"
    app.mkdir()
    (app / "Info.plist").write_bytes(plistlib.dumps({"CFBundleIdentifier": "com.example.Bench"}))
    return BackendOptions(app=app)


def subcommands(tools) -> list[str]:
    """The commands of a run in order, repeated ones once, without those that look at Xcode."""
    names = []
    for call in tools.calls():
        words = [word for word in call["argv"][1:4] if not word.startswith("-")]
        if words and (not names or names[-1] != " ".join(words)):
            names.append(" ".join(words))
    return names


def test_a_whole_run_through_the_tools(apple, tools, options):
    path = apple.run("Bench Phone", options)
    record = read_record(path)
    assert path.parent.name == "iphone-12" and record["cases"][0]["stages"]["encoder"]["p50"] == 6
    assert record["host"] == record["host"] | {"backend": "devicectl", "transport": "wired", "xcode": "16.2 (16C5032a)"}
    assert record["device"]["hardware_model"] == "D53gAP" and len(record["device"]["udid_sha256_8"]) == 8
    assert "00008101-000000000000A01E" not in path.read_text()
    assert subcommands(tools) == [
        "list devices",
        "device info details",
        "device install app",
        "device copy to",
        "device process launch",
        "device copy from",
        "device process terminate",
    ]
    assert json.loads((tools.folder / "pushed.json").read_text()) == [
        "models/enc.mlpackage/Manifest.json",
        "request.json",
    ]
    assert not (tools.container / "Documents" / f"edgesam-in-{apple.folder.name}").exists()
    assert record["host"]["timing_poll_s"] == 20.0 and record["host"]["polls_while_timing"] == {"all/all/n1": 3}
    assert {entry.name for entry in apple.folder.iterdir()} == {"in", "out", "log", "run.json"}
    assert json.loads((apple.folder / "run.json").read_text())["settings"]["bundle_id"] == "com.example.Bench"


def test_a_record_of_the_phone_goes_through_compare(apple, options, tmp_path, command):
    """With the published figures beside it; too few samples are listed with the reason, not ranked."""
    record = apple.run("Bench Phone", options)
    picture = tmp_path / "compare.png"
    code, out, err = command("compare", record, "--published", "--output", picture)
    assert code == 0, err
    assert "iPhone 12" in out and record.name in out
    assert "EdgeSAM" in out and picture.read_bytes().startswith(b"\x89PNG")


def test_a_locked_phone_through_the_tools(apple, tools, options, locked):
    opened = {"json": {"info": {"outcome": "success"}, "result": {"process": {"processIdentifier": 4242}}}}
    tools.answer(device_process_launch=[{"json": locked, "exit": 1}] * 2 + [opened])
    (tools.container / ".running").write_text("4242")  # this launch is scripted and starts nothing
    apple.run(None, options)
    assert [said["phase"] for said in apple.said].count("waiting_unlock") == 2


OPENED = {"json": {"info": {"outcome": "success"}, "result": {"process": {"processIdentifier": 4242}}}}


def launch_failure(domain: str, code: int, text: str) -> dict[str, Any]:
    """What devicectl writes when the system refuses a launch."""
    cause = {"domain": domain, "code": code, "userInfo": {"NSLocalizedDescription": {"string": text}}}
    wrapper = {
        "domain": "com.apple.dt.CoreDeviceError",
        "code": 10002,
        "userInfo": {"NSUnderlyingError": {"error": cause}},
    }
    return {"json": {"info": {"outcome": "failed", "jsonVersion": 5}, "error": wrapper}, "exit": 1}


def test_the_newest_tools_whose_first_launch_is_refused(apple, tools, options, listed_v5):
    entry = listed_v5["result"]["devices"][0]
    refused = launch_failure("NSPOSIXErrorDomain", 22, "Invalid argument")
    tools.answer(
        list_devices=[{"json": listed_v5}],
        device_info_details=[{"json": {"info": {"outcome": "success", "jsonVersion": 5}, "result": entry}}],
        device_process_launch=[refused, OPENED],
    )
    (tools.container / ".running").write_text("4242")  # this launch is scripted and starts nothing
    record = read_record(apple.run("Newest Phone", options))
    assert record["device"]["os_version"] == "17.4.1"  # what the app itself reported goes before the tool's words
    assert record["device"]["hardware_model"] == "D83AP" and record["cases"][0]["outcome"] == "ok"
    assert [said["phase"] for said in apple.said].count("retrying") == 1


def test_a_fresh_app_whose_first_launch_ends_early(apple, tools, options):
    core = {"domain": "com.apple.dt.CoreDeviceError", "code": 7000, "userInfo": {}}
    missing = {"json": {"info": {"outcome": "failed"}, "error": core}, "exit": 1}
    exited = launch_failure("FBProcessExit", 128, "The process exited.")
    tools.answer(device_copy_to=[missing, None], device_process_launch=[exited, OPENED])
    (tools.container / ".running").write_text("4242")  # this launch is scripted and starts nothing
    assert read_record(apple.run(None, options))["cases"][0]["outcome"] == "ok"
    assert "preparing" in [said["phase"] for said in apple.said]


def test_a_free_account_with_three_apps_on_the_phone(apple, tools, options):
    words = "This device has reached the maximum number of installed apps using a free developer profile: {(...)}"
    cause = {"domain": "MIInstallerErrorDomain", "code": 13, "userInfo": {"NSLocalizedDescription": {"string": words}}}
    error = {
        "domain": "com.apple.dt.CoreDeviceError",
        "code": 3002,
        "userInfo": {"NSUnderlyingError": {"error": cause}},
    }
    tools.answer(device_install_app=[{"json": {"info": {"outcome": "failed"}, "error": error}, "exit": 1}])
    with pytest.raises(BuildFailure, match=r"three apps on a device.*delete an app of this team") as caught:
        apple.run(None, options)
    assert caught.value.kind == "free_apps" and caught.value.exit_code == 5
    assert subcommands(tools)[-1] == "device install app"  # once, and nothing was pushed


def test_a_free_team_that_asks_for_more_memory(apple, tools, tmp_path):
    (tmp_path / "swift/Apps/EdgeSAMBench/EdgeSAMBench.xcodeproj").mkdir(parents=True)
    (tmp_path / "swift/Package.swift").write_text("")
    words = "error: Personal development teams do not support the Increased Memory Limit capability.\n"
    tools.answer(**{"xcodebuild build": [{"exit": 65, "stdout": words}]})
    options = BackendOptions(team="ABCDE12345", increased_memory=True, swift_folder=tmp_path / "swift")
    with pytest.raises(BuildFailure, match="leave out --increased-memory") as caught:
        apple.run(None, options)
    assert caught.value.kind == "entitlement_refused"
    assert "EDGESAM_INCREASED_MEMORY=YES" in tools.argv(-1, "xcodebuild")


def test_a_crash_through_the_tools(apple, tools, options):
    tools.answer(statuses=[status(1, "running", case_index=0, case_count=1), status(2, "running") | {"crash": True}])
    tools.app["partial"] = []
    tools.answer()
    with pytest.raises(DeviceFailure, match=r"the app ended while running.*what was measured is in") as caught:
        apple.run(None, options)
    assert caught.value.kind == "crashed" and caught.value.exit_code == 6
    assert read_record(Path(caught.value.record))["cases"][0]["outcome"] == "crashed"


def test_collecting_in_another_process_through_the_tools(apple, tools, options, monkeypatch):
    gone = {"json": {"error": {"domain": "com.apple.dt.CoreDeviceError", "code": 1011}}, "exit": 1}
    tools.answer(device_copy_from=[gone])
    with pytest.raises(DeviceNotReady, match="bench collect"):
        apple.run(None, options, deadlines=Deadlines(reconnect_s=3.0))
    assert apple.records == []
    del tools.replies["device copy from"]
    tools.answer(statuses=[status(9, "done")])
    assert read_record(apple.collect())["cases"][0]["outcome"] == "ok"
    assert tools.argv(-1)[2:4] == ["process", "terminate"]


def test_devices_are_listed_with_reasons(apple):
    devices = list_devices()
    assert [device.usable for device in devices] == [True, False, False, False]
    assert all(device.rejection for device in devices[1:])
    json.dumps([device.to_json() for device in devices])


def test_a_device_that_cannot_be_used_starts_nothing(apple):
    with pytest.raises(DeviceNotReady, match="unavailable"):
        apple.run("Old Phone")
    assert not apple.common["runs"].exists()


# --------------------------------------------------------------------------------------------------- a scripted phone


class Phone(FakePhone):
    """Speaks for whatever run is pushed to it."""

    def __init__(self, clock: FakeClock, **changes: Any) -> None:
        super().__init__(clock)
        self.changes = changes
        self.heartbeats: list[tuple[float, dict[str, Any]]] = [(10.0, status(2, "done"))]
        self.cases = [case("all")]

    def push(self, device, folder, destination) -> None:
        super().push(device, folder, destination)
        request = json.loads((folder / "request.json").read_text())
        ids = {name: request[name] for name in ("run_id", "nonce")}
        document = json.dumps(RESULT | {"cases": self.cases} | self.changes | ids).encode()
        beats = [(0.0, status(1, "running", case_index=0, case_count=1)), *self.heartbeats]
        for _, beat in beats:
            beat |= ids | ({"result": announced(document)} if beat["phase"] == "done" else {})
        self.files = {
            "status.json": timeline(*beats),
            "result.json": timeline((0, document)),
            "partial.ndjson": timeline((0, lines(*self.cases))),
        }

    def pull(self, device, source: str, destination: Path) -> Path:
        run_id = destination.parent.parent.name
        return super().pull(device, source.replace(run_id, "0f0e0d0c-1111-4222-8333-444455556666"), destination)


@pytest.fixture
def bench(plan, tmp_path, monkeypatch) -> Bench:
    found = Bench(tmp_path, plan, "fake")
    found.phone = Phone(found.clock)
    monkeypatch.setitem(DEVICES.entries, "fake", lambda options, run_folder: found.phone)
    return found


def spoiled(**flags: bool) -> dict[str, Any]:
    return case("all", validity={"low_power": False, "debug_build": False, "reasons": []} | flags)


FLAGGED = [
    ([spoiled(low_power=True)], {}, "low-power mode was on"),
    ([spoiled(throttled=True)], {}, "it was throttled"),
    ([spoiled(backgrounded=True)], {}, "the app was in the background"),
    ([spoiled(debug_build=True)], {}, "the app is a debug build"),
    ([case("all")], {"app": {"build_configuration": "debug"}}, "the app is a debug build"),
    ([case("all")], {"app": {"debugger_attached": True}}, "a debugger was attached"),
]


EVERY_CODE = json.loads(GOLDEN.read_text())["cases"][1]["validity"]


def test_every_code_of_the_runner_becomes_one_reason(bench):
    """The golden is shared with the runner's tests: it holds every code, and the flags beside them are not read."""
    assert [entry["code"] for entry in EVERY_CODE["circumstances"]] == [*WORDS]
    bench.phone = Phone(bench.clock, app={"build_configuration": "debug", "debugger_attached": True})
    bench.phone.cases = [case("all", validity=EVERY_CODE)]
    reasons = read_record(bench.run())["cases"][0]["validity"]["reasons"]
    assert reasons[: len(WORDS)] == [
        "encoder: warm-up did not become steady",
        "the thermal state rose to serious",
        "low-power mode was on",
        "the app was in the background",
        "the app is a debug build",
        "a debugger was attached",
        "max_duration_s was over before min_iterations",
        "min_duration_s was not reached",
    ]
    assert reasons[len(WORDS) :] == ["encoder: 3 iterations, edgesam-bench/1 asks for 100"]


def test_reasons_of_an_earlier_runner_are_not_repeated_in_other_words():
    five = [
        "thermal state rose to serious",
        "low power mode was on",
        "the app was in the background",
        "debug build",
        "a debugger was attached",
    ]
    flags = {name: value for name, value in EVERY_CODE.items() if name != "circumstances"}
    app = {"build_configuration": "debug", "debugger_attached": True}
    document = with_reasons({"app": app, "cases": [case("all", validity=flags | {"reasons": five})]})
    assert document["cases"][0]["validity"]["reasons"] == five


def test_a_code_that_is_not_known_yet_is_named_as_it_is():
    assert reason_of({"code": "screen_recorded"}) == "screen recorded"


@pytest.mark.parametrize(("cases", "changes", "reason"), FLAGGED, ids=[row[2] for row in FLAGGED])
def test_a_circumstance_is_flagged_and_under_strict_a_failure(bench, cases, changes, reason):
    bench.phone = Phone(bench.clock, **changes)
    bench.phone.cases = copy.deepcopy(cases)
    record = read_record(bench.run())
    assert reason in record["cases"][0]["validity"]["reasons"]
    (path,) = bench.records
    with pytest.raises(InvalidResult, match=reason) as caught:
        bench.collect(strict=True)
    assert caught.value.exit_code == 7 and caught.value.record == str(path)


def test_strict_writes_the_record_all_the_same(bench):
    with pytest.raises(InvalidResult) as caught:  # three samples are below the method's minimum
        bench.run(strict=True)
    assert bench.records == [Path(caught.value.record)]


def test_collect_of_a_finished_run_returns_its_record(bench):
    path = bench.run()
    bench.phone.calls.clear()
    assert bench.collect() == path.resolve() and bench.phone.calls == []


def test_a_run_that_was_lost_has_a_record_only_when_collected(bench):
    bench.phone.outages = [(5.0, 2000.0)]
    with pytest.raises(DeviceNotReady, match="bench collect") as caught:
        bench.run()
    assert caught.value.record is None and bench.records == []
    bench.phone.outages = []
    assert bench.records == [] and bench.collect() == bench.records[0].resolve()


def test_ctrl_c_is_a_failure_that_says_how_to_collect(bench, monkeypatch):
    def pressed(device, source, destination):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench.phone, "pull", pressed)
        with pytest.raises(DeviceFailure, match="bench collect") as caught:
            bench.run()
    assert caught.value.exit_code == 6 and bench.records == []
    bench.clock.sleep(20)
    assert read_record(bench.collect())["cases"][0]["outcome"] == "ok"


def test_a_run_that_never_reached_the_device_cannot_be_collected(bench):
    bench.phone.failures["install"] = [DeviceFailure("no")]
    with pytest.raises(DeviceFailure, match="no"):
        bench.run()
    with pytest.raises(UsageError, match="never reached the device"):
        bench.collect()


def test_the_app_is_removed_only_after_a_complete_run(bench):
    bench.run(uninstall=True)
    assert bench.phone.commands()[-1] == "uninstall"


def test_the_app_stays_when_its_files_are_still_needed(bench):
    bench.phone.outages = [(5.0, 2000.0)]
    with pytest.raises(DeviceNotReady):
        bench.run(uninstall=True)
    assert "uninstall" not in bench.phone.commands()


def test_a_device_that_turns_out_unusable_is_told(bench, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(bench.phone, "describe", lambda device: replace(PHONE, rejection="Developer Mode is off"))
    with pytest.raises(DeviceNotReady, match="Developer Mode is off"):
        bench.run()
