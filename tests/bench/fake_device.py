"""A clock that jumps, a device whose life is a list of events, and documents of the protocol to go with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgesam_export.bench.devices import BackendOptions, DeviceBackend, DeviceDescription
from edgesam_export.bench.devices.failures import failure_of_kind, make_failure

RUN_ID = "0f0e0d0c-1111-4222-8333-444455556666"
NONCE = "00112233445566778899aabbccddeeff"
PHONE = DeviceDescription(
    backend="fake",
    identifier="PHONE-1",
    name="Bench Phone",
    udid="00008101-000000000000A01E",
    platform="iOS",
    product_type="iPhone13,2",
    marketing_name="iPhone 12",
    os_version="17.4.1",
    transport="wired",
)


def failure(kind: str) -> Exception:
    return make_failure("command", failure_of_kind(kind))


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakePhone(DeviceBackend):
    """Files of its app as functions of the seconds since launch; failures of a command, used up one after the other."""

    name = "fake"
    survives_host = True
    polling_disturbs = True

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(options=BackendOptions())
        self.clock = clock
        self.files: dict[str, Callable[[float], bytes | None]] = {}
        self.failures: dict[str, list[Exception]] = {}
        self.outages: list[tuple[float, float]] = []
        self.outage = "device_gone"
        self.dies_at = float("inf")
        self.launched_at: float | None = None
        self.calls: list[tuple[Any, ...]] = []
        self.command_s = 0.0

    @property
    def age(self) -> float:
        return self.clock.now - (self.launched_at if self.launched_at is not None else self.clock.now)

    def enter(self, command: str, *details: Any) -> None:
        self.calls.append((command, *details))
        self.clock.sleep(self.command_s)
        if pending := self.failures.get(command):
            raise pending.pop(0)
        if self.launched_at is not None and any(start <= self.age < end for start, end in self.outages):
            raise failure(self.outage)

    def commands(self) -> list[str]:
        """Calls in order, repeated ones once."""
        names = [call[0] for call in self.calls]
        return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]

    def list_devices(self) -> tuple[DeviceDescription, ...]:
        return (PHONE,)

    def install(self, device: DeviceDescription) -> None:
        self.enter("install")

    def push(self, device: DeviceDescription, folder: Path, destination: str) -> None:
        self.enter("push", destination)

    def launch(self, device: DeviceDescription, environment: dict[str, str]) -> int:
        self.enter("launch", dict(environment))
        if "EDGESAM_BENCH_RUN_ID" in environment:
            self.launched_at = self.clock.now
        return 4242

    def pull(self, device: DeviceDescription, source: str, destination: Path) -> Path:
        self.enter("pull", source)
        name = source.split(f"edgesam-out-{RUN_ID}/")[1]
        content = self.files[name](self.age) if name in self.files else None
        if content is None:
            raise failure("file_missing")
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(content)
        return destination

    def processes(self, device: DeviceDescription) -> tuple[int, ...]:
        self.enter("processes")
        return (1, 4242) if self.age < self.dies_at else (1,)

    def terminate(self, device: DeviceDescription, pid: int) -> None:
        self.enter("terminate", pid)

    def uninstall(self, device: DeviceDescription) -> None:
        self.enter("uninstall")

    def crash_logs(self, device: DeviceDescription, destination: Path) -> tuple[Path, ...]:
        self.calls.append(("crash_logs",))
        return ()

    def host(self) -> dict[str, Any]:
        return {"os": "macOS 15.0", "xcode": "16.2", "devicectl": "477.29", "backend": self.name}


def request(matrix: tuple[str, ...] = ("all", "cpu_only"), **schedule: Any) -> dict[str, Any]:
    """A request with one model and one case for each row of the matrix."""
    return {
        "protocol_version": 1,
        "run_id": RUN_ID,
        "nonce": NONCE,
        "created_at": "2026-01-02T03:04:05+00:00",
        "models": [
            {
                "id": "enc",
                "role": "encoder",
                "relative_path": "models/enc.mlpackage",
                "sha256_tree": "a" * 64,
                "input_spec": [{"name": "image", "shape": [1, 3, 1024, 1024], "dtype": "fp16"}],
            }
        ],
        "matrix": [
            {
                "compute_units": {"encoder": u, "decoder": u},
                "hints": {"reshape_frequency": None, "specialization_strategy": None},
            }
            for u in matrix
        ],
        "schedule": {
            "warmup_iterations": 10,
            "min_iterations": 100,
            "min_duration_s": 10.0,
            "max_duration_s": 120.0,
            "sustained_duration_s": 60.0,
            "load_repeats": 3,
            "cooldown_s": 10.0,
            "start_when_thermal_at_most": "nominal",
            "start_thermal_timeout_s": 600.0,
        }
        | schedule,
        "workload": {
            "stages": ["encoder"],
            "n_points": [1],
            "vary_points": False,
            "input": "random",
            "io": "multiarray",
            "output_backings": True,
            "concurrency": 1,
            "pace_hz": None,
        },
        "collect": {"compute_plan": True, "timeseries_hz": 1.0, "parity_outputs": False, "parity_inputs": []},
    }


def status(seq: int, phase: str, **more: Any) -> dict[str, Any]:
    known = {
        "protocol_version": 1,
        "run_id": RUN_ID,
        "nonce": NONCE,
        "seq": seq,
        "uptime_s": float(seq),
        "phase": phase,
    }
    return known | {"app_version": "0.1.0", "build_configuration": "release"} | more


def case(units: str = "all", **more: Any) -> dict[str, Any]:
    return {
        "id": f"{units}/{units}/n1",
        "runtime": "coreml",
        "compute_units": {"encoder": units, "decoder": units},
        "n_points": 1,
        "vary_points": False,
        "stages": {"encoder": {"warmup_n": 2, "warmup_ns": [9, 9], "samples_ns": [5, 6, 7]}},
        "validity": {"low_power": False, "debug_build": False, "reasons": []},
        "outcome": "ok",
    } | more


def result(*cases: dict[str, Any], **more: Any) -> bytes:
    document = {
        "schema_version": 1,
        "protocol_version": 1,
        "run_id": RUN_ID,
        "nonce": NONCE,
        "started_at": "2026-01-02T03:05:00Z",
        "finished_at": "2026-01-02T03:15:00Z",
        "app": {"version": "0.1.0", "build_configuration": "release", "debugger_attached": False},
        "device": {"product_type": "iPhone13,2", "marketing_name": "iPhone 12", "os_version": "17.4.1"},
        "models": [{"id": "enc", "role": "encoder", "sha256": "a" * 64}],
        "cases": list(cases),
    }
    return json.dumps(document | more).encode()


def announced(content: bytes, file: str = "result.json") -> dict[str, Any]:
    return {"file": file, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def lines(*cases: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in cases)


def timeline(*events: tuple[float, dict[str, Any] | bytes | None]) -> Callable[[float], bytes | None]:
    """A file whose content is that of the last event not later than now."""

    def content(age: float) -> bytes | None:
        current: dict[str, Any] | bytes | None = None
        for start, value in events:
            if age >= start:
                current = value
        return json.dumps(current).encode() if isinstance(current, dict) else current

    return content


def beating(until: float, phase: str, **more: Any) -> list[tuple[float, dict[str, Any]]]:
    """Heartbeats of a phase without progress, one a second."""
    return [(float(second), status(second + 1, phase, **more)) for second in range(int(until))]
