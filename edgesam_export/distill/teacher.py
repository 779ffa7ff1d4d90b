"""The teacher of a run: it sees images as it was trained to, and its masks are those of the step's images.

Images of a step are squares, padded right and bottom, and prompts lie in the student's prompt frame. A teacher that
stretches images sees the part that is not padding, stretched; prompts are moved into its frame, followed by a padding
point where it expects one, and what it answers comes back into the square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from edgesam_export.distill.forward import decode, network_input
from edgesam_export.distill.prompts import to_frame
from edgesam_export.modeling.sam import SamModel, as_maps
from edgesam_export.spec import EMPTY_SLOT

__all__ = ["Seen", "Teacher"]

NOTHING = -1.0
"""Logit where there is no image."""


class Seen(NamedTuple):
    """The teacher's embeddings of a step's images."""

    maps: tuple[Tensor, ...]
    """The first is (B, D, 64, 64)."""
    extents: Tensor | None = None
    """Share of the square's columns and rows that the teacher saw, (B, 2); None: all of them."""

    def repeated(self, count: int) -> Seen:
        """Return the same for ``count`` prompts of each image."""
        maps = tuple(one.repeat_interleave(count, dim=0) for one in self.maps)
        return Seen(maps, None if self.extents is None else self.extents.repeat_interleave(count, dim=0))

    def chosen(self, images: Tensor) -> Seen:
        """Return what was seen of some images, ``images`` bool (B)."""
        return Seen(tuple(one[images] for one in self.maps), None if self.extents is None else self.extents[images])


@dataclass(frozen=True)
class Teacher:
    """A model beside the step, not in it: as a child module its parameters would be the student's to DDP and AdamW."""

    model: SamModel

    @torch.no_grad()
    def see(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Seen:
        """Return the embeddings of square 8-bit images, at the teacher's own size.

        ``sizes`` are height and width of what is not padding. Without them the teacher sees the squares, so that cells
        of its embedding are those of a student's.

        Shapes: images uint8 (B, 3, S, S)
        """
        size = self.model.info.frame.size
        extents = self.extents(images, sizes)
        if sizes is not None and extents is not None:
            images = torch.cat([stretched(image, part, size) for image, part in zip(images, sizes)])
        maps = as_maps(self.model.encode(network_input(images, self.model, size)))
        return Seen(tuple(one.float() for one in maps), extents)

    def extents(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None) -> Tensor | None:
        """Return the share of columns and rows that the teacher sees of squares, (B, 2); None where it is all."""
        side = int(images.shape[-1])
        if sizes is None or not self.model.info.frame.stretches or all(size == (side, side) for size in sizes):
            return None
        return torch.tensor([[width / side, height / side] for height, width in sizes]).to(images.device)

    @torch.no_grad()
    def logits(self, seen: Seen, coords: Tensor, labels: Tensor, *, prompt_size: int, size: tuple[int, int]) -> Tensor:
        """Return the logits of the squares, one prompt for each embedding.

        Shapes:
            coords (P, N, 2) in the prompt frame of ``prompt_size`` pixels that the square fills; labels (P, N)
            returns (P, 4, *size)
        """
        info = self.model.info
        factors = torch.full_like(coords[:, :1], info.frame.prompt_size / prompt_size)
        if seen.extents is not None:
            factors = factors / seen.extents.unsqueeze(1)
        coords = (coords + 0.5) * factors - 0.5  # centres of pixels stay centres
        decoder = None
        if info.padding_point == "always":
            coords, labels = always_padded(coords, labels)
            decoder = self.model.mask_decoder
        logits, _ = decode(self.model, seen.maps, coords, labels, decoder=decoder)
        if seen.extents is not None:
            return in_square(logits, seen.extents, size)
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits

    @torch.no_grad()
    def fill_dots(self, masks: Tensor, dots: Tensor, seen: Seen) -> Tensor:
        """Replace single pixels, which stand in for missing masks, by the teacher's mask for a point there.

        Shapes:
            masks bool (B, M, S, S); dots bool (B); returns masks
        """
        chosen = dots.to(masks.device)
        count, side = masks.shape[1], masks.shape[-1]
        flat = masks[chosen].flatten(0, 1)
        prompt_size = self.model.info.frame.prompt_size
        offset = flat.flatten(1).int().argmax(dim=1)
        pixels = torch.stack([offset % side, offset // side], dim=1).float()
        point = to_frame(pixels, side, prompt_size)
        coords = torch.stack([point, torch.zeros_like(point)], dim=1)
        labels = torch.tensor([[1, -1]], device=masks.device).expand(len(flat), 2)
        known = seen.chosen(chosen).repeated(count)
        found = self.logits(known, coords, labels, prompt_size=prompt_size, size=(side, side))[:, 0] > 0
        filled = masks.clone()
        filled[chosen] = (found | flat).reshape(-1, count, side, side)  # never empty: the dot stays
        return filled


def stretched(image: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Return the part of a square that is image, stretched to a square: (3, S, S) -> (1, 3, side, side), 0 to 255."""
    height, width = size
    part = image[None, :, :height, :width].float()
    return F.interpolate(part, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def always_padded(coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return prompts of which each has one padding point; the added slot of those that had it is empty."""
    has_one = (labels == -1).any(dim=1, keepdim=True)
    return F.pad(coords, (0, 0, 0, 1)), torch.cat([labels, torch.where(has_one, EMPTY_SLOT, -1)], dim=1)


def in_square(logits: Tensor, extents: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the logits of squares from those of the images in them, bilinear; ``NOTHING`` in the padding.

    Shapes:
        logits (P, 4, h, w); extents (P, 2), the images' share of columns and rows; returns (P, 4, *size)
    """
    factors = 1 / extents
    scale = torch.diag_embed(factors)
    shift = (factors - 1).unsqueeze(2)  # in -1 to 1, where both have their upper left corner
    grid = F.affine_grid(torch.cat([scale, shift], dim=2), [len(logits), 1, *size], align_corners=False)
    found = F.grid_sample(logits, grid, mode="bilinear", padding_mode="border", align_corners=False)
    inside = (grid <= 1).all(dim=3).unsqueeze(1)
    return torch.where(inside, found, NOTHING)
