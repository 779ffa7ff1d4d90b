"""The parts of ``Sam`` with the calls of segment-anything, for programs that go without ``SamPredictor``.

They compute on the model that is behind a ``Sam``, with one map as its embedding and without gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgesam_export.errors import UsageError
from edgesam_export.imaging.prompts import arranged
from edgesam_export.modeling.sam import SamModel
from edgesam_export.segment_anything.prompts import packed_parts

__all__ = ["ImageEncoder", "MaskDecoder", "PromptEncoder"]


class ImageEncoder:
    """The image encoder; ``img_size`` is what ``ResizeLongestSide`` takes. Exported files have that alone."""

    def __init__(self, img_size: int, model: SamModel | None) -> None:
        self.img_size, self.model = img_size, model

    def __call__(self, image: Tensor) -> Tensor:
        """Return the embedding of images. Shapes: (B, 3, S, S), normalised and padded; returns (B, D, 64, 64)

        Raises: UsageError for exported files, or images of another size than the encoder's.
        """
        if self.model is None:
            raise UsageError("exported files are not run in parts; use SamPredictor")
        side = self.model.info.frame.size
        if image.ndim != 4 or image.shape[1:] != (3, side, side):
            raise UsageError(f"image is {tuple(image.shape)}; {self.model.info.name} takes (B, 3, {side}, {side})")
        return self.model.encode(image)  # type: ignore[no-any-return]  # one map


class PromptEncoder:
    """The prompt encoder."""

    def __init__(self, model: SamModel) -> None:
        self.model = model

    def __call__(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens of B prompts and what is added to the image embedding.

        Shapes:
            points (B, N, 2) x, y in the prompt frame and labels (B, N); boxes (B, 4) or (B, 1, 4)
            masks (B, 1, 256, 256)
            returns (B, T, D), (B, D, 64, 64)
        Raises: UsageError for a prompt that is missing or malformed.
        """
        coords, labels = points or (None, None)
        boxes = boxes.reshape(-1, 4) if boxes is not None and boxes.shape[-1:] == (4,) else boxes
        parts = packed_parts(coords, labels, boxes, masks)
        encoder, device = self.model.prompt_encoder, next(self.model.parameters()).device
        if parts.coords.shape[1] or parts.corners.shape[1]:
            padding = self.model.info.padding_point
            slots, kinds = arranged(parts.coords, parts.labels, parts.corners, padding_point=padding)
            sparse = encoder.encode_points(torch.from_numpy(slots).to(device), torch.from_numpy(kinds).to(device))
        else:
            sparse = torch.zeros(parts.batch, 0, encoder.dim, device=device)
        dense = encoder.dense(None if parts.mask is None else torch.from_numpy(parts.mask).to(device))
        return sparse, dense.expand(parts.batch, *dense.shape[1:])

    def get_dense_pe(self) -> Tensor:
        """Return the positional encoding of the embedding's cells, (1, D, 64, 64)."""
        return self.model.prompt_encoder.dense_pe()


class MaskDecoder:
    """The mask decoder."""

    def __init__(self, model: SamModel) -> None:
        self.model = model

    def __call__(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Return small logits (B, C, 256, 256) and predicted IoU (B, C) of B prompts on one image.

        C is 3, or 1 without ``multimask_output``.
        """
        prompt: tuple[Any, ...] = image_pe, sparse_prompt_embeddings, dense_prompt_embeddings
        logits, scores = self.model.mask_decoder(image_embeddings, *prompt)
        chosen = slice(1, None) if multimask_output else slice(0, 1)
        return logits[:, chosen], scores[:, chosen]
