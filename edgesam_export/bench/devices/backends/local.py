"""This machine instead of a phone: ``edgesam-bench-host`` with a plain folder as the app's container.

On macOS it measures with Core ML; elsewhere it runs a stand-in that exercises the same protocol.
"""

from __future__ import annotations

import contextlib
import os
import platform as platform_module
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edgesam_export.bench.devices import DEVICES, BackendOptions, DeviceBackend, DeviceDescription
from edgesam_export.bench.devices.commands import CommandLog, end_group, run_command, tail
from edgesam_export.bench.devices.failures import failure_of_kind, make_failure
from edgesam_export.bench.devices.xcode import find_swift_folder, first_error, last_words
from edgesam_export.errors import BuildFailure, DeviceFailure, DeviceSetupFailure, UsageError, first_line
from edgesam_export.files import json_text

__all__ = ["BUILD_ARGUMENTS", "LocalBackend"]

PRODUCT = "edgesam-bench-host"
BUILD_ARGUMENTS = ("swift", "build", "-c", "release", "--product", PRODUCT)
BUILD_S = 1800.0
GRACE_S = 5.0


@DEVICES.register("local")
class LocalBackend(DeviceBackend):
    """A process of this machine."""

    name = "local"

    def __init__(
        self, *, options: BackendOptions, run_folder: Path | None = None, platform: str = sys.platform
    ) -> None:
        super().__init__(options=options, run_folder=run_folder)
        self.platform = platform
        self.runtime = "coreml" if platform == "darwin" else "coreml_stand_in"
        self.log = CommandLog(run_folder / "log" if run_folder else None)
        self.documents = options.documents or (run_folder or self.log.folder) / "documents"
        self.process: subprocess.Popen[bytes] | None = None
        self.output: Path | None = None

    def list_devices(self) -> tuple[DeviceDescription, ...]:
        system = {"darwin": "macOS", "linux": "Linux"}.get(self.platform, self.platform)
        return (
            DeviceDescription(
                backend=self.name,
                identifier="local",
                name=f"this machine ({system})",
                platform=system,
                reality="physical",
                os_version=platform_module.mac_ver()[0] or platform_module.release(),
                transport="local",
            ),
        )

    def install(self, device: DeviceDescription) -> None:
        executable = self.find_executable()
        if self.options.executable is not None or (executable is not None and not self.options.build):
            return
        if not self.options.build:
            raise DeviceSetupFailure(
                f"{PRODUCT} is not built; run `{' '.join(BUILD_ARGUMENTS)}` in the swift folder, "
                "or have this command build it",
                kind="tool_missing",
            )
        folder = find_swift_folder(self.options)
        done = run_command(BUILD_ARGUMENTS, stem=self.log.next_stem("swift_build"), timeout_s=BUILD_S, cwd=folder)
        if not done.ok or self.find_executable() is None:
            reason = first_error(f"{done.stdout}\n{done.stderr}") or last_words(done)
            raise BuildFailure(f"building {PRODUCT} failed: {reason}; log: {done.log}.*", kind="build_failed")

    def find_executable(self) -> Path | None:
        """Return the executable that was given or lies in the package's build folder.

        Raises:
            UsageError: the one given is not there, or there is no package to look in.
        """
        if (given := self.options.executable) is not None:
            if not (given.is_file() and os.access(given, os.X_OK)):
                raise UsageError(f"'{given}' is not an executable file")
            return given.resolve()
        built = find_swift_folder(self.options) / ".build" / "release" / PRODUCT
        return built if built.is_file() else None

    def push(self, device: DeviceDescription, folder: Path, destination: str) -> None:
        target = self.local_path(destination)
        try:
            shutil.copytree(folder, target, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise DeviceFailure(
                f"cannot copy {folder} to {target}: {first_line(error)}", kind="source_missing"
            ) from None

    def launch(self, device: DeviceDescription, environment: Mapping[str, str]) -> int:
        if self.process is not None:
            self.terminate(device, self.process.pid)
        executable = self.find_executable()
        if executable is None:
            raise make_failure("launch", failure_of_kind("not_installed"), (), f"{PRODUCT} is not built")
        self.documents.mkdir(parents=True, exist_ok=True)
        added = dict(environment)
        if self.platform == "linux":  # its stand-in for Core ML is this Python's executor
            added["EDGESAM_PYTHON"] = sys.executable
        argv = ["/usr/bin/env", *(f"{key}={added[key]}" for key in sorted(added)), str(executable)]
        argv += ["--documents", str(self.documents.resolve())]
        if "EDGESAM_BENCH_RUN_ID" in environment:
            argv += ["--run-id", environment["EDGESAM_BENCH_RUN_ID"]]
        stem = self.log.next_stem("launch")
        stem.with_name(f"{stem.name}.command.json").write_text(json_text({"argv": argv}))
        self.output = stem.with_name(f"{stem.name}.stderr")
        with stem.with_name(f"{stem.name}.stdout").open("wb") as stdout, self.output.open("wb") as stderr:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
            )
        return self.process.pid

    def pull(self, device: DeviceDescription, source: str, destination: Path) -> Path:
        path = self.local_path(source)
        destination.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".incoming-", dir=destination.parent))
        try:
            shutil.copyfile(path, fresh / destination.name)
            os.replace(fresh / destination.name, destination)
        except FileNotFoundError:
            raise make_failure(f"pull of {source}", failure_of_kind("file_missing")) from None
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return destination

    def processes(self, device: DeviceDescription) -> tuple[int, ...]:
        return (self.process.pid,) if self.process is not None and self.process.poll() is None else ()

    def terminate(self, device: DeviceDescription, pid: int) -> None:
        if self.process is None or self.process.pid != pid:
            return  # only what this object started is its own to end
        with contextlib.suppress(subprocess.TimeoutExpired):
            end_group(pid, self.process.poll, GRACE_S)
            self.process.wait(GRACE_S)

    def crash_logs(self, device: DeviceDescription, destination: Path) -> tuple[Path, ...]:
        return (self.output,) if self.output is not None and self.output.stat().st_size else ()

    def exit_reason(self, pid: int) -> str | None:
        if self.process is None or self.process.pid != pid or (status := self.process.poll()) is None:
            return None
        words = tail(self.output).strip().splitlines() if self.output is not None else []
        return f"it ended with status {status}" + (f": {words[-1].strip()[:300]}" if words else "")

    def settings(self) -> dict[str, Any]:
        return {"documents": str(self.documents.resolve())}

    def host(self) -> dict[str, Any]:
        version = platform_module.mac_ver()[0] or platform_module.release()
        return {"os": f"{platform_module.system()} {version}", "xcode": None, "devicectl": None, "backend": self.name}

    def local_path(self, path: str) -> Path:
        """Return the path on this machine of a path in the app's container."""
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or pure.parts[:1] != ("Documents",):
            raise UsageError(f"'{path}' is not a path inside Documents")
        return self.documents.joinpath(*pure.parts[1:])
