"""Devices that a benchmark runs on, and the interface of the backends that reach them.

A backend moves folders and starts a process; it knows nothing of the benchmark's protocol. ``driver.drive`` knows the
protocol and nothing of the tools behind a backend. ``backends/`` is open: one module per backend. The modules beside it
support them: running commands, Xcode, the failure table, choosing a device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesam_export.errors import BuildFailure, DeviceFailure, DeviceNotReady, DeviceSetupFailure, InvalidResult
from edgesam_export.registry import Registry, import_submodules

__all__ = [
    "DEVICES",
    "BackendOptions",
    "BuildFailure",
    "DeviceBackend",
    "DeviceDescription",
    "DeviceFailure",
    "DeviceNotReady",
    "DeviceSetupFailure",
    "InvalidResult",
    "make_backend",
]


@dataclass(frozen=True, kw_only=True)
class DeviceDescription:
    """One device as its tool describes it; a field that the tool left out is None."""

    backend: str
    identifier: str
    """Argument of the backend's commands."""
    name: str | None = None
    udid: str | None = None
    serial: str | None = None
    platform: str | None = None
    reality: str | None = None
    """physical or simulated."""
    product_type: str | None = None
    marketing_name: str | None = None
    hardware_model: str | None = None
    os_version: str | None = None
    os_build: str | None = None
    transport: str | None = None
    """wired, localNetwork, or local for this machine."""
    pairing_state: str | None = None
    tunnel_state: str | None = None
    developer_mode: str | None = None
    rejection: str | None = None
    """Why it cannot be used now, with what to do; None when it can."""
    warnings: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        return self.rejection is None

    @property
    def title(self) -> str:
        """Name, model and system in one phrase."""
        model = self.marketing_name or self.product_type or self.platform
        details = ", ".join(part for part in (model, self.os_version and f"OS {self.os_version}") if part)
        return f"{self.name or self.identifier}{f' ({details})' if details else ''}"

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON data."""
        return asdict(self) | {"usable": self.usable, "warnings": list(self.warnings)}


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """Options for reaching a device and building for it; a backend reads those that concern it."""

    team: str | None = None
    """Development team that signs the app."""
    bundle_id: str | None = None
    """None: the project's, which carries the team (Config/Base.xcconfig)."""
    app: Path | None = None
    """A built and signed EdgeSAMBench.app; None builds it."""
    skip_install: bool = False
    """The app on the device is up to date."""
    swift_folder: Path | None = None
    """The folder of Package.swift; None looks beside this package and in the current folder."""
    executable: Path | None = None
    """A built edgesam-bench-host, for the local backend."""
    build: bool = False
    """Let the local backend build edgesam-bench-host, or bring it up to date."""
    allow_wifi: bool = False
    register_device: bool = False
    """Let Xcode add the device to the developer account."""
    increased_memory: bool = False
    """Build the app with the entitlement for more memory, which a paid team may have."""
    authentication_key: tuple[Path, str, str] | None = None
    """App Store Connect key: file, key id, issuer id."""
    documents: Path | None = None
    """The app's Documents folder for the local backend; None: ``documents`` in the run's folder."""


class DeviceBackend(ABC):
    """One way to reach a device, as the driver needs it. Device paths are relative to the app's data container.

    A command that fails raises a DeviceFailure whose ``kind`` is a row of ``devices.failures.FAILURES``.
    """

    name: str
    """Name in ``DEVICES``, and in records."""
    survives_host: bool = False
    """A run goes on when this process ends."""
    polling_disturbs: bool = False
    """A look at the run's files takes time on the device that measures."""
    runtime: str = "coreml"
    """Runtime that the app measures, for cases that it did not report itself."""

    def __init__(self, *, options: BackendOptions, run_folder: Path | None = None) -> None:
        self.options = options
        self.run_folder = run_folder

    @abstractmethod
    def list_devices(self) -> tuple[DeviceDescription, ...]:
        """Return every device seen, those that cannot be used too."""

    @abstractmethod
    def install(self, device: DeviceDescription) -> None:
        """Build the app if needed and install it on the device."""

    @abstractmethod
    def push(self, device: DeviceDescription, folder: Path, destination: str) -> None:
        """Copy a folder to a path that does not exist yet."""

    @abstractmethod
    def launch(self, device: DeviceDescription, environment: Mapping[str, str]) -> int:
        """Start the app, ending one that runs; return its process id."""

    @abstractmethod
    def pull(self, device: DeviceDescription, source: str, destination: Path) -> Path:
        """Copy one file from the device to ``destination`` and return it; kind ``file_missing`` if it is not there."""

    @abstractmethod
    def processes(self, device: DeviceDescription) -> tuple[int, ...]:
        """Return the ids of the device's running processes."""

    @abstractmethod
    def terminate(self, device: DeviceDescription, pid: int) -> None:
        """End a process; one that is gone already is a success."""

    @abstractmethod
    def host(self) -> dict[str, Any]:
        """Return the ``host`` entry of a record: os and backend, xcode and devicectl where they are used."""

    def describe(self, device: DeviceDescription) -> DeviceDescription:
        """Return the device with the details that a closer look adds; unchanged by default."""
        return device

    def uninstall(self, device: DeviceDescription) -> None:
        """Remove the app with everything it stored; nothing by default."""
        return

    def crash_logs(self, device: DeviceDescription, destination: Path) -> tuple[Path, ...]:
        """Copy the app's crash logs, as far as that works; never raises a DeviceFailure. None by default."""
        return ()

    def exit_reason(self, pid: int) -> str | None:
        """Return why a process ended; None where nothing is known."""
        return None

    def settings(self) -> dict[str, Any]:
        """Return the fields of BackendOptions with which another process reaches the same app; none by default."""
        return {}


DEVICES: Registry[Callable[..., DeviceBackend]] = Registry("device backend")
"""Backend classes by name, called with ``options`` (BackendOptions) and ``run_folder`` (None: keep no logs)."""


def make_backend(name: str, options: BackendOptions | None = None, run_folder: Path | None = None) -> DeviceBackend:
    """Return a backend by its name, a module of ``devices/backends/``.

    Raises:
        UsageError: no such backend.
    """
    import_submodules(f"{__name__}.backends")
    return DEVICES[name](options=options or BackendOptions(), run_folder=run_folder)
