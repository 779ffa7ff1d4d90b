"""The command lines of devicectl, in order and exactly, and what is made of its answers."""

from __future__ import annotations

import json
import plistlib
from pathlib import Path

import pytest

from edgesam_export.bench.devices import BackendOptions, DeviceDescription, make_backend
from edgesam_export.bench.devices.backends.devicectl import Devicectl
from edgesam_export.errors import BuildFailure, DeviceFailure, DeviceNotReady, DeviceSetupFailure, UsageError

ROOT = Path(__file__).parents[2]
D = "11111111-2222-4333-8444-555555555501"
B = "com.example.Bench"
PHONE = DeviceDescription(backend="devicectl", identifier=D, name="Bench Phone", udid="UDID-1")
OK = {"info": {"jsonVersion": 2, "outcome": "success"}}
CONTAINER = ["--user", "mobile", "--domain-type", "appDataContainer", "--domain-identifier", B]


def app_folder(folder: Path, identifier: str = B) -> Path:
    app = folder / "EdgeSAMBench.app"
    app.mkdir()
    (app / "Info.plist").write_bytes(plistlib.dumps({"CFBundleIdentifier": identifier}))
    return app


def test_list(tools, listed):
    tools.answer(list_devices=[{"json": listed, "stderr": "warning: a parameter list was not found\n"}])
    devices = tools.devicectl().list_devices()
    assert [device.name for device in devices if device.usable] == ["Bench Phone", "Wired But Idle"]
    assert len(devices) == 5
    assert tools.argv() == ["devicectl", "list", "devices", "--timeout", "10", "--json-output", "J"]


def test_list_needs_a_mac(tools):
    with pytest.raises(DeviceSetupFailure):
        tools.devicectl(platform="linux", find_xcode=True).list_devices()


def test_details(tools, listed):
    entry = listed["result"]["devices"][0]
    tools.answer(device_info_details=[{"json": OK | {"result": entry}}])
    assert tools.devicectl().describe(PHONE).os_build == "21E236"
    assert tools.argv() == [
        "devicectl",
        "device",
        "info",
        "details",
        "--device",
        D,
        "--timeout",
        "30",
        "--json-output",
        "J",
    ]


def test_details_by_halves_leave_what_the_list_said(tools):
    tools.answer(device_info_details=[{"json": OK | {"result": {"identifier": D}}}])
    assert tools.devicectl().describe(PHONE) == PHONE


def test_install_of_a_given_app(tools, tmp_path):
    app = app_folder(tmp_path)
    backend = tools.devicectl(bundle_id=None, app=app)
    backend.install(PHONE)
    assert backend.bundle_id == B
    assert tools.argv(0, "codesign") == ["--verify", "--deep", "--strict", str(app)]
    assert tools.argv() == [
        "devicectl", "device", "install", "app", "--device", D, "--timeout", "180", "--json-output", "J", str(app),
    ]  # fmt: skip


def test_install_builds_signs_and_installs_in_this_order(tools, tmp_path):
    (tmp_path / "swift/Apps/EdgeSAMBench/EdgeSAMBench.xcodeproj").mkdir(parents=True)
    (tmp_path / "swift/Package.swift").write_text("")
    tools.devicectl(find_xcode=True, swift_folder=tmp_path / "swift", team="T").install(PHONE)
    calls = [json.loads(line) for line in (tools.folder / "calls.ndjson").read_text().splitlines()]
    assert [call["tool"] for call in calls] == [
        "xcode-select",
        "xcodebuild",
        "xcrun",
        "xcodebuild",
        "codesign",
        "xcrun",
    ]
    built = tools.run.parent / "DerivedData/Build/Products/Release-iphoneos/EdgeSAMBench.app"
    assert tools.argv()[-1] == str(built)


def test_an_app_of_another_identifier_is_refused(tools, tmp_path):
    with pytest.raises(BuildFailure, match=r"is org\.other, not com\.example\.Bench"):
        tools.devicectl(app=app_folder(tmp_path, "org.other")).install(PHONE)


def test_install_is_skipped_on_request_but_needs_the_identifier(tools):
    tools.devicectl(skip_install=True).install(PHONE)
    assert tools.calls() == []
    with pytest.raises(UsageError, match="--bundle-id"):
        tools.devicectl(skip_install=True, bundle_id=None).install(PHONE)


def test_the_identifier_of_an_installed_app_follows_from_the_team(tools):
    backend = tools.devicectl(skip_install=True, bundle_id=None, team="ABCDE12345")
    backend.install(PHONE)
    assert backend.bundle_id == "org.edgesam.bench.ABCDE12345"
    setting = (ROOT / "swift/Apps/EdgeSAMBench/Config/Base.xcconfig").read_text(encoding="utf-8")
    assert "PRODUCT_BUNDLE_IDENTIFIER = org.edgesam.bench.$(DEVELOPMENT_TEAM:default=unsigned)\n" in setting


def test_what_was_built_decides_the_identifier(tools, tmp_path):
    """A team set in Local.xcconfig alone is not known here, but stands in the app that was built."""
    backend = tools.devicectl(bundle_id=None, app=app_folder(tmp_path, "org.edgesam.bench.ZYXWV98765"))
    backend.install(PHONE)
    assert backend.container()[-1] == "org.edgesam.bench.ZYXWV98765"


def test_push(tools, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "request.json").write_text("{}")
    tools.devicectl().push(PHONE, source, "Documents/edgesam-in-1/")
    assert tools.argv() == [
        "devicectl", "device", "copy", "to", "--device", D, *CONTAINER, "--source", str(source),
        "--destination", "Documents/edgesam-in-1", "--timeout", "600", "--json-output", "J",
    ]  # fmt: skip
    assert (tools.container / "Documents/edgesam-in-1/request.json").is_file()


@pytest.mark.parametrize("path", ["/etc", "Documents/../../x", "", "."])
def test_a_path_outside_the_container_is_refused(tools, tmp_path, path):
    with pytest.raises(UsageError, match="not a path inside"):
        tools.devicectl().push(PHONE, tmp_path, path)


def test_launch(tools):
    assert tools.devicectl().launch(PHONE, {"EDGESAM_BENCH_RUN_ID": "r1"}) == 4242
    assert tools.argv() == [
        "devicectl", "device", "process", "launch", "--device", D, "--terminate-existing",
        "--environment-variables", '{"EDGESAM_BENCH_RUN_ID":"r1"}', "--timeout", "60", "--json-output", "J", B,
    ]  # fmt: skip
    assert tools.calls()[-1]["environment"] == {"DEVICECTL_CHILD_EDGESAM_BENCH_RUN_ID": "r1"}


def test_launch_with_xcode_15_uses_devicectls_own_environment(tools):
    tools.answer(xcodebuild=[{"stdout": "Xcode 15.4\nBuild version 15F31d\n"}])
    tools.devicectl(find_xcode=True).launch(PHONE, {"EDGESAM_BENCH_RUN_ID": "r1"})
    assert tools.argv() == [
        "devicectl", "device", "process", "launch", "--device", D, "--terminate-existing", "--timeout", "60",
        "--json-output", "J", B,
    ]  # fmt: skip
    assert tools.calls()[-1]["environment"] == {"DEVICECTL_CHILD_EDGESAM_BENCH_RUN_ID": "r1"}


def test_launch_again_without_an_option_that_is_not_known(tools):
    refused = {"exit": 64, "stderr": "error: Unknown option '--environment-variables'"}
    accepted = {"json": OK | {"result": {"process": {"processIdentifier": 7}}}}
    tools.answer(device_process_launch=[refused, accepted])
    assert tools.devicectl().launch(PHONE, {"EDGESAM_BENCH_RUN_ID": "r1"}) == 7
    assert "--environment-variables" in tools.argv(-2) and "--environment-variables" not in tools.argv(-1)


def test_a_launch_that_names_no_process_looks_for_it(tools):
    (tools.container / ".running").write_text("4242")
    tools.answer(device_process_launch=[{"json": OK}])
    assert tools.devicectl().launch(PHONE, {}) == 4242
    (tools.container / ".running").unlink()
    with pytest.raises(DeviceFailure, match="names no process"):
        tools.devicectl().launch(PHONE, {})


def test_a_locked_phone(tools, locked):
    tools.answer(device_process_launch=[{"json": locked, "exit": 1, "stderr": "ERROR: ..."}])
    with pytest.raises(DeviceNotReady, match="the device is locked") as caught:
        tools.devicectl().launch(PHONE, {})
    assert caught.value.kind == "locked" and len(caught.value.chain) == 3
    assert "FBSOpenApplicationErrorDomain 7" in str(caught.value) and "0001_launch" in str(caught.value)


def test_pull(tools, tmp_path):
    (tools.container / "Documents").mkdir()
    (tools.container / "Documents/status.json").write_text("{}")
    target = tmp_path / "out" / "status.json"
    assert tools.devicectl().pull(PHONE, "Documents/status.json", target) == target and target.read_text() == "{}"
    argv = tools.argv()
    temporary = argv.pop(argv.index("--destination") + 1)
    assert argv == [
        "devicectl", "device", "copy", "from", "--device", D, *CONTAINER, "--source", "Documents/status.json",
        "--destination", "--timeout", "30", "--json-output", "J",
    ]  # fmt: skip
    assert temporary != str(target) and not Path(temporary).parent.exists()
    assert [path.name for path in target.parent.iterdir()] == ["status.json"]


def test_a_file_that_is_not_there_leaves_the_last_one(tools, tmp_path):
    target = tmp_path / "status.json"
    target.write_text("old")
    with pytest.raises(DeviceFailure) as caught:
        tools.devicectl().pull(PHONE, "Documents/status.json", target)
    assert caught.value.kind == "file_missing" and target.read_text() == "old"


def test_a_success_without_a_file_is_a_failure(tools, tmp_path):
    tools.answer(device_copy_from=[{"json": OK}])
    with pytest.raises(DeviceFailure, match="it left no file"):
        tools.devicectl().pull(PHONE, "Documents/status.json", tmp_path / "status.json")


def test_processes(tools):
    (tools.container / ".running").write_text("4242")
    assert tools.devicectl().processes(PHONE) == (1, 4242)
    assert tools.argv() == ["devicectl", "device", "info", "processes", "--device", D, "--json-output", "J"]


def test_terminate_and_a_process_that_is_gone(tools):
    (tools.container / ".running").write_text("4242")
    backend = tools.devicectl()
    backend.terminate(PHONE, 4242)
    backend.terminate(PHONE, 4242)  # "no such process" is a success
    expected = ["devicectl", "device", "process", "terminate", "--device", D, "--pid", "4242", "--json-output", "J"]
    assert tools.argv(-1) == tools.argv(-2) == expected
    tools.answer(device_process_terminate=[{"json": {"error": {"domain": "X", "code": 1}}, "exit": 1}])
    with pytest.raises(DeviceFailure, match="X 1"):
        backend.terminate(PHONE, 4242)


def test_uninstall(tools):
    tools.devicectl().uninstall(PHONE)
    assert tools.argv() == ["devicectl", "device", "uninstall", "app", "--device", D, "--json-output", "J", B]


def test_crash_logs_are_a_best_effort(tools, tmp_path):
    names = ["EdgeSAMBench-2026-01-02.ips", "Other.ips", "JetsamEvent-2026.ips"]
    tools.answer(device_info_files=[{"json": OK | {"result": {"files": [{"name": name} for name in names] + [7]}}}])
    for name in names:
        (tools.container / name).write_text("crash")
    found = tools.devicectl().crash_logs(PHONE, tmp_path / "crash")
    assert [path.name for path in found] == ["EdgeSAMBench-2026-01-02.ips", "JetsamEvent-2026.ips"]
    assert tools.argv(-3) == [
        "devicectl", "device", "info", "files", "--device", D, "--domain-type", "systemCrashLogs", "--json-output", "J",
    ]  # fmt: skip
    tools.answer(device_info_files=[{"exit": 1}])
    assert tools.devicectl().crash_logs(PHONE, tmp_path / "crash") == ()


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        ({}, "no_answer", "it wrote no JSON file"),
        ({"raw": ""}, "no_answer", "its JSON file is empty"),
        ({"raw": "No devices found."}, "no_answer", "not JSON"),
        ({"raw": "[]"}, "no_answer", "holds a list"),
        ({"json": OK}, "no_answer", "has no result"),
        ({"json": OK | {"result": None}}, "no_answer", "has no result"),
        ({"exit": 1}, "unclassified", "it wrote no JSON file"),
        ({"exit": 1, "stderr": "boom"}, "unclassified", "boom"),
        ({"exit": 72, "stderr": 'unable to find utility "devicectl"'}, "tool_missing", "install Xcode"),
        ({"exit": 0, "json": {"error": {"domain": "D.E", "code": 5}}}, "unclassified", "D.E 5"),
        ({"exit": 1, "json": OK | {"result": {"devices": []}}, "stderr": "odd"}, "unclassified", "odd"),
    ],
    ids=[
        "exit-0-no-json", "empty", "text", "array", "no-result", "null-result", "exit-1-silent", "exit-1-words",
        "no-tool", "exit-0-error-json", "exit-1-good-json",
    ],
)  # fmt: skip
def test_answers_that_are_none(tools, reply, kind, words):
    tools.answer(list_devices=[reply])
    with pytest.raises(DeviceFailure) as caught:
        tools.devicectl().list_devices()
    assert caught.value.kind == kind and words in str(caught.value)


@pytest.mark.parametrize("devices", [None, {}, "x", [], [None, 3, {}]])
def test_an_empty_or_strange_list_of_devices_is_empty(tools, devices):
    tools.answer(list_devices=[{"json": OK | {"result": {"devices": devices}}}])
    assert tools.devicectl().list_devices() == ()


def hanging(tools, **reply) -> Devicectl:
    """A backend for which ``processes`` hangs; devicectl's own limit and the margin are tenths of a second."""
    tools.answer(device_info_processes=[{"sleep_s": 60} | reply])
    backend = tools.devicectl()
    backend.limits_s, backend.margin_s = {"processes": 1}, 0.2
    return backend


def test_a_command_that_hangs_is_ended(tools):
    with pytest.raises(DeviceNotReady, match="did not finish in time") as caught:
        hanging(tools).processes(PHONE)
    assert caught.value.kind == "tool_timeout" and "--timeout" in tools.argv()


def test_a_command_that_hangs_after_its_answer_has_answered(tools):
    answer = {"json": OK | {"result": {"runningProcesses": [{"processIdentifier": 5}]}}}
    assert hanging(tools, **answer).processes(PHONE) == (5,)


def test_every_command_is_kept(tools, listed):
    tools.answer(list_devices=[{"json": listed, "stderr": "noise\n", "stdout": "table\n"}])
    tools.devicectl().list_devices()
    stem = tools.run / "log" / "0001_list"
    kept = {path.name.removeprefix(stem.name) for path in stem.parent.glob("0001_*")}
    assert kept == {".command.json", ".stdout", ".stderr", ".json"}
    assert json.loads(stem.with_name("0001_list.command.json").read_text())["argv"][:4] == [
        "xcrun",
        "devicectl",
        "list",
        "devices",
    ]


def test_each_call_has_its_own_json_file(tools):
    backend = tools.devicectl()
    backend.processes(PHONE)
    backend.processes(PHONE)
    paths = [call["argv"][call["argv"].index("--json-output") + 1] for call in tools.calls()]
    assert len(set(paths)) == 2


def test_the_host_of_a_record(tools):
    host = tools.devicectl(find_xcode=True).host()
    assert (host["xcode"], host["devicectl"], host["backend"]) == ("16.2 (16C5032a)", "397.24", "devicectl")


def test_backends_by_name(tmp_path):
    assert make_backend("devicectl", BackendOptions(), tmp_path).name == "devicectl"
    assert make_backend("local", BackendOptions(), tmp_path).name == "local"
    with pytest.raises(UsageError, match="choose one of: devicectl, local"):
        make_backend("carrier-pigeon")
