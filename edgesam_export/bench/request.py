"""The plan of a benchmark, and its request: ``request.json`` with models and inputs, in a folder for the device."""

from __future__ import annotations

import secrets
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.bench.schema import PROTOCOL_VERSION, check_document
from edgesam_export.errors import UsageError
from edgesam_export.files import reason_of, write_json
from edgesam_export.spec import COMPUTE_UNITS, MAX_POINTS, Artifact

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = [
    "METHOD_SCHEDULE",
    "QUICK_SCHEDULE",
    "BenchPlan",
    "MatrixRow",
    "Schedule",
    "Workload",
    "make_plan",
    "parse_matrix",
    "parse_points",
    "pick_artifacts",
    "write_bundle",
]

STAGES = ("encoder", "decoder", "end_to_end")
THERMAL_STATES = ("nominal", "fair", "serious", "critical")
DAY_S = 86400.0


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Durations and counts of a measurement; the defaults are what ``edgesam-bench/1`` stands for."""

    warmup_iterations: int = 10
    min_iterations: int = 100
    min_duration_s: float = 10.0
    max_duration_s: float = 120.0
    """Of one stage of one case; a minimum not reached by then makes the case invalid."""
    sustained_duration_s: float = 60.0
    """Window of back-to-back frames; 0 leaves it out."""
    load_repeats: int = 3
    cooldown_s: float = 10.0
    """Rest before each case."""
    start_when_thermal_at_most: str = "nominal"
    start_thermal_timeout_s: float = 600.0

    def __post_init__(self) -> None:
        counts = {"warmup_iterations": (0, 100000), "min_iterations": (1, 1000000), "load_repeats": (0, 1000)}
        for name, (low, high) in counts.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"schedule: {name} is {getattr(self, name)}; it goes from {low} to {high}")
        for name, value in asdict(self).items():
            if name.endswith("_s") and not 0 <= value <= DAY_S:
                raise UsageError(f"schedule: {name} is {value}; it goes from 0 to {DAY_S:g} seconds")
        if self.max_duration_s <= 0 or self.max_duration_s < self.min_duration_s:
            text = f"max_duration_s is {self.max_duration_s:g}, min_duration_s {self.min_duration_s:g}"
            raise UsageError(f"schedule: {text}; the largest is above 0 and not below the smallest")
        if self.start_when_thermal_at_most not in THERMAL_STATES:
            known = ", ".join(THERMAL_STATES)
            raise UsageError(f"schedule: thermal state '{self.start_when_thermal_at_most}'; choose one of: {known}")

    def with_iterations(self, count: int) -> Schedule:
        """Return a schedule of a fixed number of iterations, however short they are."""
        return replace(self, min_iterations=count, min_duration_s=0.0, max_duration_s=DAY_S)


METHOD_SCHEDULE = Schedule()
QUICK_SCHEDULE = Schedule(
    warmup_iterations=2,
    min_iterations=10,
    min_duration_s=0.0,
    max_duration_s=30.0,
    sustained_duration_s=0.0,
    load_repeats=1,
    cooldown_s=0.0,
    start_when_thermal_at_most="serious",
    start_thermal_timeout_s=60.0,
)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Work of one iteration."""

    stages: tuple[str, ...] = STAGES
    n_points: tuple[int, ...] = (1,)
    """Valid prompt points; each number is a case of its own."""
    vary_points: bool = False
    """One more case per row of the matrix, in which the number of points changes from call to call."""
    input: str = "random"
    io: str = "multiarray"
    output_backings: bool = True
    concurrency: int = 1
    pace_hz: float | None = None
    """Calls per second, as a camera would make them; None is back to back."""

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage not in STAGES:
                raise UsageError(f"workload: stage '{stage}'; choose from: {', '.join(STAGES)}")
        if not self.stages or len(set(self.stages)) != len(self.stages):
            raise UsageError(f"workload: stages are {self.stages}; name each once, at least one")
        if not self.n_points or len(set(self.n_points)) != len(self.n_points):
            raise UsageError(f"workload: numbers of points are {self.n_points}; name each once, at least one")
        for count in self.n_points:
            if not 1 <= count <= MAX_POINTS:
                raise UsageError(f"workload: {count} points; a prompt has 1 to {MAX_POINTS}")


@dataclass(frozen=True, kw_only=True)
class MatrixRow:
    """Compute units of both models, with Core ML's hints."""

    encoder: str = "all"
    decoder: str = "all"
    reshape_frequency: str | None = None
    specialization_strategy: str | None = None

    def __post_init__(self) -> None:
        for units in (self.encoder, self.decoder):
            if units not in COMPUTE_UNITS:
                raise UsageError(f"compute units '{units}'; choose from: {', '.join(COMPUTE_UNITS)}")

    def document(self) -> dict[str, Any]:
        """Return the row as the request has it."""
        return {
            "compute_units": {"encoder": self.encoder, "decoder": self.decoder},
            "hints": {
                "reshape_frequency": self.reshape_frequency,
                "specialization_strategy": self.specialization_strategy,
            },
        }


def parse_points(text: str) -> tuple[int, ...]:
    """Return the numbers of points in ``1,4``.

    Raises:
        UsageError: not a list of integers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--points '{text}' is no list of integers; write 1 or 1,4,8") from None


def parse_matrix(text: str) -> tuple[MatrixRow, ...]:
    """Return the rows of ``all,cpu_and_ne`` or, encoder first, ``cpu_and_ne/cpu_only``.

    Raises:
        UsageError: unknown compute units, or a row twice.
    """
    rows = []
    for part in (part.strip() for part in text.split(",")):
        encoder, slash, decoder = part.partition("/")
        rows.append(MatrixRow(encoder=encoder, decoder=decoder if slash else encoder))
    if len(set(rows)) != len(rows):
        raise UsageError(f"compute units '{text}' name the same pair twice; give each once")
    return tuple(rows)


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """Everything that a run on one device measures: at most one encoder and one decoder package of one model."""

    artifacts: tuple[Artifact, ...]
    matrix: tuple[MatrixRow, ...] = (MatrixRow(),)
    schedule: Schedule = field(default_factory=Schedule)
    workload: Workload = field(default_factory=Workload)
    compute_plan: bool = True
    timeseries_hz: float = 1.0
    reference: SamModel | None = None
    """The PyTorch model that the packages were made from: outputs of every case are compared with it. None: they
    are not."""

    def __post_init__(self) -> None:
        foreign = [artifact.path.name for artifact in self.artifacts if artifact.format != "coreml"]
        if foreign:
            raise UsageError(f"{', '.join(foreign)}: a device runs Core ML packages only; export with `coreml`")
        check_workload(self.artifacts, self.workload)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.artifacts[0].model


def check_workload(artifacts: Iterable[Artifact], workload: Workload) -> None:
    """Raise UsageError unless the files can do what the workload asks."""
    by_role = {artifact.component: artifact for artifact in artifacts}
    for stage in workload.stages:
        for role in ("encoder", "decoder") if stage == "end_to_end" else (stage,):
            if role not in by_role:
                names = ", ".join(artifact.path.name for artifact in by_role.values()) or "nothing"
                raise UsageError(
                    f"stage '{stage}' needs the {role}, given: {names}; give it too, or leave out the stage"
                )
    contract = by_role["decoder"].contract if "decoder" in by_role else {}
    slots, padding = contract.get("slots"), int(contract.get("padding_point", True))
    most = max(workload.n_points)
    if slots is not None and most + padding > slots:
        extra = " and SAM's padding point" if padding else ""
        advice = "" if contract.get("fixed_slots") else f"export it with --points {most + padding} or "
        raise UsageError(
            f"{most} points{extra} need {most + padding} slots, {by_role['decoder'].path.name} has {slots}; "
            f"{advice}measure fewer points"
        )


def pick_artifacts(sources: Any, format: str = "coreml") -> tuple[Artifact, ...]:
    """Return the encoder and the decoder of one format among files and folders, whatever else lies there.

    Raises:
        UsageError: none of that format, several of one kind, or files of several models.
    """
    from edgesam_export.artifacts import list_files, open_artifact, pick_pair

    opened = [open_artifact(file) for file in list_files(sources)]
    chosen = [artifact for artifact in opened if artifact.format == format]
    if not chosen:
        seen = ", ".join(artifact.path.name for artifact in opened)
        raise UsageError(f"no {format} files among {seen}; export them first")
    return tuple(pick_pair(chosen))


def make_plan(
    sources: Any,
    *,
    matrix: tuple[MatrixRow, ...] = (MatrixRow(),),
    schedule: Schedule = METHOD_SCHEDULE,
    workload: Workload | None = None,
    reference: SamModel | None = None,
) -> BenchPlan:
    """Return a plan for the Core ML packages among files and folders; stages that lack a package are left out.

    Raises:
        UsageError: files that do not go together, or that cannot do what is asked.
    """
    artifacts = pick_artifacts(sources)
    workload = workload or Workload()
    roles = {artifact.component for artifact in artifacts}
    if len(roles) == 1:
        workload = replace(workload, stages=tuple(stage for stage in workload.stages if stage in roles))
    return BenchPlan(artifacts=artifacts, matrix=matrix, schedule=schedule, workload=workload, reference=reference)


def write_bundle(plan: BenchPlan, folder: Path, expected: Path | None = None) -> dict[str, Any]:
    """Write ``request.json``, ``models/`` and ``inputs/`` into a new folder; return the request.

    With ``plan.reference`` and ``expected``, the outputs that PyTorch gives on the same inputs go to ``expected``.

    Raises:
        UsageError: the folder exists or cannot be written.
    """
    if folder.exists():
        raise UsageError(f"'{folder}' exists already; a run needs a new folder")
    try:
        (folder / "models").mkdir(parents=True)
        for artifact in plan.artifacts:
            copy = shutil.copytree if artifact.path.is_dir() else shutil.copy2
            copy(artifact.path, folder / "models" / artifact.path.name)
        parity_inputs: list[dict[str, Any]] = []
        if plan.reference is not None and expected is not None:
            from edgesam_export.bench.parity import write_parity_inputs

            parity_inputs = write_parity_inputs(plan.artifacts, plan.reference, folder, expected)
    except OSError as error:
        raise UsageError(f"cannot write '{folder}': {reason_of(error)}; choose another --runs folder") from None
    request = request_document(plan, parity_inputs)
    check_document(request, "request", str(folder / "request.json"))
    write_json(folder / "request.json", request)
    return request


def request_document(plan: BenchPlan, parity_inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the request of a plan, with a new run id and nonce."""
    return {
        "protocol_version": PROTOCOL_VERSION,
        "run_id": str(uuid.uuid4()),
        "nonce": secrets.token_hex(16),
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "models": [model_entry(artifact) for artifact in plan.artifacts],
        "matrix": [row.document() for row in plan.matrix],
        "schedule": asdict(plan.schedule),
        "workload": {
            **asdict(plan.workload),
            "stages": list(plan.workload.stages),
            "n_points": list(plan.workload.n_points),
        },
        "collect": {
            "compute_plan": plan.compute_plan,
            "timeseries_hz": plan.timeseries_hz,
            "parity_outputs": bool(parity_inputs),
            "parity_inputs": parity_inputs,
        },
    }


def model_entry(artifact: Artifact) -> dict[str, Any]:
    """Return a model's entry in the request: what the runner needs, and the file's origin for the record."""
    contract = artifact.contract
    inputs = [{name: spec[name] for name in ("name", "shape", "dtype")} for spec in contract["inputs"]]
    return {
        "id": artifact.path.stem,
        "role": artifact.component,
        "relative_path": f"models/{artifact.path.name}",
        "sha256_tree": artifact.sha256,
        "input_spec": inputs,
        **origin_of(artifact),
    }


def origin_of(artifact: Artifact) -> dict[str, Any]:
    """Return the facts of a contract that records keep."""
    contract = artifact.contract
    return {
        "model": artifact.model,
        "format": artifact.format,
        "compute_precision": contract["precision"],
        "profile": contract["profile"],
        "slots": contract.get("slots"),
        "weights": contract["weights"],
        "exporter": contract["versions"],
    }
