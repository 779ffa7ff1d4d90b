"""One run from pushing the request to the result in hand, whatever the device does in between.

The result lies on the device and the app runs on its own: losing sight of it loses nothing. What the host has seen is
on disk as soon as it is seen (``RunFolder``), and ``resume`` goes on from there.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from edgesam_export.bench.devices import DeviceBackend, DeviceDescription
from edgesam_export.bench.devices.clock import Clock, SystemClock
from edgesam_export.bench.driver.collecting import assemble, planned_cases, reported_failure
from edgesam_export.bench.driver.fetching import DeviceFiles
from edgesam_export.bench.driver.retrying import Notify, retry
from edgesam_export.bench.driver.run_state import RunFolder, RunState
from edgesam_export.bench.driver.watcher import Deadlines, Watcher
from edgesam_export.bench.schema import read_document
from edgesam_export.errors import DeviceFailure, DeviceNotReady, SchemaError

__all__ = ["Deadlines", "RunOutcome", "drive", "resume"]

T = TypeVar("T")
RUN_VARIABLE = "EDGESAM_BENCH_RUN_ID"
MODE_VARIABLE = "EDGESAM_BENCH_MODE"
ENDS = ("done", "failed")
FATAL_WHILE_WATCHING = frozenset({"not_installed", "old_app", "tool_missing"})
"""Every other failure while watching counts as an outage: the app does not notice it."""
ENDED_WHILE_PREPARING = frozenset({"app_exited", "no_answer", "unclassified"})
"""Failures of a launch after which the app has run, or may have."""


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """End of a run. ``document`` is the app's result, or what is known of it when ``complete`` is False."""

    document: dict[str, Any]
    complete: bool
    failure: DeviceFailure | None
    folder: Path
    host: dict[str, Any]


def drive(
    backend: DeviceBackend,
    device: DeviceDescription,
    bundle: Path,
    *,
    run_id: str,
    nonce: str,
    on_status: Notify | None = None,
    deadlines: Deadlines | None = None,
    clock: Clock | None = None,
) -> RunOutcome:
    """Install, push, launch, and watch a run to its end; ``bundle`` is the folder ``in`` of the run's folder.

    Raises:
        DeviceFailure: nothing was started.
    """
    folder = RunFolder(bundle.resolve().parent)
    state = RunState(
        run_id=run_id, nonce=nonce, backend=backend.name, device=device.to_json(), settings=backend.settings()
    )
    run = Run(backend, device, folder, state, notify=on_status, deadlines=deadlines, clock=clock)
    return run.guarded(run.start)


def resume(
    backend: DeviceBackend,
    folder: RunFolder,
    state: RunState,
    *,
    on_status: Notify | None = None,
    deadlines: Deadlines | None = None,
    clock: Clock | None = None,
) -> RunOutcome:
    """Resume a run that was launched earlier: wait for its end if it goes on, else collect its files."""
    run = Run(backend, state.description(), folder, state, notify=on_status, deadlines=deadlines, clock=clock)
    return run.guarded(run.check_still_running)


class Run:
    """The state of one run on this side."""

    def __init__(
        self,
        backend: DeviceBackend,
        device: DeviceDescription,
        folder: RunFolder,
        state: RunState,
        *,
        notify: Notify | None,
        deadlines: Deadlines | None,
        clock: Clock | None,
    ) -> None:
        self.backend, self.device, self.folder, self.state = backend, device, folder, state
        self.deadlines, self.clock = deadlines or Deadlines(), clock or SystemClock()
        self.phase_before = state.phase
        self.notify: Notify = notify or (lambda status: None)
        self.request = read_document(folder.bundle / "request.json", "request")
        self.status: dict[str, Any] | None = None
        self.watcher: Watcher | None = None
        self.files = DeviceFiles(backend, device, folder, run_id=state.run_id, nonce=state.nonce)
        self.bundle_on_device = f"Documents/edgesam-in-{state.run_id}"

    # ------------------------------------------------------------------------------------------------------- the frame

    def guarded(self, start: Callable[[], None]) -> RunOutcome:
        """Start and watch; Ctrl-C saves the state reached."""
        self.save(self.state.phase)
        try:
            start()
            return self.watch()
        except KeyboardInterrupt:
            return self.interrupted()
        except DeviceFailure as failure:
            if self.state.pid is None:
                raise
            return self.broken_off(failure, "failed", phase="failed")

    def save(self, phase: str, *, pid: int | None = None) -> None:
        """Write the state to the run's folder; ``pid`` None keeps the one that is known."""
        known = self.state.pid if pid is None else pid
        self.state = self.state.at(phase, settings=self.backend.settings(), pid=known)
        self.state.write(self.folder)

    def save_polls(self) -> None:
        """Add the looks of this watch to those that the run's folder has by case."""
        if self.watcher is not None:
            plan = planned_cases(self.request)
            polls = Counter(self.state.polls)
            polls.update({plan[case].name: n for case, n in self.watcher.looks.items() if 0 <= case < len(plan)})
            self.watcher.looks.clear()
            self.state = self.state.at(self.state.phase, polls=dict(polls))
            self.state.write(self.folder)

    def report(self, phase: str, message: str) -> None:
        """Pass on what this side does, in the form of a heartbeat."""
        self.notify({"phase": phase, "message": message})

    def attempt(self, action: Callable[[], T], expected: tuple[str, ...] = (), reconnect_s: float | None = None) -> T:
        """Return the value of ``action``, with the retries of ``retry``."""
        patience = self.deadlines.connect_s if reconnect_s is None else reconnect_s
        return retry(
            action,
            clock=self.clock,
            notify=self.notify,
            unlock_s=self.deadlines.unlock_s,
            reconnect_s=patience,
            expected=expected,
        )

    def attempt_again(self, action: Callable[[], T]) -> T:
        """Return the value of ``action``, with the patience of a run that goes on without the host."""
        return self.attempt(action, reconnect_s=self.deadlines.reconnect_s)

    # ------------------------------------------------------------------------------------------------------- beginning

    def start(self) -> None:
        """Install, push and launch."""
        self.report("installing", f"installing on {self.device.title}")
        self.attempt(lambda: self.backend.install(self.device))
        self.save("installed")
        self.report("pushing", f"copying models to {self.device.title}")
        self.push()
        self.save("pushed")
        self.report("launching", f"starting on {self.device.title}")
        pid = self.attempt(lambda: self.backend.launch(self.device, {RUN_VARIABLE: self.state.run_id}))
        self.save("launched", pid=pid)

    def push(self) -> None:
        """Push the request's folder. A fresh installation may have no container before its first launch."""

        def copy() -> None:
            self.backend.push(self.device, self.folder.bundle, self.bundle_on_device)

        try:
            self.attempt(copy, expected=("file_missing", "container_missing"))
        except DeviceFailure as failure:
            if failure.kind == "disk_full":
                size = sum(path.stat().st_size for path in self.folder.bundle.rglob("*") if path.is_file())
                needed = f"{2 * size / 1e6:.0f} MB are needed"
                raise DeviceFailure(f"{failure}; {needed}", kind=failure.kind, chain=failure.chain) from failure
            if failure.kind not in ("file_missing", "container_missing"):
                raise
            self.prepare()
            self.attempt(copy)

    def prepare(self) -> None:
        """Start the app once to make its container; the next copy shows whether it did, not how the app ended."""
        self.report("preparing", "the app has no folder yet: starting it once")
        try:
            pid = self.attempt(lambda: self.backend.launch(self.device, {MODE_VARIABLE: "prepare"}))
        except DeviceFailure as failure:
            if failure.kind not in ENDED_WHILE_PREPARING:
                raise
            return
        self.clock.sleep(self.deadlines.prepare_s)
        self.attempt(lambda: self.backend.terminate(self.device, pid))

    def check_still_running(self) -> None:
        """Stop waiting for heartbeats where the process of a resumed run is gone."""
        if self.state.pid is not None and not self.is_alive():
            self.deadlines = replace(self.deadlines, heartbeat_s=0.0)

    # -------------------------------------------------------------------------------------------------------- watching

    def watch(self) -> RunOutcome:
        """Follow the heartbeat to the end of the run."""
        watcher = Watcher(
            self.clock.monotonic(),
            self.deadlines,
            self.request["schedule"],
            quiet=self.backend.polling_disturbs,
        )
        self.watcher = watcher
        while True:
            now = self.clock.monotonic()
            try:
                status = self.files.status()
            except DeviceFailure as failure:
                if failure.kind in FATAL_WHILE_WATCHING:
                    raise
                if watcher.outage(now) >= self.deadlines.reconnect_s:
                    return self.out_of_reach(failure)
                self.report("disconnected", f"{failure}; the run goes on without the host")
            else:
                if watcher.back(now):
                    self.report("reconnected", f"{self.device.title} is back")
                if status is not None and watcher.takes(status, now):
                    watcher.count(status)  # the second copy of this look
                    self.files.refresh_cases()
                ending = self.ending(status, watcher, now)
                if ending is not None:
                    return ending
            self.clock.sleep(watcher.next_wait())

    def ending(self, status: dict[str, Any] | None, watcher: Watcher, now: float) -> RunOutcome | None:
        """Return the outcome if the run is over: the app reports its end, or shows no sign of life."""
        if status is not None:
            self.status = status
            self.notify(status)
            if status["phase"] in ENDS:
                return self.ended(status)
        if watcher.is_stale(now) and not self.is_alive():
            with contextlib.suppress(DeviceFailure):  # it may have written its last heartbeat since
                last = self.files.status()
                if last is not None and last["phase"] in ENDS:
                    return self.ended(last)
                self.status = last or self.status
            return self.crashed()
        return self.hung(watcher.phase) if watcher.is_overdue(now) else None

    def is_alive(self) -> bool:
        """Return whether the app's process is running; one started by hand counts as running once it is heard."""
        if self.state.pid is None:
            return self.status is not None
        try:
            return self.state.pid in self.backend.processes(self.device)
        except DeviceFailure:  # unknown: the limit of the phase decides
            return True

    # ------------------------------------------------------------------------------------------------------------- end

    def ended(self, status: dict[str, Any]) -> RunOutcome:
        """Fetch the result that the app announced."""
        self.status = status
        failure = reported_failure(status)
        if not status.get("result"):
            failure = failure or DeviceFailure(
                "the app reports that it is done but announces no result", kind="no_result"
            )
            stopped = (status.get("error") or {}).get("code") == "interrupted"
            return self.broken_off(failure, "skipped" if stopped else "failed", phase="failed")
        try:
            document = self.attempt_again(lambda: self.fetch_result(status["result"]))
        except SchemaError as error:
            problem = DeviceFailure(
                f"{error}; the damaged file and the finished cases are kept in {self.folder.out}", kind="result_damaged"
            )
            return self.broken_off(problem, "failed", phase="failed")
        except DeviceFailure as problem:
            if problem.kind == "result_damaged":
                return self.broken_off(problem, "failed", phase="failed")
            return self.out_of_reach(problem)
        self.files.refresh_cases()
        failure = self.files.outputs(document, self.attempt_again) or failure
        self.end_app()
        self.save("failed" if failure else "done")
        return self.outcome(document, failure, complete=status["phase"] == "done")

    def fetch_result(self, announced: Mapping[str, Any]) -> dict[str, Any]:
        """Return the announced result."""
        pulls, wait_s = self.deadlines.result_pulls, self.deadlines.poll_s[0]
        return self.files.result(announced, pulls=pulls, clock=self.clock, wait_s=wait_s)

    def end_app(self) -> None:
        """End the app's process, as far as that works."""
        if self.state.pid is not None:
            with contextlib.suppress(DeviceFailure):
                self.backend.terminate(self.device, self.state.pid)

    def crashed(self) -> RunOutcome:
        """Return the outcome of a run whose process is gone without a result."""
        if self.state.pid is None:
            raise DeviceFailure(
                f"the app has not taken up run {self.state.run_id}; open it on the device, then collect again",
                kind="not_started",
            )
        if self.phase_before == "interrupted" and not self.backend.survives_host:
            failure = DeviceFailure("the run was interrupted before its end", kind="stopped")
            return self.broken_off(failure, "skipped", phase="failed")
        logs = self.backend.crash_logs(self.device, self.folder.out / "crash-logs")
        reason = self.backend.exit_reason(self.state.pid)
        phase = f"while {self.status['phase']}" if self.status else "before its first heartbeat"
        evidence = f"crash logs: {', '.join(str(path) for path in logs)}" if logs else "no crash log was found"
        failure = DeviceFailure(
            f"the app ended {phase} without a result{f': {reason}' if reason else ''}; {evidence}; "
            "a jetsam report means it ran out of memory",
            kind="crashed",
        )
        return self.broken_off(failure, "crashed", phase="failed")

    def hung(self, phase: str | None) -> RunOutcome:
        """Return the outcome of a run whose process is there but makes no progress; the process is ended."""
        self.end_app()
        what = f"phase '{phase}' made no progress within its limit" if phase else "it wrote no heartbeat of this run"
        hint = "" if phase else "; if it is an older version, build and install it again"
        return self.broken_off(
            DeviceFailure(f"the app hung: {what}; it was ended{hint}", kind="hung"), "timeout", phase="failed"
        )

    def out_of_reach(self, failure: DeviceFailure) -> RunOutcome:
        """Return the outcome of a run whose device did not come back. The run goes on there, and its result waits."""
        lost = DeviceNotReady(
            f"lost sight of {self.device.title}: {failure}; the run goes on there, and once it is back "
            f"`edgesam-export bench collect {self.state.run_id}` fetches the result",
            kind="out_of_reach",
            chain=failure.chain,
        )
        return self.broken_off(lost, "skipped", phase="out_of_reach", pull=False)

    def interrupted(self) -> RunOutcome:
        """Return the outcome after Ctrl-C."""
        if self.state.pid is None:
            raise DeviceFailure(
                f"interrupted before the app was seen running; {self.folder.path} is kept", kind="interrupted"
            )
        if not self.backend.survives_host:
            self.end_app()
        goes_on = "the run goes on on the device; " if self.backend.survives_host else ""
        failure = DeviceFailure(
            f"interrupted; {goes_on}fetch what there is with `edgesam-export bench collect {self.state.run_id}`",
            kind="interrupted",
        )
        return self.broken_off(failure, "skipped", phase="interrupted", pull=False)

    def broken_off(self, failure: DeviceFailure, outcome: str, *, phase: str, pull: bool = True) -> RunOutcome:
        """Return the finished cases; the case under way gets ``outcome`` and the failure."""
        if pull:
            self.files.refresh_cases()
        self.save(phase)
        error = {
            "stage": (self.status or {}).get("phase"),
            "code": failure.kind,
            "domain": "edgesam.bench.host",
            "message": str(failure),
        }
        document = assemble(
            self.request,
            self.files.cases(),
            self.device,
            runtime=self.backend.runtime,
            outcome=outcome,
            error=error,
            status=self.status,
        )
        return self.outcome(document, failure, complete=False)

    def outcome(self, document: dict[str, Any], failure: DeviceFailure | None, *, complete: bool) -> RunOutcome:
        """Return a document with what is known of this side."""
        self.save_polls()
        host = self.backend.host() | {
            "transport": self.device.transport,
            "timing_poll_s": self.deadlines.timing_poll_s if self.backend.polling_disturbs else None,
            "polls_while_timing": dict(self.state.polls),
        }
        return RunOutcome(document=document, complete=complete, failure=failure, folder=self.folder.path, host=host)
