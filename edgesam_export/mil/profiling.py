"""Where the time of a program goes: each step of the plan that really runs, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

from edgesam_export.mil.features import ProgramState
from edgesam_export.mil.plan import PreparedBlock, Step
from edgesam_export.mil.program import Program

__all__ = ["KindTime", "Profile", "StepTime", "profile"]


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """One step of the plan: an operation, or several that are computed as one."""

    operations: tuple[str, ...]
    """Their types."""
    name: str
    """The value that the last of them computes."""
    output: str
    """Its declared type."""
    location: str
    """Of the first operation in the program."""
    time_ms: float
    """Median of the runs, rounding included."""

    @property
    def kind(self) -> str:
        """The operations' types as one word."""
        return "+".join(self.operations)


@dataclass(frozen=True, kw_only=True)
class KindTime:
    """All steps of a kind together."""

    kind: str
    count: int
    time_ms: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Times of a program's steps in program order."""

    numerics: str
    threads: int
    total_ms: float
    """Median time of a whole prediction; what the steps do not account for is reading inputs and writing outputs."""
    steps: tuple[StepTime, ...]

    @property
    def kinds(self) -> list[KindTime]:
        """The kinds of steps, the most expensive first."""
        groups: dict[str, list[float]] = {}
        for step in self.steps:
            groups.setdefault(step.kind, []).append(step.time_ms)
        rows = [KindTime(kind=kind, count=len(times), time_ms=sum(times)) for kind, times in groups.items()]
        return sorted(rows, key=lambda row: (-row.time_ms, row.kind))

    @property
    def slowest(self) -> list[StepTime]:
        """The steps, the slowest first."""
        return sorted(self.steps, key=lambda step: -step.time_ms)


@dataclass
class ClockedBlock(PreparedBlock):
    """A block that measures how long each of its steps takes: the time until the loop asks for the next one."""

    durations_ns: list[list[int]]

    def plan(self, *, probed: bool) -> Iterator[Step]:
        """Yield the steps to run."""
        for step, durations in zip(self.fused, self.durations_ns):
            start = time.perf_counter_ns()
            yield step
            durations.append(time.perf_counter_ns() - start)


def profile(
    program: Program, feed: Mapping[str, Any], *, numerics: str, runs: int, state: ProgramState | None = None
) -> Profile:
    """Return the times of a program's steps on one feed: medians of ``runs`` predictions after a warm-up.

    A state goes on from run to run. Raises as ``Program.predict`` does.
    """
    import torch

    prepared = copy(program.prepare(numerics))
    block = prepared.block
    clocks: list[list[int]] = [[] for _ in block.fused]
    clocked = ClockedBlock(block.inputs, block.steps, block.outputs, block.frees, block.fused, clocks)
    prepared.block = clocked
    observed = copy(program)
    observed.prepared = {(numerics, "cpu"): prepared}
    totals = []
    for run in range(runs + 1):
        start = time.perf_counter_ns()
        observed.predict(feed, numerics=numerics, state=state)
        totals.append(time.perf_counter_ns() - start)
        if run == 0:
            for durations in clocks:
                durations.clear()
    steps = tuple(step_time(step, times) for step, times in zip(block.fused, clocks))
    total_ms = statistics.median(totals[1:]) / 1e6
    return Profile(numerics=numerics, threads=torch.get_num_threads(), total_ms=total_ms, steps=steps)


def step_time(step: Step, durations_ns: list[int]) -> StepTime:
    _, name, declared = step.outputs[-1] if step.outputs else (0, step.operation.label, "nothing")
    return StepTime(
        operations=tuple(member.operation.type for member in step.members) or (step.operation.type,),
        name=name,
        output=str(declared),
        location=step.operation.location,
        time_ms=statistics.median(durations_ns) / 1e6,
    )
