"""Backends are an open folder: a file dropped into it is a device that a plan can be measured on."""

from __future__ import annotations

import pkgutil

import pytest
from fake_device import FakeClock
from test_benchmark import Bench, plan  # noqa: F401  # the fixture

from edgesam_export.bench.devices import DEVICES, BackendOptions, DeviceBackend, backends, make_backend
from edgesam_export.bench.record import read_record
from edgesam_export.bench.run import list_devices
from edgesam_export.errors import UsageError

TOY = '''
"""A board whose files lie in a folder and whose app is finished as soon as it is launched."""

import json
import shutil
from pathlib import Path

from fake_device import announced, case, status

from edgesam_export.bench.devices import DEVICES, DeviceBackend, DeviceDescription


@DEVICES.register("toy")
class Toy(DeviceBackend):
    name = "toy"
    runtime = "toy_runtime"

    def list_devices(self):
        return (DeviceDescription(backend=self.name, identifier="1", name="Toy Board", os_version="1"),)

    def install(self, device):
        self.folder = self.run_folder / "board"

    def push(self, device, folder, destination):
        shutil.copytree(folder, self.folder / destination)

    def launch(self, device, environment):
        run_id = environment["EDGESAM_BENCH_RUN_ID"]
        request = json.loads((self.folder / f"Documents/edgesam-in-{run_id}/request.json").read_text())
        ids = {name: request[name] for name in ("run_id", "nonce")}
        device = {"marketing_name": "Toy Board", "os_version": "1"}
        models = [{"id": "enc", "role": "encoder", "sha256": "a" * 64}]
        result = {"schema_version": 1, "protocol_version": 1, "device": device, "models": models, "cases": [case()]}
        self.out = self.folder / f"Documents/edgesam-out-{run_id}"
        self.out.mkdir(parents=True)
        content = json.dumps(result | ids).encode()
        (self.out / "result.json").write_bytes(content)
        (self.out / "partial.ndjson").write_text("")
        (self.out / "status.json").write_text(json.dumps(status(1, "done", result=announced(content)) | ids))
        return 7

    def pull(self, device, source, destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(self.folder / source, destination))

    def processes(self, device):
        return (7,)

    def terminate(self, device, pid):
        return

    def host(self):
        return {"os": "ToyOS", "backend": self.name}
'''


@pytest.fixture
def dropped_in(tmp_path, monkeypatch):
    """The folder of backends with one file more."""
    folder = tmp_path / "dropped"
    folder.mkdir()
    (folder / "toy.py").write_text(TOY)
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(folder)])
    yield
    DEVICES.entries.pop("toy", None)


def test_a_backend_dropped_in_makes_a_record(dropped_in, tmp_path, plan):  # noqa: F811
    assert [device.title for device in list_devices("toy")] == ["Toy Board (OS 1)"]
    bench = Bench(tmp_path, plan, "toy")
    record = read_record(bench.run(clock=FakeClock()))
    assert record["device"]["marketing_name"] == "Toy Board"
    polls = {"timing_poll_s": None, "polls_while_timing": {}}
    assert record["host"] == {"os": "ToyOS", "backend": "toy", "transport": None} | polls
    assert record["cases"][0]["stages"]["encoder"]["p50"] == 6


def test_a_backend_is_called_like_its_module():
    make_backend("local")
    modules = {item.name for item in pkgutil.iter_modules(backends.__path__)}
    assert set(DEVICES) == modules == {DEVICES[name].name for name in DEVICES}


def test_an_unknown_backend_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="unknown device backend 'tape'; choose one of: devicectl, local"):
        make_backend("tape")


def test_capabilities_have_defaults_and_commands_have_none():
    class Bare(DeviceBackend):
        name = "bare"

    with pytest.raises(TypeError, match="abstract"):
        Bare(options=BackendOptions())
    assert not DeviceBackend.survives_host and DeviceBackend.runtime == "coreml"
    assert DeviceBackend.__abstractmethods__ == {
        "list_devices",
        "install",
        "push",
        "launch",
        "pull",
        "processes",
        "terminate",
        "host",
    }
