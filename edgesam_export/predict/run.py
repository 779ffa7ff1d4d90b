"""The library call behind ``run``: any ML Program, inputs and outputs as files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.files import staging_folder
from edgesam_export.imaging.reading import open_image, read_array

__all__ = ["RunResult", "run_package"]


@dataclass(frozen=True, kw_only=True)
class SavedValue:
    """One array that ``run`` wrote."""

    name: str
    kind: str
    """``output`` or ``probe``."""
    shape: tuple[int, ...]
    dtype: str
    smallest: float
    largest: float
    path: Path

    @property
    def shape_text(self) -> str:
        """Shape for a table."""
        return "x".join(str(size) for size in self.shape) or "scalar"

    @property
    def range_text(self) -> str:
        """Range of values for a table."""
        return f"{self.smallest:.6g} .. {self.largest:.6g}"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Result of ``run``: the values written, and times."""

    values: tuple[SavedValue, ...]
    times_ms: tuple[float, ...]

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data; a value that is not finite becomes text."""
        rows = [
            {
                "name": value.name,
                "kind": value.kind,
                "shape": list(value.shape),
                "dtype": value.dtype,
                "smallest": number(value.smallest),
                "largest": number(value.largest),
                "path": str(value.path),
            }
            for value in self.values
        ]
        return {"values": rows, "times_ms": list(self.times_ms)}


def number(value: float) -> float | str:
    """Return a number that JSON can hold."""
    return value if np.isfinite(value) else str(value)


def run_package(
    package: Path,
    *,
    inputs: tuple[str, ...],
    output: Path,
    function: str | None = None,
    numerics: str = "fp16",
    probes: tuple[str, ...] = (),
    repeats: int | None = None,
) -> RunResult:
    """Run a package on inputs ``NAME=FILE``; save outputs and probed values as ``.npy`` into ``output``.

    Raises:
        UsageError: an input is not NAME=FILE, cannot be read, or a probed value does not exist.
        ProgramError: the package cannot be loaded, or the inputs do not fit it.
    """
    from edgesam_export.mil import load_program

    program = load_program(package) if function is None else load_program(package, function=function)
    feed = dict(read_input(text) for text in inputs)
    known = {output.name for operation in program.operations for output in operation.outputs}
    for name in probes:
        if name not in known:
            raise UsageError(f"'{package}' has no value '{name}' to probe; names are those of its operations' outputs")
    if repeats is not None and not 1 <= repeats <= 10_000:
        raise UsageError(f"time is {repeats}; choose 1 to 10000 runs")
    state = program.make_state() if program.states else None
    seen: dict[str, np.ndarray] = {}

    def probe(op: Any, name: str, value: Any) -> None:
        if name in probes:
            seen[name] = value.cpu().numpy().copy()

    results = program.predict(feed, numerics=numerics, state=state, probe=probe if probes else None)
    times = timed_runs(lambda: program.predict(feed, numerics=numerics, state=state), repeats or 0)
    arrays = [("output", name, np.asarray(value)) for name, value in results.items()]
    arrays += [("probe", name, value) for name, value in seen.items()]
    with staging_folder(output) as staging:
        values = tuple(save_value(kind, name, value, staging, output) for kind, name, value in arrays)
    return RunResult(values=values, times_ms=times)


def timed_runs(call: Callable[[], Any], repeats: int) -> tuple[float, ...]:
    """Return the duration of each of some calls in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return tuple(times)


def read_input(text: str) -> tuple[str, Any]:
    """Return the feature name and the array or image of ``NAME=FILE``."""
    name, separator, file = text.partition("=")
    if not separator or not name or not file:
        raise UsageError(f"input '{text}' is not NAME=FILE, for example image=photo.jpg")
    path = Path(file)
    if path.suffix == ".npy":
        return name, read_array(path)
    return name, open_image(path)


def save_value(kind: str, name: str, value: np.ndarray, staging: Path, output: Path) -> SavedValue:
    """Save one array; a name that is no file name has its odd characters replaced."""
    file = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name) + ".npy"
    np.save(staging / file, value, allow_pickle=False)
    numbers = value.astype(np.float64) if value.size and value.dtype.kind in "biuf" else np.zeros(1)
    return SavedValue(
        name=name,
        kind=kind,
        shape=value.shape,
        dtype=str(value.dtype),
        smallest=float(numbers.min()),
        largest=float(numbers.max()),
        path=output / file,
    )
