"""MobileSAM: a TinyViT-5M encoder distilled from SAM's, and SAM's own prompt encoder and mask decoder.

Zhang et al. 2023, "Faster Segment Anything: Towards Lightweight SAM for Mobile Applications",
https://arxiv.org/abs/2306.14289
Wu et al. 2022, "TinyViT: Fast Pretraining Distillation for Small Vision Transformers",
https://arxiv.org/abs/2207.10666

Attribute names and their order are the keys of the released checkpoint.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgesam_export.families import register_model
from edgesam_export.modeling.channels_first import PointwiseLinear, Windows
from edgesam_export.modeling.channels_last import (
    LastAxisAttention,
    LastAxisNorm,
    channels_first,
    channels_last,
)
from edgesam_export.modeling.common import ConvBN, LayerNorm2d
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ModelInfo

__all__ = [
    "STAGES",
    "MBConv",
    "PatchEmbedding",
    "Stage",
    "TinyViTBlock",
    "TinyViTEncoder",
    "WindowAttention",
    "embedding_neck",
    "stages_on",
]

EMBEDDING_DIM = 256
NORM_EPS = 1e-5
CLASSES = 1000
"""Outputs of the classifier that checkpoints still hold; nothing reads it."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage; ``window`` 0 is the convolutional one, ``stride`` that of the downsampling after it (0: none)."""

    width: int
    depth: int
    heads: int
    window: int
    stride: int


# TinyViT-5M; the last stage keeps 1/16 of the image's size, where the classifier goes down to 1/32.
STAGES = (
    StageConfig(width=64, depth=2, heads=0, window=0, stride=2),
    StageConfig(width=128, depth=2, heads=4, window=7, stride=2),
    StageConfig(width=160, depth=6, heads=5, window=14, stride=1),
    StageConfig(width=320, depth=2, heads=10, window=7, stride=0),
)


class PatchEmbedding(nn.Module):
    """Two convolutions: of 3x3 and stride 2, (B, 3, S, S) -> (B, C, S/4, S/4), or of 1x1, which keep the size."""

    def __init__(self, width: int, kernel: int = 3, stride: int = 2) -> None:
        super().__init__()
        first = ConvBN(3, width // 2, kernel, stride=stride)
        self.seq = nn.Sequential(first, nn.GELU(), ConvBN(width // 2, width, kernel, stride=stride))

    def forward(self, image: Tensor) -> Tensor:
        return self.seq(image)


class MBConv(nn.Module):
    """Inverted residual: 1x1 to four times the width, depthwise 3x3, 1x1 back; GELU after each, the last after the sum.

    Source: Sandler et al. 2018, "MobileNetV2", https://arxiv.org/abs/1801.04381.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(width, 4 * width)
        self.conv2 = ConvBN(4 * width, 4 * width, 3, groups=4 * width)
        self.conv3 = ConvBN(4 * width, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.act(self.conv2(self.act(self.conv1(x))))
        return self.act(x + self.conv3(inner))


class PatchMerging(nn.Module):
    """From one stage's width to the next one's, with a depthwise 3x3 of ``stride`` between two 1x1 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(inputs, outputs)
        self.conv2 = ConvBN(outputs, outputs, 3, stride=stride, groups=outputs)
        self.conv3 = ConvBN(outputs, outputs)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.act(self.conv2(self.act(self.conv1(x)))))


class WindowAttention(nn.Module):
    """LayerNorm and self-attention within windows, with a learned bias for each head and distance.

    The grid is padded with zeros before the norm and nothing is masked, so a padded token takes part: as the norm's
    bias.  Keys lie before queries in the scores, so that queries stay on the last axis.
    """

    def __init__(self, grid: int, config: StageConfig) -> None:
        super().__init__()
        self.width, self.heads = config.width, config.heads
        self.head_width = config.width // config.heads
        self.attention_biases = nn.Parameter(torch.zeros(config.heads, config.window**2))
        self.norm = LayerNorm2d(config.width, eps=NORM_EPS)
        self.qkv = PointwiseLinear(config.width, 3 * config.width)
        self.proj = PointwiseLinear(config.width, config.width)
        self.distances = distance_indexes(config.window)  # no buffer: integers, not weights
        self.windows = Windows(grid, config.window)
        self.pads_before_norm = True
        self.key_scale = self.head_width**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, C, grid, grid) -> the same."""
        x = self.norm(self.windows.pad(x)) if self.pads_before_norm else self.windows.pad(self.norm(x))
        x = self.windows.cut(x, self.width)  # (N, C, 1, tokens), N windows
        tokens = self.windows.size**2
        heads = self.qkv(x).reshape(-1, self.heads, 3 * self.head_width, tokens)
        q, k, v = heads.split(self.head_width, dim=2)  # (N, heads, d, tokens)
        k = k if self.key_scale == 1 else k * self.key_scale
        scores = k.transpose(2, 3) @ q  # (N, heads, keys, queries)
        weights = (scores + self.attention_biases[:, self.distances]).softmax(dim=2)
        attended = (v @ weights).reshape(-1, self.width, 1, tokens)
        return self.windows.join(self.proj(attended), self.width)

    def folded(self) -> WindowAttention:
        """Return an equal module with the norm's weight and bias and the scale of the keys moved into ``qkv``.

        So the norm never sees the padding: a padded token has variance 0, and where the norm's epsilon is below the
        smallest number of the hardware's FP16, it would be divided by 0.  And every stored scale is exact in FP16.
        """
        folded = copy.deepcopy(self)
        folded.pads_before_norm, folded.key_scale = False, 1.0
        folded.qkv.bias.data += self.qkv.weight @ self.norm.bias
        folded.qkv.weight.data *= self.norm.weight
        folded.norm.weight.data.fill_(1.0)
        folded.norm.bias.data.zero_()
        for parameter in (folded.qkv.weight, folded.qkv.bias):
            parameter.data.view(self.heads, 3, self.head_width, -1)[:, 1] *= self.key_scale
        return folded


def distance_indexes(size: int) -> Tensor:
    """Return (keys, queries) positions in the bias table: distances are numbered as first met from the first cell.

    From the first cell of a window, in reading order, the distance (|dy|, |dx|) is the cell's own position (y, x).
    """
    position = torch.arange(size)
    apart = (position[:, None] - position[None, :]).abs()
    rows = apart[:, None, :, None].expand(size, size, size, size)  # (key y, key x, query y, query x)
    columns = apart[None, :, None, :].expand(size, size, size, size)
    return (rows * size + columns).reshape(size * size, size * size)


class MLP(nn.Module):
    """LayerNorm, then two linear layers with GELU between them, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(width, eps=NORM_EPS)
        self.fc1 = PointwiseLinear(width, 4 * width)
        self.fc2 = PointwiseLinear(4 * width, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Window attention, a depthwise convolution that mixes neighbouring windows, and an MLP."""

    def __init__(self, grid: int, config: StageConfig) -> None:
        super().__init__()
        self.attn = WindowAttention(grid, config)
        self.mlp = MLP(config.width)
        self.local_conv = ConvBN(config.width, config.width, 3, groups=config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.local_conv(x + self.attn(x))
        return x + self.mlp(x)

    def channels_last(self) -> LastAxisBlock:
        """Return an equal block that computes with channels on the last axis, but for the convolution."""
        return LastAxisBlock(self)


class BiasedAttention(LastAxisAttention):
    """``WindowAttention`` without its norm: keys on the last axis of the scores, channels on that of all else."""

    bias: Tensor

    def __init__(self, attention: WindowAttention) -> None:
        qkv, heads = attention.qkv, attention.heads
        ordered = PointwiseLinear(qkv.in_features, qkv.out_features)
        for name in ("weight", "bias"):
            rows = getattr(qkv, name).detach().reshape(heads, 3, attention.head_width, -1)
            getattr(ordered, name).data = rows.transpose(0, 1).reshape(getattr(qkv, name).shape).clone()
        windows = attention.windows
        super().__init__(ordered, attention.proj, heads=heads, grid=windows.grid, window=windows.size)
        self.register_buffer("bias", attention.attention_biases.detach()[:, attention.distances])  # (heads, key, query)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend within each window: q, k, v (N, cells, d) -> the same."""
        scores = (q @ k.transpose(1, 2)).reshape(-1, *self.bias.shape) + self.bias  # symmetric in key and query
        return scores.softmax(dim=3).reshape(-1, *self.bias.shape[1:]) @ v


class LastAxisBlock(nn.Module):
    """``TinyViTBlock`` with channels on the last axis inside."""

    def __init__(self, block: TinyViTBlock) -> None:
        super().__init__()
        attention = block.attn.folded() if block.attn.pads_before_norm else block.attn
        self.norm, self.attn = LastAxisNorm(attention.norm), BiasedAttention(attention)
        self.local_conv = block.local_conv
        self.mlp_norm, self.mlp = (
            LastAxisNorm(block.mlp.norm),
            nn.Sequential(block.mlp.fc1, block.mlp.act, block.mlp.fc2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Update the grid, (B, C, grid, grid) -> the same."""
        cells = channels_last(x)
        cells = cells + self.attn(self.norm(cells))
        cells = channels_last(self.local_conv(channels_first(cells)))
        return channels_first(cells + channels_last(self.mlp(channels_first(self.mlp_norm(cells)))))


class Stage(nn.Module):
    """Blocks of one width, then the downsampling to the next stage's."""

    def __init__(self, grid: int, config: StageConfig, next_width: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(TinyViTBlock(grid, config) if config.window else MBConv(config.width) for _ in range(config.depth))
        )
        self.downsample: nn.Module
        if config.stride:
            self.downsample = PatchMerging(config.width, next_width, config.stride)
        else:
            self.downsample = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.blocks(x))


def stages_on(grid: int) -> nn.ModuleList:
    """Return the stages for an embedded image of ``grid`` x ``grid`` cells; the last one has a quarter of that side."""
    stages = []
    for config, following in zip(STAGES, (*STAGES[1:], STAGES[-1]), strict=True):
        stages.append(Stage(grid, config, following.width))
        grid //= config.stride or 1
    return nn.ModuleList(stages)


def embedding_neck(width: int) -> nn.Sequential:
    """Return SAM's neck, from the last stage's width to the embedding's."""
    return nn.Sequential(
        nn.Conv2d(width, EMBEDDING_DIM, kernel_size=1, bias=False),
        LayerNorm2d(EMBEDDING_DIM),
        nn.Conv2d(EMBEDDING_DIM, EMBEDDING_DIM, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(EMBEDDING_DIM),
    )


class TinyViTEncoder(nn.Module):
    """TinyViT-5M for images of ``size`` x ``size``, and SAM's neck."""

    def __init__(self, size: int = 1024) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(STAGES[0].width)
        self.layers = stages_on(size // 4)
        width = STAGES[-1].width
        self.norm_head = nn.LayerNorm(width, eps=NORM_EPS)
        self.head = nn.Linear(width, CLASSES)
        self.neck = embedding_neck(width)

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image.

        Shapes:
            image (B, 3, S, S), normalised; returns (B, 256, S/16, S/16)
        """
        x = self.patch_embed(image)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)


@register_model(
    ModelInfo(name="mobile_sam", family="mobile_sam", default_score="iou", description="MobileSAM, TinyViT-5M")
)
def build(info: ModelInfo) -> SamModel:
    """Return MobileSAM with PyTorch's random initialisation."""
    return SamModel(
        info=info,
        image_encoder=TinyViTEncoder(info.frame.size),
        prompt_encoder=PromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=MaskDecoder(),
    )
