"""Attention of Hiera's blocks: one layer for queries, keys and values, or for export several."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.modeling.channels_first import PointwiseLinear
from edgesam_export.modeling.common import bias_of

__all__ = ["Attention", "AttentionInParts"]


class Attention(nn.Module):
    """Multi-head self-attention; how its values are laid out is the block's matter."""

    def __init__(self, inputs: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = outputs // heads
        self.key_scale = self.head_width**-0.5
        self.qkv = PointwiseLinear(inputs, 3 * outputs)
        self.proj = PointwiseLinear(outputs, outputs)

    def scaled(self) -> Attention:
        """Return an equal attention whose scale is part of the keys' weights."""
        result = copy.deepcopy(self)
        width = self.heads * self.head_width
        for parameter in (result.qkv.weight, bias_of(result.qkv)):
            parameter.data = parameter.data.clone()
            parameter.data[width : 2 * width] *= self.key_scale
        result.key_scale = 1.0
        return result

    def in_parts(self, *sizes: int) -> Attention:
        """Return an equal attention, scaled, whose ``qkv`` is several layers with so many outputs each."""
        return AttentionInParts(self.scaled(), sizes)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return (..., d, queries) from q (..., d, queries) and k, v (..., d, keys); keys lie before queries."""
        k = k if self.key_scale == 1 else k * self.key_scale
        return v @ (k.transpose(-2, -1) @ q).softmax(-2)

    def attend_to_all(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the same for the keys of a whole map, normalised after the product.

        Over 4096 keys a probability is about 2.4e-4, near the end of FP16's normal range; exponentials of at most 1/4
        reach further down, and sums of 4096 of them stay below 2^15 (see ``families.efficient_sam``).
        """
        k = k if self.key_scale == 1 else k * self.key_scale
        scores = k.transpose(-2, -1) @ q
        weights = torch.exp(scores - (scores.amax(-2, keepdim=True) + math.log(4.0)))
        return (v @ weights) / weights.sum(-2, keepdim=True)

    def of_head(self, x: Tensor, part: int, head: int) -> Tensor:
        """Return queries, keys or values (``part`` 0 to 2) of one head: (B, C, N) -> (B, d, N)."""
        start = (part * self.heads + head) * self.head_width
        rows = slice(start, start + self.head_width)
        return F.conv1d(x, self.qkv.weight[rows, :, None], bias_of(self.qkv)[rows])

    def q_and_kv(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries (B, C, ...) and keys and values (B, 2C, ...), each of its own product."""
        width, weight, bias = self.heads * self.head_width, self.qkv.weight[:, :, None, None], bias_of(self.qkv)
        return F.conv2d(x, weight[:width], bias[:width]), F.conv2d(x, weight[width:], bias[width:])


class AttentionInParts(Attention):
    """``Attention`` for export where ``qkv`` is not one product: a layer for each, so that each has its kernel.

    A slice of a weight would be a constant of no layer, which stays uncompressed in a compressed package.
    """

    def __init__(self, attention: Attention, sizes: Sequence[int]) -> None:
        super(Attention, self).__init__()
        self.heads, self.head_width, self.key_scale = attention.heads, attention.head_width, attention.key_scale
        self.proj = attention.proj
        self.parts = nn.ModuleList()
        qkv = attention.qkv
        weights, biases = (torch.split(value.detach(), list(sizes)) for value in (qkv.weight, bias_of(qkv)))
        for weight, bias in zip(weights, biases):
            part = PointwiseLinear(weight.shape[1], len(weight))
            part.weight.data, bias_of(part).data = weight.clone(), bias.clone()
            self.parts.append(part)

    def scaled(self) -> Attention:
        """Return this one: its keys are scaled."""
        return self

    def in_parts(self, *sizes: int) -> Attention:
        """Return this one, which has been cut."""
        return self

    def of_head(self, x: Tensor, part: int, head: int) -> Tensor:
        """Return queries, keys or values of one head, see ``Attention.of_head``."""
        result: Tensor = self.parts[part * self.heads + head](x)
        return result

    def q_and_kv(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries, and keys and values, see ``Attention.q_and_kv``."""
        queries, rest = self.parts
        return queries(x), rest(x)
