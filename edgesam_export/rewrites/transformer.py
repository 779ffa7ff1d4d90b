"""The two-way transformer with channels on axis 1 and positions last: 1x1 convolutions, no large transposes."""

from __future__ import annotations

import torch
from torch import nn

from edgesam_export.modeling.common import bias_of
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer, attend_to_tokens
from edgesam_export.rewrites import NEURAL_ENGINE, register_rewrite
from edgesam_export.rewrites.layer_norm import ChannelLayerNorm

__all__ = ["ChannelsFirstAttention", "ChannelsFirstTransformer", "channels_first_transformer"]

ROW_SUM = 1024.0
"""Approximate sum of the exponentials of an attention to the image."""


def as_convolution(linear: nn.Linear, scale: float = 1.0) -> nn.Conv2d:
    """Return the 1x1 convolution that equals ``linear`` on axis 1, its output multiplied by ``scale``."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1)
    conv.weight.data = (linear.weight.detach() * scale)[:, :, None, None].clone()
    bias_of(conv).data = linear.bias.detach() * scale
    return conv


def as_channel_norm(norm: nn.LayerNorm) -> ChannelLayerNorm:
    """Return ``norm`` acting on axis 1 of a (1, C, H, W) tensor."""
    return ChannelLayerNorm(norm.weight, norm.bias, norm.eps)


class ChannelsFirstAttention(nn.Module):
    """Attention between (B, D, H, W) tensors; positions are H*W, scores are (B, heads, Tq, Tk).

    Where one side has a batch of 1, it is projected once and serves all prompts of the other.

    Scores are arranged so that the image's 4096 positions always lie on the last axis: with tokens as queries the
    weights run along the last axis, with the image as queries (``grid`` given) over the one before it, and nothing
    image-sized is transposed.
    Source: Apple, "Deploying Transformers on the Apple Neural Engine", principles 1 to 3.
    """

    def __init__(self, attention: Attention, *, grid: tuple[int, int] | None = None, image_keys: bool = False) -> None:
        super().__init__()
        self.image_keys = image_keys
        self.heads = attention.heads
        self.width = attention.q_proj.out_features // attention.heads
        self.grid = grid
        self.q_proj = as_convolution(attention.q_proj, scale=self.width**-0.5)
        self.k_proj = as_convolution(attention.k_proj)
        self.v_proj = as_convolution(attention.v_proj)
        self.out_proj = as_convolution(attention.out_proj)

    @staticmethod
    def attend_to_image(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return (B, heads, width, Tq), normalised after the product with the values.

        Over 4096 keys a probability is about 2.4e-4 and values below a quarter of that are subnormal in FP16, which the
        Neural Engine is reported to flush; in trained models the many keys below carry the shape of a mask.
        So a row of exponentials is scaled to sum to 1024: probabilities down to 6e-8 count, and sums of products stay
        below 2^15, where it is reported to saturate, for values up to 32.  They are made from square roots, which reach
        19 nats below the largest score.  The scale cancels, so it may be rough.
        """
        scores = (0.5 * q).transpose(2, 3) @ k  # (B, heads, Tq, Tk), halved
        root = torch.exp(scores - scores.amax(3, keepdim=True))
        rough = (root * root).sum(3, keepdim=True)  # 1 to Tk
        weights = (root * ROW_SUM / rough) * root
        total = weights.sum(3).unsqueeze(2)  # (B, heads, 1, Tq)
        return (v @ weights.transpose(2, 3)) / total

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, D, H, W) -> (B, heads, D / heads, H*W), without moving data."""
        return x.reshape(int(x.shape[0]), self.heads, self.width, -1)  # a constant of the exported graph

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """(B, heads, D / heads, T) -> (B, D, 1, T), without moving data."""
        return x.reshape(int(x.shape[0]), self.heads * self.width, 1, -1)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return a tensor shaped like ``q``; ``key_bias`` is (B, 1, 1, Tk)."""
        q, k, v = self.split(self.q_proj(q)), self.split(self.k_proj(k)), self.split(self.v_proj(v))
        if self.image_keys:
            return self.out_proj(self.join(self.attend_to_image(q, k, v)))
        if self.grid is not None:
            scores = k.transpose(2, 3) @ q  # (B, heads, Tk, Tq)
            if key_bias is not None:
                scores = scores + key_bias.transpose(2, 3)
            out = v @ scores.softmax(2)  # (B, heads, width, Tq)
            return self.out_proj(out.reshape(-1, self.heads * self.width, *self.grid))
        scores = q.transpose(2, 3) @ k  # (B, heads, Tq, Tk)
        if key_bias is not None:
            scores = scores + key_bias
        out = v @ scores.softmax(3).transpose(2, 3)
        return self.out_proj(self.join(out))


class ChannelsFirstBlock(nn.Module):
    """One layer of the two-way transformer on (B, D, 1, T) tokens and a (B or 1, D, H, W) image."""

    def __init__(self, block: TwoWayAttentionBlock, grid: tuple[int, int]) -> None:
        super().__init__()
        self.first = block.first
        self.keep_position = block.keep_position
        self.self_attn = ChannelsFirstAttention(block.self_attn)
        self.norm1 = as_channel_norm(block.norm1)
        self.cross_attn_token_to_image = ChannelsFirstAttention(block.cross_attn_token_to_image, image_keys=True)
        self.norm2 = as_channel_norm(block.norm2)
        inner, outer = (as_convolution(part) for part in block.mlp.modules() if isinstance(part, nn.Linear))
        self.mlp = nn.Sequential(inner, block.mlp.activation(), outer)
        self.norm3 = as_channel_norm(block.norm3)
        self.cross_attn_image_to_token = ChannelsFirstAttention(block.cross_attn_image_to_token, grid=grid)
        self.norm4 = as_channel_norm(block.norm4)

    def forward(
        self,
        tokens: torch.Tensor,
        image: torch.Tensor,
        token_pe: torch.Tensor,
        image_pe: torch.Tensor,
        token_bias: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (B, D, 1, T) and image (B, D, H, W)."""
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
    """``TwoWayTransformer`` with channels on axis 1; same interface.

    Sizes are constants, but for the number of tokens, so that no shape is computed in an exported graph: the number of
    prompts is fixed there too.
    """

    def __init__(self, transformer: TwoWayTransformer, grid: tuple[int, int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ChannelsFirstBlock(block, grid) for block in transformer.blocks)
        self.final_attn_token_to_image = ChannelsFirstAttention(transformer.final_attn_token_to_image, image_keys=True)
        self.norm_final_attn = as_channel_norm(transformer.norm_final_attn)
        self.dim = transformer.norm_final_attn.weight.numel()

    def forward(
        self,
        image_embedding: torch.Tensor,
        image_pe: torch.Tensor,
        tokens: torch.Tensor,
        token_bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (B, T, D) and image (B, D, H, W); see ``TwoWayTransformer.forward``."""
        token_pe = tokens.transpose(1, 2).unsqueeze(2)  # (B, T, D) -> (B, D, 1, T)
        tokens, image = token_pe, image_embedding
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe, token_bias)
        attended = self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        tokens = self.norm_final_attn(tokens + attended)
        return tokens.reshape(int(tokens.shape[0]), self.dim, -1).transpose(1, 2), image


# 1e-5: the softmax scale is folded into the query weights and sums run in another order.
@register_rewrite(tolerance=1e-5, formats=NEURAL_ENGINE)
def channels_first_transformer(model: SamModel) -> None:
    """Lay the decoder's transformer out with channels on axis 1, linear layers as 1x1 convolutions."""
    if isinstance(model.mask_decoder.transformer, TwoWayTransformer):
        rewritten = ChannelsFirstTransformer(model.mask_decoder.transformer, model.prompt_encoder.grid)
        model.mask_decoder.transformer = rewritten
