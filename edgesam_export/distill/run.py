"""The library call behind ``distill``: student and teacher are loaded, then the run starts or goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.start import start_run
from edgesam_export.distill.training import TrainingResult, distill
from edgesam_export.spec import Progress, Recipe

__all__ = ["recover_recipe", "train_student"]

RECOVERY: dict[str, Any] = {"objects": 2, "rounds": 1, "learning_rate": 1e-4}
"""Options of a short recovery, as ``benchmarks/recovery.py`` measured it."""
WARMUP, WARMUP_SHARE = 20, 5
"""Steps in which its learning rate rises: so many, but of a run of few steps a fifth, or it would never come down."""


def train_student(
    config: DistillConfig,
    folder: Path,
    *,
    checkpoint: Path | None = None,
    teacher_checkpoint: Path | None = None,
    teacher_random_weights: int | None = None,
    resume: bool = False,
    resume_from: Path | None = None,
    cache: Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a student as ``config`` says; see ``start_run`` for where it starts and ``distill`` for what is written.

    Raises:
        UsageError: options that do not fit together, or a folder that holds another run.
        CheckpointError: a checkpoint cannot be read or is another model's.
    """
    student, teacher = start_run(
        config,
        checkpoint=checkpoint,
        teacher_checkpoint=teacher_checkpoint,
        teacher_random_weights=teacher_random_weights,
        progress=progress,
    )
    return distill(
        config,
        student,
        folder,
        teacher=teacher,
        resume=resume,
        checkpoint=resume_from,
        device=device,
        cache=cache,
        progress=progress,
    )


def recover_recipe(
    model: str,
    compress: str | Recipe,
    folder: Path,
    *,
    checkpoint: Path | None = None,
    data: str = "scenes:90",
    schedule: tuple[Phase, ...] = (Phase(size=512, batch=4, steps=150),),
    resume: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Win back what compression costs: train a model against the values that ``compress`` will store.

    The result's ``weights`` are a file of the folded model; an export of it with the same ``compress`` holds exactly
    what was trained last.

    Raises:
        UsageError: options that do not fit together, a recipe that does not fit, or a folder that holds another run.
        CheckpointError: the checkpoint cannot be read or is another model's.
    """
    warmup = min(WARMUP, sum(phase.steps for phase in schedule) // WARMUP_SHARE)
    config = DistillConfig(
        student=model, stage="recover", compress=compress, data=data, schedule=schedule, warmup=warmup, **RECOVERY
    )
    return train_student(config, folder, checkpoint=checkpoint, resume=resume, device=device, progress=progress)
