"""Measuring on a device: prepare the request, drive the run, write the record.

list_devices  the phones there are, and why some cannot be used
check_target  raises unless one of them can be measured
run_benchmark plan -> record
collect_run   the record of a run that was lost sight of
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesam_export.bench.circumstances import with_reasons
from edgesam_export.bench.devices import BackendOptions, DeviceBackend, DeviceDescription, make_backend
from edgesam_export.bench.devices.clock import Clock
from edgesam_export.bench.devices.readiness import choose_device
from edgesam_export.bench.driver.drive import RunOutcome, drive, resume
from edgesam_export.bench.driver.retrying import Notify
from edgesam_export.bench.driver.run_state import DEFAULT_RUNS, RunFolder, RunState, find_run, read_state
from edgesam_export.bench.driver.watcher import Deadlines
from edgesam_export.bench.record import check_strict, make_record, read_record, write_record
from edgesam_export.bench.request import BenchPlan, write_bundle
from edgesam_export.bench.schema import read_document
from edgesam_export.errors import DeviceFailure, DeviceNotReady, RunnerUnavailableError, UsageError

__all__ = ["DEFAULT_RECORDS", "check_target", "collect_run", "list_devices", "run_benchmark"]

DEFAULT_RECORDS = Path("benchmarks/records")
UNFINISHED = frozenset({"out_of_reach", "interrupted"})
"""Failures after which the run may still end well on the device: no record is written yet."""


def list_devices(backend: str = "devicectl", options: BackendOptions | None = None) -> tuple[DeviceDescription, ...]:
    """Return every device that a backend sees; ``rejection`` is the reason why one cannot be used.

    Raises:
        DeviceSetupFailure: this machine cannot drive such devices.
        DeviceFailure: the tool gave no list.
    """
    return make_backend(backend, options).list_devices()


def check_target(backend: str, device: str | None = None, options: BackendOptions | None = None) -> None:
    """Raise unless a device of the backend can be measured now; of ``local``, unless this machine has Core ML.

    Raises:
        RunnerUnavailableError: no Core ML here.
        DeviceFailure: no tools for devices here, or none that can be used.
        UsageError: several devices fit.
    """
    if backend == "local" and sys.platform != "darwin":
        raise RunnerUnavailableError(f"--mac needs macOS with Core ML (this is {sys.platform}); use --host here")
    choose_device(list_devices(backend, options), device)


def run_benchmark(
    plan: BenchPlan,
    device: str | None = None,
    *,
    backend: str = "devicectl",
    options: BackendOptions | None = None,
    runs: Path = DEFAULT_RUNS,
    records: Path = DEFAULT_RECORDS,
    strict: bool = False,
    uninstall: bool = False,
    on_status: Notify | None = None,
    deadlines: Deadlines | None = None,
    clock: Clock | None = None,
) -> Path:
    """Measure a plan on a device (by udid, identifier, name or serial; None: the only one); return the record's path.

    ``on_status`` gets the app's heartbeats and the driver's own reports, ``{"phase": ..., "message": ...}``.
    ``uninstall`` removes the app with all its files once everything is on this side, and not before.

    Raises:
        DeviceFailure: the run failed; ``record`` of the exception is what could be measured, if anything.
        InvalidResult: under ``strict``, a case is not valid; the record is written all the same.
        UsageError: the plan, the device or a folder cannot be used.
    """
    chosen = choose_device(list_devices(backend, options), device)
    folder, request = new_run(plan, runs)
    live = make_backend(backend, options, folder.path)
    chosen = live.describe(chosen)
    if chosen.rejection is not None:
        raise DeviceNotReady(f"{chosen.title} cannot be used: {chosen.rejection}", kind="rejected")
    ids = {name: request[name] for name in ("run_id", "nonce")}
    outcome = drive(live, chosen, folder.bundle, **ids, on_status=on_status, deadlines=deadlines, clock=clock)
    if uninstall and outcome.complete and outcome.failure is None:
        remove_app(live, chosen, on_status)
    return conclude(outcome, folder, read_state(folder), records, strict)


def new_run(plan: BenchPlan, runs: Path) -> tuple[RunFolder, dict[str, Any]]:
    """Return a new run's folder, which is named by the run's id, and the request that was written there."""
    staging = RunFolder(runs / f".new-{secrets.token_hex(4)}")
    request = write_bundle(plan, staging.bundle, staging.expected)
    folder = RunFolder(runs / request["run_id"])
    try:
        staging.path.rename(folder.path)
    except OSError as error:
        raise UsageError(f"cannot write '{folder.path}': {error.strerror}; choose another --runs folder") from None
    return folder, request


def remove_app(backend: DeviceBackend, device: DeviceDescription, on_status: Notify | None) -> None:
    """Uninstall the app; a failure is reported, for the run's result is there."""
    try:
        backend.uninstall(device)
    except DeviceFailure as failure:
        if on_status is not None:
            on_status({"phase": "uninstalling", "message": f"the app was not removed: {failure}"})


def collect_run(
    run_id: str,
    *,
    runs: Path = DEFAULT_RUNS,
    records: Path = DEFAULT_RECORDS,
    strict: bool = False,
    on_status: Notify | None = None,
    deadlines: Deadlines | None = None,
    clock: Clock | None = None,
) -> Path:
    """Return the record of a run that was started earlier: wait for its end if it goes on, fetch its files.

    Raises:
        UsageError: no such run, or it was never started.
        DeviceFailure: the device is out of reach, or the run failed; as for ``run_benchmark``.
    """
    folder, state = find_run(run_id, runs)
    if state.record is not None and (path := Path(state.record)).is_file():
        if strict:
            check_strict(read_record(path), path)
        return path
    if state.phase in ("prepared", "installed"):
        raise UsageError(f"run {state.run_id} never reached the device; start it again with `edgesam-export bench`")
    live = make_backend(state.backend, options_of(state.settings), folder.path)
    live.host()  # raises at once when this machine lacks the tools
    outcome = resume(live, folder, state, on_status=on_status, deadlines=deadlines, clock=clock)
    return conclude(outcome, folder, read_state(folder), records, strict)


def options_of(settings: Mapping[str, Any]) -> BackendOptions:
    """Return the options with which an earlier process reached the app."""
    reached = {key: settings[key] for key in ("bundle_id", "allow_wifi") if settings.get(key) is not None}
    documents = settings.get("documents")
    return BackendOptions(**reached, documents=Path(documents) if isinstance(documents, str) else None)


def conclude(outcome: RunOutcome, folder: RunFolder, state: RunState, records: Path, strict: bool) -> Path:
    """Write the record of an outcome and return its path, or raise with the path in the message."""
    failure = outcome.failure
    if failure is not None and failure.kind in UNFINISHED:
        raise failure
    device = state.description()
    record = make_record(
        with_reasons(outcome.document),
        host=outcome.host,
        request=read_document(folder.bundle / "request.json", "request"),
        device={
            name: getattr(device, name)
            for name in ("product_type", "marketing_name", "hardware_model", "os_version", "os_build")
        },
        udid=device.udid,
        out_folder=folder.out,
        expected=folder.expected if folder.expected.is_dir() else None,
    )
    path = write_record(record, records)
    state.at(state.phase, record=str(path.resolve())).write(folder)
    if failure is not None:
        raise type(failure)(
            f"{failure}; what was measured is in {path}", kind=failure.kind, chain=failure.chain, record=str(path)
        ) from failure
    if strict:
        check_strict(record, path)
    return path
