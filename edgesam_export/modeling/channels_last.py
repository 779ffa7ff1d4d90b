"""Parts of vision transformers on (B, H, W, C) tensors: the layout of matrix products and of ONNX's LayerNormalization.

The counterpart of ``channels_first`` for runtimes on CPUs and GPUs.  A block that uses them takes and returns
(B, C, H, W) like the one that it replaces; permutations at the ends of two blocks cancel in an exported graph.
MLPs stay 1x1 convolutions: ONNX Runtime's kernels for x86 are 5 to 10 % faster at them than at matrix products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.modeling.channels_first import PointwiseLinear
from edgesam_export.modeling.common import LayerNorm2d, bias_of

__all__ = [
    "LastAxisAttention",
    "LastAxisNorm",
    "PermutedLayerNorm",
    "as_linear",
    "channels_first",
    "channels_last",
    "scaled_keys",
]


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C)."""
    return x.permute(0, 2, 3, 1)


def channels_first(x: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W)."""
    return x.permute(0, 3, 1, 2)


class LastAxisNorm(nn.LayerNorm):
    """LayerNorm over the last axis: one operation in ONNX, FP32 where the squares of its input overflow FP16."""

    fp32_formats = ("onnx",)

    def __init__(self, norm: LayerNorm2d | PermutedLayerNorm | nn.LayerNorm) -> None:
        super().__init__(norm.weight.numel(), eps=norm.eps)
        self.weight, self.bias = norm.get_parameter("weight"), norm.get_parameter("bias")


class PermutedLayerNorm(nn.Module):
    """``LayerNorm2d`` as a LayerNorm over the last axis between two permutations; parameters have the same names."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__()
        self.norm = LastAxisNorm(norm)

    @property
    def weight(self) -> Tensor:
        """The scale of each channel."""
        return self.norm.weight

    @property
    def bias(self) -> Tensor:
        """The shift of each channel."""
        return self.norm.bias

    @property
    def eps(self) -> float:
        """What is added to the variance."""
        return self.norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised tensor; shape (B, C, H, W) stays."""
        return channels_first(self.norm(channels_last(x)))


def as_linear(layer: PointwiseLinear) -> nn.Linear:
    """Return a layer over the last axis with the parameters of one over the channels."""
    linear = nn.Linear(layer.in_features, layer.out_features, device="meta")
    linear.weight, linear.bias = layer.weight, layer.bias
    return linear


class LastAxisAttention(nn.Module):
    """Self-attention within windows of ``window`` x ``window`` cells; subclasses say what else a score depends on.

    ``qkv`` gives all queries, then all keys, then all values, heads in order.  Zeros right and below complete the
    windows after the projections, so that padding costs nothing: a key's bias adds the same to all scores of a query,
    which softmax ignores, and a value's bias is a constant of the output, so both are left out and padded cells zeros.
    """

    def __init__(self, qkv: PointwiseLinear, proj: PointwiseLinear, *, heads: int, grid: int, window: int) -> None:
        super().__init__()
        width = proj.in_features
        self.heads, self.head_width = heads, width // heads
        self.grid, self.window, self.count = grid, window, -(-grid // window)
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, device="meta") for _ in range(3))
        for part, weight in zip((self.q_proj, self.k_proj, self.v_proj), qkv.weight.detach().chunk(3)):
            part.weight = nn.Parameter(weight)
            part.register_parameter("bias", None)
        queries, _, values = bias_of(qkv).detach().chunk(3)
        self.q_proj.bias = nn.Parameter(queries)
        self.out_proj = as_linear(proj)
        self.out_proj.bias = nn.Parameter(bias_of(proj).detach() + proj.weight.detach() @ values)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, grid, grid, C) -> the same."""
        q, k, v = (self.cut(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(self.join(self.attend(q, k, v)))

    def cut(self, x: Tensor) -> Tensor:
        """(B, grid, grid, C) -> (B * windows * heads, cells, C / heads)."""
        count, side = self.count, self.window
        extra = count * side - self.grid
        x = F.pad(x, (0, 0, 0, extra, 0, extra)) if extra else x
        x = x.reshape(-1, side, count, side, self.heads, self.head_width)  # (B * rows, y, columns, x, heads, d)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(-1, side * side, self.head_width)

    def join(self, x: Tensor) -> Tensor:
        """(B * windows * heads, cells, C / heads) -> (B, grid, grid, C), without the padding."""
        count, side = self.count, self.window
        x = x.reshape(-1, count, self.heads, side, side, self.head_width).permute(0, 3, 1, 4, 2, 5)
        x = x.reshape(-1, count * side, count * side, self.heads * self.head_width)
        return x[:, : self.grid, : self.grid] if count * side > self.grid else x

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within each window: q, k, v (B * windows * heads, cells, d) -> the same."""
        raise NotImplementedError


def scaled_keys(qkv: PointwiseLinear, scale: float) -> PointwiseLinear:
    """Return ``qkv``, all queries before all keys before all values, with the keys multiplied by ``scale``."""
    if scale == 1:
        return qkv
    factor = torch.ones(3, qkv.in_features)
    factor[1] = scale
    scaled = PointwiseLinear(qkv.in_features, qkv.out_features)
    scaled.weight.data = qkv.weight.detach() * factor.reshape(-1, 1)
    scaled.bias.data = bias_of(qkv).detach() * factor.flatten()
    return scaled
