"""``sam_model_registry``: a function for each model that returns it with weights, or runs exported files of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from edgesam_export.artifacts import format_of
from edgesam_export.errors import UsageError
from edgesam_export.families import load_model, model_info, model_names
from edgesam_export.runners import Runner, open_runner
from edgesam_export.segment_anything.predictor import Sam

__all__ = [
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "is_exported",
    "runner_for",
    "sam_model_registry",
]

NAMES = {
    "default": "sam_vit_h",
    "vit_h": "sam_vit_h",
    "vit_l": "sam_vit_l",
    "vit_b": "sam_vit_b",
    "vit_t": "mobile_sam",
}
"""Names that segment-anything and MobileSAM have for models; ours are known too."""


class Builders(dict[str, Callable[..., Sam]]):
    """Functions that return a model, by its name; an unknown name is a UsageError that says which is meant."""

    def __missing__(self, name: str) -> Callable[..., Sam]:
        model_info(str(name))
        raise KeyError(name)


def build(name: str, checkpoint: Any = None) -> Sam:
    """Return a model with the weights of a checkpoint, without one the published ones; or exported files of it.

    ``checkpoint`` is a file of weights, an exported file, a list of those, or their folder.

    Raises:
        UsageError: the files are of another model.
        CheckpointError: the checkpoint cannot be read, is another model's, or cannot be downloaded.
    """
    return Sam(runner_for(name, checkpoint))


def runner_for(name: str, checkpoint: Any) -> Runner:
    """Return a runner of a model by name, see ``build``."""
    if checkpoint is None or not is_exported(checkpoint):
        return open_runner(load_model(name, checkpoint))
    if not isinstance(checkpoint, str | PathLike | Iterable) or hasattr(checkpoint, "read"):
        raise UsageError(
            f"checkpoint is {type(checkpoint).__name__}; give a path: weights, exported files, their folder"
        )
    runner = open_runner(checkpoint)
    if runner.info.name != name:
        found = runner.info.name
        raise UsageError(f"{checkpoint}: exported files of {found}, not {name}; ask for '{found}'")
    return runner


def is_exported(checkpoint: Any) -> bool:
    """Return whether files hold an exported model rather than weights alone."""
    if not isinstance(checkpoint, str | Path):
        return True
    path = Path(checkpoint)
    return format_of(path) is not None or path.is_dir()


sam_model_registry = Builders(
    {key: partial(build, name) for key, name in {**{name: name for name in model_names()}, **NAMES}.items()}
)
build_sam = build_sam_vit_h = sam_model_registry["vit_h"]
build_sam_vit_l = sam_model_registry["vit_l"]
build_sam_vit_b = sam_model_registry["vit_b"]
