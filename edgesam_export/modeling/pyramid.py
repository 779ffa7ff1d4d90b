"""Three maps instead of one: the neck and the mask decoder of SAM 2 and of models made from it, for single images.

Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos", https://arxiv.org/abs/2408.00714, appendix D.

The trunk returns four maps, at 1/4 to 1/32 of the image's size.  The coarsest one reaches the embedding at 1/16 and is
dropped; the two finest are added while the decoder upscales.  Parameters that upstream keeps in the decoder or at the
top level but that act on every image are the neck's here (``checkpoints.dialects`` has the released names).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.modeling.common import MLP, bias_of
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder

__all__ = [
    "EMBEDDING_DIM",
    "FINE_DIM",
    "FURTHER_MAPS",
    "MIDDLE_DIM",
    "ClampingPromptEncoder",
    "FoldedNeck",
    "ImageEncoder",
    "PyramidMaskDecoder",
    "PyramidNeck",
]

EMBEDDING_DIM = 256
FINE_DIM = 32
MIDDLE_DIM = 64
FURTHER_MAPS = ((FINE_DIM, 256, 256), (MIDDLE_DIM, 128, 128))
"""``ModelInfo.further_maps`` of these models: strides 4 and 8."""
MASK_LIMIT = 32.0
"""Mask prompts were logits clamped to this magnitude in training."""


class Lateral(nn.Module):
    """1x1 convolution of one trunk map; the name of its attribute is the checkpoint's."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, EMBEDDING_DIM, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PyramidNeck(nn.Module):
    """Four trunk maps to the maps of the decoder. ``widths``: the trunk's channels, fine to coarse."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Lateral(width) for width in reversed(widths))  # coarse to fine, as upstream
        self.conv_s0 = nn.Conv2d(EMBEDDING_DIM, FINE_DIM, kernel_size=1)
        self.conv_s1 = nn.Conv2d(EMBEDDING_DIM, MIDDLE_DIM, kernel_size=1)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, EMBEDDING_DIM))

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor, coarsest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B, 256, 64, 64), (B, 32, 256, 256) and (B, 64, 128, 128) from maps of strides 4, 8, 16 and 32."""
        to_coarsest, to_coarse, to_middle, to_fine = self.convs
        embedding = to_coarse(coarse) + F.interpolate(to_coarsest(coarsest), scale_factor=2.0, mode="nearest")
        embedding = embedding + self.no_mem_embed.reshape(1, EMBEDDING_DIM, 1, 1)
        return embedding, self.conv_s0(to_fine(fine)), self.conv_s1(to_middle(middle))

    def folded(self) -> FoldedNeck:
        """Return an equal neck of four convolutions: no map has 256 channels at stride 4 or 8."""
        return FoldedNeck(self)


class FoldedNeck(nn.Module):
    """``PyramidNeck`` with each pair of 1x1 convolutions as one, and the added vector in a bias."""

    def __init__(self, neck: PyramidNeck) -> None:
        super().__init__()
        coarsest, coarse, middle, fine = (lateral.conv for lateral in neck.convs if isinstance(lateral, Lateral))
        self.coarsest = coarsest
        self.coarse = with_bias(coarse, bias_of(coarse) + neck.no_mem_embed.reshape(-1))
        self.middle = in_a_row(middle, neck.conv_s1)
        self.fine = in_a_row(fine, neck.conv_s0)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor, coarsest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the decoder's maps, see ``PyramidNeck.forward``."""
        return self.embedding(coarse, self.coarsest(coarsest)), self.fine(fine), self.middle(middle)

    def embedding(self, coarse: Tensor, top: Tensor) -> Tensor:
        """Return (B, 256, 64, 64) from the map of stride 16 and what ``coarsest`` makes of that of stride 32."""
        return self.coarse(coarse) + F.interpolate(top, scale_factor=2.0, mode="nearest")


def with_bias(conv: nn.Conv2d, bias: Tensor) -> nn.Conv2d:
    """Return a 1x1 convolution with the same weight and another bias."""
    result = nn.Conv2d(conv.in_channels, conv.out_channels, kernel_size=1)
    result.weight.data = conv.weight.detach().clone()
    bias_of(result).data = bias.detach().clone()
    return result


def in_a_row(first: nn.Conv2d, second: nn.Conv2d) -> nn.Conv2d:
    """Return one 1x1 convolution that equals two, multiplied out in double precision."""
    outer, inner = (conv.weight.detach().double().flatten(1) for conv in (second, first))
    result = nn.Conv2d(first.in_channels, second.out_channels, kernel_size=1)
    result.weight.data = (outer @ inner).float()[:, :, None, None]
    bias_of(result).data = (outer @ bias_of(first).detach().double() + bias_of(second).detach().double()).float()
    return result


class ImageEncoder(nn.Module):
    """A trunk, which returns four maps, and the neck."""

    def __init__(self, trunk: nn.Module, widths: Sequence[int]) -> None:
        super().__init__()
        self.trunk = trunk
        self.neck: nn.Module = PyramidNeck(widths)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed an image.

        Shapes:
            image (B, 3, 1024, 1024), normalised
            returns (B, 256, 64, 64), (B, 32, 256, 256), (B, 64, 128, 128)
        """
        maps: tuple[Tensor, Tensor, Tensor] = self.neck(*self.trunk(image))
        return maps


class ClampingPromptEncoder(PromptEncoder):
    """SAM's prompt encoder; a mask prompt is clamped to the range that it had in training."""

    mask_limit = MASK_LIMIT


class PyramidMaskDecoder(MaskDecoder):
    """SAM's mask decoder with two finer maps, a token for an object's presence, and an IoU between 0 and 1."""

    leading_tokens = 1
    scores_objects = True

    def __init__(self) -> None:
        super().__init__()
        self.obj_score_token = nn.Embedding(1, EMBEDDING_DIM)
        self.iou_prediction_head = MLP(EMBEDDING_DIM, EMBEDDING_DIM, self.num_mask_tokens, 3, sigmoid_output=True)
        self.pred_obj_score_head: nn.Module = MLP(EMBEDDING_DIM, EMBEDDING_DIM, 1, 3)

    def output_tokens(self) -> tuple[Tensor, ...]:
        """Return the object score's, the IoU's and the mask tokens."""
        return self.obj_score_token.weight, *super().output_tokens()

    def object_score(self, tokens: Tensor) -> Tensor:
        """Return one logit (B, 1), above 0 for an object that is there, of the tokens that ``attend`` returns."""
        score: Tensor = self.pred_obj_score_head(tokens[:, 0])
        return score

    def upscale(self, image: Tensor, *further: Tensor) -> Tensor:
        """Four times the size: (B, 256, 64, 64), (B, 32, 256, 256) and (B, 64, 128, 128) -> (B, 32, 256, 256)."""
        fine, middle = further
        first, norm, activation, second, last = self.output_upscaling
        return last(second(activation(norm(first(image) + middle))) + fine)
