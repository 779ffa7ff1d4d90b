"""The subjects of ``eval``: models by name and exported files, each with a runner and a label of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgesam_export.artifacts import list_files
from edgesam_export.errors import UsageError
from edgesam_export.families import load_model, meant_model, model_names
from edgesam_export.runners import Runner, numerics_choices, open_artifact, open_runner
from edgesam_export.spec import Artifact, Progress, Provenance

__all__ = ["Subject", "open_subjects"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A runner under evaluation."""

    label: str
    """Model and runner, with the folder of the files where two names are equal."""
    runner: Runner
    provenance: Provenance | None = None
    """Of the weights of a model in PyTorch; files name theirs in their contracts."""

    @property
    def digests(self) -> list[str]:
        """SHA-256 of the files; of a model in PyTorch, origin, SHA-256 and seed of its weights."""
        if self.provenance is None:
            return [artifact.sha256 for artifact in self.runner.artifacts]
        return [self.provenance.source, str(self.provenance.sha256), str(self.provenance.random_seed)]


def open_subjects(
    sources: Sequence[str],
    *,
    numerics: Sequence[str] = ("fp16",),
    checkpoint: Path | None = None,
    random_weights: int | None = None,
    upsample: str | None = None,
    progress: Progress | None = None,
) -> list[Subject]:
    """Return the models named in ``sources`` in PyTorch, then their exported files, Core ML once for each numerics.

    ``checkpoint``, ``random_weights`` and ``upsample`` are for the model when there is one, see ``load_model``.

    Raises:
        UsageError: a source that is neither, files that do not fit together, or weights for other than one model.
        CheckpointError: a checkpoint cannot be read or obtained.
        RunnerUnavailableError: this machine cannot execute the files.
    """
    names = list(dict.fromkeys(source for source in sources if not Path(source).exists()))
    for name in names:
        if name not in model_names():
            known = ", ".join(model_names())
            meaning = meant_model(name)
            models = f"{meaning}; models are: {known}" if meaning else f"models are: {known}"
            raise UsageError(f"'{name}' is neither a file nor a model; {models}")
    weights = {"checkpoint": checkpoint, "random_weights": random_weights, "upsample": upsample}
    options = [option for option, value in weights.items() if value is not None]
    if options and len(names) != 1:
        flag = f"--{options[0].replace('_', '-')}"
        raise UsageError(f"{flag} belongs to one model by name, given: {', '.join(names) or 'none'}")
    # Files are opened first: that is quick, and says what is wrong with them before a checkpoint is fetched.
    files = list(file_runners([Path(source) for source in sources if source not in names], numerics))
    runners: list[tuple[str, Runner, Provenance | None]] = []
    for name in names:
        model = load_model(name, checkpoint, random_weights=random_weights, upsample=upsample, progress=progress)
        runners.append(("", open_runner(model), model.provenance))
    return labelled([*runners, *files])


def file_runners(paths: Sequence[Path], numerics: Sequence[str]) -> Iterator[tuple[str, Runner, None]]:
    """Yield the folder and the runner of exported files, for each folder, format, model and kind of numerics."""
    groups: dict[tuple[str, str, str], list[Artifact]] = {}
    for path in paths:
        for file in list_files(path):
            artifact = open_artifact(file)
            groups.setdefault((str(file.parent), artifact.format, artifact.model), []).append(artifact)
    for (folder, format, _), artifacts in groups.items():
        for kind in dict.fromkeys(numerics) if numerics_choices(format) else (None,):
            yield folder, open_runner(artifacts, numerics=kind), None


def labelled(runners: Sequence[tuple[str, Runner, Provenance | None]]) -> list[Subject]:
    """Return subjects with labels that differ."""
    subjects: dict[str, Subject] = {}
    for folder, runner, provenance in runners:
        label = f"{runner.info.name} {runner.name}"
        if label in subjects:
            label = f"{label}, {folder}"
        subjects[label] = Subject(label=label, runner=runner, provenance=provenance)
    return list(subjects.values())
