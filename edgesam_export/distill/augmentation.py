"""One drawn scene seen in many ways: turned, mirrored, cut, recoloured; a whole batch at once, on its device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgesam_export.distill.prompts import random_pixels

__all__ = ["MOST_OBJECTS", "chosen_masks", "cut", "recoloured", "turned"]

MOST_OBJECTS = 9
"""Most objects of a scene, as ``scenes.OBJECTS`` has it; their labels are 1 to 9."""
LEAST_AREA = 0.001
"""Of the image: an object of which a cut leaves less is not chosen while there are others."""
GAIN, SHIFT = 0.1, 8.0
"""Standard deviations of each channel's factor and of what is added to it, of 255."""


def turned(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn and mirror every image at random: one of the eight symmetries of a square.

    Shapes:
        images (B, 3, S, S); labels (B, S, S); returns the same
    """
    flips: tuple[Callable[[Tensor], Tensor], ...]
    flips = (lambda value: value.flip(-1), lambda value: value.flip(-2), lambda value: value.mT)
    for flip in flips:
        done = torch.rand(len(images), generator=generator, device=images.device) < 0.5
        images = torch.where(done[:, None, None, None], flip(images), images)
        labels = torch.where(done[:, None, None], flip(labels), labels)
    return images, labels


def recoloured(images: Tensor, generator: torch.Generator) -> Tensor:
    """Exchange the channels of every image, and scale and shift each: uint8 (B, 3, S, S) both."""
    count, device = len(images), images.device
    order = torch.rand(count, 3, generator=generator, device=device).argsort(dim=1)
    images = images[torch.arange(count, device=device)[:, None], order]
    factor = 1 + GAIN * torch.randn(count, 3, 1, 1, generator=generator, device=device)
    shift = SHIFT * torch.randn(count, 3, 1, 1, generator=generator, device=device)
    return (images * factor + shift).round_().clamp_(0, 255).to(torch.uint8)


def cut(images: Tensor, labels: Tensor, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut a square of ``side`` pixels out of every image, at least one pixel of an object in it.

    Shapes:
        images (B, 3, S, S); labels (B, S, S); returns (B, 3, side, side), (B, side, side)
    """
    count, whole = len(labels), labels.shape[-1]
    if side == whole:
        return images, labels
    device = labels.device
    pixel = random_pixels(labels > 0, generator)  # (B, 2) x, y
    before = torch.randint(side, (count, 2), generator=generator, device=device)
    left, top = (pixel.long() - before).clamp(0, whole - side).unbind(1)
    along = torch.arange(side, device=device)
    rows, columns = (top[:, None] + along)[:, :, None], (left[:, None] + along)[:, None, :]
    batch = torch.arange(count, device=device)[:, None, None]
    # Indexed dimensions come first: (B, side, side, 3)
    return images.permute(0, 2, 3, 1)[batch, rows, columns].permute(0, 3, 1, 2), labels[batch, rows, columns]


def chosen_masks(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return the masks of some objects of every image, drawn at random; of too few, the first one drawn fills up.

    Shapes:
        labels uint8 (B, S, S), 0 to ``MOST_OBJECTS``, in each image at least one that is not 0; returns bool
        (B, count, S, S), none of them empty
    """
    numbers = torch.arange(1, MOST_OBJECTS + 1, device=labels.device, dtype=labels.dtype)
    areas = torch.stack([(labels == number).sum(dim=(1, 2)) for number in numbers], dim=1) / labels[0].numel()
    drawn = torch.rand(areas.shape, generator=generator, device=labels.device)
    large = areas >= LEAST_AREA
    order = torch.where(large, 1 + drawn, areas).argsort(dim=1, descending=True)
    order = order[:, torch.arange(count, device=labels.device) % MOST_OBJECTS]
    order = torch.where(large.gather(1, order), order, order[:, :1])
    return labels[:, None] == numbers[order][:, :, None, None]
