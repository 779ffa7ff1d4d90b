"""A whole Segment Anything network in plain PyTorch: the reference that every export is compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgesam_export.errors import UsageError
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import POINT_LABELS, BasePromptEncoder
from edgesam_export.spec import EMPTY_SLOT, NOT_A_POINT, ExportConfig, ModelInfo, Provenance

__all__ = ["KNOWN_LABELS", "Maps", "SamModel", "as_maps", "check_prompt"]

KNOWN_LABELS = (EMPTY_SLOT, NOT_A_POINT, *POINT_LABELS)
Maps = Tensor | tuple[Tensor, ...]
"""The result of an image encoder: one map in most families, or several in the order of ``ModelInfo``."""


def as_maps(encoded: Maps) -> tuple[Tensor, ...]:
    """Return an embedding as a tuple of its maps."""
    return encoded if isinstance(encoded, tuple) else (encoded,)


class SamModel(nn.Module):
    """Image encoder, prompt encoder and mask decoder; in evaluation mode and without gradients from the start."""

    proposes = False
    """The model has a proposal head; see ``propose``."""

    def __init__(
        self,
        *,
        info: ModelInfo,
        image_encoder: nn.Module,
        prompt_encoder: BasePromptEncoder,
        mask_decoder: MaskDecoder,
        provenance: Provenance | None = None,
    ) -> None:
        super().__init__()
        self.info = info
        self.provenance = provenance
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.requires_grad_(False)
        self.eval()

    def encode(self, image: Tensor) -> Any:
        """Embed an image; one tensor, or for a family with ``info.further_maps`` a tuple of maps.

        Shapes:
            image (B, 3, S, S), normalised and padded, S = ``info.frame.size``; returns (B, D, 64, 64),
            D = ``info.embedding_dim``, or that and the further maps; ``info.embedding_shapes`` has them all for B = 1
        """
        return self.image_encoder(image)

    def extra_components(self, config: ExportConfig) -> tuple[Any, ...]:
        """Return the further components of an export, as ``profiles.Component``s; none by default."""
        return ()

    def propose(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes and scores of a proposal head, from the first map of an embedding.

        Raises:
            UsageError: the model has none.
        """
        raise UsageError(f"{self.info.name} has no proposal head")

    def decode(
        self, embedding: Maps, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predict all four masks of a prompt.

        Empty slots (label -2) take no part: for one prompt they are removed, for several they are masked out of every
        attention. No padding point is added here. A prompt without a point needs a mask.

        Shapes:
            embedding as ``encode`` returns it, of B images or one; point_coords (B, N, 2) x,y in pixels of the prompt
            frame; point_labels (B, N), -2 to 3; mask_input (B, 1, 256, 256) logits of an earlier prediction, or None
            returns logits (B, 4, 256, 256), threshold 0; predicted IoU (B, 4), not clamped
        Raises:
            UsageError: shapes that do not fit, an unknown label, or neither a point nor a mask.
        """
        *inputs, further = self.decoder_inputs(embedding, point_coords, point_labels, mask_input)
        return self.mask_decoder(*inputs, further)

    def decode_all(
        self, embedding: Maps, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return logits and predicted IoU as ``decode`` does, and the object score.

        It is one logit (B, 1), above 0 for an object that is there; None of a model that has no such score.

        Raises:
            UsageError: see ``decode``.
        """
        prompt = embedding, point_coords, point_labels, mask_input
        if not self.mask_decoder.scores_objects:
            return (*self.decode(*prompt), None)
        logits, iou, score = self.mask_decoder(*self.decoder_inputs(*prompt), object_score=True)
        return logits, iou, score

    def decoder_inputs(
        self, embedding: Maps, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None = None
    ) -> tuple[Any, ...]:
        """Return the inputs of ``MaskDecoder.forward``, in order, for a prompt as ``decode`` takes it.

        Raises:
            UsageError: see ``decode``.
        """
        first, *further = as_maps(embedding)
        check_prompt(first, point_coords, point_labels, mask_input)
        empty = point_labels == EMPTY_SLOT
        token_bias = None
        if empty.any() and len(point_labels) == 1:
            kept = ~empty[0]
            point_coords, point_labels = point_coords[:, kept], point_labels[:, kept]
        elif empty.any():
            # The contents of an empty slot, NaN included, must not reach a product with a zero weight.
            point_coords = point_coords.masked_fill(empty.unsqueeze(-1), 0)
            token_bias = torch.zeros_like(empty, dtype=first.dtype).masked_fill(empty, -torch.inf)
        sparse = self.prompt_encoder.encode_points(point_coords.to(first.dtype), point_labels)
        dense = self.prompt_encoder.dense(mask_input)
        return first, self.prompt_encoder.dense_pe(), sparse, dense, token_bias, tuple(further)


def check_prompt(embedding: Tensor, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None) -> None:
    """Raise UsageError unless these can be decoded together; ``embedding`` is the first map."""
    if point_labels.ndim != 2 or point_coords.shape != (*point_labels.shape, 2):
        found = f"point_coords {tuple(point_coords.shape)}, point_labels {tuple(point_labels.shape)}"
        raise UsageError(f"prompt has {found}; pass (B, N, 2) and (B, N)")
    batch = len(point_labels)
    if len(embedding) not in (1, batch):
        raise UsageError(f"{batch} prompts for {len(embedding)} image embeddings; pass one, or as many")
    if mask_input is not None and (mask_input.ndim != 4 or mask_input.shape[1] != 1 or len(mask_input) != batch):
        raise UsageError(f"mask_input is {tuple(mask_input.shape)}; pass ({batch}, 1, 256, 256)")
    unknown = sorted(set(point_labels.flatten().tolist()) - set(KNOWN_LABELS))
    if unknown:
        raise UsageError(f"point_labels holds {unknown[0]:g}; labels are {', '.join(map(str, KNOWN_LABELS))}")
    if mask_input is None and bool((point_labels == EMPTY_SLOT).all(dim=1).any()):
        raise UsageError("a prompt has neither a point nor a mask; pass at least one point or mask_input")
