"""Benchmark records: statistics from raw samples, validity of cases, files that are written once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgesam_export.bench.request import METHOD_SCHEDULE
from edgesam_export.bench.schema import check_document, read_document
from edgesam_export.bench.statistics import NS_PER_S, frame_rates, stage_statistics
from edgesam_export.errors import InvalidResult, SchemaError, UsageError
from edgesam_export.files import write_json

__all__ = [
    "METHOD",
    "PERCENTILE_METHOD",
    "check_strict",
    "hash_udid",
    "invalid_reasons",
    "make_record",
    "read_record",
    "read_records",
    "record_path",
    "tool_entry",
    "write_record",
]

METHOD = "edgesam-bench/1"
"""How samples are taken and turned into figures: the schedule's minimum, warm-up left out, raw samples kept. A change
that makes figures incomparable with earlier ones is a new number."""
PERCENTILE_METHOD = "linear"
"""Between the two nearest samples, as NumPy's default: sample number (n - 1) p, counted from 0."""
PAUSES = 0.95
"""Share of a duration that samples must fill: the moments between two calls belong to it as well."""


# ------------------------------------------------------------------------------------------------------------ validity


def schedule_reasons(case: Mapping[str, Any]) -> list[str]:
    """Return the stages below the method's own minimum with their counts, whatever the run's schedule was."""
    stages: dict[str, list[str]] = {}
    for name, stage in sorted(case.get("stages", {}).items()):
        samples, seconds = len(stage["samples_ns"]), sum(stage["samples_ns"]) / NS_PER_S
        if samples < METHOD_SCHEDULE.min_iterations:
            text = f"{samples} iterations, {METHOD} asks for {METHOD_SCHEDULE.min_iterations}"
        elif seconds < METHOD_SCHEDULE.min_duration_s * PAUSES:
            text = f"{seconds:.1f} s measured, {METHOD} asks for {METHOD_SCHEDULE.min_duration_s:g} s"
        else:
            continue
        stages.setdefault(text, []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in stages.items()]


def invalid_reasons(case: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the reasons against ranking a case; none for a valid one."""
    if case["outcome"] != "ok":
        error = case.get("error") or {}
        return (f"{case['outcome']}: {error.get('message', 'no reason given')}",)
    return tuple(case["validity"]["reasons"])


def check_strict(record: Mapping[str, Any], path: Path | str) -> None:
    """Raise InvalidResult when a case is not valid; the record keeps everything."""
    bad = [(case["id"], invalid_reasons(case)) for case in record["cases"] if invalid_reasons(case)]
    if bad:
        name, reasons = bad[0]
        raise InvalidResult(
            f"{len(bad)} of {len(record['cases'])} cases are not valid, first '{name}': {'; '.join(reasons)}; "
            f"everything measured is in {path}",
            kind="invalid_result",
            record=str(path),
        )


# ------------------------------------------------------------------------------------------------------- making records


def hash_udid(udid: str) -> str:
    """Return the first 8 hex digits of a device identifier's SHA-256: enough to tell two phones apart."""
    return hashlib.sha256(udid.encode()).hexdigest()[:8]


def tool_entry() -> dict[str, Any]:
    """Return the ``tool`` entry of a record: name, version, and the commit when it runs from a checkout."""
    from importlib.metadata import version

    return {
        "name": "edgesam-export",
        "version": version("edgesam-export"),
        "git": git_commit(Path(__file__).parents[2]),
    }


def git_commit(folder: Path) -> str | None:
    """Return the checked-out commit, read from its files; None outside a checkout."""
    try:
        head = (folder / ".git" / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head[5:]
        loose = folder / ".git" / name
        if loose.is_file():
            return loose.read_text().strip()
        packed = (folder / ".git" / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except OSError:
        return None


def make_record(
    result: Mapping[str, Any],
    *,
    host: Mapping[str, Any],
    request: Mapping[str, Any] | None = None,
    device: Mapping[str, Any] | None = None,
    udid: str | None = None,
    out_folder: Path | None = None,
    expected: Path | None = None,
) -> dict[str, Any]:
    """Return the record of a result: the same document with statistics, parity, validity, tool and host.

    ``request`` adds schedule, workload and the origin of the models, ``device`` fields that the result left out,
    ``out_folder`` (with ``expected``) the outputs that are compared with PyTorch's.

    Raises:
        SchemaError: the result does not have its form.
    """
    described = {name: value for name, value in (device or {}).items() if value is not None}
    reported = {name: value for name, value in (result.get("device") or {}).items() if value is not None}
    result = {**result, "device": described | reported}
    check_document(result, "result", "result")
    origins = {entry["id"]: entry for entry in (request or {}).get("models", ())}
    record = {
        **result,
        "method": METHOD,
        "percentile_method": PERCENTILE_METHOD,
        "tool": tool_entry(),
        "host": dict(host),
        "models": [origin(origins.get(entry["id"], {})) | dict(entry) for entry in result["models"]],
        "cases": [record_case(case, out_folder, expected) for case in result["cases"]],
    }
    if udid is not None:
        record["device"]["udid_sha256_8"] = hash_udid(udid)
    if request is not None:
        record |= {"schedule": request["schedule"], "workload": request["workload"]}
    check_document(record, "record", "record")
    return record


def origin(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a request's model entry adds to a record."""
    left_out = ("relative_path", "sha256_tree", "input_spec")
    return {name: value for name, value in entry.items() if name not in left_out}


def record_case(case: Mapping[str, Any], out_folder: Path | None, expected: Path | None) -> dict[str, Any]:
    """Return a case with its figures."""
    stages = {
        name: {**stage, **stage_statistics(stage["samples_ns"])} for name, stage in case.get("stages", {}).items()
    }
    done = {**case, "stages": stages}
    done |= frame_rates(done)
    done["validity"] = dict(case.get("validity") or {"reasons": []})
    reasons = list(done["validity"]["reasons"])
    if case["outcome"] == "ok":
        reasons += [reason for reason in schedule_reasons(done) if reason not in reasons]
    if out_folder is not None and expected is not None and "parity" not in case:
        from edgesam_export.bench.parity import case_parity

        try:
            done["parity"] = case_parity(case, out_folder, expected)
        except SchemaError as error:
            reasons.append(f"parity unknown: {error}")
    done["validity"]["reasons"] = reasons
    return done


# --------------------------------------------------------------------------------------------------------------- files


def slug(name: str) -> str:
    """Return a name as a folder is called: lower case, letters and digits joined by hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "device"


def record_path(record: Mapping[str, Any], folder: Path) -> Path:
    """Return where a record belongs: ``<folder>/<device>/<date>_<first 8 digits of the run's id>.json``."""
    started = str(record.get("started_at") or datetime.now(timezone.utc).isoformat())[:10]
    day = started if re.fullmatch(r"\d{4}-\d{2}-\d{2}", started) else f"{datetime.now(timezone.utc):%Y-%m-%d}"
    return folder / slug(record["device"]["marketing_name"]) / f"{day}_{record['run_id'][:8]}.json"


def write_record(record: Mapping[str, Any], folder: Path) -> Path:
    """Write a record once; return its path.

    Raises:
        UsageError: there is one at that path already, or the folder cannot be written.
        SchemaError: the record does not have its form.
    """
    path = record_path(record, folder)
    check_document(record, "record", str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except FileExistsError:
        raise UsageError(f"'{path}' exists already; records are written once: give another --records folder") from None
    except OSError as error:
        raise UsageError(f"cannot write '{path}': {error.strerror or error}; give another --records folder") from None
    try:
        write_json(path, record)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def read_record(path: Path) -> dict[str, Any]:
    """Return a record.

    Raises:
        SchemaError: the file is not one.
    """
    return read_document(path, "record")


def read_records(sources: Sequence[Path]) -> tuple[tuple[Path, dict[str, Any]], ...]:
    """Return the records in files and, in any depth, in folders.

    Raises:
        UsageError: no such file, or a folder without records.
        SchemaError: a file that is not a record.
    """
    paths: list[Path] = []
    for source in sources:
        if source.is_dir():
            members = sorted(source.rglob("*.json"))
            if not members:
                raise UsageError(f"'{source}' holds no records; make one with `edgesam-export bench`")
            paths += members
        elif source.is_file():
            paths.append(source)
        else:
            raise UsageError(f"'{source}' does not exist; give records or folders of them")
    return tuple((path, read_record(path)) for path in dict.fromkeys(paths))
