"""The predictor: masks for prompts on one image at a time. Its arithmetic is in ``imaging``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from edgesam_export.errors import UsageError
from edgesam_export.imaging.feeds import PackedPrompt, joined_prompts
from edgesam_export.imaging.geometry import PointsLike, PreparedImage, prepare
from edgesam_export.imaging.masks import best_mask, masks_to_source
from edgesam_export.imaging.prompts import (
    NumbersLike,
    kind_of,
    numbers,
    pack_prompt,
    warn_if_no_logits,
    warn_if_untrained,
)
from edgesam_export.imaging.reading import image_for_prompts
from edgesam_export.runners import Decoded, Embedding, Runner
from edgesam_export.spec import MASK_SIDE

__all__ = ["Masks", "Predictor", "counted_index"]

PROMPT_PARTS = ("points", "labels", "box", "mask_input")
"""Arguments of ``Predictor.predict``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Masks:
    """Masks of one prompt.

    Shapes: masks bool (M, h, w) at source size; scores float32 (M,); logits float32 (M, 256, 256)
    """

    masks: np.ndarray
    scores: np.ndarray
    logits: np.ndarray
    best_index: int
    """Index of the mask with the highest score."""
    object_score: float | None = None
    """Above 0: the prompt shows an object; masks do not depend on it. None of a decoder that does not return it."""

    @property
    def best(self) -> np.ndarray:
        """Mask with the highest score, bool (h, w)."""
        mask: np.ndarray = self.masks[self.best_index]
        return mask


class Predictor:
    """Masks for prompts on one image at a time; the embedding is computed once for each image.

    ``source`` is a loaded model or exported files, whatever ``runners.open_runner`` knows; ``runner`` goes before it.
    """

    def __init__(self, source: Any = None, *, runner: Runner | None = None) -> None:
        if runner is None:
            from edgesam_export.runners import open_runner

            runner = open_runner(source)
        self.runner = runner
        self.prepared: PreparedImage | None = None
        self.embedding: Embedding | None = None

    def set_image(self, image: np.ndarray | Image.Image | str | Path | bytes | BinaryIO) -> Predictor:
        """Encode an image; returns the predictor.

        A path, an open file, its bytes or a Pillow image is read as ``rgb_array`` says, an array as ``array_pixels``:
        RGB (H, W, 3) or grey, uint8 as it is, other numbers scaled with a warning unless they fill 0..1, 0..255 or
        0..65535.

        Raises: UsageError when it is no image.
        """
        # An image that fails must not leave the prompts of the next call to the image before it.
        self.prepared = self.embedding = None
        prepared = prepare(image_for_prompts(image), self.runner.info.frame)
        self.embedding = self.runner.encode(prepared)
        self.prepared = prepared
        return self

    def predict(
        self,
        points: PointsLike | None = None,
        labels: NumbersLike | None = None,
        box: NumbersLike | None = None,
        mask_input: np.ndarray | None = None,
    ) -> Masks:
        """Masks for one prompt on the current image; see ``pack_prompt`` for points, labels and box.

        Shapes: mask_input (256, 256), (1, 256, 256) or (1, 1, 256, 256), logits of an earlier prediction
        Raises: UsageError before ``set_image``, for a bad prompt, or for a mask prompt the decoder does not take.
        """
        decoded, (prepared, _) = self.decode(points, labels, box, mask_input), self.current
        return masks_of(decoded, prepared)

    def decode(
        self,
        points: PointsLike | None = None,
        labels: NumbersLike | None = None,
        box: NumbersLike | None = None,
        mask_input: np.ndarray | None = None,
    ) -> Decoded:
        """Return what the decoder gives for one prompt, masks still as logits (1, M, 256, 256); see ``predict``."""
        prepared, embedding = self.current
        packed = self.packed(prepared, points, labels, box, mask_input)
        warn_if_untrained(self.runner.info, kind_of(packed.labels, has_mask=mask_input is not None))
        decoded = self.runner.decode_all(embedding, *packed)
        masks, scores = (np.asarray(array, np.float32) for array in decoded[:2])
        return decoded._replace(masks=masks, scores=scores)

    def predict_many(self, prompts: Iterable[Mapping[str, Any]]) -> list[Masks]:
        """Masks for several prompts on the current image, in their order; each has the arguments of ``predict``.

        As many are decoded at once as the decoder takes (``--queries``); what a prompt gets does not depend on the
        others.

        Raises: UsageError as ``predict``, before any prompt is decoded; the message names the prompt by its number.
        """
        prepared, embedding = self.current
        packed = [self.packed_number(prepared, number, prompt) for number, prompt in enumerate(prompts)]
        if not packed:
            return []
        for kind in dict.fromkeys(kind_of(one.labels, has_mask=one.mask is not None) for one in packed):
            warn_if_untrained(self.runner.info, kind)
        decoded = self.runner.decode_many(embedding, *joined_prompts(packed))
        return [masks_of(decoded.of(index), prepared) for index in range(len(packed))]

    @property
    def current(self) -> tuple[PreparedImage, Embedding]:
        """The current image and its embedding. Raises: UsageError before ``set_image``."""
        if self.prepared is None or self.embedding is None:
            raise UsageError("no image yet; call set_image before predict")
        return self.prepared, self.embedding

    def packed(
        self,
        prepared: PreparedImage,
        points: PointsLike | None = None,
        labels: NumbersLike | None = None,
        box: NumbersLike | None = None,
        mask_input: np.ndarray | None = None,
    ) -> PackedPrompt:
        """Return the decoder's inputs for one prompt; raises UsageError as ``predict``."""
        mask = None if mask_input is None else self.checked_mask(mask_input)
        coords, kinds = pack_prompt(
            prepared,
            points=points,
            labels=labels,
            box=box,
            slots=self.runner.slots,
            has_mask=mask is not None,
            padding_point=self.runner.info.padding_point,
            fixed_slots=self.runner.fixed_slots,
        )
        return PackedPrompt(coords, kinds, mask)

    def packed_number(self, prepared: PreparedImage, number: int, prompt: Mapping[str, Any]) -> PackedPrompt:
        """Return the decoder's inputs for one of several prompts; an error names it by its number, from 0."""
        try:
            if unknown := sorted(set(prompt) - set(PROMPT_PARTS)):
                raise UsageError(f"no '{unknown[0]}' is known; give {', '.join(PROMPT_PARTS)}")
            return self.packed(prepared, **prompt)
        except UsageError as error:
            raise UsageError(f"prompt {number}: {error}") from None

    def checked_mask(self, mask_input: np.ndarray) -> np.ndarray:
        """Mask prompt as float32 (1, 1, 256, 256)."""
        self.runner.require_mask_prompt()
        mask = numbers(mask_input, "mask_input")
        side = (MASK_SIDE, MASK_SIDE)
        if mask.shape not in (side, (1, *side), (1, 1, *side)):
            one = "one of them, logits[best_index]" if mask.shape[-2:] == side else f"{MASK_SIDE}x{MASK_SIDE} values"
            raise UsageError(f"mask_input has shape {mask.shape}; give the logits of an earlier prediction, {one}")
        if not np.isfinite(mask).all():
            raise UsageError("mask_input has NaN or infinite values; give the logits of an earlier prediction")
        warn_if_no_logits(mask)
        return mask.reshape(1, 1, MASK_SIDE, MASK_SIDE).astype(np.float32)


def masks_of(decoded: Decoded, prepared: PreparedImage) -> Masks:
    """Return what a decoder found for one prompt, as masks of the image."""
    logits, scores = (np.asarray(part[0], np.float32) for part in (decoded.masks, decoded.scores))
    return Masks(
        # One mask at a time: four float maps of a 100 megapixel image would be 1.6 GB.
        masks=np.stack([masks_to_source(one[None], prepared)[0] > 0 for one in logits]),
        scores=scores,
        logits=logits,
        best_index=best_mask(scores, len(logits)),
        object_score=None if decoded.object_score is None else float(decoded.object_score.item()),
    )


def counted_index(runner: Runner, scores: np.ndarray, *, one_point: bool) -> tuple[int, int | None]:
    """Return the index of the mask that counts in comparisons, and of token 0 if it is among the candidates.

    The single-mask token counts, but for one point, which is ambiguous, the best of the others. For a decoder that
    chose itself, or lacks the token, it is the one with the best score.

    Shapes: scores (M,)
    Raises: UsageError when all scores are NaN.
    """
    tokens, best = runner.candidates, best_mask(scores, len(scores))
    if len(tokens) != len(scores):
        return best, None
    single = tokens.index(0) if 0 in tokens else None
    several = [index for index, token in enumerate(tokens) if token != 0]
    if one_point and several:
        # of single scores that are NaN, none is ever the best
        return max(several, key=lambda index: np.nan_to_num(scores[index], nan=-np.inf)), single
    return (best if single is None else single), single
