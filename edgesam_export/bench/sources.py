"""Subject of a benchmark: exported files and the PyTorch model behind them, or a model that is exported first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgesam_export.errors import CheckpointError, UsageError
from edgesam_export.spec import Progress

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["SourceConfig", "Subject", "export_model", "open_subject"]

Stage = Callable[[str], AbstractContextManager[Progress]]
"""Opens the progress of a step by its title."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How the subject is obtained."""

    formats: tuple[str, ...] = ("coreml",)
    """Formats that a model is exported to."""
    points: tuple[int, ...] = (1,)
    """Numbers of prompt points that the files must take."""
    output: Path | None = None
    """Folder that a model is exported to; None: a temporary one."""
    compare: bool = True
    """Load the model behind exported files, for parity."""
    checkpoint: Path | None = None
    """The model's own file; None: the published one."""
    random_weights: int | None = None
    upsample: str | None = None


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    files: tuple[Path, ...]
    model: SamModel | None
    """The PyTorch model behind the files; None where outputs are not compared."""


@contextmanager
def open_subject(
    sources: Sequence[str],
    config: SourceConfig,
    *,
    load: Callable[[str], SamModel],
    ready: Callable[[], None],
    stage: Stage,
    notify: Callable[[str], None],
) -> Iterator[Subject]:
    """Yield the subject of exported files, or of a model's name: that one is exported, to be kept in ``output`` only.

    ``load`` returns a model by its name. ``ready`` raises where the device cannot be measured: it is called before the
    minutes of an export. ``notify`` gets a line when files cannot be compared with their model.

    Raises:
        UsageError: sources that are neither files nor one model's name.
        CheckpointError: the checkpoint of the model, or the one given for the files, cannot be read.
    """
    name = model_name(sources)
    if name is None:
        paths = tuple(Path(source) for source in sources)
        yield Subject(paths, load_behind(paths, config, stage, notify) if config.compare else None)
        return
    ready()
    with tempfile.TemporaryDirectory(prefix="edgesam-bench-") as temporary:
        model = load(name)
        yield Subject(export_model(model, config.output or Path(temporary), config, stage), model)


def model_name(sources: Sequence[str]) -> str | None:
    """Return the model that the sources name; None when they are files.

    Raises:
        UsageError: a source is neither.
    """
    from edgesam_export.families import model_names

    missing = [source for source in sources if not Path(source).exists()]
    if not missing:
        return None
    if len(sources) > 1 or missing[0] not in model_names():
        known = ", ".join(model_names())
        raise UsageError(f"'{missing[0]}' is neither a file nor a model; models are: {known}")
    return missing[0]


def export_model(model: SamModel, folder: Path, config: SourceConfig, stage: Stage) -> tuple[Path, ...]:
    """Return the files of a model in every format of the configuration, with slots for its points."""
    from edgesam_export.formats import find_format

    needed = max(config.points) + 1  # one for the padding point
    files: list[Path] = []
    for format in map(find_format, config.formats):
        options = format.config()
        if options.points is not None:
            options = replace(options, points=max(options.points, needed))
        with stage(f"exporting to {format.name}") as progress:
            files += [artifact.path for artifact in format.export(model, folder, options, progress=progress)]
    return tuple(files)


def load_behind(
    paths: Sequence[Path], config: SourceConfig, stage: Stage, notify: Callable[[str], None]
) -> SamModel | None:
    """Return the PyTorch model that files were exported from; None, with a notice, when its checkpoint is missing.

    Raises:
        CheckpointError: a checkpoint was given and cannot be read.
    """
    from edgesam_export.parity.inputs import load_reference

    try:
        with stage("loading the reference") as progress:
            model: SamModel = load_reference(
                paths,
                checkpoint=config.checkpoint,
                random_weights=config.random_weights,
                upsample=config.upsample,
                progress=progress,
            )
            return model
    except CheckpointError as error:
        if config.checkpoint is not None:
            raise
        notify(f"not compared with PyTorch: {error}; give --checkpoint")
        return None
