"""Images with prompts of every kind that a model was trained on, and the FP32 model's masks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from edgesam_export.imaging.feeds import PackedPrompt
from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.imaging.masks import bounding_box, masks_to_source
from edgesam_export.predict.predictor import Predictor, counted_index
from edgesam_export.runners import Decoded, Runner
from edgesam_export.spec import PROMPT_KINDS, ModelInfo

__all__ = ["Asked", "Case", "Example", "Examples", "make_case", "shown_mask", "trained_kinds"]

PROMPTS = 4
"""Of all kinds on an image, about: as many objects are prompted for as give so many. More images tell more."""
AREAS = (0.002, 0.7)
"""Least and largest share of the image that an object has."""
TRIES = 24
"""Random points on an image without masks, at most, until there are enough objects."""
SIDES = (0.2, 0.7)
"""Sides of random boxes, of the image's."""


class Example(Protocol):
    """An image and the true masks of its objects, if any; ``distill.samples.Sample`` is one.

    Shapes: image uint8 (H, W, 3) RGB; masks bool (K, H, W), K may be 0
    """

    @property
    def name(self) -> str: ...

    @property
    def image(self) -> np.ndarray: ...

    @property
    def masks(self) -> np.ndarray: ...


class Examples(Protocol):
    """A sequence of images that are made or read when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """One prompt, the FP32 model's answer, and the true mask.

    Shapes: logits float32 (256, 256) and the mask bool (h, w) that the FP32 model shows; truth bool (h, w) or None
    """

    kind: str
    packed: PackedPrompt
    token: int
    """Index of the shown mask among the candidates."""
    logits: np.ndarray
    mask: np.ndarray
    truth: np.ndarray | None

    @property
    def one_point(self) -> bool:
        """The prompt is ambiguous: the best of several candidates is shown."""
        return self.kind == "point"


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """An image with its prompts."""

    name: str
    prepared: PreparedImage
    asked: tuple[Asked, ...]


def trained_kinds(info: ModelInfo, *, mask_input: bool) -> tuple[str, ...]:
    """Return the kinds of prompt that a model was trained on and an export takes."""
    kinds = info.trained_prompts or PROMPT_KINDS
    return tuple(kind for kind in kinds if kind != "mask" or mask_input)


def make_case(example: Example, predictor: Predictor, kinds: Sequence[str], seed: int) -> Case | None:
    """Return an image with its prompts, None if nothing was found on it.

    Objects are those of the image's true masks, the largest; without any, those that the model shows at random points,
    and for a model that takes none, random boxes.

    Raises:
        UsageError: the image is none, or the model returns no numbers.
    """
    predictor.set_image(example.image)
    rng = np.random.default_rng(seed)
    asked = []
    count = max(1, PROMPTS // len(kinds))
    for mask, box, truth in islice(objects_of(example, predictor, kinds, rng), count):
        for kind in kinds:
            prompt = prompt_of(kind, mask, box, rng)
            if prompt is not None:
                asked.append(ask(predictor, kind, prompt, mask if truth else None))
    return Case(name=example.name, prepared=predictor.current[0], asked=tuple(asked)) if asked else None


Found = tuple[np.ndarray | None, tuple[int, int, int, int], bool]
"""Mask, box, and whether the mask is the true one."""


def objects_of(
    example: Example, predictor: Predictor, kinds: Sequence[str], rng: np.random.Generator
) -> Iterator[Found]:
    """Yield the objects of an image."""
    height, width = example.image.shape[:2]
    for mask in sorted(example.masks, key=lambda one: -int(one.sum())):
        box = bounding_box(mask)
        if box is not None and mask.mean() >= AREAS[0]:
            yield mask, box, True
    if len(example.masks):
        return
    for _ in range(TRIES):
        if "point" in kinds:
            point = (int(rng.integers(width)), int(rng.integers(height)))
            mask = shown_mask(predictor, {"points": [point], "labels": [1]}, one_point=True)
            box = bounding_box(mask)
            if box is not None and AREAS[0] <= mask.mean() <= AREAS[1]:
                yield mask, box, False
        else:
            sides = [max(2, int(length * rng.uniform(*SIDES))) for length in (width, height)]
            x0, y0 = (int(rng.integers(length - side + 1)) for length, side in zip((width, height), sides))
            yield None, (x0, y0, x0 + sides[0], y0 + sides[1]), False


def prompt_of(
    kind: str, mask: np.ndarray | None, box: tuple[int, int, int, int], rng: np.random.Generator
) -> dict[str, Any] | None:
    """Return a prompt of a kind for an object, as ``Predictor.predict`` takes it; None if the object offers none."""
    if kind == "box":
        return {"box": box}
    if mask is None:
        return None
    inner = inner_point(mask)
    if kind == "box+point":
        return {"box": box, "points": [inner], "labels": [1]}
    if kind != "points":
        return {"points": [inner], "labels": [1]}
    in_box = np.zeros_like(mask)
    in_box[box[1] : box[3], box[0] : box[2]] = True
    points, labels = [inner], [1]
    for label, pixels in ((1, np.argwhere(mask)), (0, np.argwhere(in_box & ~mask))):
        if len(pixels):
            y, x = pixels[rng.integers(len(pixels))]
            points.append((int(x), int(y)))
            labels.append(label)
    return {"points": points, "labels": labels}


def inner_point(mask: np.ndarray) -> tuple[int, int]:
    """Return x, y of a pixel far from the border of a mask that is not empty, along its row and its column."""
    depth: np.ndarray = np.minimum(run_depth(mask), run_depth(mask.T).T)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)


def run_depth(mask: np.ndarray) -> np.ndarray:
    """Return for each pixel the distance to the nearer end of its run of true pixels in its row, 0 outside."""
    positions = np.arange(mask.shape[1])
    before = np.maximum.accumulate(np.where(mask, -1, positions), axis=1)
    after = np.minimum.accumulate(np.where(mask, mask.shape[1], positions)[:, ::-1], axis=1)[:, ::-1]
    depth: np.ndarray = np.minimum(positions - before, after - positions) * mask
    return depth


def ask(predictor: Predictor, kind: str, prompt: dict[str, Any], truth: np.ndarray | None) -> Asked:
    """Return a prompt with the predictor's answer; a mask prompt are the logits of the answer without one."""
    prepared, embedding = predictor.current
    packed = predictor.packed(prepared, **prompt)
    decoded = predictor.runner.decode_all(embedding, *packed)
    if kind == "mask":
        token = counted_index(predictor.runner, decoded.scores[0], one_point=True)[0]
        packed = predictor.packed(prepared, **prompt, mask_input=decoded.masks[0, token])
        decoded = predictor.runner.decode_all(embedding, *packed)
    token = counted_index(predictor.runner, decoded.scores[0], one_point=kind == "point")[0]
    logits = decoded.masks[0, token]
    return Asked(kind=kind, packed=packed, token=token, logits=logits, mask=at_source(logits, prepared), truth=truth)


def shown_mask(predictor: Predictor, prompt: dict[str, Any], *, one_point: bool) -> np.ndarray:
    """Return the mask that a user sees, bool (h, w)."""
    decoded = predictor.decode(**prompt)
    return counted_mask(predictor.runner, decoded, predictor.current[0], one_point=one_point)


def counted_mask(runner: Runner, decoded: Decoded, prepared: PreparedImage, *, one_point: bool) -> np.ndarray:
    """Return the mask that counts of one prompt's answer, bool (h, w)."""
    token, _ = counted_index(runner, decoded.scores[0], one_point=one_point)
    return at_source(decoded.masks[0, token], prepared)


def at_source(logits: np.ndarray, prepared: PreparedImage) -> np.ndarray:
    """Return logits (256, 256) as a mask of the source image, bool (h, w)."""
    mask: np.ndarray = masks_to_source(logits[None], prepared)[0] > 0
    return mask
