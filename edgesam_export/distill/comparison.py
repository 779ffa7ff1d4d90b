"""Several subjects evaluated on the same prompts of the same data, and the gates that they have to reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgesam_export.distill.evaluation import PROMPTS, check_runner, evaluate, parse_prompts
from edgesam_export.distill.processes import Processes
from edgesam_export.distill.results import EvalReport
from edgesam_export.distill.samples import Data, Reading
from edgesam_export.distill.sharing import Journal, Share, everyones
from edgesam_export.distill.subjects import Subject
from edgesam_export.errors import UsageError
from edgesam_export.spec import Progress

__all__ = ["Comparison", "Evaluation", "MiouGate", "compare_subjects", "identity_of"]


@dataclass(frozen=True, kw_only=True)
class MiouGate:
    """The least mean IoU, 0 to 1, that every subject must reach with a prompt."""

    prompt: str
    least: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Data, prompts and gates of an evaluation; see ``evaluate`` for the other options.

    Raises:
        UsageError: a prompt that is none, or a gate on one that is not evaluated.
    """

    data: Data
    prompts: tuple[str, ...] = PROMPTS
    gates: tuple[MiouGate, ...] = ()
    limit: int | None = None
    objects: int | None = None
    mask_prompt: bool = False
    reading: Reading = field(default_factory=Reading)
    """How the data's files are read; unless it is strict, an image that cannot be read is passed over."""

    def __post_init__(self) -> None:
        parse_prompts(self.prompts)
        for gate in self.gates:
            if gate.prompt not in self.prompts:
                known = ",".join(self.prompts)
                raise UsageError(f"--min-miou {gate.prompt}: not among the prompts {known}; add it to --prompts")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The reports of all subjects by label, and the verdict of the gates."""

    reports: dict[str, EvalReport]
    gates: tuple[MiouGate, ...]

    @property
    def failures(self) -> list[str]:
        """A line for each report and gate that it does not reach."""
        return [
            f"{label}: {gate.prompt} has mIoU {shown(miou)}, at least {gate.least:g} is asked for"
            for label, report in self.reports.items()
            for gate in self.gates
            if (miou := report.summary(gate.prompt).miou) is None or miou < gate.least
        ]

    def document(self, *, objects: bool = False) -> dict[str, Any]:
        """Return all reports and the verdict as JSON data, with every object if asked."""
        return {
            "kind": "evaluation",
            "schema_version": 1,
            "subjects": {label: report.document(objects=objects) for label, report in self.reports.items()},
            "gates": [{"prompt": gate.prompt, "min_miou": gate.least} for gate in self.gates],
            "failures": self.failures,
            "passed": not self.failures,
        }


def compare_subjects(
    subjects: Sequence[Subject],
    evaluation: Evaluation,
    *,
    where: Processes | None = None,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Evaluate every subject; see ``evaluate``. Each process of ``where`` does a part, and returns the whole.

    Raises:
        UsageError: a prompt that a subject cannot take, before anything runs; no objects in the data; an evaluation in
            the journal that is another one, or is not to be resumed.
    """
    kinds = parse_prompts(evaluation.prompts)
    for subject in subjects:
        check_runner(subject.runner, kinds, evaluation.mask_prompt)
    finished = [row for rows in everyones(where, journal.read() if journal is not None else []) for row in rows]
    reports = {}
    for subject in subjects:
        done = (result for label, result in finished if label == subject.label)
        reports[subject.label] = evaluate(
            subject.runner,
            evaluation.data,
            prompts=evaluation.prompts,
            limit=evaluation.limit,
            objects=evaluation.objects,
            mask_prompt=evaluation.mask_prompt,
            strict=evaluation.reading.strict,
            share=Share(where, label=subject.label, journal=journal, finished=done),
            progress=labelled_progress(subject.label, progress),
        )
    if where is None or where.first:
        next(iter(reports.values())).skipped.warn(evaluation.reading.frame)
    return Comparison(reports=reports, gates=evaluation.gates)


def identity_of(subjects: Sequence[Subject], evaluation: Evaluation) -> dict[str, Any]:
    """Return what an evaluation is of: two of the same have the same results."""
    return {
        "data": evaluation.data.name,
        "images": len(evaluation.data),
        "prompts": list(evaluation.prompts),
        "limit": evaluation.limit,
        "objects": evaluation.objects,
        "mask_prompt": evaluation.mask_prompt,
        "annotations_frame": evaluation.reading.frame,
        "subjects": {subject.label: subject.digests for subject in subjects},
    }


def labelled_progress(label: str, progress: Progress | None) -> Progress | None:
    """Return a progress callback that says whose steps they are."""
    if progress is None:
        return None
    return lambda done, total, text: progress(done, total, f"{label}: {text}")


def shown(miou: float | None) -> str:
    """Return a mean IoU as text; there is none without objects."""
    return "none" if miou is None else f"{miou:.4f}"
