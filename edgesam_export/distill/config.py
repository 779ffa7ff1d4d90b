"""The configuration of a training run: one frozen dataclass, saved beside the weights, enough to run it again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.files import read_json
from edgesam_export.spec import Recipe, check_compression

__all__ = [
    "DistillConfig",
    "Phase",
    "config_document",
    "configured",
    "parse_schedule",
    "read_config",
    "schedule_text",
]

STAGES = ("encoder", "prompts", "recover")
FRAMES = (None, "upright", "raw")
AMP = ("off", "bf16", "fp16")
PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
MAX_STEPS = 10_000_000
MAX_ROUNDS = 32
LIMITS = {
    "objects": (1, 256),
    "rounds": (0, MAX_ROUNDS),
    "refinements": (0, MAX_ROUNDS),
    "mask_share": (0, 1),
    "points": (1, 16),
    "warmup": (0, MAX_STEPS),
    "average": (0, 0.99999),
    "seed": (0, 2**31),
    "checkpoint_every": (1, MAX_STEPS),
    "calibrate": (0, MAX_STEPS),
    "workers": (0, 64),
    "pool": (0, 1 << 20),
}


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training at one image size."""

    size: int
    """Side of the images that the student sees, pixels."""
    batch: int
    """Images in a step, on each process."""
    steps: int
    rounds: int | None = None
    """Rounds of new points, None for the configuration's ``rounds``: early on, new images teach more."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """One run of ``distill``. Lengths are in pixels of the prompt frame, losses are weighted sums."""

    student: str
    stage: Literal["encoder", "prompts", "recover"] = "prompts"
    """``encoder``: match the teacher's embeddings. ``prompts``: match masks, prompts drawn in a loop.
    ``recover``: as ``prompts``, the student being its own teacher with compressed weights."""
    teacher: str | None = None
    """Model whose masks are the target; None: the masks of the data."""
    data: str = "scenes:0"
    """Training data, as ``open_data`` reads it."""
    strict: bool = False
    """A damaged image or annotation ends the run; else the next image stands in, and the annotation is left out."""
    annotations_frame: Literal["upright", "raw"] | None = None
    """Pixels that annotations are of, where EXIF has an orientation: upright (also without a choice), or as stored."""
    schedule: tuple[Phase, ...] = (Phase(size=512, batch=8, steps=1000),)
    objects: int = 4
    """Prompts drawn for every image of a step."""
    rounds: int = 2
    """How often points are added where student and teacher disagree (R of the paper's Algorithm 1)."""
    points: int = 1
    """Points added for each mask in a round."""
    refinements: int = 0
    """Rounds after those: the same prompt again, with the logits of the round before as its mask prompt."""
    mask_share: float = 0.0
    """Share of the prompts with new points that also get the logits of the round before as a mask prompt."""
    box_noise: float = 0.1
    """Standard deviation of a box prompt's corners, of the box's sides, as in SAM: less trusts boxes more."""
    mask_tokens: Literal["first", "all"] = "all"
    """Which masks are compared: the single-mask token, or all four."""
    freeze: tuple[str, ...] = ()
    """Parts that keep their parameters: image_encoder, prompt_encoder, mask_decoder."""
    inherit: tuple[str, ...] = ()
    """Parts that start with the teacher's parameters."""
    compress: str | Recipe | None = None
    """Scheme, preset or recipe of weight compression that ``recover`` simulates, as ``coreml --compress`` takes it."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100
    """Steps in which the learning rate rises from 0; then it falls to 0 along a cosine, by the pixels trained on."""
    seconds: float = 0.0
    """Time budget of all steps: phases get the share of it that they have of the pixels, their steps are not counted.
    0: no budget, steps are counted."""
    average: float = 0.0
    """Decay per step of the running mean of the parameters, which is what is written; 0 writes the last parameters."""
    clip: float = 1.0
    """Largest norm of all gradients together."""
    bce: float = 5.0
    dice: float = 5.0
    iou: float = 1.0
    """Weight of the predicted IoU's error."""
    channel: float = 0.0
    """Stage ``encoder``: weight of the channel term, the difference of softmax maps over the cells."""
    correlation: float = 0.0
    """Stage ``encoder``: weight of the correlation term, the difference of the cells' cosine similarities."""
    seed: int = 0
    amp: Literal["off", "bf16", "fp16"] = "off"
    """Automatic mixed precision; fp16 on CUDA only."""
    checkpoint_every: int = 500
    """Steps between checkpoints, sample images and curves."""
    calibrate: int = 64
    """Steps at the end whose images the statistics of batch norms are measured on again, weights at rest."""
    half: bool = False
    """Write the weights as FP16; recovered ones stay FP32, since a palette's values must not move."""
    workers: int = 1
    """Processes that prepare images; 0 prepares them in between."""
    pool: int = 0
    """Drawn scenes kept on the device, used several times, turned, cut and recoloured; 0: one for each use."""
    compile: bool = False
    """Compile the step of ``prompts`` at the size of the last phase; at others that takes longer than it saves."""

    def __post_init__(self) -> None:
        choices = (("stage", STAGES), ("mask_tokens", ("first", "all")), ("amp", AMP))
        for name, allowed in (*choices, ("annotations_frame", FRAMES)):
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f"{name} is '{getattr(self, name)}'; choose one of: {', '.join(filter(None, allowed))}"
                )
        for name in ("freeze", "inherit"):
            for part in getattr(self, name):
                if part not in PARTS:
                    raise UsageError(f"{name} names '{part}'; parts are {', '.join(PARTS)}")
        for name, (low, high) in LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} is {getattr(self, name)}; choose {low} to {high}")
        for name in (field.name for field in dataclasses.fields(self) if field.type == "float"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 0 or more, and finite")
        if not self.schedule or self.steps > MAX_STEPS:
            raise UsageError(f"the schedule has {self.steps} steps; 1 to {MAX_STEPS} are possible")
        self.check_combination()

    def check_combination(self) -> None:
        """Raise UsageError for values that do not fit together."""
        if self.seconds and not self.pool:
            raise UsageError("a time budget needs --pool: without one, images are prepared for counted steps")
        if self.pool and not self.data.startswith("scenes:"):
            raise UsageError(f"a pool holds drawn scenes, not '{self.data}'; leave --pool out")
        if self.stage == "encoder" and self.teacher is None:
            raise UsageError("stage 'encoder' matches a teacher's embeddings; name one with --teacher")
        if (self.stage == "recover") != (self.compress is not None):
            raise UsageError("stage 'recover' and --compress belong together: it wins back what that costs")
        if self.compress is not None:
            check_compression(self.compress)
        if self.stage == "recover" and self.teacher is not None:
            raise UsageError(f"stage 'recover' has the student as its teacher, not '{self.teacher}'; leave it out")

    @property
    def steps(self) -> int:
        """Steps of all phases together."""
        return sum(phase.steps for phase in self.schedule)

    def share_done(self, step: int) -> float:
        """Return the share of the run before a step (from 0), 0 to 1, in pixels trained on.

        Steps of early phases, on small images, cost little: counted alike they would take what the last ones need.
        """
        total = done = 0
        for phase in self.schedule:
            pixels = phase.batch * phase.size**2
            total += pixels * phase.steps
            done += pixels * min(max(step, 0), phase.steps)
            step -= phase.steps
        return done / total

    def phase_at(self, step: int) -> Phase:
        """Return the phase that a step (from 0) belongs to."""
        for phase in self.schedule:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.schedule[-1]

    def phase_of_share(self, share: float) -> Phase:
        """Return the phase after a share of the run, 0 to 1 in pixels trained on."""
        pixels = [phase.batch * phase.size**2 * phase.steps for phase in self.schedule]
        left = share * sum(pixels)
        for phase, part in zip(self.schedule, pixels):
            if left < part:
                return phase
            left -= part
        return self.schedule[-1]


def parse_schedule(text: str) -> tuple[Phase, ...]:
    """Return the phases of ``SIZE:BATCH:STEPS`` or ``SIZE:BATCH:STEPS:ROUNDS``, several separated by commas.

    Raises:
        UsageError: another form, a size that is no multiple of 32, or a number out of range.
    """
    phases = []
    for part in text.split(","):
        try:
            size, batch, steps, *rounds = map(int, part.split(":"))
            (many,) = rounds or (None,)
        except ValueError:
            raise UsageError(f"schedule part '{part}' is not SIZE:BATCH:STEPS[:ROUNDS], as in 512:8:1000") from None
        if many is not None and not 0 <= many <= MAX_ROUNDS:
            raise UsageError(f"schedule part '{part}': rounds are 0 to {MAX_ROUNDS}")
        if size % 32 or not 64 <= size <= 2048 or not 1 <= batch <= 4096 or not 1 <= steps <= MAX_STEPS:
            raise UsageError(f"schedule part '{part}': size a multiple of 32 from 64 to 2048, batch 1 to 4096, steps")
        phases.append(Phase(size=size, batch=batch, steps=steps, rounds=many))
    return tuple(phases)


def schedule_text(phases: tuple[Phase, ...]) -> str:
    """Return phases as ``parse_schedule`` reads them."""
    numbers = ((phase.size, phase.batch, phase.steps, phase.rounds) for phase in phases)
    return ",".join(":".join(str(number) for number in phase if number is not None) for phase in numbers)


def config_document(config: DistillConfig) -> dict[str, Any]:
    """Return a configuration as JSON holds it."""
    return dataclasses.asdict(config)


def configured(student: str, options: Mapping[str, Any], file: Path | None = None) -> DistillConfig:
    """Return the configuration in ``file``, or the default one, with the ``options`` that are not None.

    Raises:
        UsageError: a value out of range, or the file is another student's.
        SchemaError: the file is no configuration, or a recipe's none.
    """
    start = read_config(file) if file is not None else DistillConfig(student=student)
    if start.student != student:
        raise UsageError(f"{file} is of a run that trains {start.student}, not {student}")
    fields = {field.name for field in dataclasses.fields(DistillConfig)}
    chosen = {name: value for name, value in options.items() if name in fields and value is not None}
    for name in ("freeze", "inherit"):
        if name in chosen:
            chosen[name] = tuple(part.strip() for part in chosen[name].split(",") if part.strip())
    if "schedule" in chosen:
        chosen["schedule"] = parse_schedule(chosen["schedule"])
    if "compress" in chosen:
        from edgesam_export.export.compression import compression_of  # needs torch, which help and refusals do not

        chosen["compress"] = compression_of(chosen["compress"])
    return dataclasses.replace(start, **chosen)


def read_config(path: str | Path) -> DistillConfig:
    """Return the configuration in a file that a run saved.

    Raises:
        SchemaError: the file is not such a configuration.
        UsageError: its values are out of range.
    """
    path = Path(path)
    document = read_json(path)
    try:
        document["schedule"] = tuple(Phase(**phase) for phase in document["schedule"])
        document["freeze"], document["inherit"] = tuple(document["freeze"]), tuple(document["inherit"])
        if isinstance(document.get("compress"), dict):
            from edgesam_export.export.compression import recipe_of

            document["compress"] = recipe_of(document["compress"], f"{path}: compress")
        return DistillConfig(**document)
    except (TypeError, KeyError, AttributeError) as error:
        reason = json.dumps(str(error))
        raise SchemaError(f"{path} is no configuration of a run ({reason}); take one that a run saved") from None
