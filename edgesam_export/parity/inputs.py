"""Inputs of a parity check: images, prompts, and the runners of reference and candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from edgesam_export.errors import UsageError
from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.imaging.prompts import pack_prompt
from edgesam_export.imaging.reading import any_image
from edgesam_export.imaging.samples import sample_images, sample_prompts
from edgesam_export.parity.report import Prompt
from edgesam_export.runners import Runner, numerics_choices, open_artifact, open_runner
from edgesam_export.spec import PROMPT_KINDS, Artifact, ModelInfo, PaddingPoint, Progress

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = [
    "Prompts",
    "default_images",
    "default_prompts",
    "load_images",
    "load_reference",
    "open_candidates",
    "open_reference",
    "pack",
    "prompts_for",
    "trained_prompts",
]

MIN_IMAGES = 2
Prompts = Callable[[tuple[int, int]], Sequence[Prompt]] | Mapping[str, Sequence[Prompt]]
"""From an image's height and width to its prompts, or from its name."""


def default_prompts(size: tuple[int, int]) -> tuple[Prompt, ...]:
    """Return one prompt of each type for an image of this height and width, at fixed fractions of its sides."""
    return tuple(Prompt(**prompt._asdict()) for prompt in sample_prompts(size))


def trained_prompts(info: ModelInfo) -> Callable[[tuple[int, int]], tuple[Prompt, ...]]:
    """Return the function that gives the default prompts of the kinds that a model was trained on."""

    kinds = info.trained_prompts or PROMPT_KINDS

    def prompts(size: tuple[int, int]) -> tuple[Prompt, ...]:
        return tuple(prompt for prompt in default_prompts(size) if prompt.kind in kinds)

    return prompts


def prompts_for(name: str, image: np.ndarray, prompts: Prompts) -> Sequence[Prompt]:
    """Return the prompts of one image.

    Raises: UsageError when a user's own are missing, or lie outside the image.
    """
    height, width = image.shape[:2]
    if not isinstance(prompts, Mapping):
        return prompts((height, width))
    if not prompts.get(name):
        raise UsageError(
            f"no prompt for the image '{name}'; there are some for {', '.join(list(prompts)[:3]) or 'none'}"
        )
    for prompt in prompts[name]:
        for x, y in (*prompt.points, *((prompt.box[:2], prompt.box[2:]) if prompt.box else ())):
            if not (0 <= x <= width and 0 <= y <= height):
                raise UsageError(
                    f"prompt '{prompt.label}' of '{name}' has {x:g}, {y:g}; the image has {width} x {height} pixels"
                )
    return prompts[name]


def default_images(info: ModelInfo | None = None) -> tuple[tuple[str, np.ndarray], ...]:
    """Return two images of the kind that a model was trained on and one of noise, which no gate may be fitted to.

    Without ``info`` they are the bundled photographs. All have names.
    Shapes: uint8 (H, W, 3)
    """
    return (*sample_images(info), ("noise", np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)))


def open_reference(reference: Any) -> Runner:
    """Return a runner as it is; of a model, one whose scores are the predicted IoU; of files, their runner.

    Stability can be computed from the logits and the predicted IoU cannot, so it serves candidates of both kinds.
    """
    if isinstance(reference, Runner):
        return reference
    from edgesam_export.modeling.sam import SamModel

    if isinstance(reference, SamModel):
        from edgesam_export.runners.torch import TorchRunner

        return TorchRunner(reference, score="iou")
    return open_runner(reference)


def open_candidates(candidate: Any, numerics: tuple[str, ...]) -> list[Runner]:
    """Return runners as they are, and runners of exported files; of Core ML files, one for each kind of numerics.

    FP16 files of ONNX run as they are typed and, where ``numerics`` asks for ``fp32``, in exact arithmetic too.

    Raises:
        UsageError: no file and no runner, or a path that is no exported file.
        RunnerUnavailableError: this machine cannot execute a file.
    """
    from edgesam_export.artifacts import list_files

    sources = list(candidate) if isinstance(candidate, list | tuple) else [candidate]
    opened = [source for source in sources if isinstance(source, Runner)]
    groups: dict[str, list[Artifact]] = {}
    for source in sources:
        for file in [] if isinstance(source, Runner) else list_files(source):
            artifact = file if isinstance(file, Artifact) else open_artifact(file)
            groups.setdefault(artifact.format, []).append(artifact)
    for kind, files in sorted(groups.items()):
        opened += runners_under(files, arithmetic_of(kind, files, numerics))
    if not opened:
        raise UsageError("nothing to compare; give at least one exported file")
    return opened


def runners_under(files: list[Artifact], numerics: tuple[str | None, ...]) -> Iterator[Runner]:
    """Yield a runner of files for each kind of numerics; those of one class share what it read."""
    runners: list[Runner] = []
    for chosen in numerics:
        like = next((runner for runner in runners if chosen in runner.numerics_choices), None)
        runners.append(open_runner(files, numerics=chosen) if like is None else like.under(str(chosen)))
        yield runners[-1]


def arithmetic_of(format: str, files: Sequence[Artifact], numerics: tuple[str, ...]) -> tuple[str | None, ...]:
    """Return the numerics that files of a format are opened with: those asked for where they can be chosen.

    Other files run as they are typed, and those in FP16 in exact arithmetic as well if that is asked for.
    """
    if numerics_choices(format):
        return numerics
    half = all(file.contract["precision"] == "fp16" for file in files)
    return ("widened", None) if half and "fp32" in numerics else (None,)


def pack(
    prepared: PreparedImage, prompt: Prompt, slots: int | None, padding_point: PaddingPoint
) -> tuple[np.ndarray, np.ndarray]:
    """Return the decoder inputs of a prompt. Shapes: point_coords (1, S, 2), point_labels (1, S)"""
    points = prompt.points or None
    labels = prompt.labels if points else None
    return pack_prompt(
        prepared,
        points=points,
        labels=labels,
        box=prompt.box,
        slots=slots,
        has_mask=prompt.kind == "mask",
        padding_point=padding_point,
    )


def load_images(images: Iterable[Any]) -> dict[str, np.ndarray]:
    """Return images by name. Shapes: uint8 (H, W, 3)

    Raises: UsageError when there are fewer than two, or a file cannot be read.
    """
    if is_one_image(images):
        raise UsageError(f"images is one image, not a list of them; every prompt type needs at least {MIN_IMAGES}")
    loaded: dict[str, np.ndarray] = {}
    for index, item in enumerate(images):
        name, image = item if isinstance(item, tuple) else (None, item)
        name = name or (Path(image).name if isinstance(image, str | Path) else f"image {index}")
        loaded[name if name not in loaded else f"{name} ({index})"] = any_image(image, name)
    if len(loaded) < MIN_IMAGES:
        raise UsageError(f"{len(loaded)} images to compare on; every prompt type needs at least {MIN_IMAGES}")
    return loaded


def is_one_image(images: Any) -> bool:
    """Return whether an image was passed for a list of them: its letters or rows would be taken for images."""
    if isinstance(images, np.ndarray):
        return images.ndim < 3 or (images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    return isinstance(images, str | bytes | Path | Image.Image)


def load_reference(
    artifacts: Iterable[Any],
    *,
    checkpoint: Path | None = None,
    random_weights: int | None = None,
    upsample: str | None = None,
    progress: Progress | None = None,
) -> SamModel:
    """Return the PyTorch model that exported files were made from, as their contracts describe it.

    Random weights and the upsampling of the neck are taken from the contract; the checkpoint is ``checkpoint``
    or the published one, and must be the very file that was exported.

    Raises:
        UsageError: files of several models, or a checkpoint other than the exported one.
        CheckpointError: the checkpoint cannot be read or obtained.
    """
    from edgesam_export.artifacts import list_files
    from edgesam_export.families import load_model

    files = [open_artifact(file) for file in list_files(artifacts)]
    models = sorted({file.model for file in files})
    if len(models) != 1:
        raise UsageError(f"files of several models ({', '.join(models)}); compare one model at a time")
    weights = files[0].contract["weights"]
    if any(file.contract["weights"] != weights for file in files):
        raise UsageError("the files were exported from different weights; compare one checkpoint at a time")
    seed = weights["random_seed"] if random_weights is None and checkpoint is None else random_weights
    model = load_model(
        models[0],
        checkpoint,
        random_weights=seed,
        upsample=upsample or files[0].contract["upsample"],
        progress=progress,
    )
    require_weights(model, weights)
    return model


def require_weights(model: SamModel, expected: Mapping[str, Any]) -> None:
    """Raise UsageError unless a model's parameters are those that a contract names."""
    loaded = model.provenance
    if loaded is None or identity(asdict(loaded)) != identity(expected):
        actual = "of unknown origin" if loaded is None else weights_text(asdict(loaded))
        raise UsageError(
            f"reference is {actual}, the files were exported from {weights_text(expected)}; give that with --checkpoint"
        )


def identity(weights: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells weights apart: the file, the set of weights in it that was asked for, or the seed."""
    return weights["sha256"], str(weights["source"]).partition("#")[2], weights["random_seed"]


def weights_text(weights: Mapping[str, Any]) -> str:
    """Return the origin of weights in a few words."""
    if weights["random_seed"] is not None:
        return f"random weights (seed {weights['random_seed']})"
    return f"{weights['source']} (sha256 {(weights['sha256'] or 'unknown')[:12]})"
