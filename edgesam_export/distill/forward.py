"""Forward passes of a batch: an encoder's input, and the decoder without checks that would wait for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from edgesam_export.modeling.sam import Maps, SamModel, as_maps
from edgesam_export.spec import EMPTY_SLOT

__all__ = ["decode", "grid_of", "network_input"]


def network_input(images: Tensor, model: SamModel, size: int) -> Tensor:
    """Return an encoder's input from square images, 0 to 255: (B, 3, S, S) -> (B, 3, size, size)."""
    values = images.float()
    if values.shape[-1] != size:
        values = F.interpolate(values, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    frame = model.info.frame
    mean, std = (
        torch.tensor(numbers)[:, None, None].to(values.device, non_blocking=True) for numbers in (frame.mean, frame.std)
    )
    return (values - mean) / std


@contextmanager
def grid_of(model: SamModel, embeddings: Tensor) -> Iterator[None]:
    """Let the prompt encoder work on the cells that these embeddings have, as when training at a smaller size."""
    encoder = model.prompt_encoder
    before, encoder.grid = encoder.grid, (int(embeddings.shape[-2]), int(embeddings.shape[-1]))
    try:
        yield
    finally:
        encoder.grid = before


def decode(
    model: SamModel,
    embeddings: Maps,
    coords: Tensor,
    labels: Tensor,
    mask_input: Tensor | None = None,
    has_mask: Tensor | None = None,
    *,
    decoder: Callable[..., tuple[Tensor, Tensor]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return logits (P, 4, 4h, 4w) and predicted IoU (P, 4), FP32, of one prompt for each embedding.

    What ``SamModel.decode`` computes, without its checks of the labels, each of which would wait for the device.
    ``decoder`` stands in for the model's own, as a compiled one does; with one, slots of label -2 are masked out.

    Shapes:
        embeddings (P, D, h, w), or that and the further maps of P images
        coords (P, N, 2); labels (P, N), -2 for slots that do not count in any prompt
        mask_input (P, 1, 4h, 4w) logits or None; has_mask bool (P), the prompts that they belong to, None: all
    """
    first, *further = as_maps(embeddings)
    with grid_of(model, first):
        encoder = model.prompt_encoder
        sparse = encoder.encode_points(coords.to(first.dtype), labels)
        dense = encoder.dense(None)
        if mask_input is not None:
            prompted = encoder.dense(mask_input)
            dense = prompted if has_mask is None else torch.where(has_mask[:, None, None, None], prompted, dense)
        token_bias = None
        if decoder is not None:
            empty = labels == EMPTY_SLOT
            token_bias = torch.zeros_like(empty, dtype=torch.float32).masked_fill(empty, -torch.inf)
            dense = dense.expand(len(labels), *dense.shape[1:]).contiguous()
        inputs = first, encoder.dense_pe(), sparse, dense, token_bias
        logits, iou = (decoder or model.mask_decoder)(*inputs, *([tuple(further)] if further else []))
    return logits.float(), iou.float()
