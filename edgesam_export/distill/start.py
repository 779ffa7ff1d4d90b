"""The start of a run: the student, fresh or from a file, and its teacher."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from edgesam_export.distill.config import DistillConfig
from edgesam_export.errors import UsageError
from edgesam_export.export.folding import folded_model
from edgesam_export.families import build_model, load_model, model_info
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ModelInfo, Progress

__all__ = ["refuse_several_maps", "start_run"]


def start_run(
    config: DistillConfig,
    *,
    checkpoint: str | Path | None = None,
    teacher_checkpoint: str | Path | None = None,
    teacher_random_weights: int | None = None,
    progress: Progress | None = None,
) -> tuple[SamModel, SamModel | None]:
    """Return the student and the teacher of a run.

    The student is ``checkpoint``, or new, its parameters drawn with the run's seed. Stage ``recover`` starts from the
    published weights without ``checkpoint``, folds the student, and its teacher is a copy that stays as it is.

    Raises:
        UsageError: no such model, options that do not fit together, parts that cannot be inherited.
        CheckpointError: a file that cannot be read or is another model's.
    """
    for name, value in (("checkpoint", teacher_checkpoint), ("random weights", teacher_random_weights)):
        if value is not None and config.teacher is None:
            raise UsageError(f"{name} for a teacher, but no teacher; name one with --teacher")
    refuse_several_maps(model_info(config.student))
    if config.stage == "recover":
        student = folded_model(load_model(config.student, checkpoint, progress=progress))
        return student, copy.deepcopy(student)
    student = new_student(config) if checkpoint is None else load_model(config.student, checkpoint, progress=progress)
    teacher = None
    if config.teacher is not None:
        teacher = load_model(
            config.teacher, teacher_checkpoint, random_weights=teacher_random_weights, progress=progress
        )
    for part in config.inherit:
        inherit(student, teacher, part)
    return student, teacher


def refuse_several_maps(student: ModelInfo) -> None:
    """Raise UsageError for a student of several maps: a step trains one that makes one."""
    if student.further_maps:
        raise UsageError(
            f"{student.name} makes {1 + len(student.further_maps)} maps of an image and training knows students of one;"
            " choose another student; as the teacher it can serve"
        )


def new_student(config: DistillConfig) -> SamModel:
    """Return the student with parameters drawn from PyTorch's global generator, which only this does."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        return build_model(config.student)


def inherit(student: SamModel, teacher: SamModel | None, part: str) -> None:
    """Copy a part of the teacher into the student.

    Raises:
        UsageError: there is no teacher, or its part has other parameters.
    """
    if teacher is None:
        raise UsageError(f"the student is to inherit {part}, but there is no teacher; name one with --teacher")
    source, target = getattr(teacher, part).state_dict(), getattr(student, part).state_dict()
    shapes = [{name: value.shape for name, value in state.items()} for state in (source, target)]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"{student.info.name} cannot inherit {part} of {teacher.info.name}: their parameters differ; leave it out"
        )
    getattr(student, part).load_state_dict(source)
