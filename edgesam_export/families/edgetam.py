"""EdgeTAM on single images: RepViT-M1 whose four stages feed SAM 2's neck and mask decoder.

Zhou et al. 2025, "EdgeTAM: On-Device Track Anything Model", https://arxiv.org/abs/2501.07256

The trunk is timm's ``repvit_m1``: the network of EdgeSAM's encoder under other names.  Attribute names and their order
are the keys of the released checkpoint; its video part (memory, object pointers) is not used for an image.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgesam_export.families import register_model
from edgesam_export.families.edge_sam import RepVGGDW, SqueezeExcite
from edgesam_export.modeling.common import ConvBN
from edgesam_export.modeling.pyramid import FURTHER_MAPS, ClampingPromptEncoder, ImageEncoder, PyramidMaskDecoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ImageFrame, ModelInfo

__all__ = ["RepViTTrunk"]

WIDTHS = (48, 96, 192, 384)
DEPTHS = (2, 2, 14, 2)


class ChannelMLP(nn.Module):
    """Residual MLP of 1x1 convolutions, inner width twice as large."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(channels, 2 * channels)
        self.act = nn.GELU()
        self.conv2 = ConvBN(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.act(self.conv1(x)))


class Block(nn.Module):
    """RepViT block of stride 1: depthwise token mixer, gate, MLP over the channels."""

    def __init__(self, channels: int, *, squeeze_excite: bool) -> None:
        super().__init__()
        self.token_mixer = RepVGGDW(channels)
        self.se = SqueezeExcite(channels) if squeeze_excite else nn.Identity()
        self.channel_mixer = ChannelMLP(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.se(self.token_mixer(x)))


class Downsample(nn.Module):
    """A block, half the size, then the next stage's width: (B, inputs, H, W) -> (B, outputs, H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pre_block = Block(inputs, squeeze_excite=False)
        self.spatial_downsample = ConvBN(inputs, inputs, 3, stride=2, groups=inputs)
        self.channel_downsample = ConvBN(inputs, outputs)
        self.ffn = ChannelMLP(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn(self.channel_downsample(self.spatial_downsample(self.pre_block(x))))


class Stage(nn.Module):
    """Downsampling (none in the first stage), then blocks of which every second one has a gate."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.downsample = Downsample(inputs, outputs) if inputs != outputs else nn.Identity()
        self.blocks = nn.Sequential(*(Block(outputs, squeeze_excite=index % 2 == 0) for index in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


class Stem(nn.Module):
    """A quarter of the image's size: (B, 3, S, S) -> (B, width, S/4, S/4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(3, width // 2, 3, stride=2)
        self.act1 = nn.GELU()
        self.conv2 = ConvBN(width // 2, width, 3, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv2(self.act1(self.conv1(image)))


class RepViTTrunk(nn.Module):
    """RepViT-M1 that returns the output of each of its four stages."""

    def __init__(self) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {"stem": Stem(WIDTHS[0])}
        for index, (inputs, outputs, depth) in enumerate(zip((WIDTHS[0], *WIDTHS), WIDTHS, DEPTHS)):
            parts[f"stages_{index}"] = Stage(inputs, outputs, depth)
        self.body = nn.ModuleDict(parts)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return maps of strides 4 to 32 with the channels of ``WIDTHS`` from an image (B, 3, S, S), normalised."""
        x, maps = image, []
        for part in self.body.values():
            x = part(x)
            maps.append(x)
        return tuple(maps[1:])


@register_model(
    ModelInfo(
        name="edgetam",
        family="edgetam",
        frame=ImageFrame(fit="stretch_antialias", mask_resize="bilinear_direct"),
        padding_point="always",
        further_maps=FURTHER_MAPS,
        description="EdgeTAM, RepViT-M1, image mode",
    )
)
def build(info: ModelInfo) -> SamModel:
    """Return EdgeTAM's image part with PyTorch's random initialisation."""
    return SamModel(
        info=info,
        image_encoder=ImageEncoder(RepViTTrunk(), WIDTHS),
        prompt_encoder=ClampingPromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=PyramidMaskDecoder(),
    )
