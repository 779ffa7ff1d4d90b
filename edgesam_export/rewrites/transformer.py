"""The two-way transformer for the Neural Engine: the image as channels by positions, tokens as rows, heads by products.

An attention wants (heads, width, positions), a projection gives (heads * width, positions).  For the image that is a
reshape which leaves the last axis, and with it every byte, alone.  For a few tokens a product with a constant of zeros
and ones sorts channels into heads, so that no operation moves tokens between axes.
"""

from __future__ import annotations

import torch
from torch import nn

from edgesam_export.modeling.common import bias_of
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.transformer import (
    Attention,
    TwoWayAttentionBlock,
    TwoWayTransformer,
    attend_to_tokens,
    batch_of,
)
from edgesam_export.rewrites import NEURAL_ENGINE, register_rewrite
from edgesam_export.rewrites.layer_norm import ChannelLayerNorm, TokenLayerNorm

__all__ = ["ChannelsFirstTransformer", "ImageAttention", "TokenAttention", "channels_first_transformer"]

ROW_SUM = 1024.0
"""Approximate sum of the exponentials of an attention to the image."""


def as_convolution(linear: nn.Linear, scale: float = 1.0) -> nn.Conv2d:
    """Return the 1x1 convolution that equals ``linear`` on axis 1, its output multiplied by ``scale``."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1)
    conv.weight.data = (linear.weight.detach() * scale)[:, :, None, None].clone()
    bias_of(conv).data = linear.bias.detach() * scale
    return conv


def scaled(linear: nn.Linear, scale: float) -> nn.Linear:
    """Return ``linear`` with its output multiplied by ``scale``."""
    layer = nn.Linear(linear.in_features, linear.out_features, device="meta")
    layer.weight, layer.bias = nn.Parameter(linear.weight.detach() * scale), nn.Parameter(linear.bias.detach() * scale)
    return layer


def head_selection(heads: int, width: int) -> torch.Tensor:
    """Return zeros and ones (1, heads, heads * width, width): a row of channels times it is the row of each head."""
    return torch.eye(heads * width).reshape(1, heads * width, heads, width).transpose(1, 2).contiguous()


def by_prompt(tokens: torch.Tensor) -> torch.Tensor:
    """Return tokens (B, T, C) with an axis for the heads, (B, 1, T, C); one prompt needs none, it broadcasts."""
    return tokens if batch_of(tokens) == 1 else tokens.unsqueeze(1)


class TokenAttention(nn.Module):
    """Attention among tokens (B, T, D), without an axis for the channels of a head.

    Queries are repeated for each head with the other heads' channels set to zero, which products then ignore; of what a
    head attends to, its own channels are kept.  That is 8 times the work of products of a few tokens.
    """

    own: torch.Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        width = attention.inner // attention.heads
        self.q_proj = scaled(attention.q_proj, width**-0.5)
        self.k_proj, self.v_proj, self.out_proj = attention.k_proj, attention.v_proj, attention.out_proj
        self.register_buffer("own", torch.eye(attention.heads).repeat_interleave(width, 1)[None, :, None])

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return (B, T, D) from queries, keys and values (B, T, D); ``key_bias`` is (B, 1, T, 1)."""
        q, k, v = (by_prompt(project(x)) for project, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v)))
        scores = k @ (q * self.own).transpose(2, 3)  # (B, heads, Tk, Tq)
        if key_bias is not None:
            scores = scores + key_bias
        attended = scores.softmax(2).transpose(2, 3) @ v  # (B, heads, Tq, D)
        return self.out_proj((attended * self.own).sum(1))


class ImageAttention(nn.Module):
    """What attentions between tokens (B, T, D) and an image (B or 1, D, 1, H*W) share: the heads.

    Where one side has a batch of 1, it is projected once and serves all prompts of the other.  Scores are (B, heads, T,
    H*W) both ways, so the 4096 positions always lie on the last axis and nothing image-sized is transposed.
    Source: Apple, "Deploying Transformers on the Apple Neural Engine", principles 1 to 3.
    """

    selection: torch.Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, self.width = attention.heads, attention.inner // attention.heads
        self.register_buffer("selection", head_selection(self.heads, self.width))

    def split(self, image: torch.Tensor) -> torch.Tensor:
        """(B, heads * width, 1, H*W) -> (B, heads, width, H*W), without moving data."""
        return image.reshape(int(image.shape[0]), self.heads, self.width, -1)  # a constant of the exported graph


class AttentionToImage(ImageAttention):
    """Attention with tokens as queries."""

    halved: torch.Tensor
    joining: torch.Tensor

    def __init__(self, attention: Attention) -> None:
        super().__init__(attention)
        self.q_proj = scaled(attention.q_proj, self.width**-0.5)
        self.k_proj, self.v_proj = as_convolution(attention.k_proj), as_convolution(attention.v_proj)
        self.out_proj = attention.out_proj
        self.register_buffer("halved", 0.5 * self.selection)
        self.register_buffer("joining", self.selection.transpose(2, 3).contiguous())

    @staticmethod
    def attend(halves: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return (B, heads, T, width) from halved queries of that shape, normalised after the product with the values.

        Over 4096 keys a probability is about 2.4e-4 and values below a quarter of that are subnormal in FP16, which the
        Neural Engine is reported to flush; in trained models the many keys below carry the shape of a mask.
        So a row of exponentials is scaled to sum to 1024: probabilities down to 6e-8 count, and sums of products stay
        below 2^15, where it is reported to saturate, for values up to 32.  They are made from square roots, which reach
        19 nats below the largest score.  The scale cancels, so it may be rough.
        """
        scores = halves @ k  # (B, heads, T, H*W), halved
        root = torch.exp(scores - scores.amax(3, keepdim=True))
        rough = (root * root).sum(3, keepdim=True)  # 1 to H*W
        weights = (root / (rough / ROW_SUM)) * root
        return (weights @ v.transpose(2, 3)) / weights.sum(3, keepdim=True)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return (B, T, D) from tokens ``q`` (B, T, D) and the image as keys and values, (B or 1, D, 1, H*W)."""
        halves = by_prompt(self.q_proj(q)) @ self.halved
        attended = self.attend(halves, self.split(self.k_proj(k)), self.split(self.v_proj(v)))
        return self.out_proj((attended @ self.joining).sum(1))


class AttentionOfImage(ImageAttention):
    """Attention with the image's positions as queries."""

    def __init__(self, attention: Attention) -> None:
        super().__init__(attention)
        self.q_proj = as_convolution(attention.q_proj, self.width**-0.5)
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj
        self.out_proj = as_convolution(attention.out_proj)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the image (B, D, 1, H*W) from ``q`` (B or 1, D, 1, H*W), tokens (B, T, D), key_bias (B, 1, T, 1)."""
        keys, values = (by_prompt(project(x)) @ self.selection for project, x in ((self.k_proj, k), (self.v_proj, v)))
        scores = keys @ self.split(self.q_proj(q))  # (B, heads, T, H*W)
        if key_bias is not None:
            scores = scores + key_bias
        attended = values.transpose(2, 3) @ scores.softmax(2)  # (B, heads, width, H*W)
        return self.out_proj(attended.reshape(int(attended.shape[0]), self.heads * self.width, 1, -1))


class ChannelsFirstBlock(nn.Module):
    """One layer of the two-way transformer on (B, T, D) tokens and a (B or 1, D, 1, H*W) image."""

    def __init__(self, block: TwoWayAttentionBlock) -> None:
        super().__init__()
        self.first = block.first
        self.keep_position = block.keep_position
        self.self_attn = TokenAttention(block.self_attn)
        self.norm1, self.norm2, self.norm3 = map(TokenLayerNorm, (block.norm1, block.norm2, block.norm3))
        self.cross_attn_token_to_image = AttentionToImage(block.cross_attn_token_to_image)
        inner, outer = (part for part in block.mlp.modules() if isinstance(part, nn.Linear))
        self.mlp = nn.Sequential(inner, block.mlp.activation(), outer)
        self.cross_attn_image_to_token = AttentionOfImage(block.cross_attn_image_to_token)
        self.norm4 = ChannelLayerNorm(block.norm4.weight, block.norm4.bias, block.norm4.eps)

    def forward(
        self,
        tokens: torch.Tensor,
        image: torch.Tensor,
        token_pe: torch.Tensor,
        image_pe: torch.Tensor,
        token_bias: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (B, T, D) and image (B, D, 1, H*W)."""
        tokens = attend_to_tokens(
            self.self_attn, tokens, token_pe, token_bias, first=self.first, keep_position=self.keep_position
        )
        tokens = self.norm1(tokens)
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(image + image_pe, tokens + token_pe, tokens, token_bias)
        return tokens, self.norm4(image)


class ChannelsFirstTransformer(nn.Module):
    """``TwoWayTransformer`` with the image's channels on axis 1 and its positions on the last one; same interface.

    Sizes are constants, but for the number of tokens, so that no shape is computed in an exported graph: the number of
    prompts is fixed there too.
    """

    def __init__(self, transformer: TwoWayTransformer, grid: tuple[int, int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ChannelsFirstBlock(block) for block in transformer.blocks)
        self.final_attn_token_to_image = AttentionToImage(transformer.final_attn_token_to_image)
        self.norm_final_attn = TokenLayerNorm(transformer.norm_final_attn)
        self.grid, self.dim = grid, transformer.norm_final_attn.weight.numel()

    def forward(
        self,
        image_embedding: torch.Tensor,
        image_pe: torch.Tensor,
        tokens: torch.Tensor,
        token_bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (B, T, D) and image (B, D, H, W); see ``TwoWayTransformer.forward``."""
        shape = -1, self.dim, 1, self.grid[0] * self.grid[1]
        image, position, token_pe = image_embedding.reshape(shape), image_pe.reshape(shape), tokens
        bias = None if token_bias is None else token_bias.reshape(int(token_bias.shape[0]), 1, -1, 1)
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, position, bias)
        attended = self.final_attn_token_to_image(tokens + token_pe, image + position, image)
        return self.norm_final_attn(tokens + attended), image.reshape(-1, self.dim, *self.grid)


# 1e-5: the softmax scale is folded into the query weights and sums run in another order.
@register_rewrite(tolerance=1e-5, formats=NEURAL_ENGINE)
def channels_first_transformer(model: SamModel) -> None:
    """Lay the image out with channels on axis 1 in the decoder's transformer, linear layers on it as convolutions."""
    if isinstance(model.mask_decoder.transformer, TwoWayTransformer):
        rewritten = ChannelsFirstTransformer(model.mask_decoder.transformer, model.prompt_encoder.grid)
        model.mask_decoder.transformer = rewritten
