"""Parts of vision transformers on (B, C, H, W) tensors: the layout of convolutions, and the Neural Engine's.

Channels stay on axis 1 and positions last from end to end, so nothing image-sized is transposed around attention, and
no tensor has more than five axes.
Source: Apple, "Deploying Transformers on the Apple Neural Engine", principles 1 to 3; "Deploying Attention-Based
Vision Transformers to Apple Neural Engine", on windows in at most five axes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.modeling.common import bias_of

__all__ = ["PatchEmbedding", "PointwiseLinear", "Windows"]

PATCH = 16
FOLD = 4


class PatchEmbedding(nn.Module):
    """Non-overlapping patches to vectors: (B, 3, S, S) -> (B, C, S/16, S/16)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)

    def folded(self) -> nn.Sequential:
        """Return an equal layer of kernel 4 on blocks of 4 x 4 pixels: 16 is more than the Neural Engine takes."""
        weight = self.proj.weight.detach()
        outputs, inputs = weight.shape[:2]
        block, kernel = FOLD, PATCH // FOLD
        conv = nn.Conv2d(inputs * block * block, outputs, kernel, stride=kernel)
        taps = weight.reshape(outputs, inputs, kernel, block, kernel, block)  # pixel y = kernel y * block + block y
        conv.weight.data = taps.permute(0, 1, 3, 5, 2, 4).reshape(conv.weight.shape).clone()
        bias_of(conv).data = bias_of(self.proj).detach().clone()
        return nn.Sequential(nn.PixelUnshuffle(block), conv)


class PointwiseLinear(nn.Linear):
    """A linear layer over the channels of every pixel; its parameters are shaped as a checkpoint's linear layer.

    Shapes:
        (B, inputs, H, W) -> (B, outputs, H, W), or (B, inputs, N) -> (B, outputs, N)
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 3:
            return F.conv1d(x, self.weight[:, :, None], self.bias)
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class Windows:
    """Cut a square grid of ``grid`` x ``grid`` cells into windows of ``size`` x ``size``, and put it together again.

    The grid is padded with zeros on the right and below to a multiple of ``size``.  Windows lie on the batch axis
    (window row, window column, then image) and their cells on the last one, where the longest axis belongs.
    """

    def __init__(self, grid: int, size: int) -> None:
        self.grid = grid
        self.size = size
        self.count = -(-grid // size)
        self.padded = self.count * size

    def pad(self, x: Tensor) -> Tensor:
        """(B, C, grid, grid) -> (B, C, padded, padded)."""
        extra = self.padded - self.grid
        return F.pad(x, (0, extra, 0, extra)) if extra else x

    def cut(self, x: Tensor, channels: int) -> Tensor:
        """(B, C, padded, padded) -> (windows * B, C, 1, size * size), cells in reading order; C is ``channels``."""
        if self.count > 1:
            rows = x.reshape(-1, self.count, self.size, self.count, self.size)  # (B * C, rows, y, columns, x)
            x = rows.permute(1, 3, 0, 2, 4)
        return x.reshape(-1, channels, 1, self.size * self.size)

    def join(self, x: Tensor, channels: int) -> Tensor:
        """(windows * B, C, 1, size * size) -> (B, C, grid, grid), without the padding."""
        if self.count > 1:
            x = x.reshape(self.count, self.count, -1, self.size, self.size).permute(2, 0, 3, 1, 4)
        x = x.reshape(-1, channels, self.padded, self.padded)
        return x[:, :, : self.grid, : self.grid] if self.padded > self.grid else x
