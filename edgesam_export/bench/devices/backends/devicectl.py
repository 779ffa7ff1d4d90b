"""An iPhone or iPad, driven by ``xcrun devicectl``.

Its text output changes between versions; only the JSON file that it writes is read, and read before the exit status.
"""

from __future__ import annotations

import json
import os
import platform as platform_module
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from edgesam_export.bench.devices import DEVICES, BackendOptions, DeviceBackend, DeviceDescription
from edgesam_export.bench.devices.commands import CommandLog, run_command
from edgesam_export.bench.devices.devicectl_json import (
    Envelope,
    integer_at,
    list_at,
    read_envelope,
    string_at,
)
from edgesam_export.bench.devices.failures import classify, failure_of_kind, make_failure
from edgesam_export.bench.devices.readiness import describe_device
from edgesam_export.bench.devices.xcode import (
    BUNDLE_PREFIX,
    Xcode,
    build_app,
    bundle_identifier,
    find_xcode,
    verify_signature,
)
from edgesam_export.errors import BuildFailure, DeviceFailure, UsageError

__all__ = ["Devicectl"]

MARGIN_S = 15.0
"""How much longer than devicectl's own limit we wait for it."""
DEFAULT_LIMIT_S = 60
EXECUTABLE = "EdgeSAMBench"
CHILD_PREFIX = "DEVICECTL_CHILD_"
MAX_CRASH_LOGS = 5


@DEVICES.register("devicectl")
class Devicectl(DeviceBackend):
    """The commands of ``devicectl`` that a benchmark needs."""

    name = "devicectl"
    survives_host = True
    polling_disturbs = True

    def __init__(
        self,
        *,
        options: BackendOptions,
        run_folder: Path | None = None,
        platform: str = sys.platform,
        margin_s: float = MARGIN_S,
        limits_s: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(options=options, run_folder=run_folder)
        self.log = CommandLog(run_folder / "log" if run_folder else None)
        self.platform = platform
        self.margin_s = margin_s
        self.limits_s = dict(limits_s or {})
        usual = f"{BUNDLE_PREFIX}.{options.team}" if options.team and options.skip_install else None
        self.bundle_id = options.bundle_id or usual

    @cached_property
    def xcode(self) -> Xcode:
        """The selected Xcode, looked up once; raises DeviceSetupFailure without a usable one."""
        return find_xcode(self.log, platform=self.platform)

    def host(self) -> dict[str, Any]:
        build = f" ({self.xcode.build})" if self.xcode.build else ""
        return {
            "os": f"{platform_module.system()} {platform_module.mac_ver()[0] or platform_module.release()}",
            "xcode": f"{self.xcode.version}{build}",
            "devicectl": self.xcode.devicectl,
            "backend": self.name,
        }

    def list_devices(self) -> tuple[DeviceDescription, ...]:
        _ = self.xcode
        result = self.call("list", ["list", "devices"], timeout_s=10)
        devices = [describe_device(entry, allow_wifi=self.options.allow_wifi) for entry in list_at(result, "devices")]
        return tuple(device for device in devices if device is not None)

    def describe(self, device: DeviceDescription) -> DeviceDescription:
        _ = self.xcode
        result = self.call(
            "details", ["device", "info", "details", "--device", device.identifier], timeout_s=30, device=device
        )
        # A device that is not awake may describe itself in part: the fields of the list stay.
        described = describe_device({"identifier": device.identifier} | result, allow_wifi=self.options.allow_wifi)
        return described if described is not None and described.platform is not None else device

    def install(self, device: DeviceDescription) -> None:
        if self.options.skip_install:
            self.require_bundle_id()
            return
        _ = self.xcode
        app = self.options.app
        if app is None:
            folder = self.run_folder.parent if self.run_folder else self.log.folder
            app = build_app(self.log, self.options, (folder / "DerivedData").resolve(), device.udid)
        verify_signature(self.log, app)
        identifier = bundle_identifier(app)
        if self.options.bundle_id not in (None, identifier):
            raise BuildFailure(
                f"{app} is {identifier}, not {self.options.bundle_id} as asked; build it again", kind="build_failed"
            )
        self.bundle_id = identifier
        words = ["device", "install", "app", "--device", device.identifier]
        self.call("install", words, timeout_s=180, last=[str(app)], device=device)

    def push(self, device: DeviceDescription, folder: Path, destination: str) -> None:
        words = ["device", "copy", "to", "--device", device.identifier, "--user", "mobile", *self.container()]
        words += ["--source", str(folder.resolve()), "--destination", plain_path(destination)]
        self.call("push", words, timeout_s=600, device=device)

    def launch(self, device: DeviceDescription, environment: Mapping[str, str]) -> int:
        words = ["device", "process", "launch", "--device", device.identifier, "--terminate-existing"]
        option = ["--environment-variables", json.dumps(dict(environment), sort_keys=True, separators=(",", ":"))]
        last = [self.require_bundle_id()]
        if self.xcode.major < 16:  # whether the option is there is known from Xcode 16 on only
            option = []
        try:
            result = self.call(
                "launch", [*words, *option], timeout_s=60, last=last, device=device, environment=environment
            )
        except DeviceFailure as failure:
            if failure.kind != "option_unknown" or not option:
                raise
            result = self.call("launch", words, timeout_s=60, last=last, device=device, environment=environment)
        pid = integer_at(result, "process", "processIdentifier")
        return pid if pid is not None else self.find_process(device)

    def find_process(self, device: DeviceDescription) -> int:
        """Return the app's process id from the list of processes, for an answer that lacks it."""
        for process in self.running(device):
            executable, pid = string_at(process, "executable") or "", integer_at(process, "processIdentifier")
            if PurePosixPath(executable).name == EXECUTABLE and pid is not None:
                return pid
        raise make_failure(
            f"launch on {device.title}",
            failure_of_kind("no_answer"),
            (),
            "it names no process",
            log=str(self.log.folder),
        )

    def running(self, device: DeviceDescription) -> Sequence[Any]:
        """Return devicectl's entries of the running processes."""
        words = ["device", "info", "processes", "--device", device.identifier]
        return list_at(self.call("processes", words, device=device), "runningProcesses")

    def processes(self, device: DeviceDescription) -> tuple[int, ...]:
        pids = [integer_at(process, "processIdentifier") for process in self.running(device)]
        return tuple(pid for pid in pids if pid is not None)

    def pull(self, device: DeviceDescription, source: str, destination: Path) -> Path:
        words = ["device", "copy", "from", "--device", device.identifier, "--user", "mobile", *self.container()]
        words += ["--source", plain_path(source)]
        return self.copy_from(device, words, destination, "pull")

    def copy_from(self, device: DeviceDescription, words: list[str], destination: Path, name: str) -> Path:
        """Copy one file into a fresh folder, then move it: what happens to a file in the way is not documented."""
        destination.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".incoming-", dir=destination.parent))
        try:
            arrived = fresh.resolve() / destination.name
            self.call(name, [*words, "--destination", str(arrived)], timeout_s=30, device=device)
            if not arrived.is_file():
                raise make_failure(
                    f"{name} from {device.title}",
                    failure_of_kind("no_answer"),
                    (),
                    "it left no file",
                    log=self.last_log(),
                )
            os.replace(arrived, destination)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return destination

    def terminate(self, device: DeviceDescription, pid: int) -> None:
        words = ["device", "process", "terminate", "--device", device.identifier, "--pid", str(pid)]
        try:
            self.call("terminate", words, device=device)
        except DeviceFailure as failure:
            if failure.kind != "process_gone":
                raise

    def uninstall(self, device: DeviceDescription) -> None:
        words = ["device", "uninstall", "app", "--device", device.identifier]
        self.call("uninstall", words, last=[self.require_bundle_id()], device=device)

    def crash_logs(self, device: DeviceDescription, destination: Path) -> tuple[Path, ...]:
        domain = ["--device", device.identifier, "--domain-type", "systemCrashLogs"]
        pulled = []
        try:
            files = list_at(self.call("crash_logs", ["device", "info", "files", *domain], device=device), "files")
            names = [string_at(entry, "name") or string_at(entry, "relativePath") or "" for entry in files]
            own = sorted(name for name in names if PurePosixPath(name).name.startswith((EXECUTABLE, "JetsamEvent")))
            for name in own[-MAX_CRASH_LOGS:]:
                words = ["device", "copy", "from", *domain, "--source", name]
                pulled.append(self.copy_from(device, words, destination / PurePosixPath(name).name, "crash_log"))
        except (DeviceFailure, OSError):
            return tuple(pulled)
        return tuple(pulled)

    def settings(self) -> dict[str, Any]:
        return {"bundle_id": self.bundle_id, "allow_wifi": self.options.allow_wifi}

    def container(self) -> list[str]:
        """Return the arguments that name the app's data container."""
        return ["--domain-type", "appDataContainer", "--domain-identifier", self.require_bundle_id()]

    def require_bundle_id(self) -> str:
        """Return the app's bundle identifier, or raise UsageError when it is unknown."""
        if self.bundle_id is None:
            raise UsageError("the app's bundle identifier is not known; give --team or --bundle-id, or install the app")
        return self.bundle_id

    def last_log(self) -> str:
        """Return a pattern for the log files of the latest command."""
        return str(self.log.folder / f"{self.log.count:04d}_*")

    def call(
        self,
        name: str,
        words: Sequence[str],
        *,
        timeout_s: int | None = None,
        last: Sequence[str] = (),
        device: DeviceDescription | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Run one subcommand and return its ``result``.

        ``timeout_s`` is devicectl's own limit, ``environment`` what the launched app gets, by way of devicectl's own
        environment: the only way in Xcode 15, and harmless beside the option.

        Raises:
            DeviceFailure: by the failure table.
        """
        stem = self.log.next_stem(name)
        answer = stem.with_name(f"{stem.name}.json")
        limit = self.limits_s.get(name, timeout_s)
        argv = ["xcrun", "devicectl", *words, *(["--timeout", str(limit)] if limit is not None else [])]
        argv += ["--json-output", str(answer.resolve()), *last]
        if environment:
            argv = ["/usr/bin/env", *(f"{CHILD_PREFIX}{key}={environment[key]}" for key in sorted(environment)), *argv]
        done = run_command(argv, stem=stem, timeout_s=(limit or DEFAULT_LIMIT_S) + self.margin_s)
        envelope = read_envelope(answer)
        if envelope.ok and (done.returncode == 0 or done.timed_out):  # written at the very end: the work was done
            if envelope.result is not None or name not in READING:
                return envelope.result or {}
            envelope = Envelope(problem="its JSON has no result")
        what = f"{name} on {device.title}" if device else name
        log = f"{done.log}.*"
        if envelope.chain:
            raise make_failure(what, classify(envelope.chain, done.stderr, command=name), envelope.chain, log=log)
        if done.timed_out:
            raise make_failure(what, failure_of_kind("tool_timeout"), (), f"{limit or DEFAULT_LIMIT_S} s", log=log)
        detail = done.stderr.strip() or envelope.problem or f"exit status {done.returncode}"
        row = classify((), done.stderr, command=name) if done.returncode else failure_of_kind("no_answer")
        raise make_failure(what, row, (), detail if done.returncode else envelope.problem or "", log=log)


READING = frozenset({"list", "details", "processes"})
"""Commands whose answer is what they are for."""


def plain_path(path: str) -> str:
    """Return a path inside the container: a trailing slash makes devicectl copy elsewhere, or nowhere."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise UsageError(f"'{path}' is not a path inside the app's container")
    return str(pure)
