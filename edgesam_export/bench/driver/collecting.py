"""Documents that come back from a device (heartbeat, finished cases, result), each checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesam_export.bench.devices import DeviceDescription
from edgesam_export.bench.schema import (
    MAX_BYTES,
    PROTOCOL_VERSION,
    check_document,
    empty_result,
    parse_document,
    read_document,
)
from edgesam_export.errors import DeviceFailure, SchemaError
from edgesam_export.files import sha256_of

__all__ = [
    "PlannedCase",
    "assemble",
    "outputs_of",
    "planned_cases",
    "read_cases",
    "read_result",
    "read_status",
    "reported_failure",
    "result_problem",
]

MAX_CASES = 10000
APP_FIELDS = {"version": "app_version", "build_configuration": "build_configuration"}
"""Fields of a result's ``app`` and of the heartbeat that has them too."""
SKIPPED = {"message": "the run broke off before this case"}
REBUILD = "build and install it again: start `edgesam-export bench` anew"


def read_status(path: Path, run_id: str, nonce: str) -> dict[str, Any] | None:
    """Return a heartbeat of this run; None for one of another run and for a file that is no heartbeat.

    Raises:
        DeviceFailure: it is this run's, but of a protocol that this version does not speak.
    """
    try:
        if path.stat().st_size > MAX_BYTES["status"]:
            return None
        document = parse_document(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError, SchemaError):
        return None
    if not isinstance(document, dict) or (document.get("run_id"), document.get("nonce")) != (run_id, nonce):
        return None
    version = document.get("protocol_version")
    if version != PROTOCOL_VERSION:
        spoken = "none" if version is None else str(version)[:20]
        raise DeviceFailure(
            f"the app on the device speaks protocol {spoken}, this version {PROTOCOL_VERSION}; {REBUILD}",
            kind="old_app",
        )
    try:
        check_document(document, "status", path.name)
    except SchemaError as error:
        raise DeviceFailure(f"the app's heartbeat breaks the protocol ({error}); {REBUILD}", kind="old_app") from None
    return document


def reported_failure(status: Mapping[str, Any]) -> DeviceFailure | None:
    """Return the failure that the app itself reports."""
    if status["phase"] != "failed":
        return None
    error = status.get("error") or {}
    where = f" while {error['stage']}" if error.get("stage") else ""
    code = f" ({error.get('domain') or 'app'} {error['code']})" if error.get("code") is not None else ""
    hint = f"; {error['hint']}" if error.get("hint") else ""
    return DeviceFailure(
        f"the app gave up{where}: {error.get('message') or 'it gives no reason'}{code}{hint}", kind="app_failed"
    )


def read_cases(path: Path) -> list[dict[str, Any]]:
    """Return the finished cases of ``partial.ndjson``; a line that was cut off ends them."""
    cases: list[dict[str, Any]] = []
    try:
        if path.stat().st_size > MAX_BYTES["result"]:
            return cases
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return cases
    for line in lines[:MAX_CASES]:
        try:
            case = parse_document(line, path.name)
        except SchemaError:
            continue
        if isinstance(case, dict) and isinstance(case.get("id"), str):
            cases.append(case)
    return cases


def result_problem(path: Path, announced: Mapping[str, Any]) -> str | None:
    """Return how a pulled file differs from the announced one, None when it does not."""
    size = path.stat().st_size
    if size != announced["bytes"]:
        return f"it has {size} bytes, announced were {announced['bytes']}"
    if (digest := sha256_of(path)) != announced["sha256"]:
        return f"its sha256 is {digest[:12]}..., announced was {announced['sha256'][:12]}..."
    return None


def read_result(path: Path, run_id: str, nonce: str) -> dict[str, Any]:
    """Return the result of this run.

    Raises:
        SchemaError: it is not a result, or another run's.
    """
    document = read_document(path, "result")
    if (document["run_id"], document["nonce"]) != (run_id, nonce):
        raise SchemaError(f"{path}: it belongs to run {document['run_id']}, not to {run_id}")
    return document


def outputs_of(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return path, relative to the app's folder of results, and SHA-256 of every output a result refers to."""
    outputs = {
        (entry["file"], entry["sha256"]) for case in document["cases"] for entry in case.get("parity_outputs") or ()
    }
    return sorted(outputs)


@dataclass(frozen=True)
class PlannedCase:
    """One case of a request, as the app names and runs it."""

    name: str
    compute_units: Mapping[str, str]
    n_points: int
    vary_points: bool = False

    def unfinished(self, outcome: str, error: Mapping[str, Any], runtime: str) -> dict[str, Any]:
        """Return the case's entry in a result without measurements."""
        return {
            "id": self.name,
            "runtime": runtime,
            "compute_units": dict(self.compute_units),
            "n_points": self.n_points,
            "vary_points": self.vary_points,
            "outcome": outcome,
            "error": dict(error),
            "validity": {"reasons": [outcome]},
        }


def planned_cases(request: Mapping[str, Any]) -> list[PlannedCase]:
    """Return the cases of a request in the order in which the app runs them."""
    workload = request["workload"]
    most = max(workload["n_points"])
    cases = []
    for row in request["matrix"]:
        units, hints = row["compute_units"], row.get("hints") or {}
        parts = [units["encoder"], units["decoder"]]
        parts += [f"reshape_{hints['reshape_frequency']}"] if hints.get("reshape_frequency") else []
        parts += [f"specialize_{hints['specialization_strategy']}"] if hints.get("specialization_strategy") else []
        start = "/".join(parts)
        cases += [PlannedCase(f"{start}/n{count}", units, count) for count in workload["n_points"]]
        if workload.get("vary_points") and "decoder" in workload["stages"]:
            cases.append(PlannedCase(f"{start}/n{most}/vary", units, most, True))
    return cases


def assemble(
    request: Mapping[str, Any],
    finished: Sequence[dict[str, Any]],
    device: DeviceDescription,
    *,
    runtime: str,
    outcome: str,
    error: Mapping[str, Any],
    status: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a result from the cases that were finished before a run broke off.

    The first case that is missing was under way: it gets ``outcome`` and ``error``. Those after it are skipped.
    """
    cases = [case for case in finished if is_case(case)]
    have = {case["id"] for case in cases}
    missing = [case for case in planned_cases(request) if case.name not in have]
    cases += [case.unfinished(outcome, error, runtime) for case in missing[:1]]
    cases += [case.unfinished("skipped", SKIPPED, runtime) for case in missing[1:]]
    app = {name: (status or {}).get(field) for name, field in APP_FIELDS.items()}
    return {
        **empty_result(request["run_id"], request["nonce"]),
        "started_at": None,
        "finished_at": None,
        "app": app,
        "device": device_entry(device),
        "models": [
            {"id": model["id"], "role": model["role"], "sha256": model["sha256_tree"]} for model in request["models"]
        ],
        "cases": cases,
    }


def device_entry(device: DeviceDescription) -> dict[str, Any]:
    """Return a device as a result describes it, from what its tool reported."""
    return {
        "product_type": device.product_type,
        "marketing_name": device.marketing_name or device.product_type or device.name or "unknown",
        "hardware_model": device.hardware_model,
        "os_version": device.os_version or "unknown",
        "os_build": device.os_build,
    }


def is_case(case: dict[str, Any]) -> bool:
    """Return whether a line of ``partial.ndjson`` is a case that a record can hold."""
    document = {
        **empty_result("00000000-0000-4000-8000-000000000000", "0" * 32),
        "device": {"marketing_name": "unknown", "os_version": "unknown"},
        "models": [{"id": "any", "role": "encoder", "sha256": "0" * 64}],
        "cases": [case],
    }
    try:
        check_document(document, "result", "case")
    except SchemaError:
        return False
    return True
