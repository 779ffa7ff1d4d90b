"""The record of ``bench --host``: Python's runtimes, then the Swift runner (Core ML on a Mac, else its stand-in)."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.bench.driver.retrying import Notify
from edgesam_export.bench.host import HostPlan, measure_host
from edgesam_export.bench.machine import host_entry
from edgesam_export.bench.record import check_strict, make_record, read_record, write_record
from edgesam_export.bench.request import BenchPlan, MatrixRow, Schedule, Workload
from edgesam_export.errors import EdgeSAMExportError
from edgesam_export.spec import Artifact, Progress

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["plan_host", "record_host", "with_swift_cases"]


def plan_host(sources: Any, model: SamModel | None, *, schedule: Schedule, workload: Workload) -> HostPlan:
    """Return the plan for exported files of one model, in any formats, and the PyTorch model itself.

    Raises:
        UsageError: files that do not go together, or that cannot do what is asked.
    """
    from edgesam_export.artifacts import list_files, open_artifact, pick_pair

    opened: dict[str, list[Artifact]] = {}
    for file in list_files(sources):
        artifact = open_artifact(file)
        opened.setdefault(artifact.format, []).append(artifact)
    artifacts = tuple(artifact for format in sorted(opened) for artifact in pick_pair(opened[format]))
    return HostPlan(artifacts=artifacts, model=model, schedule=schedule, workload=workload)


def record_host(
    plan: HostPlan,
    *,
    records: Path,
    runs: Path,
    matrix: tuple[MatrixRow, ...] = (MatrixRow(),),
    swift: bool = True,
    strict: bool = False,
    progress: Progress | None = None,
    on_status: Notify | None = None,
) -> Path:
    """Measure this machine and write the record; return its path.

    Raises:
        InvalidResult: under ``strict``, a case is not valid; the record is written all the same.
        UsageError: the records folder cannot be written.
    """
    result = measure_host(plan, progress=progress)
    packages = plan.files("coreml")
    if swift and packages:
        swift_plan = BenchPlan(
            artifacts=packages,
            matrix=matrix,
            schedule=plan.schedule,
            workload=plan.workload,
            reference=plan.model,
        )
        result = with_swift_cases(result, swift_plan, runs, on_status)
    record = make_record(result, host=host_entry())
    record |= {"schedule": asdict(plan.schedule), "workload": asdict(plan.workload)}
    path = write_record(record, records)
    if strict:
        check_strict(record, path)
    return path


def with_swift_cases(
    result: Mapping[str, Any], plan: BenchPlan, runs: Path, on_status: Notify | None = None
) -> dict[str, Any]:
    """Return the result with the cases of the Swift runner; one skipped case with the reason where it cannot run."""
    try:
        record = run_swift(plan, runs, on_status)
    except EdgeSAMExportError as error:
        return {**result, "cases": [*result["cases"], skipped_case(str(error))]}
    return {**result, "cases": [*result["cases"], *record["cases"]], "app": record.get("app")}


def run_swift(plan: BenchPlan, runs: Path, on_status: Notify | None = None) -> dict[str, Any]:
    """Measure a plan with ``edgesam-bench-host``, built first where there is only a toolchain; return the record.

    Raises:
        DeviceFailure: there is neither, or the run failed before anything was measured.
    """
    from edgesam_export.bench.devices import BackendOptions, DeviceFailure
    from edgesam_export.bench.run import run_benchmark

    options = BackendOptions(build=shutil.which("swift") is not None)
    with tempfile.TemporaryDirectory(prefix="edgesam-bench-") as folder:
        try:
            path = run_benchmark(
                plan, backend="local", options=options, runs=runs, records=Path(folder), on_status=on_status
            )
        except DeviceFailure as error:
            if error.record is None:
                raise
            path = Path(error.record)  # its cases hold what was measured, and the error
        return read_record(path)


def skipped_case(reason: str) -> dict[str, Any]:
    """Return the case that stands for a runner that could not run."""
    runtime = "coreml" if sys.platform == "darwin" else "coreml_stand_in"
    return {
        "id": f"{runtime}/skipped",
        "runtime": runtime,
        "compute_units": {},
        "stages": {},
        "validity": {"reasons": []},
        "outcome": "skipped",
        "error": {"stage": "setup", "message": reason},
    }
