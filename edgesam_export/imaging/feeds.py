"""From prepared images and packed prompts to the arrays that a contract asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.spec import EMPTY_SLOT

if TYPE_CHECKING:
    from edgesam_export.imaging.geometry import PreparedImage

__all__ = ["cast", "encoder_input", "fill_slots", "match_maps"]

DTYPES = {"fp16": np.float16, "uint8": np.uint8, "int32": np.int32, "int64": np.int64}
"""Type of a tensor in a contract -> that of its array; float32 for every other."""


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
