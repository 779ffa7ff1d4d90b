"""What a package is calibrated on: images and prompts as feeds of its programs, and the values that layers read.

The executor runs the saved package in exact arithmetic. Of each value the counts of all FP16 numbers are kept, which
take the same memory however many images there are, and in which any share of the values can be found exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgesam_export.errors import UsageError, warn
from edgesam_export.imaging.feeds import cast, encoder_input, mask_inputs, match_maps
from edgesam_export.imaging.geometry import PreparedImage, prepare
from edgesam_export.imaging.prompts import pack_prompt
from edgesam_export.imaging.reading import IMAGE_SUFFIXES, any_image, image_files
from edgesam_export.imaging.samples import SamplePrompt, sample_images, sample_prompts
from edgesam_export.mil.graph import Operation
from edgesam_export.mil.program import Program
from edgesam_export.spec import PROMPT_KINDS, ModelInfo

__all__ = ["MAX_IMAGES", "Calibration", "Histogram", "decoder_feeds", "encoder_feeds", "histograms_of"]

MAX_IMAGES = 64
"""Feeds of an encoder are held together: 64 tensors of 3 x 1024 x 1024 are 800 MB."""
TAIL = 1e-4
"""Share of the values that may lie below a range, and above it. Wu et al. 2020 (arXiv:2004.09602) compare such shares
with the extremes and with others; docs/activations.md has what they cost here."""
PATTERNS = 1 << 16
Feed = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Images that ranges come from. Shapes: uint8 (H, W, 3)"""

    images: tuple[np.ndarray, ...]
    source: str

    @classmethod
    def of(cls, info: ModelInfo, source: str | Path | Iterable[Any] | None) -> Calibration:
        """Return a user's images, a folder of them or paths and arrays; without any the samples for a model.

        Raises:
            UsageError: none, one that cannot be read, or all of one colour each.
        """
        if source is None:
            images = [image for _, image in sample_images(info)]
            warn(
                f"activations: ranges come from {len(images)} bundled images, since none were given; give a folder of"
                " your own (--calibrate)"
            )
            return cls(images=tuple(images), source="bundled samples")
        found: list[Any]
        if isinstance(source, str | Path):
            name, found = str(source), image_files(Path(source))
        else:
            name, found = "calibration", list(source)
        own = tuple(map(any_image, spread_over(found, name)))
        check_contents(own, name)
        return cls(images=own, source="own")

    def entry(self) -> dict[str, Any]:
        """Return the contract's entry: how many images, and the SHA-256 over the sorted digests of their pixels."""
        digests = sorted(hashlib.sha256(repr(i.shape).encode() + i.tobytes()).hexdigest() for i in self.images)
        return {
            "source": self.source,
            "count": len(digests),
            "sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        }


def spread_over(images: list[Any], name: str) -> list[Any]:
    """Return at most ``MAX_IMAGES`` of the images, evenly spread.

    Raises:
        UsageError: there is none.
    """
    if not images:
        raise UsageError(f"'{name}' holds no images to calibrate on ({', '.join(IMAGE_SUFFIXES)})")
    if len(images) <= MAX_IMAGES:
        return images
    warn(f"'{name}' holds {len(images)} images; {MAX_IMAGES} of them, evenly spread, are calibrated on")
    return [images[index * len(images) // MAX_IMAGES] for index in range(MAX_IMAGES)]


def check_contents(images: Sequence[np.ndarray], name: str) -> None:
    """Warn of images that are of one colour each, which show a network nothing.

    Raises:
        UsageError: all are.
    """
    plain = sum(bool((image == image[:1, :1]).all()) for image in images)
    if plain == len(images):
        raise UsageError(
            f"'{name}' holds only images of one colour, {plain}; give photos of the kind that the app sees"
        )
    if plain:
        warn(f"'{name}': {plain} of {len(images)} images are of one colour each, which narrows ranges; leave them out")


# ---------------------------------------------------------------------------------------------------------------- feeds
def encoder_feeds(calibration: Calibration, contract: dict[str, Any], info: ModelInfo) -> list[Feed]:
    """Return an encoder's feed for each image."""
    name = contract["inputs"][0]["name"]
    return [{name: encoder_input(prepare(image, info.frame), contract)} for image in calibration.images]


def decoder_feeds(
    calibration: Calibration,
    embeddings: Sequence[Mapping[str, Any]],
    decoder: Program,
    contract: dict[str, Any],
    info: ModelInfo,
) -> list[Feed]:
    """Return the feeds of a decoder of the default profile: on each image's embedding every kind of prompt it takes.

    A mask prompt is the best mask that the decoder itself makes of the same point.
    """
    feeds: list[Feed] = []
    for image, embedding in zip(calibration.images, embeddings):
        prepared = prepare(image, info.frame)
        of_point: Feed | None = None
        for prompt in taken_prompts(prepared, contract, info):
            mask = None
            if prompt.kind == "mask" and of_point is not None:
                outputs = decoder.predict(of_point, numerics="fp32")
                mask = outputs["masks"][:, int(outputs["scores"].argmax())][None]
            feeds.append(decoder_feed(prepared, prompt, embedding, contract, info, mask))
            of_point = feeds[-1] if prompt.kind == "point" else of_point
    return feeds


def taken_prompts(prepared: PreparedImage, contract: dict[str, Any], info: ModelInfo) -> list[SamplePrompt]:
    """Return the sample prompts of the kinds that a model was trained on, as far as a decoder takes them."""
    shapes = {spec["name"]: spec["shape"] for spec in contract["inputs"]}
    kinds = set(info.trained_prompts or PROMPT_KINDS) - (set() if "mask_input" in shapes else {"mask"})
    slots = shapes["point_labels"][1]
    prompts = [prompt for prompt in sample_prompts(prepared.source_size) if prompt.kind in kinds]
    return [prompt for prompt in prompts if packed(prepared, prompt, info, None)[1].shape[1] <= slots]


def packed(
    prepared: PreparedImage, prompt: SamplePrompt, info: ModelInfo, slots: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates and labels of a prompt."""
    return pack_prompt(
        prepared,
        points=prompt.points or None,
        labels=prompt.labels if prompt.points else None,
        box=prompt.box,
        slots=slots,
        has_mask=prompt.kind == "mask",
        padding_point=info.padding_point,
    )


def decoder_feed(
    prepared: PreparedImage,
    prompt: SamplePrompt,
    embedding: Mapping[str, Any],
    contract: dict[str, Any],
    info: ModelInfo,
    mask: np.ndarray | None,
) -> Feed:
    """Return the feed of one prompt."""
    specs = {spec["name"]: spec for spec in contract["inputs"]}
    coords, labels = packed(prepared, prompt, info, specs["point_labels"]["shape"][1])
    values: dict[str, np.ndarray] = {"point_coords": coords, "point_labels": labels}
    if "mask_input" in specs:
        values |= mask_inputs([mask])
    maps = [name for name in specs if name not in values]
    values |= match_maps(embedding, maps)
    return {name: cast(values[name], spec) for name, spec in specs.items()}


# --------------------------------------------------------------------------------------------------------------- values
@cache
def numbers() -> np.ndarray:
    """Return every FP16 number by its bit pattern, float32; NaN and infinities among them."""
    return np.arange(PATTERNS, dtype=np.uint16).view(np.float16).astype(np.float32)


class Histogram:
    """Counts of a value's elements, each rounded to FP16, over all that it was."""

    def __init__(self) -> None:
        self.counts = np.zeros(PATTERNS, np.int64)

    def add(self, value: torch.Tensor) -> None:
        """Count a tensor."""
        patterns = value.half().contiguous().view(torch.int16).flatten()
        counted = torch.bincount(patterns.to(torch.int32) & (PATTERNS - 1), minlength=PATTERNS)
        self.counts += counted.numpy()

    def range(self, tail: float = TAIL) -> tuple[float, float] | None:
        """Return the numbers between which all lie but a share ``tail`` on either side; None of values not finite."""
        values = numbers()
        finite = np.isfinite(values)
        if self.counts[~finite].any() or not self.counts.any():
            return None
        order = np.argsort(values[finite], kind="stable")
        ascending, counts = values[finite][order], self.counts[finite][order].cumsum()
        allowed = int(tail * counts[-1])
        low = ascending[np.searchsorted(counts, allowed, side="right")]
        high = ascending[np.searchsorted(counts, counts[-1] - allowed)]
        return float(low), float(high)


def histograms_of(program: Program, names: Iterable[str], feeds: Iterable[Feed]) -> dict[str, Histogram]:
    """Return the histogram of each named value over all feeds."""
    found = {name: Histogram() for name in names}
    inputs = {spec.name for spec in program.inputs} & found.keys()

    def count(operation: Operation, name: str, value: torch.Tensor) -> None:
        if name in found:
            found[name].add(value)

    for feed in feeds:
        for name in inputs:
            found[name].add(torch.from_numpy(feed[name]))
        program.predict(feed, numerics="fp32", probe=count)
    return found
