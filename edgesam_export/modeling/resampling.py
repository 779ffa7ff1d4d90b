"""An image's longest side to that of the network's frame, inside the graph: as Pillow resizes, for any size."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["LongestSide"]


class LongestSide(nn.Module):
    """Resize so that the longest side becomes ``side``, zeros right and below: bilinear with antialiasing, 8 bits.

    Each axis is one matrix, whose rows are the triangles that Pillow's filter sums with; rows beyond the image are
    zero. Like Pillow, columns come first, and both steps round to integers. An image that fits already is unchanged.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (1, 3, S, S) from values 0..255 (1, 3, H, W), and 1 where there is an image, else 0, (1, 1, S, S)."""
        ones = pixels[0, 0] * 0.0 + 1.0
        rows, columns = ones[:, 0], ones[0]  # lengths stay in the graph as sums: sizes are free
        longest = torch.maximum(rows.sum(), columns.sum())
        down, across = self.weights(rows, longest), self.weights(columns, longest)
        wide = torch.floor(pixels @ across.transpose(0, 1) + 0.5)
        resized = torch.floor(down @ wide + 0.5)
        inside = down.sum(1, keepdim=True).ceil() @ across.sum(1, keepdim=True).ceil().transpose(0, 1)
        return resized, inside.clamp(max=1.0)[None, None]

    def weights(self, ones: torch.Tensor, longest: torch.Tensor) -> torch.Tensor:
        """Return the share of each pixel of an axis in each of the frame (S, N); ``ones`` has one entry per pixel."""
        length = ones.sum().to(torch.float64)
        scaled = torch.floor(length * (float(self.side) / longest.to(torch.float64)) + 0.5).clamp(min=1.0)
        step = length / scaled
        place = torch.arange(self.side, dtype=torch.float64)
        centre = ((place + 0.5) * step).unsqueeze(1)  # (S, 1)
        pixel = torch.cumsum(ones, 0).to(torch.float64) - 0.5  # (N,)
        share = torch.relu(1.0 - (pixel - centre).abs() / step.clamp(min=1.0))
        share = share / share.sum(1, keepdim=True).clamp(min=1e-9)
        return (share * torch.relu((scaled - place).clamp(max=1.0)).unsqueeze(1)).to(torch.float32)
