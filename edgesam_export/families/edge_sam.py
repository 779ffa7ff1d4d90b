"""EdgeSAM: a RepViT-M1 encoder with a small neck, and SAM's own prompt encoder and mask decoder.

Zhou, Li, Loy, Dai 2023, "EdgeSAM: Prompt-In-the-Loop Distillation for SAM", https://arxiv.org/abs/2312.06660
Wang, Chen, Lin, Han, Ding 2023, "RepViT: Revisiting Mobile CNN From ViT Perspective", https://arxiv.org/abs/2307.09283

Checkpoints ``edge_sam`` and ``edge_sam_3x`` are one network; the second was trained three times as long.
Attribute names and their order are the keys of the released checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.families import register_model
from edgesam_export.modeling.common import ConvBN, LayerNorm2d, bias_of
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ModelInfo

__all__ = [
    "EdgeSamEncoder",
    "RepVGGDW",
    "RepViTBlock",
    "Residual",
    "SqueezeExcite",
    "Upsample2x",
    "UpsampleNeck",
    "embedding_neck",
    "repvit_features",
]

Stages = tuple[tuple[int, tuple[bool, ...]], ...]
STAGES: Stages = (
    (48, (True, False, False)),
    (96, (False, True, False, False)),
    (192, (False, *(True, False) * 7, False)),
    (384, (False, True, False)),
)
"""RepViT-M1: width of each stage and, block by block, squeeze-excite or not.

Stages after the first begin with a block of stride 2.
"""
EMBEDDING_DIM = 256


class RepVGGDW(nn.Module):
    """Depthwise 3x3, depthwise 1x1 and identity, summed; one depthwise 3x3 once re-parameterised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvBN(channels, channels, 3, groups=channels)
        self.conv1 = ConvBN(channels, channels, 1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.conv1(x) + x

    def folded(self) -> nn.Conv2d:
        """Return one depthwise 3x3 convolution that equals the three branches in evaluation mode."""
        conv, pointwise = self.conv.folded(), self.conv1.folded()
        conv.weight.data[:, :, 1:2, 1:2] += pointwise.weight.data + 1.0  # the identity is a 1x1 of ones
        bias_of(conv).data += bias_of(pointwise).data
        return conv


class Residual(nn.Module):
    """The input plus the output of ``m`` for it."""

    def __init__(self, m: nn.Module) -> None:
        super().__init__()
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        return x + self.m(x)


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from the means of all channels.

    The inner width is a quarter, to the nearest multiple of 8.
    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = max(8, int(channels * 0.25 + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(channels, reduced, kernel_size=1)
        self.fc2 = nn.Conv2d(reduced, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))


class RepViTBlock(nn.Module):
    """Depthwise token mixer, then a residual MLP of 1x1 convolutions over the channels."""

    def __init__(self, inputs: int, outputs: int, *, downsample: bool, squeeze_excite: bool) -> None:
        super().__init__()
        gate = SqueezeExcite(inputs) if squeeze_excite else nn.Identity()
        if downsample:
            self.token_mixer = nn.Sequential(
                ConvBN(inputs, inputs, 3, stride=2, groups=inputs), gate, ConvBN(inputs, outputs)
            )
        else:
            self.token_mixer = nn.Sequential(RepVGGDW(inputs), gate)
        self.channel_mixer = Residual(
            nn.Sequential(ConvBN(outputs, 2 * outputs), nn.GELU(), ConvBN(2 * outputs, outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.token_mixer(x))


class Upsample2x(nn.Module):
    """Twice the size; ``mode`` is "bicubic" (a = -0.75, edge clamped) or "bilinear", pixel centres aligned."""

    def __init__(self, mode: str, channels: int) -> None:
        super().__init__()
        self.mode = mode
        self.channels = channels

    @property
    def is_bicubic_2x(self) -> bool:
        """Whether a rewrite may replace this by an exact bicubic 2x."""
        return self.mode == "bicubic"

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode=self.mode, align_corners=False)


class UpsampleNeck(nn.Module):
    """1x1 convolution to the embedding's width, then twice the size."""

    def __init__(self, inputs: int, mode: str, outputs: int = EMBEDDING_DIM) -> None:
        super().__init__()
        self.op_list = nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=1, bias=False), Upsample2x(mode, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.op_list(x)


def repvit_features(stages: Stages) -> tuple[nn.ModuleList, list[int]]:
    """Return RepViT's stem and blocks in one list, and the index of each stage's last block.

    The stem halves the image's size twice, every stage after the first halves it once more.
    """
    width = stages[0][0]
    stem = nn.Sequential(ConvBN(3, width // 2, 3, stride=2), nn.GELU(), ConvBN(width // 2, width, 3, stride=2))
    blocks: list[nn.Module] = [stem]
    ends: list[int] = []
    for stage, (outputs, gates) in enumerate(stages):
        for position, gate in enumerate(gates):
            downsample = stage > 0 and position == 0
            blocks.append(RepViTBlock(width, outputs, downsample=downsample, squeeze_excite=gate))
            width = outputs
        ends.append(len(blocks) - 1)
    return nn.ModuleList(blocks), ends


def embedding_neck(dim: int) -> nn.Sequential:
    """Return SAM's neck after the fusion: 1x1 and 3x3 convolution, a LayerNorm after each."""
    return nn.Sequential(
        nn.Conv2d(dim, dim, kernel_size=1, bias=False),
        LayerNorm2d(dim),
        nn.Conv2d(dim, dim, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(dim),
    )


class EdgeSamEncoder(nn.Module):
    """RepViT-M1 whose last two stages are fused at 1/16 of the image's size."""

    any_size = True
    """Sizes of all maps are proportional to the image's."""

    def __init__(self, upsample: str = "bicubic") -> None:
        super().__init__()
        self.features, self.taps = repvit_features(STAGES)
        self.fuse_stage2 = nn.Conv2d(STAGES[2][0], EMBEDDING_DIM, kernel_size=1, bias=False)
        self.fuse_stage3 = UpsampleNeck(STAGES[3][0], upsample)
        self.neck = embedding_neck(EMBEDDING_DIM)

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image.

        Shapes:
            image (B, 3, S, S), normalised, S a multiple of 32; returns (B, 256, S/16, S/16)
        """
        x = image
        tapped = []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in self.taps[2:]:
                tapped.append(x)
        stage2, stage3 = tapped
        return self.neck(self.fuse_stage2(stage2) + self.fuse_stage3(stage3))


@register_model(
    ModelInfo(
        name="edge_sam", family="edge_sam", default_score="stability", description="EdgeSAM, RepViT-M1, one schedule"
    )
)
@register_model(
    ModelInfo(
        name="edge_sam_3x",
        family="edge_sam",
        default_score="stability",
        description="EdgeSAM, RepViT-M1, trained three times as long",
    )
)
def build(info: ModelInfo) -> SamModel:
    """Return EdgeSAM with PyTorch's random initialisation."""
    return SamModel(
        info=info,
        image_encoder=EdgeSamEncoder(info.upsample),
        prompt_encoder=PromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=MaskDecoder(),
    )
