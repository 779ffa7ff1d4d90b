"""A training run: from a configuration to weights, and on from where it stopped.

More than one process: start it with ``torchrun``; DistributedDataParallel does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgesam_export.distill.cache import EmbeddingCache
from edgesam_export.distill.compression import attach, detach
from edgesam_export.distill.config import DistillConfig
from edgesam_export.distill.dataset import Batch
from edgesam_export.distill.loop import EmbeddingStep, PromptStep
from edgesam_export.distill.processes import Processes, amp_advice
from edgesam_export.distill.runs import RunFolder
from edgesam_export.distill.start import refuse_several_maps
from edgesam_export.distill.teacher import Seen, Teacher
from edgesam_export.distill.trainer import Trainer
from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Progress

__all__ = ["Processes", "TrainingResult", "amp_advice", "distill"]


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """The files and history of a finished run."""

    folder: Path
    weights: Path
    steps: int
    history: list[dict[str, float]]


def distill(
    config: DistillConfig,
    student: SamModel,
    folder: str | Path,
    *,
    teacher: SamModel | None = None,
    resume: bool = False,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train ``student`` as ``config`` says; leave weights, configuration, history, curves and samples in ``folder``.

    ``resume`` goes on from the folder's newest checkpoint, or from ``checkpoint``: the result is that of a run which
    was never stopped, bit for bit on one kind of machine with the same number of threads and processes. ``cache`` is a
    folder for the teacher's embeddings. The student is changed in place.

    Raises:
        UsageError: options that do not fit together, or a folder that holds another run.
    """
    where = Processes.find(device)
    check_device(config, where, cache)
    run = RunFolder(Path(folder), config, write=where.first)
    run.open(resume=resume or checkpoint is not None)
    set_up_models(student, teacher, config, where)
    step, target = make_step(student, teacher, config), known_embeddings(teacher, config, cache)
    trainer = Trainer(config, student, step, where, target=target, side=canvas_side(teacher, config))
    state = run.load(checkpoint, where.device) if resume or checkpoint is not None else None
    if state is not None:
        trainer.restore(state)

    def save() -> None:
        if where.first:
            run.save(trainer.done, trainer.state())
            run.show(trainer.result, trainer.history, trainer.done)

    trainer.run(save, progress or (lambda *_: None))
    weights = run.finish(plain_student(student, config), trainer.history)
    return TrainingResult(folder=run.folder, weights=weights, steps=trainer.done, history=trainer.history)


def set_up_models(student: SamModel, teacher: SamModel | None, config: DistillConfig, where: Processes) -> None:
    """Move the models to the device; let compressed weights stand in, and freeze what is not trained."""
    refuse_several_maps(student.info)
    student.to(where.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # absent in its types
    if teacher is not None:
        teacher.to(where.device).eval().requires_grad_(False)
    if config.compress is not None:
        attach(student, config.compress, train_palettes=True)
    prepare(student, config)


def plain_student(student: SamModel, config: DistillConfig) -> SamModel:
    """Return the trained student as it is used: nothing stands in for its weights, nothing is trained."""
    if config.compress is not None:
        detach(student)
    return student.eval().requires_grad_(False)


def check_device(config: DistillConfig, where: Processes, cache: str | Path | None) -> None:
    """Raise UsageError for options that this device, several processes or a cache of embeddings rule out."""
    if config.amp == "fp16" and where.device.type != "cuda":
        raise UsageError(f"amp is fp16, which {where.device.type} cannot train with; choose bf16 or off")
    if config.seconds and where.world > 1:
        raise UsageError("a time budget is of one process: several would not end at the same step; give steps")
    if config.pool and cache is not None:
        raise UsageError("a pool shows every scene otherwise each time, so that no embedding can be kept; one of them")


def canvas_side(teacher: SamModel | None, config: DistillConfig) -> int | None:
    """Return the size at which images are prepared when a teacher sees more than the student, else None."""
    if teacher is None:
        return None
    largest = max(phase.size for phase in config.schedule)
    return max(teacher.info.frame.size, largest)


def known_embeddings(
    teacher: SamModel | None, config: DistillConfig, cache: str | Path | None
) -> Callable[[Batch, Tensor], Seen | None]:
    """Return a function from a batch to the teacher's embeddings, computed or cached; None without a teacher.

    Where embeddings are matched the teacher sees the student's squares, otherwise images as it was trained to.
    """
    if teacher is None:
        return lambda batch, images: None
    asked, masks = Teacher(teacher), config.stage != "encoder"
    if cache is None:
        return lambda batch, images: asked.see(images, batch.sizes if masks else None)
    kept: dict[int, EmbeddingCache] = {}

    def cached(batch: Batch, images: Tensor) -> Seen:
        side = int(images.shape[-1])
        if side not in kept:
            kept[side] = EmbeddingCache(Path(cache), asked, config.data, side, masks=masks)
        return kept[side].see(images, batch.indexes, batch.sizes)

    return cached


def prepare(student: SamModel, config: DistillConfig) -> None:
    """Put the student in training mode; frozen parts keep parameters and the statistics of their norms."""
    student.train().requires_grad_(True)
    parts = ("prompt_encoder", "mask_decoder") if config.stage == "encoder" else ()
    for name in {*config.freeze, *parts}:
        getattr(student, name).eval().requires_grad_(False)
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise UsageError(f"freeze names {', '.join(config.freeze)}: nothing is left to train")


def make_step(student: SamModel, teacher: SamModel | None, config: DistillConfig) -> nn.Module:
    """Return the step of the configured stage.

    Raises:
        UsageError: a teacher is named and missing.
    """
    if config.stage == "encoder":
        if teacher is None:
            raise UsageError("stage 'encoder' needs a teacher; pass one")
        return EmbeddingStep(student, config)
    return PromptStep(student, teacher, config)
