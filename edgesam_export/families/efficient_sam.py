"""EfficientSAM: a small plain vision transformer, and a mask decoder that differs from SAM's in a few respects.

Xiong et al. 2023, "EfficientSAM: Leveraged Masked Image Pretraining for Efficient Segment Anything",
https://arxiv.org/abs/2312.00863
Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929, for the encoder.

Differences from SAM: the image is stretched to a square.  A prompt always has six slots; the unused ones are tokens
like the others.  There is no mask prompt and no padding point.  In the decoder every MLP has GELU, the first
self-attention is added to the tokens, a position once added to the tokens stays, and a GroupNorm with one group
follows the first upscaling.  Masks go to source size in one bicubic step.  Upstream counts a logit of exactly 0 as mask
(``>= 0``); this project says ``> 0`` for every family.

Attribute names are the keys of the released checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.errors import UsageError
from edgesam_export.families import register_model
from edgesam_export.modeling.channels_first import PatchEmbedding, PointwiseLinear
from edgesam_export.modeling.common import FeedForward, LayerNorm2d, OneGroupNorm
from edgesam_export.modeling.mask_decoder import Hypernetworks, MaskDecoder
from edgesam_export.modeling.prompt_encoder import BasePromptEncoder
from edgesam_export.modeling.sam import Maps, SamModel, as_maps, check_prompt
from edgesam_export.modeling.transformer import TwoWayTransformer
from edgesam_export.spec import EMPTY_SLOT, EVERY_FORMAT, NOT_A_POINT, ImageFrame, ModelInfo

__all__ = [
    "Attention",
    "Block",
    "EfficientSam",
    "EfficientSamEncoder",
    "EfficientSamMaskDecoder",
    "ExactSlots",
    "FoldedEncoder",
    "GeluMLP",
    "OneGroupNorm",
    "SlotPromptEncoder",
    "ViTConfig",
]

EMBEDDING_DIM = 256
NORM_EPS = 1e-6
GRID = 64
"""Cells per side of the image: 1024 / 16."""
PRETRAINED_GRID = 14
"""Cells per side of the images of 224 pixels whose positional table checkpoints hold."""
QUERY_ROWS = 8
"""Rows of queries that attend at once; the scores of all 64 would be 32 MB a head in FP16."""
SLOTS = 6
UNUSED = (EMPTY_SLOT, NOT_A_POINT)
UNUSED_COORDINATE = -1.0
"""Both coordinates of an unused slot."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Size of an encoder."""

    width: int
    heads: int
    depth: int = 12


CONFIGS = {
    "efficient_sam_vitt": ViTConfig(width=192, heads=3),
    "efficient_sam_vits": ViTConfig(width=384, heads=6),
}


class Attention(nn.Module):
    """Multi-head self-attention of all cells of the image, normalised after the product with the values.

    Over 4096 keys a probability is about 2.4e-4 and much of what is below lies under FP16's normal range, which the
    Neural Engine is reported to flush to zero.  Exponentials of at most 1/4 reach further down, and sums of 4096 of
    them stay below 2^15, where it is reported to saturate.  Keys lie before queries, so that queries stay on the last
    axis and the values are not transposed.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.width = config.width
        self.head_width = config.width // config.heads
        self.qkv = PointwiseLinear(config.width, 3 * config.width)
        self.proj = PointwiseLinear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, C, 64, 64) -> the same."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        q = q.reshape(-1, self.head_width, GRID, GRID)  # (B * heads, d, y, x)
        k = (k * self.head_width**-0.5).reshape(-1, self.head_width, GRID * GRID).transpose(1, 2)
        v = v.reshape(-1, self.head_width, GRID * GRID)
        attended = [self.attend(q[:, :, first : first + QUERY_ROWS], k, v) for first in range(0, GRID, QUERY_ROWS)]
        return self.proj(torch.cat(attended, dim=2).reshape(-1, self.width, GRID, GRID))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from some rows of queries to every key.

        Shapes (N = batch * heads, Y = QUERY_ROWS, S = cells):
            q (N, d, Y, 64); k (N, S, d); v (N, d, S); returns (N, d, Y, 64)
        """
        scores = k @ q.reshape(-1, self.head_width, QUERY_ROWS * GRID)  # (N, S, queries)
        weights = torch.exp(scores - (scores.amax(1, keepdim=True) + math.log(4.0)))
        attended = (v @ weights) / weights.sum(1, keepdim=True)
        return attended.reshape(-1, self.head_width, QUERY_ROWS, GRID)


class MLP(nn.Module):
    """Two linear layers with GELU between them, inner width four times as large: (B, C, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = PointwiseLinear(width, 4 * width)
        self.fc2 = PointwiseLinear(4 * width, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block: (B, C, 64, 64) -> the same."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.norm1 = LayerNorm2d(config.width, eps=NORM_EPS)
        self.attn = Attention(config)
        self.norm2 = LayerNorm2d(config.width, eps=NORM_EPS)
        self.mlp = MLP(config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class EfficientSamEncoder(nn.Module):
    """Vision transformer with absolute positions, and SAM's neck.

    The positional table is of a classifier of 224 pixels: 14 x 14 cells after one for a class token, which is not used.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + PRETRAINED_GRID**2, config.width))
        self.patch_embed = PatchEmbedding(config.width)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.neck = nn.Sequential(
            nn.Conv2d(config.width, EMBEDDING_DIM, kernel_size=1, bias=False),
            LayerNorm2d(EMBEDDING_DIM),
            nn.Conv2d(EMBEDDING_DIM, EMBEDDING_DIM, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_DIM),
        )

    def positions(self) -> Tensor:
        """Return the positional table of this grid, (1, C, 64, 64)."""
        table = self.pos_embed[:, 1:].reshape(1, PRETRAINED_GRID, PRETRAINED_GRID, -1).permute(0, 3, 1, 2)
        return F.interpolate(table, size=(GRID, GRID), mode="bicubic", align_corners=False)

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image.

        Shapes:
            image (B, 3, 1024, 1024), normalised; returns (B, 256, 64, 64)
        """
        return self.neck(self.blocks(self.patch_embed(image) + self.positions()))

    def folded(self) -> FoldedEncoder:
        """Return an equal encoder with positions as a constant and narrow patch kernels."""
        return FoldedEncoder(self)


class FoldedEncoder(nn.Module):
    """``EfficientSamEncoder`` for one image size."""

    positions: Tensor

    def __init__(self, encoder: EfficientSamEncoder) -> None:
        super().__init__()
        self.register_buffer("positions", encoder.positions().detach())
        self.patch_embed = encoder.patch_embed.folded()
        self.blocks = encoder.blocks
        self.neck = encoder.neck

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image, see ``EfficientSamEncoder.forward``."""
        return self.neck(self.blocks(self.patch_embed(image) + self.positions))


class SlotPromptEncoder(BasePromptEncoder):
    """Points and box corners in six slots to tokens; an unused slot is a token too.

    It stands at (-1, -1) and carries the learned invalid-point vector.  Label 0 adds nothing to the position.
    """

    label_meanings: ClassVar[dict[str, str]] = {
        "1": "foreground point",
        "0": "background point",
        "2": "box, top left corner",
        "3": "box, bottom right corner",
        "-1": "unused slot: a token of its own that takes part in everything; its coordinates are ignored",
        "-2": "unused slot, the same as -1",
    }

    def __init__(self, dim: int = 256, grid: tuple[int, int] = (GRID, GRID), prompt_size: int = 1024) -> None:
        super().__init__(dim, grid, prompt_size)
        self.invalid_points = nn.Embedding(1, dim)
        self.point_embeddings = nn.Embedding(1, dim)
        self.bbox_top_left_embeddings = nn.Embedding(1, dim)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, dim)

    def label_vectors(self) -> dict[int, Tensor]:
        """Return the vectors that are added to the position of a token by its label, (1, D) each."""
        unused = dict.fromkeys(UNUSED, self.invalid_points.weight)
        return unused | {
            1: self.point_embeddings.weight,
            2: self.bbox_top_left_embeddings.weight,
            3: self.bbox_bottom_right_embeddings.weight,
        }

    def encode_points(self, point_coords: Tensor, point_labels: Tensor) -> Tensor:
        """Encode all slots.

        Shapes:
            point_coords (B, 6, 2) x,y in pixels of the prompt frame; point_labels (B, 6); returns (B, 6, D)
        """
        labels = point_labels.unsqueeze(-1)
        for label in UNUSED:
            point_coords = torch.where(labels == label, UNUSED_COORDINATE, point_coords)
        # Half a pixel: a coordinate names a pixel and means its centre.
        encoded = self.pe_layer.encode((point_coords + 0.5) / self.prompt_size)
        for label, vector in self.label_vectors().items():
            encoded = torch.where(labels == label, encoded + vector, encoded)
        return encoded

    def dense(self, mask_input: Tensor | None) -> Tensor:
        """Return zeros (1, D, 1, 1): nothing is added to the image embedding, and there is no mask prompt."""
        return self.invalid_points.weight.new_zeros(1, self.dim, 1, 1)

    def exact_prompt(self) -> ExactSlots:
        """Return the module that encodes points in an exported decoder."""
        return ExactSlots(self)


class ExactSlots(nn.Module):
    """``SlotPromptEncoder.encode_points`` in FP32 without booleans; see ``modeling.wrappers.ExactPrompt``."""

    fp32_formats = (EVERY_FORMAT,)
    x_row: Tensor
    y_row: Tensor
    table: Tensor
    table_labels: Tensor

    def __init__(self, encoder: SlotPromptEncoder) -> None:
        super().__init__()
        matrix = encoder.pe_layer.positional_encoding_gaussian_matrix.detach() * (2 * math.pi)  # (2, D / 2)
        vectors = encoder.label_vectors()
        self.scale = 2.0 / encoder.prompt_size
        self.register_buffer("x_row", matrix[0].reshape(1, 1, -1).clone())
        self.register_buffer("y_row", matrix[1].reshape(1, 1, -1).clone())
        self.register_buffer("table", torch.cat([vector.detach() for vector in vectors.values()]))  # (5, D)
        self.register_buffer("table_labels", torch.tensor([float(label) for label in vectors]).reshape(1, 1, -1))

    def forward(self, point_coords: Tensor, point_labels: Tensor) -> tuple[Tensor, None]:
        """Return tokens (B, 6, D) from (B, 6, 2) pixels and (B, 6) labels; no key is left out of any attention."""
        chosen = torch.relu(1.0 - (point_labels.unsqueeze(-1) - self.table_labels).abs())  # (B, 6, 5), 0 or 1
        unused = chosen[:, :, : len(UNUSED)].sum(-1, keepdim=True)
        coords = point_coords * (1.0 - unused) + unused * UNUSED_COORDINATE
        centred = (coords + 0.5) * self.scale - 1.0
        angle = centred[:, :, 0:1] * self.x_row + centred[:, :, 1:2] * self.y_row
        encoding = torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)
        return encoding + chosen @ self.table, None


class GeluMLP(FeedForward):
    """Linear layers with GELU between them: (..., inputs) -> (..., outputs)."""

    activation = nn.GELU

    def __init__(self, inputs: int, hidden: int, outputs: int, hidden_layers: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (hidden_layers - 1)]
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(width, hidden), nn.GELU()) for width in widths))
        self.fc = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(x))


class EfficientSamMaskDecoder(MaskDecoder):
    """SAM's mask decoder with GELU MLPs, positions that stay, and its own upscaling."""

    def __init__(self, dim: int = EMBEDDING_DIM, num_mask_tokens: int = 4) -> None:
        super().__init__(dim, num_mask_tokens)
        self.transformer = TwoWayTransformer(
            dim=dim, keep_position=True, mlp=lambda width, inner: GeluMLP(width, inner, width, 1)
        )
        del self.output_upscaling
        self.final_output_upscaling_layers = nn.Sequential(
            nn.Sequential(
                nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2), OneGroupNorm(dim // 4), nn.GELU()
            ),
            nn.Sequential(nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2), nn.GELU()),
        )
        self.output_hypernetworks_mlps = Hypernetworks(GeluMLP(dim, dim, dim // 8, 2) for _ in range(num_mask_tokens))
        self.iou_prediction_head = GeluMLP(dim, dim, num_mask_tokens, 2)

    def upscale(self, image: Tensor) -> Tensor:
        """Four times the size: (B, D, H, W) -> (B, D / 8, 4H, 4W)."""
        return self.final_output_upscaling_layers(image)


class EfficientSam(SamModel):
    """A SAM model whose decoder always gets six prompt tokens and knows no mask prompt."""

    def decode(
        self, embedding: Maps, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predict all four masks of a prompt; unused slots are added up to six.

        Shapes:
            embedding (B or 1, 256, 64, 64); point_coords (B, N, 2) x,y in pixels of the prompt frame, N up to 6
            point_labels (B, N), -2 to 3
            returns logits (B, 4, 256, 256), threshold 0; predicted IoU (B, 4), not clamped
        Raises:
            UsageError: a mask prompt, more than six points, no point, an unknown label, or shapes that do not fit.
        """
        if mask_input is not None:
            raise UsageError(f"{self.info.name} knows no mask prompt; give points or a box")
        point_labels = point_labels.masked_fill(point_labels == NOT_A_POINT, EMPTY_SLOT)  # the same here
        (first,) = as_maps(embedding)
        check_prompt(first, point_coords, point_labels, None)
        free = SLOTS - point_labels.shape[1]
        if free < 0:
            raise UsageError(
                f"the prompt has {point_labels.shape[1]} points, {self.info.name} takes {SLOTS}, a box counts as 2;"
                " give fewer points"
            )
        coords = F.pad(point_coords.to(first.dtype), (0, 0, 0, free))
        labels = F.pad(point_labels, (0, free), value=EMPTY_SLOT)
        encoder = self.prompt_encoder
        sparse = encoder.encode_points(coords, labels)
        return self.mask_decoder(first, encoder.dense_pe(), sparse, encoder.dense(None))


def info_of(name: str, variant: str) -> ModelInfo:
    """Return a variant's metadata."""
    return ModelInfo(
        name=name,
        family="efficient_sam",
        frame=ImageFrame(fit="stretch", mask_resize="bicubic"),
        default_score="iou",
        padding_point=False,
        slots=SLOTS,
        description=f"EfficientSAM, {variant}",
    )


@register_model(info_of("efficient_sam_vitt", "ViT-Tiny"))
@register_model(info_of("efficient_sam_vits", "ViT-Small"))
def build(info: ModelInfo) -> EfficientSam:
    """Return EfficientSAM with PyTorch's random initialisation."""
    return EfficientSam(
        info=info,
        image_encoder=EfficientSamEncoder(CONFIGS[info.name]),
        prompt_encoder=SlotPromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=EfficientSamMaskDecoder(),
    )
