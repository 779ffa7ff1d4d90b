"""Prompts of a training step, drawn from masks and from where two masks disagree; all of a batch at once.

Source: Zhou et al. 2023 (EdgeSAM), https://arxiv.org/abs/2312.06660, Algorithm 1 and section 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["disagreement_points", "initial_prompts", "random_pixels"]

BOX_NOISE_LIMIT = 20.0
"""Most that a box's corner is off, in pixels of the frame of 1024.

Source: Kirillov et al. 2023 (Segment Anything), appendix A, "Training algorithm".
"""
FRAME = 1024


def random_pixels(regions: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one pixel of each region, uniformly; any pixel of an empty one.

    Shapes:
        regions bool (P, H, W); returns (P, 2) x, y of the pixel
    """
    width = regions.shape[-1]
    flat = regions.flatten(1)
    chance = torch.rand(flat.shape, generator=generator, device=flat.device) + flat
    chosen = chance.argmax(dim=1)
    return torch.stack([chosen % width, chosen // width], dim=1).float()


def to_frame(pixels: Tensor, side: int, prompt_size: int) -> Tensor:
    """Pixels of a square of ``side`` to pixels of the prompt frame: centres stay centres."""
    return (pixels + 0.5) * (prompt_size / side) - 0.5


def initial_prompts(
    masks: Tensor, prompt_size: int, generator: torch.Generator, box_noise: float
) -> tuple[Tensor, Tensor]:
    """Return a box or a point for each mask, with equal odds; two tokens each.

    A box is a little off, as a finger's would be: ``box_noise`` is the standard deviation of its corners, of its sides.
    A point has the padding point beside it, as in SAM.

    Shapes:
        masks bool (P, S, S); returns coordinates (P, 2, 2) x, y in the prompt frame, labels (P, 2)
    """
    count, _, side = masks.shape
    device = masks.device
    points = to_frame(random_pixels(masks, generator), side, prompt_size)
    points = torch.stack([points, torch.zeros_like(points)], dim=1)
    boxes = to_frame(box_corners(masks), side, prompt_size)  # (P, 2, 2)
    limit = BOX_NOISE_LIMIT * prompt_size / FRAME
    extent = boxes[:, 1:] - boxes[:, :1]
    noise = torch.randn(boxes.shape, generator=generator, device=device) * box_noise * extent
    boxes = (boxes + noise.clamp(-limit, limit)).clamp(0, prompt_size - 1)
    is_box = torch.rand(count, generator=generator, device=device) < 0.5
    coords = torch.where(is_box[:, None, None], boxes, points)
    # Of numbers, not of tensors made here, which a device would have to wait for.
    labels = torch.stack([torch.where(is_box, 2, 1), torch.where(is_box, 3, -1)], dim=1)
    return coords, labels


def box_corners(masks: Tensor) -> Tensor:
    """Return the first and last column and row of each mask: (P, S, S) -> (P, 2, 2), the whole image if empty."""
    corners = []
    for axis in (1, 2):  # columns, then rows
        used = masks.any(dim=axis)
        used = used | ~used.any(dim=1, keepdim=True)
        first = used.float().argmax(dim=1)
        last = used.shape[1] - 1 - used.flip(1).float().argmax(dim=1)
        corners.append(torch.stack([first, last], dim=1))
    return torch.stack(corners, dim=2).float()


def disagreement_points(
    predicted: Tensor, expected: Tensor, count: int, prompt_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw points where two masks differ: positive where one is missed, negative in excess.

    Where they agree everywhere, points of the expected mask are drawn.

    Shapes:
        predicted, expected bool (P, S, S); returns coordinates (P, count, 2), labels (P, count)
    """
    wrong = predicted ^ expected
    none = ~wrong.flatten(1).any(dim=1)
    region = torch.where(none[:, None, None], expected, wrong)
    coords, labels = [], []
    rows = torch.arange(len(expected), device=expected.device)
    for _ in range(count):
        pixels = random_pixels(region, generator)
        inside = expected[rows, pixels[:, 1].long(), pixels[:, 0].long()]
        coords.append(to_frame(pixels, expected.shape[-1], prompt_size))
        labels.append(inside.long())
    return torch.stack(coords, dim=1), torch.stack(labels, dim=1)
