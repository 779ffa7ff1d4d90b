"""The library call behind ``run``: any ML Program, inputs and outputs as files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.artifacts import load_program
from edgesam_export.errors import UsageError
from edgesam_export.files import staging_folder
from edgesam_export.predict.values import SavedValue, ValueFiles, read_inputs
from edgesam_export.rendering import rendered, renderers

if TYPE_CHECKING:
    from edgesam_export.mil.features import ProgramState
    from edgesam_export.mil.profiling import Profile
    from edgesam_export.mil.program import Program

__all__ = ["RunResult", "run_package"]

RENDER = "edgesam_export.predict.render"
PROFILED_RUNS = 5
"""Unless a number of runs is given."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Result of ``run``: the values written, and times."""

    values: tuple[SavedValue, ...]
    times_ms: tuple[float, ...]
    profile: Profile | None = None
    """Times of the operations, if they were asked for."""

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data; a value that is not finite becomes text."""
        plain = {"values": [value.document() for value in self.values], "times_ms": list(self.times_ms)}
        if self.profile is None:
            return plain
        from edgesam_export.predict.render.json import document

        return {**plain, "profile": document(self.profile)}


def run_package(
    package: Path,
    *,
    inputs: tuple[str, ...],
    output: Path,
    function: str | None = None,
    numerics: str = "fp16",
    probes: tuple[str, ...] = (),
    repeats: int | None = None,
    profiled: bool = False,
) -> RunResult:
    """Run a package on inputs ``NAME=FILE``; save outputs, states and probed values into ``output``.

    The file of a state is what it holds before the run, zeros without one; what it holds after is saved. A profile is
    measured in further runs, ``repeats`` of them or five, and saved in every format of ``predict.render``.

    Raises:
        UsageError: an input is not NAME=FILE, cannot be read, or a probed value does not exist.
        ProgramError: the package cannot be loaded, or the inputs do not fit it.
    """
    program = load_program(package, function=function)
    check_request(program, probes, repeats)
    feed = read_inputs(inputs, {spec.name: spec for spec in (*program.inputs, *program.states)})
    state = initial_state(program, feed)
    seen: dict[str, Any] = {}
    probe = keeping(probes, seen) if probes else None
    results = program.predict(feed, numerics=numerics, state=state, probe=probe)
    kept = {} if state is None else {spec.name: state.read_state(spec.name) for spec in program.states}
    times = timed_runs(lambda: program.predict(feed, numerics=numerics, state=state), repeats or 0)
    measured = profile_of(program, feed, numerics, repeats, state) if profiled else None
    images = {spec.name for spec in program.outputs if spec.kind == "image"}
    with staging_folder(output) as staging:
        files = ValueFiles(staging, output)
        values = [files.save("output", name, value, is_image=name in images) for name, value in results.items()]
        values += [files.save("state", name, value) for name, value in kept.items()]
        values += [files.save("probe", name, value) for name, value in seen.items()]
        save_profile(measured, staging)
    return RunResult(values=tuple(values), times_ms=times, profile=measured)


def keeping(names: tuple[str, ...], kept: dict[str, Any]) -> Callable[[Any, str, Any], None]:
    """Return a probe that puts copies of the named values into ``kept``."""

    def probe(op: Any, name: str, value: Any) -> None:
        if name in names:
            kept[name] = value.cpu().numpy().copy() if hasattr(value, "cpu") else value

    return probe


def save_profile(profile: Profile | None, folder: Path) -> None:
    for suffix, render in renderers(RENDER).items() if profile is not None else ():
        (folder / f"profile{suffix}").write_bytes(rendered(render, profile))


def check_request(program: Program, probes: tuple[str, ...], repeats: int | None) -> None:
    """Raise UsageError for a probed value that the program does not have, or a number of runs that cannot be."""
    known = {output.name for operation in program.operations for output in operation.outputs}
    for name in probes:
        if name not in known:
            raise UsageError(
                f"'{program.path}' has no value '{name}' to probe; names are those of its operations' outputs"
            )
    if repeats is not None and not 1 <= repeats <= 10_000:
        raise UsageError(f"time is {repeats}; choose 1 to 10000 runs")


def initial_state(program: Program, feed: dict[str, Any]) -> ProgramState | None:
    """Return the state of a program that keeps one, what the feed has for it taken out of the feed and written."""
    if not program.states:
        return None
    state = program.make_state()
    for spec in program.states:
        if spec.name in feed:
            value = feed.pop(spec.name)
            if value.dtype.kind not in "biuf":
                raise UsageError(f"state '{spec.name}' has type {value.dtype}; expected {spec.expected}")
            state.write_state(spec.name, value)
    return state


def profile_of(
    program: Program, feed: dict[str, Any], numerics: str, repeats: int | None, state: ProgramState | None
) -> Profile:
    from edgesam_export.mil.profiling import profile

    return profile(program, feed, numerics=numerics, runs=repeats or PROFILED_RUNS, state=state)


def timed_runs(call: Callable[[], Any], repeats: int) -> tuple[float, ...]:
    """Return the duration of each of some calls in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return tuple(times)
