"""Small pieces that every part of a Segment Anything network shares.

Source: Kirillov et al. 2023, "Segment Anything", https://arxiv.org/abs/2304.02643, appendix A.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["MLP", "ConvBN", "FeedForward", "LayerNorm2d", "bias_of", "stability_score"]


class ConvBN(nn.Module):
    """Convolution without bias, then batch norm; padded so that stride 1 keeps the size."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.c(x))

    def folded(self) -> nn.Conv2d:
        """Return one convolution with bias that equals this in evaluation mode."""
        return fuse_conv_bn_eval(self.c, self.bn)


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of every pixel.

    Shapes:
        (B, C, H, W) -> (B, C, H, W)
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        normalised = centred / torch.sqrt(variance + self.eps)
        return normalised * self.weight[:, None, None] + self.bias[:, None, None]


class FeedForward(nn.Module):
    """Linear layers with ``activation`` between them; rewrites that rebuild the layers read it."""

    activation: ClassVar[type[nn.Module]] = nn.ReLU


class MLP(FeedForward):
    """Linear layers with ReLU between them.

    Shapes:
        (..., input_dim) -> (..., output_dim)
    """

    def __init__(
        self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int, sigmoid_output: bool = False
    ) -> None:
        super().__init__()
        widths = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.sigmoid_output = sigmoid_output

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < last:
                x = torch.relu(x)
        return torch.sigmoid(x) if self.sigmoid_output else x


def bias_of(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """Return the bias of a layer.

    Raises:
        ValueError: it has none.
    """
    if layer.bias is None:
        raise ValueError(f"{layer} has no bias")
    return layer.bias


def stability_score(logits: Tensor, offset: float = 1.0) -> Tensor:
    """Return the share of a mask that survives when the threshold is moved from ``-offset`` to ``offset``.

    It is the IoU of the two masks, because the stricter one lies inside the other. A map without a single logit above
    ``-offset`` (0/0) scores 0: an empty mask must never be the best one.

    Shapes:
        logits (..., H, W) -> (...), 0..1
    Source: Kirillov et al. 2023, appendix B, "stable masks".
    """
    # Sums along rows, then their mean: same ratio as of the counts, whose 65536 is more than float16 can hold.
    strict = (logits > offset).to(logits.dtype).sum(dim=-1).mean(dim=-1)
    loose = (logits > -offset).to(logits.dtype).sum(dim=-1).mean(dim=-1)
    return strict / loose.clamp(min=1 / logits.shape[-2])


class OneGroupNorm(nn.Module):
    """GroupNorm with one group: over all channels and pixels of an image; scale and shift for each channel.

    Means are taken axis by axis, so that no step averages over a million values.  The variance is multiplied by 16 and
    its root divided by 4, because the epsilon alone is below FP16's normal range.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = 1e-5

    @staticmethod
    def mean(x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, 1, 1)."""
        return x.mean(3, keepdim=True).mean(2, keepdim=True).mean(1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - self.mean(x)
        deviation = torch.sqrt(16.0 * self.mean(centred * centred) + 16.0 * self.eps) * 0.25
        return centred / deviation * self.weight[:, None, None] + self.bias[:, None, None]
