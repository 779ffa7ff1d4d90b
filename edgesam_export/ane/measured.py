"""Measured latencies of an artifact, read from benchmark records: measured beats estimated."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgesam_export.ane.report import Measurement
from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.files import read_json
from edgesam_export.hardware import load_hardware

__all__ = ["find_measurements"]

MAX_RECORD_BYTES = 256 << 20
RESULT_VERSIONS = (1,)
"""Versions of the benchmark's result document that are understood; other files in the folder are skipped."""


def find_measurements(folder: Path, artifact_sha256: str, families: tuple[str, ...]) -> tuple[Measurement, ...]:
    """Return the latencies of the artifact on devices of ``families`` in records below ``folder``, fastest first.

    A record is a result document of the benchmark (schema_version 1): ``models`` has the role of each file,
    ``cases`` the raw samples of each stage, in nanoseconds.  Cases that are not valid are left out.

    Raises:
        UsageError: no such folder.
        SchemaError: a file that says it is a result document and does not have its form.
    """
    if not folder.is_dir():
        raise UsageError(f"records folder '{folder}' does not exist; give one with --records")
    measurements = [
        measurement
        for path in sorted(folder.rglob("*.json"))
        if path.stat().st_size <= MAX_RECORD_BYTES
        for measurement in measurements_in(path, artifact_sha256)
    ]
    return tuple(sorted((m for m in measurements if m.family in families), key=lambda m: m.median_ms))


def measurements_in(path: Path, artifact_sha256: str) -> Iterator[Measurement]:
    """Yield one measurement per valid case of the artifact in one record."""
    document = read_json(path)
    if not isinstance(document, Mapping) or document.get("schema_version") not in RESULT_VERSIONS:
        return
    try:
        roles = {model["role"] for model in document["models"] if model["sha256"] == artifact_sha256}
        for case in document["cases"] if roles else ():
            for role in sorted(roles & case.get("stages", {}).keys()):
                if case["outcome"] == "ok" and not case["validity"].get("reasons"):
                    yield measurement_of(path, document["device"], case, role)
    except (KeyError, TypeError, AttributeError, statistics.StatisticsError) as error:
        raise SchemaError(f"{path}: not a benchmark record of version 1 ({type(error).__name__}: {error})") from None


def measurement_of(path: Path, device: Mapping[str, Any], case: Mapping[str, Any], role: str) -> Measurement:
    """Return the figures of one stage of one case."""
    samples = case["stages"][role]["samples_ns"]
    hardware = load_hardware()
    chip = hardware.devices.get(device["marketing_name"])
    return Measurement(
        device=str(device["marketing_name"]),
        family=hardware.family_of(chip) if chip else "unknown",
        system=str(device["os_version"]),
        compute_units=str(case["compute_units"][role]),
        stage=role,
        median_ms=statistics.median(samples) / 1e6,
        smallest_ms=min(samples) / 1e6,
        largest_ms=max(samples) / 1e6,
        samples=len(samples),
        record=path.name,
    )
