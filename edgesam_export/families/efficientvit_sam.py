"""EfficientViT-SAM: an EfficientViT-L or -XL encoder with linear attention, and SAM's prompt encoder and mask decoder.

Zhang, Cai, Han 2024, "EfficientViT-SAM: Accelerated Segment Anything Model Without Performance Loss",
https://arxiv.org/abs/2402.05008
Cai, Li, Hu, Gan, Han 2023, "EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction",
https://arxiv.org/abs/2205.14756

L0 to L2 take images of 512 pixels, XL0 and XL1 of 1024; prompts and masks of all lie in the frame of 1024.
Attribute names and their order are the keys of the released checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgesam_export.families import register_model
from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ImageFrame, ModelInfo

__all__ = [
    "CONFIGS",
    "ConvLayer",
    "EfficientViTConfig",
    "EfficientViTEncoder",
    "MultiScaleAttention",
    "OpList",
    "ReluLinearAttention",
    "Upsample",
]

EMBEDDING_DIM = 256
NORM_EPS = 1e-6
HEAD_WIDTH = 32


@dataclass(frozen=True, kw_only=True)
class EfficientViTConfig:
    """Size of an encoder; the stages halve the image one after the other, the last three go to the neck."""

    size: int
    """Side of the image, pixels."""
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    """Blocks of each stage after the block that halves the image."""
    kinds: tuple[str, ...]
    """Of each stage's blocks: ``residual``, ``fused``, ``mobile`` or ``attention``."""
    expansions: tuple[int, ...]
    """Inner width of blocks over their outer one; four times that in the block that halves the image."""
    kernel: int
    """Side of the depthwise convolution that makes the second scale of the attention."""
    neck_depth: int
    neck_expansion: int


def config_l(depths: tuple[int, ...], neck_depth: int) -> EfficientViTConfig:
    """Return EfficientViT-L: five stages, the last with attention over 16 x 16 cells."""
    return EfficientViTConfig(
        size=512,
        widths=(32, 64, 128, 256, 512),
        depths=depths,
        kinds=("residual", "fused", "fused", "mobile", "attention"),
        expansions=(1, 4, 4, 4, 6),
        kernel=5,
        neck_depth=neck_depth,
        neck_expansion=1,
    )


def config_xl(depths: tuple[int, ...], neck_depth: int) -> EfficientViTConfig:
    """Return EfficientViT-XL: six stages, the last two with attention, over 32 x 32 and 16 x 16 cells."""
    return EfficientViTConfig(
        size=1024,
        widths=(32, 64, 128, 256, 512, 1024),
        depths=depths,
        kinds=("residual", "fused", "fused", "fused", "attention", "attention"),
        expansions=(1, 4, 4, 4, 4, 6),
        kernel=3,
        neck_depth=neck_depth,
        neck_expansion=4,
    )


CONFIGS = {
    "efficientvit_sam_l0": config_l((1, 1, 1, 4, 4), neck_depth=4),
    "efficientvit_sam_l1": config_l((1, 1, 1, 6, 6), neck_depth=8),
    "efficientvit_sam_l2": config_l((1, 2, 2, 8, 8), neck_depth=12),
    "efficientvit_sam_xl0": config_xl((0, 1, 1, 2, 3, 3), neck_depth=6),
    "efficientvit_sam_xl1": config_xl((1, 2, 2, 4, 6, 6), neck_depth=12),
}


class ConvLayer(nn.Module):
    """Convolution, batch norm and GELU in its tanh form; padded so that stride 1 keeps the size."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        norm: bool = True,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(outputs, eps=NORM_EPS) if norm else nn.Identity()
        self.act = nn.GELU(approximate="tanh") if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))

    def folded(self) -> nn.Sequential | None:
        """Return convolution and activation that equal this in evaluation mode; None when there is no norm."""
        if isinstance(self.norm, nn.Identity):
            return None
        return nn.Sequential(fuse_conv_bn_eval(self.conv, self.norm), self.act)


class ResidualConvs(nn.Module):
    """Two 3x3 convolutions, GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(width, width, 3)
        self.conv2 = ConvLayer(width, width, 3, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class FusedMBConv(nn.Module):
    """3x3 convolution to a larger width, 1x1 back.

    Source: Tan, Le 2021, "EfficientNetV2", https://arxiv.org/abs/2104.00298.
    """

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int = 1) -> None:
        super().__init__()
        inner = inputs * expansion
        self.spatial_conv = ConvLayer(inputs, inner, 3, stride=stride)
        self.point_conv = ConvLayer(inner, outputs, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.spatial_conv(x))


class MBConv(nn.Module):
    """1x1 convolution to a larger width, depthwise 3x3, 1x1 back; a norm after the last only.

    Source: Sandler et al. 2018, "MobileNetV2", https://arxiv.org/abs/1801.04381.
    """

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int = 1) -> None:
        super().__init__()
        inner = inputs * expansion
        self.inverted_conv = ConvLayer(inputs, inner, bias=True, norm=False)
        self.depth_conv = ConvLayer(inner, inner, 3, stride=stride, groups=inner, bias=True, norm=False)
        self.point_conv = ConvLayer(inner, outputs, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(self.inverted_conv(x)))


class ReluLinearAttention(nn.Module):
    """Attention whose weights are relu(q) . relu(k), so that keys meet values before queries do. No parameters.

    Its sums run over all cells and its epsilon is far below FP16's smallest number: float32 only.
    """

    is_relu_linear_attention = True

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q, k, v (B, heads, d, cells) -> (B, heads, d, cells)."""
        q, k = torch.relu(q), torch.relu(k)
        attended = (v @ k.transpose(2, 3)) @ q  # (B, heads, d of v, d of k), then (B, heads, d, cells)
        total = k.sum(dim=3).unsqueeze(2) @ q  # (B, heads, 1, cells)
        return attended / (total + 1e-15)


class MultiScaleAttention(nn.Module):
    """Linear attention of the cells themselves and of their neighbourhoods, side by side as further heads.

    A head's q, k and v lie together, 32 channels each.
    """

    def __init__(self, width: int, side: int, kernel: int) -> None:
        super().__init__()
        self.width, self.side = width, side
        self.qkv = ConvLayer(width, 3 * width, norm=False, act=False)
        depthwise = nn.Conv2d(3 * width, 3 * width, kernel, padding=kernel // 2, groups=3 * width, bias=False)
        pointwise = nn.Conv2d(3 * width, 3 * width, 1, groups=3 * width // HEAD_WIDTH, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(depthwise, pointwise)])
        self.attention = ReluLinearAttention(side * side)
        self.proj = ConvLayer(2 * width, width, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, C, side, side) -> the same."""
        near = self.qkv(x)
        scales = torch.cat([near, self.aggreg[0](near)], dim=1)  # (B, 6 * C, side, side)
        heads = scales.reshape(-1, 2 * self.width // HEAD_WIDTH, 3 * HEAD_WIDTH, self.side * self.side)
        q, k, v = torch.split(heads, HEAD_WIDTH, dim=2)  # (B, heads, 32, cells)
        return self.proj(self.attention(q, k, v).reshape(-1, 2 * self.width, self.side, self.side))


class Block(nn.Module):
    """``main``, added to its input unless it changes the size."""

    def __init__(self, main: nn.Module, *, residual: bool = True) -> None:
        super().__init__()
        self.main = main
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x) if self.residual else self.main(x)


class AttentionBlock(nn.Module):
    """Attention, then a convolutional block, each added to its input."""

    def __init__(self, width: int, *, side: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.context_module = Block(MultiScaleAttention(width, side, kernel))
        self.local_module = Block(MBConv(width, width, expansion=expansion))

    def forward(self, x: Tensor) -> Tensor:
        return self.local_module(self.context_module(x))


class OpList(nn.Module):
    """Modules one after the other."""

    def __init__(self, *ops: nn.Module) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(ops)

    def forward(self, x: Tensor) -> Tensor:
        for op in self.op_list:
            x = op(x)
        return x


def stage_block(config: EfficientViTConfig, stage: int) -> nn.Module:
    """Return a block of a stage that keeps width and size."""
    width, expansion = config.widths[stage], config.expansions[stage]
    match config.kinds[stage]:
        case "residual":
            return Block(ResidualConvs(width))
        case "fused":
            return Block(FusedMBConv(width, width, expansion=expansion))
        case "mobile":
            return Block(MBConv(width, width, expansion=expansion))
        case _:
            side = config.size >> (stage + 1)
            return AttentionBlock(width, side=side, kernel=config.kernel, expansion=expansion)


def halving_block(config: EfficientViTConfig, stage: int) -> nn.Module:
    """Return the first block of a stage, which halves the image."""
    if stage == 0:
        return ConvLayer(3, config.widths[0], 3, stride=2)
    kind = FusedMBConv if config.kinds[stage] == "fused" else MBConv
    inputs, outputs = config.widths[stage - 1 : stage + 1]
    return Block(kind(inputs, outputs, expansion=4 * config.expansions[stage], stride=2), residual=False)


class Backbone(nn.Module):
    """The stages of EfficientViT."""

    def __init__(self, config: EfficientViTConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            OpList(halving_block(config, stage), *(stage_block(config, stage) for _ in range(depth)))
            for stage, depth in enumerate(config.depths)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the outputs of the last three stages for an image (B, 3, S, S), smallest first."""
        x, outputs = image, []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs[:-4:-1]


class Upsample(nn.Module):
    """``scale`` times the size; ``mode`` "bicubic" (a = -0.75, edge clamped) or "bilinear", pixel centres aligned."""

    def __init__(self, mode: str, channels: int, scale: int) -> None:
        super().__init__()
        self.mode = mode
        self.channels = channels
        self.scale = scale

    @property
    def bicubic_scale(self) -> int | None:
        """Factor of an exact bicubic upsampling that a rewrite may put here, None when this is not bicubic."""
        return self.scale if self.mode == "bicubic" else None

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=self.scale, mode=self.mode, align_corners=False)


class Neck(nn.Module):
    """The last three stages at the embedding's width and size, summed, then convolutional blocks."""

    def __init__(self, config: EfficientViTConfig, mode: str) -> None:
        super().__init__()
        inputs = []
        for scale, width in zip((4, 2, 1), config.widths[::-1]):
            resize = [] if scale == 1 else [Upsample(mode, EMBEDDING_DIM, scale)]
            inputs.append(OpList(ConvLayer(width, EMBEDDING_DIM, act=False), *resize))
        self.input_ops = nn.ModuleList(inputs)
        self.middle = OpList(
            *(
                Block(FusedMBConv(EMBEDDING_DIM, EMBEDDING_DIM, expansion=config.neck_expansion))
                for _ in range(config.neck_depth)
            )
        )
        output = ConvLayer(EMBEDDING_DIM, EMBEDDING_DIM, bias=True, norm=False, act=False)
        self.output_ops = nn.ModuleList([OpList(output)])

    def forward(self, stages: list[Tensor]) -> Tensor:
        coarse, medium, fine = (op(x) for op, x in zip(self.input_ops, stages))
        return self.output_ops[0](self.middle(coarse + medium + fine))


class EfficientViTEncoder(nn.Module):
    """EfficientViT, a neck over its last three stages, and a channel norm."""

    def __init__(self, config: EfficientViTConfig, upsample: str = "bicubic") -> None:
        super().__init__()
        self.backbone = Backbone(config)
        self.neck = Neck(config, upsample)
        self.norm = LayerNorm2d(EMBEDDING_DIM, eps=NORM_EPS)

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image.

        Shapes:
            image (B, 3, S, S), normalised, S = ``config.size``; returns (B, 256, 64, 64)
        """
        return self.norm(self.neck(self.backbone(image)))


def info_of(name: str) -> ModelInfo:
    """Return a variant's metadata, ``name`` ending in its size."""
    variant = name.rpartition("_")[2].upper()
    return ModelInfo(
        name=name,
        family="efficientvit_sam",
        frame=ImageFrame(size=CONFIGS[name].size, prompt_size=1024),
        default_score="iou",
        description=f"EfficientViT-SAM, EfficientViT-{variant} on {CONFIGS[name].size} pixels",
    )


@register_model(info_of("efficientvit_sam_l0"))
@register_model(info_of("efficientvit_sam_l1"))
@register_model(info_of("efficientvit_sam_l2"))
@register_model(info_of("efficientvit_sam_xl0"))
@register_model(info_of("efficientvit_sam_xl1"))
def build(info: ModelInfo) -> SamModel:
    """Return EfficientViT-SAM with PyTorch's random initialisation."""
    return SamModel(
        info=info,
        image_encoder=EfficientViTEncoder(CONFIGS[info.name], info.upsample),
        prompt_encoder=PromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=MaskDecoder(layer_norm_eps=NORM_EPS),
    )
