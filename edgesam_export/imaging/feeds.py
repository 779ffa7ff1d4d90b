"""From prepared images and packed prompts to the arrays that a contract asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.spec import EMPTY_SLOT, MASK_SIDE

if TYPE_CHECKING:
    from edgesam_export.imaging.geometry import PreparedImage

__all__ = [
    "PackedPrompt",
    "cast",
    "encoder_input",
    "fill_queries",
    "fill_slots",
    "joined_prompts",
    "mask_inputs",
    "match_maps",
    "pixel_input",
    "takes_pixels",
]

DTYPES = {"fp16": np.float16, "uint8": np.uint8, "int32": np.int32, "int64": np.int64}
"""Type of a tensor in a contract -> that of its array; float32 for every other."""


class PackedPrompt(NamedTuple):
    """The decoder's inputs for one prompt. Shapes: coords (1, N, 2), labels (1, N), mask (1, 1, 256, 256) or None"""

    coords: np.ndarray
    labels: np.ndarray
    mask: np.ndarray | None


def cast(value: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """Return ``value`` in the type that a contract declares for a tensor, with axes of 1 before its own up to its rank.

    Consumers of several images or objects at once have such axes.
    """
    array = np.asarray(value, DTYPES.get(spec["dtype"], np.float32))
    return array.reshape(*[1] * (len(spec["shape"]) - array.ndim), *array.shape)


def encoder_input(prepared: PreparedImage, contract: dict[str, Any]) -> np.ndarray:
    """Return an image as the encoder's contract asks for it: padded or unpadded pixels, or a normalised tensor."""
    spec = contract["inputs"][0]
    if contract.get("padded_by") == "graph":
        height, width = prepared.scaled_size
        bare = prepared.pixels[:height, :width]
        return cast(bare if contract["input_layout"] == "HWC" else bare.transpose(2, 0, 1)[None], spec)
    return pixel_input(prepared.pixels, spec) if takes_pixels(contract) else cast(prepared.tensor, spec)


def takes_pixels(contract: dict[str, Any]) -> bool:
    """Return whether an encoder takes padded 8-bit pixels, as an image or as a tensor of 0..255."""
    of_values = contract.get("input_values") == "0..255" and contract.get("padded_by") == "caller"
    return bool(contract.get("image_input", False) or of_values)


def pixel_input(pixels: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """Return padded 8-bit pixels (S, S, 3) as such an encoder takes them; a tensor is (1, 3, S, S)."""
    return pixels if spec["dtype"] == "image" else cast(pixels.transpose(2, 0, 1)[None], spec)


def fill_slots(
    coords: np.ndarray, labels: np.ndarray, slots: int | None, *, fixed: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts with empty slots appended up to ``slots``; ``fixed``: no export has another number of them.

    Raises:
        UsageError: more prompts than slots.
    """
    needed = labels.shape[1]
    if slots is None or needed == slots:
        return coords, labels
    if needed > slots:
        advice = (
            "every export of the model has as many, give fewer points" if fixed else f"export with --points {needed}"
        )
        raise UsageError(f"the prompt needs {needed} slots, this decoder has {slots}; {advice}")
    extra = slots - needed
    return (
        np.pad(coords, ((0, 0), (0, extra), (0, 0))),
        np.pad(labels, ((0, 0), (0, extra)), constant_values=EMPTY_SLOT),
    )


def fill_queries(coords: np.ndarray, labels: np.ndarray, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts with empty ones appended up to ``queries``.

    Raises:
        UsageError: more prompts than that.
    """
    missing = queries - len(labels)
    if missing < 0:
        raise UsageError(f"{len(labels)} prompts in one call, this decoder takes {queries}; export with --queries")
    return (
        np.pad(coords, ((0, missing), (0, 0), (0, 0))),
        np.pad(labels, ((0, missing), (0, 0)), constant_values=EMPTY_SLOT),
    )


def joined_prompts(
    prompts: Sequence[PackedPrompt],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Return several prompts as one batch, shorter ones filled up with empty slots.

    Shapes:
        returns coords (B, N, 2), labels (B, N), masks (B, 1, 256, 256) or None, and bool (B,): whose mask counts
    """
    slots = max(prompt.labels.shape[1] for prompt in prompts)
    filled = [fill_slots(prompt.coords, prompt.labels, slots) for prompt in prompts]
    coords, labels = (np.concatenate(parts) for parts in zip(*filled, strict=True))
    counted = np.array([prompt.mask is not None for prompt in prompts])
    none = np.zeros((1, 1, MASK_SIDE, MASK_SIDE), np.float32)
    masks = (
        np.concatenate([none if prompt.mask is None else prompt.mask for prompt in prompts]) if counted.any() else None
    )
    return coords, labels, masks, counted


def mask_inputs(masks: Sequence[np.ndarray | None], queries: int = 1) -> dict[str, np.ndarray]:
    """Return the inputs of a decoder that takes masks: zeros, and that none counts, where a prompt has none.

    Shapes:
        a mask (1, 256, 256) or (1, 1, 256, 256); returns mask_input (queries, 1, 256, 256), has_mask_input (queries)
    """
    values, counted = np.zeros((queries, 1, MASK_SIDE, MASK_SIDE), np.float32), np.zeros(queries, np.float32)
    for index, mask in enumerate(masks):
        if mask is not None:
            values[index], counted[index] = mask, 1
    return {"mask_input": values, "has_mask_input": counted}


def match_maps(embedding: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the maps of an embedding under ``names``; one of other names, by the order of its maps.

    Raises:
        UsageError: it has not as many maps.
    """
    if len(embedding) != len(names):
        raise UsageError(f"embedding has maps {list(embedding)}; this decoder takes {list(names)}")
    if all(name in embedding for name in names):
        return {name: embedding[name] for name in names}
    return dict(zip(names, embedding.values()))
