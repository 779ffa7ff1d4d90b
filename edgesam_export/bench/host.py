"""``bench --host``: every way to execute a model on this machine, measured side by side in one record.

The candidates take turns: every round runs each of them once, so that a drift of the machine hits all alike.
"""

from __future__ import annotations

import gc
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

from edgesam_export.bench.candidates import (
    ROLES,
    Call,
    Candidate,
    FileCandidate,
    Inputs,
    TorchCandidate,
    open_executor,
    open_file,
    random_inputs,
)
from edgesam_export.bench.machine import artifact_entry, host_device, torch_entry
from edgesam_export.bench.parity import FeedRecorder, compare_outputs
from edgesam_export.bench.request import DAY_S, Schedule, Workload, check_workload
from edgesam_export.bench.schema import empty_result
from edgesam_export.bench.statistics import NS_PER_MS, NS_PER_S
from edgesam_export.errors import EdgeSAMExportError, UsageError, first_line
from edgesam_export.runners import Runner
from edgesam_export.spec import NUMERICS, Artifact, Progress

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["Case", "HostPlan", "measure_host"]

EXECUTED = "coreml"
"""Format whose files the executor runs, once for each kind of numerics."""


@dataclass(frozen=True, kw_only=True)
class HostPlan:
    """Subject and schedule of a measurement on this machine: a loaded model, exported files of it, or both."""

    artifacts: tuple[Artifact, ...] = ()
    """Of each format at most one encoder and one decoder."""
    model: SamModel | None = None
    """PyTorch model, also the reference of the others; None leaves both out."""
    schedule: Schedule = field(default_factory=Schedule)
    workload: Workload = field(default_factory=Workload)
    numerics: tuple[str, ...] = NUMERICS
    cuda: bool = True
    """Also measure PyTorch on a CUDA device, where there is one."""

    def __post_init__(self) -> None:
        if self.model is None and not self.artifacts:
            raise UsageError("nothing to measure; give a model, exported files or their folder")
        if self.workload.pace_hz is not None or self.workload.vary_points:
            raise UsageError("this machine is measured back to back with a fixed number of points; leave out the pace")
        for format in self.formats:
            check_workload(self.files(format), self.workload)

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats of the files, sorted."""
        return tuple(sorted({artifact.format for artifact in self.artifacts}))

    def files(self, format: str) -> tuple[Artifact, ...]:
        """Return the files of one format."""
        return tuple(artifact for artifact in self.artifacts if artifact.format == format)

    def describing_runner(self) -> Runner:
        """Return a runner that knows the model's facts; of files, one that executes nothing."""
        from edgesam_export.runners.torch import TorchRunner

        return FeedRecorder(self.files(self.formats[0])) if self.model is None else TorchRunner(self.model)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Durations of one stage in the order in which they were taken, nanoseconds."""

    warmup_ns: Sequence[int] = ()
    samples_ns: Sequence[int] = ()

    def as_record(self) -> dict[str, Any]:
        """Return the stage's entry in a case."""
        return {
            "warmup_n": len(self.warmup_ns),
            "warmup_ns": list(self.warmup_ns),
            "samples_ns": list(self.samples_ns),
        }


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A candidate that is ready to be timed."""

    candidate: Candidate
    calls: Mapping[str, Call]
    load_ms: Mapping[str, Sequence[float]]
    """First load of each component, then its repetitions."""
    first_ms: Mapping[str, float]
    """First call of each component."""
    parity: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One candidate measured with one number of points."""

    candidate: Candidate
    points: int
    threads: int
    loaded: Loaded | None = None
    """None when it could not be loaded."""
    stages: Mapping[str, Samples] = field(default_factory=dict)
    sustained: Mapping[str, float] | None = None
    schedule: Schedule = field(default_factory=Schedule)
    error: str | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the case's entry in a result."""
        units = self.candidate.units
        case = {
            "id": f"{self.candidate.name}/n{self.points}",
            "runtime": self.candidate.runtime,
            "compute_units": dict.fromkeys(ROLES, units),
            "hints": None,
            "io": "multiarray",
            "concurrency": 1,
            "n_points": self.points,
            "vary_points": False,
            "threads": self.threads,
            "stages": {name: samples.as_record() for name, samples in self.stages.items()},
            "validity": {"reasons": []} if self.loaded is None else self.validity(),
            "outcome": "ok" if self.error is None else "failed",
        }
        if self.loaded is not None:
            case |= {"load": self.load_times(self.loaded), "first_prediction_ms": dict(self.loaded.first_ms)}
            case |= self.candidate.facts
            case |= {} if self.loaded.parity is None else {"parity": dict(self.loaded.parity)}
        if self.sustained is not None:
            case["sustained"] = dict(self.sustained)
        if self.error is not None:
            case["error"] = {"stage": "load", "message": self.error}
        return case

    @staticmethod
    def load_times(loaded: Loaded) -> dict[str, Any] | None:
        """Return the times of loading files; None for a model that is in memory already."""
        if not loaded.candidate.roles:
            return None
        times = {role: {"first_ms": first, "repeats_ms": rest} for role, (first, *rest) in loaded.load_ms.items()}
        return {"freshly_installed": None, **times}

    def validity(self) -> dict[str, Any]:
        """Return whether every stage reached the schedule's minimum."""
        counts = [len(samples.samples_ns) for samples in self.stages.values()]
        seconds = [sum(samples.samples_ns) / NS_PER_S for samples in self.stages.values()]
        schedule = self.schedule
        enough = all(count >= schedule.min_iterations for count in counts)
        limit = "" if schedule.max_duration_s >= DAY_S else f" within {schedule.max_duration_s:g} s"
        return {
            "min_iterations_met": enough,
            "min_duration_met": all(value >= schedule.min_duration_s for value in seconds),
            "reasons": [] if enough else [f"{min(counts)} of {schedule.min_iterations} iterations{limit}"],
        }


def measure_host(plan: HostPlan, *, progress: Progress | None = None) -> dict[str, Any]:
    """Return a result document of this machine: one case for each candidate and number of points."""
    report = progress or (lambda done, total, text: None)
    started = datetime.now(timezone.utc)
    cases = [case for points in plan.workload.n_points for case in measure_points(plan, points, report)]
    models = [artifact_entry(artifact) for artifact in plan.artifacts]
    if not models and plan.model is not None:
        models = [torch_entry(plan.model, role) for role in ROLES]
    return {
        **empty_result(str(uuid.uuid4()), secrets.token_hex(16)),
        "started_at": started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "app": None,
        "device": host_device(),
        "models": models,
        "cases": [case.as_record() for case in cases],
    }


def candidates_of(plan: HostPlan) -> list[Candidate]:
    """Return every candidate of a plan that this machine has."""
    candidates: list[Candidate] = []
    if plan.model is not None:
        candidates.append(TorchCandidate(plan.model))
    for format in (name for name in plan.formats if name != EXECUTED):
        candidates.append(FileCandidate(runtime_of(format), plan.files(format), open_file))
    for numerics in plan.numerics if EXECUTED in plan.formats else ():
        candidates.append(FileCandidate(f"executor_{numerics}", plan.files(EXECUTED), partial(open_executor, numerics)))
    if plan.model is not None and plan.cuda:
        import torch

        if torch.cuda.is_available():
            candidates += [TorchCandidate(plan.model, "cuda", precision) for precision in ("fp32", "fp16")]
    return candidates


def runtime_of(format: str) -> str:
    """Return the name of the runner that executes a format."""
    from edgesam_export.registry import import_submodules
    from edgesam_export.runners import RUNNERS

    import_submodules("edgesam_export.runners")
    return next(name for name in RUNNERS if format in RUNNERS[name].formats and not RUNNERS[name].prefix)


def measure_points(plan: HostPlan, points: int, report: Progress) -> list[Case]:
    """Return the cases of one number of points: candidates loaded one by one, then measured in turns."""
    import torch

    inputs = random_inputs(plan.describing_runner(), points)
    threads = torch.get_num_threads()
    outcomes: list[Loaded | Case] = []
    for candidate in candidates_of(plan):
        report(0, 0, f"loading {candidate.runtime}")
        try:
            outcomes.append(load_candidate(candidate, inputs, plan))
        except (EdgeSAMExportError, RuntimeError, MemoryError) as error:
            outcomes.append(Case(candidate=candidate, points=points, threads=threads, error=first_line(error)))
    ready = [outcome for outcome in outcomes if isinstance(outcome, Loaded)]
    taken = {stage: sample_stage(stage, ready, plan.schedule, report) for stage in plan.workload.stages}

    def finished(loaded: Loaded) -> Case:
        name = loaded.candidate.name
        return Case(
            candidate=loaded.candidate,
            points=points,
            threads=threads,
            loaded=loaded,
            stages={stage: samples[name] for stage, samples in taken.items() if name in samples},
            sustained=run_sustained(loaded, plan.schedule.sustained_duration_s, report),
            schedule=plan.schedule,
        )

    return [finished(outcome) if isinstance(outcome, Loaded) else outcome for outcome in outcomes]


def load_candidate(candidate: Candidate, inputs: Inputs, plan: HostPlan) -> Loaded:
    """Return a candidate whose components were loaded, some times over, and called once."""
    repeats = 1 + plan.schedule.load_repeats
    load_ms = {
        role: [candidate.timed(partial(candidate.load, role)) / NS_PER_MS for _ in range(repeats)]
        for role in candidate.roles
    }
    calls = candidate.prepare_calls(inputs)
    first_ms = {role: candidate.timed(calls[role]) / NS_PER_MS for role in ROLES if role in calls}
    compared = plan.model is not None and candidate.runtime != "pytorch"
    parity = parity_of(candidate, inputs, plan.describing_runner()) if compared else None
    return Loaded(candidate=candidate, calls=calls, load_ms=load_ms, first_ms=first_ms, parity=parity)


def parity_of(candidate: Candidate, inputs: Inputs, reference: Runner) -> dict[str, Any]:
    """Return the distance of a candidate's outputs from the reference's on the same inputs."""
    embedding, masks = candidate.outputs(inputs)
    pairs = []
    if embedding is not None:
        prepared = inputs.prepared
        expected = reference.encode_pixels(prepared.pixels) if candidate.takes_image else reference.encode(prepared)
        pairs.append(("encoder", dict(zip(embedding, expected.values())), embedding))
    if masks is not None:
        logits, scores = reference.decode(inputs.embedding, inputs.coords, inputs.labels)
        kept = list(candidate.masks)
        pairs.append(("decoder", {"masks": logits[:, kept], "scores": scores[:, kept]}, {"masks": masks}))
    return compare_outputs(pairs)


def sample_stage(stage: str, ready: Sequence[Loaded], schedule: Schedule, report: Progress) -> dict[str, Samples]:
    """Return the durations of one stage by candidate, taken in turns.

    A candidate leaves when it has its iterations and its duration, or when its time is over.
    """
    gc.collect()
    able = [(loaded.candidate, loaded.calls[stage]) for loaded in ready if stage in loaded.calls]
    warmup: dict[str, list[int]] = {candidate.name: [] for candidate, _ in able}
    samples: dict[str, list[int]] = {candidate.name: [] for candidate, _ in able}
    for number in range(schedule.warmup_iterations):
        report(0, 0, f"{stage}: warm-up {number + 1}")
        for candidate, call in able:
            warmup[candidate.name].append(candidate.timed(call))
    active, rounds = able, 0
    while active:
        rounds += 1
        report(0, 0, f"{stage}: round {rounds}, {len(active)} candidates")
        for candidate, call in active:
            samples[candidate.name].append(candidate.timed(call))
        active = [(candidate, call) for candidate, call in active if not is_enough(samples[candidate.name], schedule)]
    return {name: Samples(warmup_ns=warmup[name], samples_ns=samples[name]) for name in samples}


def is_enough(samples_ns: Sequence[int], schedule: Schedule) -> bool:
    """Return whether a stage has its iterations and its duration, or has used its time."""
    seconds = sum(samples_ns) / NS_PER_S
    enough = len(samples_ns) >= schedule.min_iterations and seconds >= schedule.min_duration_s
    return enough or seconds >= schedule.max_duration_s


def run_sustained(loaded: Loaded, window_s: float, report: Progress) -> dict[str, float] | None:
    """Return the frames done back to back within a window; None without a window or a complete model."""
    call = loaded.calls.get("end_to_end")
    if not window_s or call is None:
        return None
    report(0, 0, f"sustained: {loaded.candidate.runtime}")
    start, frames = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < window_s:
        loaded.candidate.timed(call)
        frames += 1
    return {"window_s": elapsed, "frames": frames}
