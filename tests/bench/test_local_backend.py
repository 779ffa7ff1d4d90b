"""This machine as a device: a real process, a plain folder, the same driver."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from fake_device import NONCE, RUN_ID, announced, case, lines, request, result, status

from edgesam_export.bench.devices import BackendOptions
from edgesam_export.bench.devices.backends.local import LocalBackend
from edgesam_export.bench.driver.drive import RunOutcome, drive
from edgesam_export.bench.driver.watcher import Deadlines
from edgesam_export.errors import BuildFailure, DeviceFailure, DeviceSetupFailure, UsageError

RESULT = result(case("all")).decode()
QUICK = Deadlines(poll_s=(0.02, 0.05), heartbeat_s=0.2, first_status_s=30.0)


class Host:
    """A fake edgesam-bench-host and a run's folder for it."""

    def __init__(self, folder: Path) -> None:
        self.executable = folder / "edgesam-bench-host"
        self.executable.write_text(f"#!{sys.executable} -IS\n" + (Path(__file__).parent / "fake_host.py").read_text())
        self.executable.chmod(0o755)
        self.run = folder / RUN_ID
        (self.run / "in").mkdir(parents=True)
        (self.run / "in" / "request.json").write_text(json.dumps(request(("all", "cpu_only"))))

    def plan(self, **plan) -> None:
        (self.executable.parent / "plan.json").write_text(json.dumps(plan))

    def backend(self, platform: str = "linux") -> LocalBackend:
        return LocalBackend(options=BackendOptions(executable=self.executable), run_folder=self.run, platform=platform)

    def drive(self, platform: str = "linux") -> RunOutcome:
        backend = self.backend(platform)
        return drive(backend, backend.list_devices()[0], self.run / "in", run_id=RUN_ID, nonce=NONCE, deadlines=QUICK)

    @property
    def environment(self) -> dict[str, str | None]:
        return json.loads((self.run / "documents" / f"edgesam-out-{RUN_ID}" / "environment.json").read_text())


@pytest.fixture
def host(tmp_path) -> Host:
    return Host(tmp_path)


def test_a_run_of_a_real_process(host):
    done = status(3, "done", result=announced(RESULT.encode()))
    host.plan(statuses=[done], files={"result.json": RESULT, "partial.ndjson": lines(case("all")).decode()})
    outcome = host.drive()
    assert outcome.complete and outcome.failure is None and outcome.document == json.loads(RESULT)
    assert outcome.host["backend"] == "local" and outcome.host["transport"] == "local"
    assert (host.run / "out" / "result.json").read_text() == RESULT
    assert (host.run / "documents" / f"edgesam-in-{RUN_ID}" / "request.json").is_file()


@pytest.mark.parametrize(("platform", "python"), [("linux", sys.executable), ("darwin", None)])
def test_the_stand_ins_python_is_named_on_linux_only(host, platform, python):
    host.plan(statuses=[status(3, "done", result=announced(RESULT.encode()))], files={"result.json": RESULT})
    host.drive(platform)
    assert host.environment == {"EDGESAM_BENCH_RUN_ID": RUN_ID, "EDGESAM_PYTHON": python}


def test_a_process_that_fails_says_why(host):
    host.plan(exit=2, stderr="reading\nedgesam-bench-host: request.json: bad nonce\n")
    outcome = host.drive()
    assert outcome.failure.kind == "crashed"
    assert "it ended with status 2: edgesam-bench-host: request.json: bad nonce" in str(outcome.failure)


def test_a_process_that_dies_in_a_case_leaves_the_finished_ones(host):
    running = status(3, "running", case_index=1, case_count=2)
    host.plan(statuses=[running], files={"partial.ndjson": lines(case("all")).decode()}, exit=6)
    outcome = host.drive()
    assert [(c["id"], c["outcome"]) for c in outcome.document["cases"]] == [
        ("all/all/n1", "ok"),
        ("cpu_only/cpu_only/n1", "crashed"),
    ]


def test_terminate_ends_the_process_and_leaves_strangers_alone(host):
    host.plan(wait_s=60)
    backend = host.backend()
    device = backend.list_devices()[0]
    backend.push(device, host.run / "in", f"Documents/edgesam-in-{RUN_ID}")
    pid = backend.launch(device, {"EDGESAM_BENCH_RUN_ID": RUN_ID})
    assert backend.processes(device) == (pid,) and backend.exit_reason(pid) is None
    backend.terminate(device, os.getpid())  # not its own
    backend.terminate(device, pid)
    assert backend.processes(device) == () and "status -15" in backend.exit_reason(pid)
    backend.terminate(device, pid)


def test_an_executable_that_is_none_is_refused(tmp_path):
    (tmp_path / "plain").write_text("")
    for name in ("plain", "missing"):
        backend = LocalBackend(options=BackendOptions(executable=tmp_path / name), run_folder=tmp_path / "run")
        with pytest.raises(UsageError, match="not an executable file"):
            backend.install(backend.list_devices()[0])


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A Swift package and a fake ``swift`` that builds it."""
    folder = tmp_path / "swift"
    folder.mkdir()
    (folder / "Package.swift").write_text("")
    tool = tmp_path / "bin" / "swift"
    tool.parent.mkdir()
    tool.write_text(
        '#!/bin/sh\necho "$@" > arguments\nif [ -e broken ]; then echo "x.swift:1:1: error: no such"; exit 1; fi\n'
        "mkdir -p .build/release && touch .build/release/edgesam-bench-host\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    return folder


def local(package: Path, **options) -> LocalBackend:
    return LocalBackend(options=BackendOptions(swift_folder=package, **options), run_folder=package.parent / "run")


def test_the_executable_is_built_on_request_only(package):
    backend = local(package)
    with pytest.raises(
        DeviceSetupFailure, match=r"not built; run `swift build -c release --product edgesam-bench-host`"
    ):
        backend.install(backend.list_devices()[0])
    assert not (package / "arguments").exists()
    backend = local(package, build=True)
    backend.install(backend.list_devices()[0])
    assert (package / "arguments").read_text() == "build -c release --product edgesam-bench-host\n"
    assert local(package).find_executable() == package / ".build/release/edgesam-bench-host"


def test_a_build_that_fails_is_quoted(package):
    (package / "broken").touch()
    backend = local(package, build=True)
    with pytest.raises(BuildFailure, match=r"x\.swift:1:1: error: no such; log: .*swift_build") as caught:
        backend.install(backend.list_devices()[0])
    assert caught.value.exit_code == 5


def test_a_file_that_is_not_there(host):
    backend = host.backend()
    source, destination = f"Documents/edgesam-out-{RUN_ID}/status.json", host.run / "out" / "status.json"
    with pytest.raises(DeviceFailure) as caught:
        backend.pull(backend.list_devices()[0], source, destination)
    assert caught.value.kind == "file_missing" and list((host.run / "out").iterdir()) == []


@pytest.mark.parametrize("path", ["/etc/passwd", "Documents/../../x", "Library/x"])
def test_a_path_outside_documents_is_refused(host, path):
    backend = host.backend()
    with pytest.raises(UsageError, match="not a path inside Documents"):
        backend.pull(backend.list_devices()[0], path, host.run / "x")


def test_the_folder_for_documents_may_be_given(tmp_path):
    backend = LocalBackend(options=BackendOptions(documents=tmp_path / "d"), run_folder=tmp_path / "run")
    assert backend.settings() == {"documents": str(tmp_path / "d")}
