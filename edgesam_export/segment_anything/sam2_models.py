"""``build_sam2`` and its kin: a model of SAM 2, SAM 2.1 or EdgeTAM by the name of its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NoReturn

import torch

from edgesam_export.errors import UsageError
from edgesam_export.families import model_names
from edgesam_export.runners import Runner
from edgesam_export.segment_anything.model_registry import is_exported, runner_for
from edgesam_export.segment_anything.predictor import Sam, as_runner, usable

__all__ = [
    "SAM2Base",
    "as_sam2",
    "build_sam2",
    "build_sam2_hf",
    "build_sam2_video_predictor",
    "build_sam2_video_predictor_hf",
]

SIZES = {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}
CONFIGS = {
    **{
        f"{release}_hiera_{key}": f"{release}_hiera_{size}"
        for release in ("sam2", "sam2.1")
        for key, size in SIZES.items()
    },
    "edgetam": "edgetam",
}
"""Model by the name of its published configuration, without folders and ``.yaml``."""
REPOSITORIES = {f"facebook/{name.replace('_', '-')}": name for name in CONFIGS.values() if name != "edgetam"} | {
    "facebook/EdgeTAM": "edgetam"
}
"""Model by the name of its repository on Hugging Face."""


class SAM2Base(Sam):
    """A model or exported files, with what image programs use of sam2's class of this name."""

    known = "SAM2ImagePredictor and SAM2AutomaticMaskGenerator; training and video stay with the sam2 package"

    def __init__(self, runner: Runner, *, by_stability: bool = True) -> None:
        super().__init__(runner)
        self.image_size = runner.info.frame.prompt_size
        self.by_stability = by_stability
        """A single mask that is not stable is replaced: what sam2 calls ``apply_postprocessing``."""


def as_sam2(model: Any) -> SAM2Base:
    """Return a ``SAM2Base`` for one, or for whatever ``SamPredictor`` takes."""
    return model if isinstance(model, SAM2Base) else SAM2Base(as_runner(model))


def build_sam2(
    config_file: str,
    ckpt_path: Any = None,
    device: Any = None,
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    **kwargs: Any,
) -> SAM2Base:
    """Return a model with the weights of a checkpoint, without one the published ones; or exported files of it.

    ``config_file`` is a published configuration's name, with or without folders, or one of ``edgesam-export models``.
    ``ckpt_path`` is a file of weights, an exported file, a list of those, or their folder. Without ``device`` a model
    is on a GPU of NVIDIA where there is one. As in sam2, further keywords have no effect.

    Raises:
        UsageError: another configuration, overrides, a device for exported files, or training.
        CheckpointError: the checkpoint cannot be read, is another model's, or cannot be downloaded.
        RunnerUnavailableError: this machine has no such device.
    """
    name = model_of(str(config_file))
    if mode != "eval":
        raise UsageError(f"mode is '{mode}'; choose eval, training stays with the sam2 package")
    if len(hydra_overrides_extra):
        raise UsageError(f"hydra_overrides_extra holds '{hydra_overrides_extra[0]}'; a configuration is used as it is")
    exported = ckpt_path is not None and is_exported(ckpt_path)
    if exported and str(device or "cpu") != "cpu":
        raise UsageError(f"{ckpt_path}: exported files run on the CPU, not on {device}; leave device out")
    if device is None:
        device = "cuda" if torch.cuda.is_available() and not exported else "cpu"
    device = usable(device)  # before weights are fetched
    sam = SAM2Base(runner_for(name, ckpt_path), by_stability=apply_postprocessing)
    sam.to(device)
    return sam


def model_of(config: str) -> str:
    """Return the model of a configuration by its name.

    Raises: UsageError for another one.
    """
    stem = PurePosixPath(config.replace("\\", "/")).name.removesuffix(".yaml")
    name = CONFIGS.get(stem, stem)
    if name not in model_names():
        raise UsageError(f"configuration '{config}' is not known; choose one of: {', '.join(CONFIGS)}")
    return name


def build_sam2_hf(model_id: str, **kwargs: Any) -> SAM2Base:
    """Return a model by its repository on Hugging Face with the published weights; keywords as of ``build_sam2``.

    Raises: UsageError for another repository; else as ``build_sam2``.
    """
    if model_id not in REPOSITORIES:
        raise UsageError(f"repository '{model_id}' is not known; choose one of: {', '.join(REPOSITORIES)}")
    return build_sam2(REPOSITORIES[model_id], **kwargs)


def build_sam2_video_predictor(*args: Any, **kwargs: Any) -> NoReturn:
    """Raise UsageError: the models here are for single images."""
    raise UsageError(
        "video needs the sam2 package: models here are for single images; use build_sam2 and SAM2ImagePredictor"
    )


build_sam2_video_predictor_hf = build_sam2_video_predictor
