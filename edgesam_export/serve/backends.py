"""The ways to answer that a page offers: exported files by format and numerics, and the model in PyTorch."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgesam_export.artifacts import embedding_specs, joined_contracts, list_files, open_artifact, pick_components
from edgesam_export.checkpoints.download import is_here
from edgesam_export.checkpoints.manifest import checkpoint_for
from edgesam_export.errors import UsageError
from edgesam_export.export.contract import info_of
from edgesam_export.files import files_of
from edgesam_export.parity.inputs import load_reference
from edgesam_export.runners import Runner, numerics_choices, runner_of
from edgesam_export.spec import COMPUTE_UNITS, NOT_A_POINT, Artifact, ModelInfo

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["Backend", "OpenRunners", "backend_of_model", "find_backends"]

LABELS = {
    ("coreml", "fp32"): "Core ML FP32",
    ("coreml", "fp16"): "Core ML FP16",
    ("coreml", "ane"): "Core ML, ANE estimate",
    ("coreai", "fp32"): "Core AI FP32",
    ("coreai", "fp16"): "Core AI FP16",
    ("coreai", "ane"): "Core AI, ANE estimate",
}
KEPT_OPEN = 2
"""Runners that stay whatever their size: those that are compared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Backend:
    """One way to answer; ``open`` is called when it is first asked for."""

    id: str
    """Its name in requests."""
    model: str
    label: str
    info: ModelInfo
    size_bytes: int
    """Size of its files, or of its parameters."""
    open: Callable[[], Runner]


def find_backends(paths: Sequence[Path], *, checkpoint: Path | None = None) -> list[Backend]:
    """Return every way to run the exported files, and the models that they were made from where weights are here.

    Weights are here when they are ``checkpoint``, come with the package, were downloaded before, or are random; nothing
    is downloaded.

    Raises:
        UsageError: files that are not exported ones, or not an encoder and a decoder; a checkpoint of other weights.
    """
    artifacts = [open_artifact(file) for file in list_files(paths)]
    groups: dict[tuple[str, str], list[Artifact]] = {}
    for artifact in artifacts:
        groups.setdefault((artifact.model, artifact.format), []).append(artifact)
    found = [backend for key in sorted(groups) for backend in backends_of_files(groups[key])]
    if checkpoint is not None:
        return [*found, backend_of_model(load_reference(artifacts, checkpoint=checkpoint), score_of(artifacts))]
    for model in sorted({artifact.model for artifact in artifacts}):
        own = [artifact for artifact in artifacts if artifact.model == model]
        if has_weights(own):
            found.append(backend_of_reference(own))
    return found


def backends_of_files(artifacts: list[Artifact]) -> Iterator[Backend]:
    """Yield the ways to run the files of one model and format."""
    picked = pick_components(artifacts)
    missing = {"encoder", "decoder"} - {artifact.component for artifact in picked}
    first = picked[0]
    if missing:
        raise UsageError(f"no {' and no '.join(sorted(missing))} beside '{first.path}'; give both, or their folder")
    choices: list[str | None] = [*numerics_choices(first.format)]
    if first.format == "coreml" and sys.platform == "darwin":
        choices += [f"native:{units}" for units in COMPUTE_UNITS]
    for numerics in choices or [None]:
        yield Backend(
            id="/".join(filter(None, (first.model, first.format, numerics))),
            model=first.model,
            label=label_of(first, numerics),
            info=info_of_files(picked),
            size_bytes=size_of(picked),
            open=partial(runner_of, picked, numerics=numerics),
        )


def label_of(artifact: Artifact, numerics: str | None) -> str:
    """Return what people read of a backend of files."""
    if numerics is None:
        return f"ONNX Runtime {artifact.contract['precision'].upper()}"
    return LABELS.get((artifact.format, numerics)) or f"Core ML on this Mac, {numerics.partition(':')[2]}"


def size_of(artifacts: Sequence[Artifact]) -> int:
    """Return the bytes of files with their weights."""
    return sum(member.stat().st_size for artifact in artifacts for member in files_of(artifact.path))


def info_of_files(artifacts: list[Artifact]) -> ModelInfo:
    """Return the facts of the model that files were made from."""
    maps = embedding_specs(joined_contracts(artifacts))
    return info_of(artifacts[0].contract, [spec["shape"] for spec in maps])


def backend_of_model(model: SamModel, score: str | None = None) -> Backend:
    """Return the backend that runs a loaded model in PyTorch; ``score`` is what its scores are, None: its default."""
    from edgesam_export.runners.torch import TorchRunner

    name = model.info.name
    size = sum(parameter.nbytes for parameter in model.parameters())
    runner = TorchRunner(model, score=score)
    return Backend(
        id=f"{name}/torch", model=name, label="PyTorch FP32", info=model.info, size_bytes=size, open=lambda: runner
    )


def backend_of_reference(artifacts: list[Artifact]) -> Backend:
    """Return the backend that runs the model behind exported files in PyTorch, loaded when it is first asked for."""

    def opened() -> Runner:
        return backend_of_model(load_reference(artifacts), score_of(artifacts)).open()

    same_format = [artifact for artifact in artifacts if artifact.format == artifacts[0].format]
    info, size = info_of_files(same_format), size_of(same_format)
    return Backend(
        id=f"{info.name}/torch", model=info.name, label="PyTorch FP32", info=info, size_bytes=size, open=opened
    )


def score_of(artifacts: Sequence[Artifact]) -> str | None:
    """Return what the scores of exported files are, None when they do not say."""
    scores = (artifact.contract.get("score") for artifact in artifacts if artifact.component == "decoder")
    return next(scores, None)


def has_weights(artifacts: Sequence[Artifact]) -> bool:
    """Return whether the weights behind exported files are on this machine, and of one set."""
    weights = artifacts[0].contract["weights"]
    if any(artifact.contract["weights"] != weights for artifact in artifacts):
        return False
    if weights["random_seed"] is not None:
        return True
    file = checkpoint_for(artifacts[0].model)
    return file is not None and file.sha256 == weights["sha256"] and is_here(file)


class OpenRunners:
    """The runners of backends that are in use; the least recently used is closed when their files are too large."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.kept: dict[str, tuple[Backend, Runner]] = {}
        self.lock = threading.Lock()

    def is_open(self, backend: Backend) -> bool:
        """Return whether a backend answers at once."""
        return backend.id in self.kept

    def runner(self, backend: Backend) -> Runner:
        """Return the runner of a backend, ready for its first prompt."""
        with self.lock:
            entry = self.kept.pop(backend.id, None)
        if entry is None:
            runner = backend.open()
            warm_up(runner)
            entry = backend, runner
        with self.lock:
            self.kept[backend.id] = entry
            while len(self.kept) > KEPT_OPEN and self.kept_bytes() > self.size_bytes:
                del self.kept[next(iter(self.kept))]
        return entry[1]

    def kept_bytes(self) -> int:
        """Return the size of the files behind the runners."""
        return sum(backend.size_bytes for backend, _ in self.kept.values())


def warm_up(runner: Runner) -> None:
    """Decode one prompt on an embedding of zeros: the executor prepares weights in the first call, not in a user's."""
    maps = dict(zip(runner.embedding_names, runner.info.embedding_shapes, strict=True))
    embedding = {name: np.zeros(shape, np.float32) for name, shape in maps.items()}
    runner.decode(embedding, np.zeros((1, 2, 2), np.float32), np.array([[1, NOT_A_POINT]], np.float32))
