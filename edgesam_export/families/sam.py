"""Segment Anything: a plain vision transformer (ViT-B, ViT-L or ViT-H) with windowed attention in most blocks.

Kirillov et al. 2023, "Segment Anything", https://arxiv.org/abs/2304.02643
Li, Mao, Girshick, He 2022, "Exploring Plain Vision Transformer Backbones for Object Detection",
https://arxiv.org/abs/2203.16527, for the encoder: windows, a few global blocks, the neck.
Li et al. 2022, "MViTv2", https://arxiv.org/abs/2112.01526, for relative positions decomposed into rows and columns.

Ma et al. 2024, "Segment anything in medical images", https://arxiv.org/abs/2304.12306, for MedSAM: ViT-B trained
further on images that are stretched to the square and scaled to 0..1, with boxes, for the single-mask token. Upstream's
inference (MedSAM_Inference.py) stretches with a cubic filter; here it is bilinear with antialiasing. Its scaling by
minimum and maximum is a division by 255 for images that use all 8 bits, as its preprocessing makes them.

Attribute names and their order are the keys of the released checkpoints.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgesam_export.families import register_model
from edgesam_export.modeling.channels_first import PatchEmbedding, PointwiseLinear, Windows
from edgesam_export.modeling.channels_last import (
    LastAxisAttention,
    LastAxisNorm,
    channels_first,
    channels_last,
    scaled_keys,
)
from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ImageFrame, ModelInfo

__all__ = ["Attention", "Block", "SamEncoder", "ViTConfig"]

EMBEDDING_DIM = 256
"""Side of the blocks of pixels that become channels in the exported patch embedding."""
GRID = 64
"""Cells per side of the image: 1024 / 16."""
WINDOW = 14
HEADROOM = math.log(4.0)
"""Weights are at most 1/4 before they are divided: 4096 of them, times values up to 32, stay below 2^15."""
QUERY_ROWS = 8
"""Rows of queries that attend at once in a global block; the scores of all 64 would be 0.8 GB in float32."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Size of an encoder; ``global_blocks`` attend to the whole image, the others within windows."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]


CONFIGS = {
    "sam_vit_b": ViTConfig(width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11)),
    "sam_vit_l": ViTConfig(width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    "sam_vit_h": ViTConfig(width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
}
CONFIGS["medsam"] = CONFIGS["sam_vit_b"]


class Attention(nn.Module):
    """Multi-head self-attention over a ``side`` x ``side`` grid with decomposed relative positions.

    score(key, query) = key . query / sqrt(d) + query . R_h[y_q - y_k] + query . R_w[x_q - x_k]; the relative positions
    see the query as it is, not divided by sqrt(d).
    Keys lie before queries everywhere: so the queries stay on the last axis, relative positions are broadcast along a
    key axis each, and neither they nor the values are transposed.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.width = width
        self.heads = heads
        self.head_width = width // heads
        self.side = side
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, self.head_width))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, self.head_width))
        self.qkv = PointwiseLinear(width, 3 * width)
        self.proj = PointwiseLinear(width, width)
        position = torch.arange(side)
        # (query, key) -> row of the tables; no buffer: integers, not weights
        self.offsets = position[:, None] - position[None, :] + side - 1
        self.key_scale = self.head_width**-0.5
        self.divides_last = False

    def forward(self, x: Tensor) -> Tensor:
        """Attend.

        Shapes:
            x (B, C, 1, side * side), cells in reading order -> the same
        """
        q, k, v = self.qkv(x).chunk(3, dim=1)
        q = q.reshape(-1, self.head_width, self.side, self.side)  # (B * heads, d, y, x)
        k = (k if self.key_scale == 1 else k * self.key_scale).reshape(-1, self.head_width, self.side * self.side)
        v = v.reshape(-1, self.head_width, self.side * self.side)
        rows, columns = self.rel_pos_h[self.offsets], self.rel_pos_w[self.offsets]  # (query, key, d)
        step = QUERY_ROWS if self.side > WINDOW else self.side
        attended = []
        for first in range(0, self.side, step):
            last = min(first + step, self.side)
            attended.append(self.attend(q[:, :, first:last], k, v, rows[first:last], columns, last - first))
        joined = torch.cat(attended, dim=2) if len(attended) > 1 else attended[0]
        return self.proj(joined.reshape(-1, self.width, 1, self.side * self.side))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, count: int) -> Tensor:
        """Attend from ``count`` rows of queries to every key.

        Shapes (N = batch * heads, Y = count, S = side):
            q (N, d, Y, S); k, v (N, d, S * S); rows (Y, S, d); columns (S, S, d); returns (N, d, Y, S)
        """
        queries, side = count * self.side, self.side
        by_row = (rows @ q.transpose(1, 2)).transpose(1, 2)  # (N, Y, key y, S) -> (N, key y, Y, S)
        by_column = (columns @ q.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (N, S, key x, Y) -> (N, key x, Y, S)
        scores = k.transpose(1, 2) @ q.reshape(-1, self.head_width, queries)  # (N, S * S, queries)
        scores = scores.reshape(-1, side, side, queries)  # (N, key y, key x, queries)
        scores = scores + by_row.reshape(-1, side, 1, queries) + by_column.reshape(-1, 1, side, queries)
        scores = scores.reshape(-1, side * side, queries)
        if self.divides_last:
            weights = torch.exp(scores - (scores.amax(1, keepdim=True) + HEADROOM))
            attended = (v @ weights) / weights.sum(1, keepdim=True)
        else:
            attended = v @ scores.softmax(dim=1)
        return attended.reshape(-1, self.head_width, count, side)

    def folded(self) -> Attention:
        """Return an equal module for FP16: the scale of the keys, which it may not hold exactly, goes into ``qkv``.

        In a global block the division by the sum of weights comes after the product with the values: over 4096 keys
        probabilities are about 2.4e-4 and many of them subnormal, which the Neural Engine is reported to flush.
        """
        folded = copy.deepcopy(self)
        folded.divides_last = self.side > WINDOW
        folded.key_scale = 1.0
        for parameter in (folded.qkv.weight, folded.qkv.bias):
            parameter.data[self.width : 2 * self.width] *= self.key_scale
        return folded


class MLP(nn.Module):
    """Two linear layers with GELU between them, four times as wide inside: (B, C, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin1 = PointwiseLinear(width, 4 * width)
        self.lin2 = PointwiseLinear(4 * width, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class Block(nn.Module):
    """Pre-norm transformer block; ``window`` is the grid's side for a global one."""

    def __init__(self, config: ViTConfig, window: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(config.width, eps=1e-6)
        self.attn = Attention(config.width, config.heads, window)
        self.norm2 = LayerNorm2d(config.width, eps=1e-6)
        self.mlp = MLP(config.width)
        self.windows = Windows(GRID, window)
        self.width = config.width

    def forward(self, x: Tensor) -> Tensor:
        """Update the grid, (B, C, 64, 64) -> the same; padding attends and is attended to, as upstream's."""
        windows = self.windows.cut(self.windows.pad(self.norm1(x)), self.width)
        x = x + self.windows.join(self.attn(windows), self.width)
        return x + self.mlp(self.norm2(x))

    def channels_last(self) -> LastAxisBlock:
        """Return an equal block that computes with channels on the last axis."""
        return LastAxisBlock(self)


class RelativeAttention(LastAxisAttention):
    """``Attention`` with keys on the last axis of the scores, and channels on that of everything else."""

    by_row: Tensor
    by_column: Tensor

    def __init__(self, attention: Attention, grid: int) -> None:
        qkv = scaled_keys(attention.qkv, attention.key_scale)
        super().__init__(qkv, attention.proj, heads=attention.heads, grid=grid, window=attention.side)
        for name, table in (("by_row", attention.rel_pos_h), ("by_column", attention.rel_pos_w)):
            positions = table.detach()[attention.offsets].transpose(1, 2).contiguous()
            self.register_buffer(name, positions)  # (query, d, key)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within each window: q, k, v (N, side * side, d) -> the same."""
        side = self.window
        step = QUERY_ROWS if side > WINDOW else side
        attended = [
            self.scores(q[:, first * side : (first + step) * side], k, first, step).softmax(dim=2) @ v
            for first in range(0, side, step)
        ]
        return torch.cat(attended, dim=1) if len(attended) > 1 else attended[0]

    def scores(self, q: Tensor, k: Tensor, first: int, count: int) -> Tensor:
        """Return scores (N, count * side, side * side) of the rows of queries from ``first`` on: q (N, ..., d)."""
        side = self.window
        grid = q.reshape(-1, count, side, self.head_width)
        by_row = grid @ self.by_row[first : first + count]  # (N, y, x, key y)
        by_column = (grid.transpose(1, 2) @ self.by_column).transpose(1, 2)  # (N, y, x, key x)
        scores = (q @ k.transpose(1, 2)).reshape(-1, count, side, side, side)
        scores = scores + by_row.unsqueeze(4) + by_column.unsqueeze(3)
        return scores.reshape(-1, count * side, side * side)


class LastAxisBlock(nn.Module):
    """``Block`` with channels on the last axis inside."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.norm1, self.norm2 = LastAxisNorm(block.norm1), LastAxisNorm(block.norm2)
        self.attn = RelativeAttention(block.attn, GRID)
        self.mlp = block.mlp

    def forward(self, x: Tensor) -> Tensor:
        """Update the grid, (B, C, 64, 64) -> the same."""
        cells = channels_last(x)
        cells = cells + self.attn(self.norm1(cells))
        return channels_first(cells + channels_last(self.mlp(channels_first(self.norm2(cells)))))


class SamEncoder(nn.Module):
    """Vision transformer with absolute and relative positions, and a convolutional neck."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, GRID, GRID, config.width))
        self.patch_embed = PatchEmbedding(config.width)
        self.blocks = nn.ModuleList(
            Block(config, GRID if index in config.global_blocks else WINDOW) for index in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.width, EMBEDDING_DIM, kernel_size=1, bias=False),
            LayerNorm2d(EMBEDDING_DIM),
            nn.Conv2d(EMBEDDING_DIM, EMBEDDING_DIM, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_DIM),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image.

        Shapes:
            image (B, 3, 1024, 1024), normalised; returns (B, 256, 64, 64)
        """
        x = self.patch_embed(image) + self.pos_embed.permute(0, 3, 1, 2)  # (1, 64, 64, C) -> (1, C, 64, 64)
        for block in self.blocks:
            x = block(x)
        return self.neck(x)


@register_model(
    ModelInfo(
        name="medsam",
        family="sam",
        frame=ImageFrame(
            mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), fit="stretch_antialias", mask_resize="bilinear_direct"
        ),
        default_score="iou",
        description="MedSAM, ViT-B, for boxes on medical images; export one candidate",
        trained_prompts=("box",),
        image_domain="medical images, grey or colour, scaled to 0..255 by their own percentiles",
        sample_images="phantoms",
    )
)
@register_model(ModelInfo(name="sam_vit_b", family="sam", default_score="iou", description="Segment Anything, ViT-B"))
@register_model(ModelInfo(name="sam_vit_l", family="sam", default_score="iou", description="Segment Anything, ViT-L"))
@register_model(ModelInfo(name="sam_vit_h", family="sam", default_score="iou", description="Segment Anything, ViT-H"))
def build(info: ModelInfo) -> SamModel:
    """Return Segment Anything with PyTorch's random initialisation."""
    return SamModel(
        info=info,
        image_encoder=SamEncoder(CONFIGS[info.name]),
        prompt_encoder=PromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=MaskDecoder(),
    )
