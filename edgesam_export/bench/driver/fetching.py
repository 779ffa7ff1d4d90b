"""Files of one run on the device: each is pulled, checked, and kept in the run's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgesam_export.bench.devices import DeviceBackend, DeviceDescription
from edgesam_export.bench.devices.clock import Clock
from edgesam_export.bench.driver.collecting import outputs_of, read_cases, read_result, read_status, result_problem
from edgesam_export.bench.driver.retrying import Attempt
from edgesam_export.bench.driver.run_state import RunFolder
from edgesam_export.errors import DeviceFailure

__all__ = ["DeviceFiles"]

STATUS, PARTIAL, RESULT = "status.json", "partial.ndjson", "result.json"


class DeviceFiles:
    """What the app of one run has written, as far as it has arrived."""

    def __init__(
        self, backend: DeviceBackend, device: DeviceDescription, folder: RunFolder, *, run_id: str, nonce: str
    ) -> None:
        self.backend, self.device, self.out = backend, device, folder.out
        self.run_id, self.nonce = run_id, nonce
        self.source = f"Documents/edgesam-out-{run_id}"
        self.out.mkdir(parents=True, exist_ok=True)

    def pull(self, name: str) -> Path:
        """Return a file of the run, copied from the device."""
        return self.backend.pull(self.device, f"{self.source}/{name}", self.out / name)

    def status(self) -> dict[str, Any] | None:
        """Return the heartbeat; None when there is none of this run yet.

        Raises:
            DeviceFailure: the device cannot be reached, or the app speaks another protocol.
        """
        try:
            path = self.pull(STATUS)
        except DeviceFailure as failure:
            if failure.kind == "file_missing":
                return None
            raise
        return read_status(path, self.run_id, self.nonce)

    def refresh_cases(self) -> None:
        """Pull the finished cases, as far as that works: a precaution, the end of the run pulls them again."""
        with contextlib.suppress(DeviceFailure):
            self.pull(PARTIAL)

    def cases(self) -> list[dict[str, Any]]:
        """Return the finished cases that have arrived."""
        return read_cases(self.out / PARTIAL)

    def result(self, announced: Mapping[str, Any], *, pulls: int, clock: Clock, wait_s: float) -> dict[str, Any]:
        """Return the result once it is the file that the heartbeat announced.

        Raises:
            DeviceFailure: the device cannot be reached; kind ``result_damaged`` after ``pulls`` other files.
            SchemaError: the file is no result of this run.
        """
        path, problem = self.out / RESULT, None
        for number in range(pulls):
            if number:
                clock.sleep(wait_s)
            try:
                self.backend.pull(self.device, f"{self.source}/{announced['file']}", path)
            except DeviceFailure as failure:
                if failure.kind != "file_missing":
                    raise
                problem = "it is not there"
                continue
            problem = result_problem(path, announced)
            if problem is None:
                return read_result(path, self.run_id, self.nonce)
        raise DeviceFailure(
            f"the result on {self.device.title} is not what the app announced: {problem}, after "
            f"{pulls} attempts; the finished cases are kept in {self.out}",
            kind="result_damaged",
        )

    def outputs(self, document: Mapping[str, Any], attempt: Attempt) -> DeviceFailure | None:
        """Pull the outputs of the parity check, each through ``attempt``; return the first problem."""
        for name, digest in outputs_of(document):
            try:
                path = attempt(partial(self.pull, name))
            except DeviceFailure as failure:
                return DeviceFailure(f"output {name} could not be fetched: {failure}", kind="output_missing")
            problem = result_problem(path, {"bytes": path.stat().st_size, "sha256": digest})
            if problem is not None:
                return DeviceFailure(f"output {name} arrived damaged: {problem}; collect again", kind="output_missing")
        return None
