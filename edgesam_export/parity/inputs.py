"""What a parity check is given: pictures, prompts, and the runners of the files to judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgesam_export.errors import UsageError
from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.imaging.prompts import pack_prompt
from edgesam_export.imaging.reading import open_picture, rgb_array
from edgesam_export.parity.report import Prompt
from edgesam_export.spec import Artifact

__all__ = [
    "default_images",
    "default_prompts",
    "load_pictures",
    "load_reference",
    "open_candidates",
    "open_runner",
    "pack",
]

MIN_IMAGES = 2


def default_prompts(size: tuple[int, int]) -> tuple[Prompt, ...]:
    """One prompt of each type for a picture of this height and width, at fixed fractions of its sides."""
    height, width = size

    def at(x: float, y: float) -> tuple[float, float]:
        return math.floor(x * width), math.floor(y * height)

    point, box = (at(0.5, 0.5),), (*at(0.2, 0.15), *(math.ceil(0.8 * side) for side in (width, height)))
    return (
        Prompt(kind="point", points=point, labels=(1,)),
        Prompt(kind="points", points=(at(0.5, 0.45), at(0.4, 0.6), at(0.05, 0.05)), labels=(1, 1, 0)),
        Prompt(kind="box", box=box),
        Prompt(kind="box+point", points=(at(0.45, 0.5),), labels=(1,), box=box),
        Prompt(kind="mask", points=point, labels=(1,)),
    )


def default_images() -> tuple[tuple[str, np.ndarray], ...]:
    """The bundled photographs and one picture of noise, which no gate may be fitted to.

    Shapes: uint8 (H, W, 3)
    """
    folder = Path(__file__).parents[1] / "samples"
    photographs = tuple((path.name, open_picture(path)) for path in sorted(folder.glob("*.jpg")))
    return (*photographs, ("noise", np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)))


def open_runner(source: Any, numerics: str | None = None) -> Any:
    """A runner as it is; anything else through ``runners.open_runner``."""
    if is_runner(source):
        return source
    from edgesam_export import runners

    return runners.open_runner(source) if numerics is None else runners.open_runner(source, numerics=numerics)


def is_runner(source: Any) -> bool:
    """True for a runner."""
    from edgesam_export.runners import Runner

    return isinstance(source, Runner)


def open_candidates(candidate: Any, numerics: tuple[str, ...]) -> list[Any]:
    """Runners of everything to judge; Core ML files once for each kind of numerics."""
    from edgesam_export.artifacts import list_files
    from edgesam_export.runners import numerics_choices, open_artifact

    sources = list(candidate) if isinstance(candidate, list | tuple) else [candidate]
    runners = [source for source in sources if is_runner(source)]
    groups: dict[str, list[Artifact]] = {}
    for source in sources:
        for file in [] if is_runner(source) else list_files(source):
            artifact = file if isinstance(file, Artifact) else open_artifact(file)
            groups.setdefault(artifact.format, []).append(artifact)
    for kind, files in sorted(groups.items()):
        for chosen in numerics if numerics_choices(kind) else (None,):
            runners.append(open_runner(files, chosen))
    if not runners:
        raise UsageError("nothing to compare; give at least one exported file")
    return runners


def pack(
    prepared: PreparedImage, prompt: Prompt, slots: int | None, padding_point: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Decoder inputs of a prompt."""
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


def load_pictures(images: Iterable[Any]) -> dict[str, np.ndarray]:
    """Pictures by name, at least two."""
    pictures: dict[str, np.ndarray] = {}
    for index, item in enumerate(images):
        name, image = item if isinstance(item, tuple) else (None, item)
        if isinstance(image, str | Path):
            name, image = name or Path(image).name, open_picture(image)
        elif isinstance(image, Image.Image):
            image = rgb_array(image)
        name = name or f"image {index}"
        pictures[name if name not in pictures else f"{name} ({index})"] = image
    if len(pictures) < MIN_IMAGES:
        raise UsageError(f"{len(pictures)} pictures to compare on; every prompt type needs at least {MIN_IMAGES}")
    return pictures


def load_reference(
    artifacts: Iterable[Any],
    *,
    checkpoint: Path | None = None,
    random_weights: int | None = None,
    upsample: str | None = None,
    progress: Callable[..., None] | None = None,
) -> Any:
    """The PyTorch model that exported files were made from, as their contracts tell.

    Random weights and the upsampling of the neck are taken from the contract; a checkpoint is the given file or the
    published one, and must be the very file that was exported.

    Raises:
        UsageError: files of several models, or a checkpoint other than the exported one.
        CheckpointError: the checkpoint cannot be read or obtained.
    """
    from edgesam_export.artifacts import list_files
    from edgesam_export.families import load_model
    from edgesam_export.runners import open_artifact

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
    found = model.provenance
    if (found.sha256, found.random_seed) != (weights["sha256"], weights["random_seed"]):
        given = weights_text(found.source, found.sha256, found.random_seed)
        wanted = weights_text(weights["source"], weights["sha256"], weights["random_seed"])
        raise UsageError(f"reference is {given}, the files were exported from {wanted}; give that with --checkpoint")
    return model


def weights_text(source: str, sha256: str | None, seed: int | None) -> str:
    """Weights in a few words."""
    return f"random weights (seed {seed})" if seed is not None else f"{source} (sha256 {(sha256 or 'unknown')[:12]})"
