"""The library call behind ``distill``: student and teacher are loaded, then the run starts or goes on."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.distill.config import DistillConfig
from edgesam_export.distill.start import start_run
from edgesam_export.distill.training import TrainingResult, distill
from edgesam_export.spec import Progress

__all__ = ["train_student"]


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
