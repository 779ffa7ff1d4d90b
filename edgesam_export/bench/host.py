"""``bench --host``: every way to execute a model on this machine, measured side by side in one record.

The candidates take turns: every round runs each of them once, so that a drift of the machine hits all alike.
"""

from __future__ import annotations

import gc
import secrets
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import Any

import numpy as np

from edgesam_export.bench.machine import artifact_entry, host_device, torch_entry
from edgesam_export.bench.request import DAY_S, Schedule, Workload, check_workload
from edgesam_export.bench.schema import empty_result
from edgesam_export.errors import EdgeSAMExportError, UsageError, first_line
from edgesam_export.imaging.geometry import PreparedImage, prepare
from edgesam_export.imaging.prompts import pack_prompt
from edgesam_export.profiles import embedding_names
from edgesam_export.runners import RUNNERS, Embedding, cast, open_runner
from edgesam_export.spec import Artifact, Progress

__all__ = ["EXECUTOR_NUMERICS", "HostPlan", "measure_host"]

EXECUTOR_NUMERICS = ("fp32", "fp16", "ane")
SEED = 0
NS_PER_MS, NS_PER_S = 1e6, 1e9


@dataclass(frozen=True, kw_only=True)
class HostPlan:
    """What is measured here: a loaded model, exported files of it, or both."""

    model: Any = None
    """PyTorch model, also what the others are compared with; None leaves both out."""
    coreml: tuple[Artifact, ...] = ()
    onnx: tuple[Artifact, ...] = ()
    schedule: Schedule = field(default_factory=Schedule)
    workload: Workload = field(default_factory=Workload)
    numerics: tuple[str, ...] = EXECUTOR_NUMERICS
    cuda: bool = True
    """Also measure PyTorch on a CUDA device, where there is one."""

    def __post_init__(self) -> None:
        if self.model is None and not self.coreml and not self.onnx:
            raise UsageError("nothing to measure; give a model, exported files or their folder")
        if self.workload.pace_hz is not None or self.workload.vary_points:
            raise UsageError("this machine is measured back to back with a fixed number of points; leave out the pace")
        for files in (self.coreml, self.onnx):
            if files:
                check_workload(files, self.workload)

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        return (*self.coreml, *self.onnx)


@dataclass(frozen=True, eq=False)
class Inputs:
    """One picture and one prompt, ready for every candidate."""

    prepared: PreparedImage
    coords: np.ndarray
    labels: np.ndarray
    embedding: Embedding


class Candidate(ABC):
    """One way to execute the model: loaded, then called stage by stage."""

    runtime: str
    units = "cpu"
    roles: tuple[str, ...] = ()
    """Components that are loaded from files of their own."""
    facts: dict[str, Any]
    """What its cases say of it."""

    def load(self, role: str) -> None:
        """Load one of ``roles`` anew."""
        raise NotImplementedError(role)

    @abstractmethod
    def prepare_calls(self, inputs: Inputs) -> dict[str, Callable[[], Any]]:
        """Return what each stage calls; everything that is not prediction happens here."""

    @abstractmethod
    def outputs(self, inputs: Inputs) -> tuple[Embedding | None, np.ndarray | None]:
        """Return embedding and mask logits of the inputs, for parity; None for what this candidate does not make."""

    def timed(self, call: Callable[[], Any]) -> int:
        """Return the nanoseconds that a call takes."""
        start = time.perf_counter_ns()
        call()
        return time.perf_counter_ns() - start


class FileCandidate(Candidate):
    """Exported files in ONNX Runtime or in the executor."""

    def __init__(self, runtime: str, artifacts: Iterable[Artifact], open_one: Callable[[Artifact], Any]) -> None:
        self.runtime = runtime
        self.artifacts = {artifact.component: artifact for artifact in artifacts}
        self.open_one = open_one
        self.roles = tuple(role for role in ("encoder", "decoder") if role in self.artifacts)
        self.runners: dict[str, Any] = {}
        self.facts = {"artifacts": {role: artifact.sha256 for role, artifact in self.artifacts.items()}}

    def load(self, role: str) -> None:
        self.runners[role] = self.open_one(self.artifacts[role])

    def prepare_calls(self, inputs: Inputs) -> dict[str, Callable[[], Any]]:
        from edgesam_export.bench.parity import FeedRecorder

        recorder = FeedRecorder(self.artifacts.values())
        calls: dict[str, Callable[[], Any]] = {}
        if "encoder" in self.artifacts:
            recorder.encode(inputs.prepared)
            calls["encoder"] = partial(self.runners["encoder"].run, "encoder", recorder.feeds["encoder"])
        if "decoder" in self.artifacts:
            recorder.decode(inputs.embedding, inputs.coords, inputs.labels)
            calls["decoder"] = partial(self.runners["decoder"].run, "decoder", recorder.feeds["decoder"])
        if len(calls) == 2:
            calls["end_to_end"] = partial(self.end_to_end, recorder.feeds)
        return calls

    def end_to_end(self, feeds: dict[str, dict[str, np.ndarray]]) -> Any:
        outputs = self.runners["encoder"].run("encoder", feeds["encoder"])
        specs = [s for s in self.artifacts["decoder"].contract["inputs"] if s["name"] in outputs]
        maps = {spec["name"]: cast(outputs[spec["name"]], spec) for spec in specs}
        return self.runners["decoder"].run("decoder", feeds["decoder"] | maps)

    def outputs(self, inputs: Inputs) -> tuple[Embedding | None, np.ndarray | None]:
        embedding = self.runners["encoder"].encode(inputs.prepared) if "encoder" in self.runners else None
        if "decoder" not in self.runners or self.runners["decoder"].selects:
            return embedding, None
        return embedding, self.runners["decoder"].decode(inputs.embedding, inputs.coords, inputs.labels)[0]


class TorchCandidate(Candidate):
    """The PyTorch model on the CPU, or on a CUDA device timed by its own events."""

    def __init__(self, model: Any, device: str = "cpu", precision: str = "fp32") -> None:
        self.source, self.units, self.precision = model, device, precision
        self.runtime = "pytorch" if device == "cpu" else f"pytorch_{device}"
        self.facts = {"precision": precision}
        self.model: Any = None

    def place(self) -> None:
        """Bring the model to its device and precision; the caller's own stays as it is."""
        import torch

        if self.units == "cpu":
            self.model = self.source
            return
        self.model = deepcopy(self.source).to(self.units, self.dtype())
        self.facts["accelerator"] = torch.cuda.get_device_name()
        self.facts["tf32"] = {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "convolution": torch.backends.cudnn.allow_tf32,
        }

    def dtype(self) -> Any:
        import torch

        return torch.float16 if self.precision == "fp16" else torch.float32

    def tensors(self, inputs: Inputs) -> tuple[Any, Any, tuple[Any, ...]]:
        """Return image, embedding and prompt on the model's device; coordinates stay FP32, they exceed 2048."""
        import torch

        image, *maps = (
            torch.from_numpy(np.asarray(array, np.float32)).to(self.units, self.dtype())
            for array in (inputs.prepared.tensor, *inputs.embedding.values())
        )
        prompt = tuple(
            torch.from_numpy(np.asarray(a, np.float32)).to(self.units) for a in (inputs.coords, inputs.labels)
        )
        return image, tuple(maps), prompt

    def prepare_calls(self, inputs: Inputs) -> dict[str, Callable[[], Any]]:
        self.place()
        image, maps, prompt = self.tensors(inputs)
        return {
            "encoder": lambda: self.model.encode(image),
            "decoder": lambda: self.model.decode(maps, *prompt),
            "end_to_end": lambda: self.model.decode(self.model.encode(image), *prompt),
        }

    def timed(self, call: Callable[[], Any]) -> int:
        import torch

        with torch.inference_mode():
            if self.units != "cuda":
                return super().timed(call)
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
            return round(start.elapsed_time(end) * NS_PER_MS)

    def outputs(self, inputs: Inputs) -> tuple[Embedding | None, np.ndarray | None]:
        import torch

        from edgesam_export.modeling.sam import as_maps

        image, maps, prompt = self.tensors(inputs)
        with torch.inference_mode():
            encoded, masks = as_maps(self.model.encode(image)), self.model.decode(maps, *prompt)[0]
        arrays = [part.float().cpu().numpy() for part in (*encoded, masks)]
        return dict(zip(inputs.embedding, arrays[:-1])), arrays[-1]


# ----------------------------------------------------------------------------------------------------------- candidates


def candidates_of(plan: HostPlan) -> list[Candidate]:
    """Return everything that the plan can measure here."""
    found: list[Candidate] = []
    if plan.model is not None:
        found.append(TorchCandidate(plan.model))
    if plan.onnx:
        found.append(FileCandidate("onnxruntime", plan.onnx, lambda artifact: open_runner([artifact])))
    for numerics in plan.numerics if plan.coreml else ():
        found.append(FileCandidate(f"executor_{numerics}", plan.coreml, partial(open_executor, numerics)))
    if plan.model is not None and plan.cuda:
        import torch

        if torch.cuda.is_available():
            found += [TorchCandidate(plan.model, "cuda", precision) for precision in ("fp32", "fp16")]
    return found


def open_executor(numerics: str, artifact: Artifact) -> Any:
    """Return a package in the executor, its constants in memory."""
    runner = RUNNERS["mil"]([artifact], numerics=numerics)
    for program in runner.programs[artifact.component]:
        program.prepare(numerics)
    return runner


def random_inputs(plan: HostPlan, points: int) -> Inputs:
    """Return a picture of noise and a prompt of so many points, the same at every call."""
    first = plan.model if plan.model is not None else open_runner([plan.artifacts[0]])
    noise = np.random.default_rng(SEED)
    side = first.info.frame.size
    prepared = prepare(noise.integers(0, 256, (side, side, 3), np.uint8), first.info.frame)
    places = noise.uniform(0, side - 1, (points, 2))
    coords, labels = pack_prompt(
        prepared, points=places, labels=np.ones(points), padding_point=first.info.padding_point
    )
    shapes = first.info.embedding_shapes
    maps = (noise.standard_normal(shape).astype(np.float32) for shape in shapes)
    return Inputs(prepared, coords, labels, dict(zip(embedding_names(len(shapes)), maps)))


# ----------------------------------------------------------------------------------------------------------- measuring


def measure_host(plan: HostPlan, *, progress: Progress | None = None) -> dict[str, Any]:
    """Return a result document of this machine: one case for each candidate and number of points."""
    report = progress or (lambda *_: None)
    started = datetime.now(timezone.utc)
    cases = []
    for points in plan.workload.n_points:
        cases += measure_points(plan, points, report)
    return {
        **empty_result(str(uuid.uuid4()), secrets.token_hex(16)),
        "started_at": started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "app": None,
        "device": host_device(),
        "models": [artifact_entry(artifact) for artifact in plan.artifacts]
        or [torch_entry(plan.model, role) for role in ("encoder", "decoder")],
        "cases": cases,
    }


def measure_points(plan: HostPlan, points: int, report: Progress) -> list[dict[str, Any]]:
    """Return the cases of one number of points: candidates loaded one by one, then measured in turns."""
    inputs = random_inputs(plan, points)
    cases, ready = [], []
    for candidate in candidates_of(plan):
        report(0, 0, f"loading {candidate.runtime}")
        case = new_case(candidate, points, plan.workload)
        cases.append(case)
        try:
            calls = load_and_call(candidate, case, inputs, plan)
            if plan.model is not None and candidate.runtime != "pytorch":
                case["parity"] = parity_of(candidate, inputs, plan.model)
        except (EdgeSAMExportError, RuntimeError, MemoryError) as error:
            case |= {"outcome": "failed", "error": {"stage": "load", "message": first_line(error)}}
            continue
        ready.append((candidate, case, calls))
    for stage in plan.workload.stages:
        gc.collect()
        able = [(candidate, case, calls[stage]) for candidate, case, calls in ready if stage in calls]
        sample_stage(stage, able, plan.schedule, report)
    for candidate, case, calls in ready:
        if plan.schedule.sustained_duration_s and "end_to_end" in calls:
            report(0, 0, f"sustained: {candidate.runtime}")
            case["sustained"] = run_sustained(candidate, calls["end_to_end"], plan.schedule.sustained_duration_s)
        judge_schedule(case, plan.schedule)
    return cases


def new_case(candidate: Candidate, points: int, workload: Workload) -> dict[str, Any]:
    """Return a case without samples."""
    import torch

    precision = candidate.facts.get("precision")
    name = candidate.runtime if precision in (None, "fp32") else f"{candidate.runtime}_{precision}"
    return {
        "id": f"{name}/n{points}",
        "runtime": candidate.runtime,
        "compute_units": {"encoder": candidate.units, "decoder": candidate.units},
        "hints": None,
        "io": "multiarray",
        "concurrency": 1,
        "n_points": points,
        "vary_points": False,
        "threads": torch.get_num_threads(),
        "stages": {},
        "validity": {"reasons": []},
        "outcome": "ok",
    }


def load_and_call(
    candidate: Candidate, case: dict[str, Any], inputs: Inputs, plan: HostPlan
) -> dict[str, Callable[[], Any]]:
    """Load both components, some times over, and call each once; return the calls of each stage."""
    load: dict[str, Any] = {"freshly_installed": None}
    for role in candidate.roles:
        times = [
            candidate.timed(partial(candidate.load, role)) / NS_PER_MS for _ in range(1 + plan.schedule.load_repeats)
        ]
        load[role] = {"first_ms": times[0], "repeats_ms": times[1:]}
    calls = candidate.prepare_calls(inputs)
    first = {role: candidate.timed(calls[role]) / NS_PER_MS for role in ("encoder", "decoder") if role in calls}
    case |= {"load": load, "first_prediction_ms": first, **candidate.facts}
    case["load"] = load if candidate.roles else None
    return calls


def parity_of(candidate: Candidate, inputs: Inputs, model: Any) -> dict[str, Any]:
    """Return how far a candidate's outputs are from FP32 PyTorch's on the same inputs."""
    from edgesam_export.bench.parity import judge_outputs
    from edgesam_export.runners.torch import TorchRunner

    reference = TorchRunner(model)
    embedding, masks = candidate.outputs(inputs)
    pairs = []
    if embedding is not None:
        takes_image = isinstance(candidate, FileCandidate) and candidate.runners["encoder"].takes_image
        pixels = inputs.prepared.pixels
        expected = reference.encode_pixels(pixels) if takes_image else reference.encode(inputs.prepared)
        pairs.append(("encoder", dict(zip(embedding, expected.values())), embedding))
    if masks is not None:
        logits, scores = reference.decode(inputs.embedding, inputs.coords, inputs.labels)
        kept = list(candidate.runners["decoder"].candidates) if isinstance(candidate, FileCandidate) else slice(None)
        pairs.append(("decoder", {"masks": logits[:, kept], "scores": scores[:, kept]}, {"masks": masks}))
    return judge_outputs(pairs)


def sample_stage(
    stage: str, able: list[tuple[Candidate, dict, Callable]], schedule: Schedule, report: Progress
) -> None:
    """Time one stage of every candidate in turns; a candidate leaves when it has its iterations and its duration."""
    for _, case, _ in able:
        case["stages"][stage] = {"warmup_n": schedule.warmup_iterations, "warmup_ns": [], "samples_ns": []}
    for number in range(schedule.warmup_iterations):
        report(0, 0, f"{stage}: warm-up {number + 1}")
        for candidate, case, call in able:
            case["stages"][stage]["warmup_ns"].append(candidate.timed(call))
    active, rounds = list(able), 0
    while active:
        rounds += 1
        report(0, 0, f"{stage}: round {rounds}, {len(active)} candidates")
        for candidate, case, call in active:
            case["stages"][stage]["samples_ns"].append(candidate.timed(call))
        active = [entry for entry in active if not finished(entry[1]["stages"][stage]["samples_ns"], schedule)]


def finished(samples_ns: list[int], schedule: Schedule) -> bool:
    """Return whether a candidate has measured enough, or as long as it may."""
    seconds = sum(samples_ns) / NS_PER_S
    enough = len(samples_ns) >= schedule.min_iterations and seconds >= schedule.min_duration_s
    return enough or seconds >= schedule.max_duration_s


def run_sustained(candidate: Candidate, call: Callable[[], Any], window_s: float) -> dict[str, Any]:
    """Return how many frames are done back to back within a window."""
    start, frames = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < window_s:
        candidate.timed(call)
        frames += 1
    return {"window_s": elapsed, "frames": frames}


def judge_schedule(case: dict[str, Any], schedule: Schedule) -> None:
    """Say whether the schedule's minimum was reached in every stage."""
    counts = [len(stage["samples_ns"]) for stage in case["stages"].values()]
    seconds = [sum(stage["samples_ns"]) / NS_PER_S for stage in case["stages"].values()]
    validity = case["validity"]
    validity["min_iterations_met"] = all(count >= schedule.min_iterations for count in counts)
    validity["min_duration_met"] = all(value >= schedule.min_duration_s for value in seconds)
    if not validity["min_iterations_met"]:
        limit = "" if schedule.max_duration_s >= DAY_S else f" within {schedule.max_duration_s:g} s"
        validity["reasons"].append(f"{min(counts)} of {schedule.min_iterations} iterations{limit}")
