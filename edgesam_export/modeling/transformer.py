"""The two-way transformer of the mask decoder: tokens attend to the image, the image attends to the tokens.

Source: Kirillov et al. 2023, "Segment Anything", https://arxiv.org/abs/2304.02643, appendix A.
Attribute names and their order are the keys of the released checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgesam_export.modeling.common import FeedForward

__all__ = ["Attention", "MlpBlock", "TwoWayAttentionBlock", "TwoWayTransformer", "attend_to_tokens", "batch_of"]


def batch_of(x: Tensor) -> int:
    """Return the size of the first axis; 1 as a constant, which keeps shapes out of the graph of one prompt."""
    return 1 if x.shape[0] == 1 else x.shape[0]


class Attention(nn.Module):
    """Multi-head attention whose inner width is ``dim // downsample``."""

    def __init__(self, dim: int, heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        if inner % heads:
            raise ValueError(f"inner width {inner} is not a multiple of {heads} heads")
        self.heads, self.inner = heads, inner
        self.q_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Attend from every query to every key.

        Shapes:
            q (B, Tq, D); k, v (B, Tk, D); returns (B, Tq, D)
            key_bias broadcasts to (B, 1, 1, Tk), is added to the scores: 0 keeps a key, -inf removes it
        """
        query, key, value = (
            self.split_heads(self.q_proj(q)),
            self.split_heads(self.k_proj(k)),
            self.split_heads(self.v_proj(v)),
        )
        scores = (query @ key.transpose(-2, -1)) / math.sqrt(query.shape[-1])  # (B, heads, Tq, Tk)
        if key_bias is not None:
            scores = scores + key_bias
        attended = torch.softmax(scores, dim=-1) @ value
        # (B, heads, Tq, d) -> (B, Tq, inner); B is that of the keys where one image is the query of several prompts
        return self.out_proj(attended.transpose(1, 2).reshape(batch_of(attended), -1, self.inner))

    def split_heads(self, x: Tensor) -> Tensor:
        """Give every head its share of the channels: (B, T, inner) -> (B, heads, T, inner // heads)."""
        return x.reshape(batch_of(x), -1, self.heads, self.inner // self.heads).transpose(1, 2)


class MlpBlock(FeedForward):
    """Two linear layers with ReLU between them, width kept."""

    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, mlp_dim)
        self.lin2 = nn.Linear(mlp_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(torch.relu(self.lin1(x)))


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP, image to tokens; a LayerNorm after each.

    ``first`` marks the first layer: its tokens still are their own positional encoding, so nothing is added to them.
    EfficientSAM differs in ``keep_position``, see ``attend_to_tokens``, and in ``mlp``, which builds the MLP from the
    two widths.
    """

    def __init__(
        self,
        dim: int = 256,
        heads: int = 8,
        mlp_dim: int = 2048,
        *,
        first: bool = False,
        keep_position: bool = False,
        mlp: Callable[[int, int], FeedForward] = MlpBlock,
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.cross_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.mlp = mlp(dim, mlp_dim)
        self.norm3 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.norm4 = nn.LayerNorm(dim, eps=layer_norm_eps)
        self.cross_attn_image_to_token = Attention(dim, heads, downsample=2)
        self.first = first
        self.keep_position = keep_position

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor, token_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Update tokens and image.

        Shapes:
            tokens, token_pe (B, T, D); image (B or 1, H*W, D); image_pe (1, H*W, D); token_bias (B, 1, 1, T) or None
            returns tokens (B, T, D), image (B, H*W, D)
        """
        tokens = attend_to_tokens(
            self.self_attn, tokens, token_pe, token_bias, first=self.first, keep_position=self.keep_position
        )
        tokens = self.norm1(tokens)
        positioned_image = image + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, positioned_image, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        attended = self.cross_attn_image_to_token(positioned_image, tokens + token_pe, tokens, token_bias)
        return tokens, self.norm4(image + attended)


def attend_to_tokens(
    attention: nn.Module,
    tokens: Tensor,
    token_pe: Tensor,
    token_bias: Tensor | None,
    *,
    first: bool,
    keep_position: bool,
) -> Tensor:
    """Return the tokens after a block's self-attention, before its norm, in the layout that ``attention`` takes.

    SAM: the first layer's attention replaces the tokens; later ones are added, the position in queries and keys only.
    With ``keep_position`` the attention is always added, and the position once added stays, in the values too.
    """
    if keep_position:
        positioned = tokens if first else tokens + token_pe
        return positioned + attention(positioned, positioned, positioned, token_bias)
    if first:
        return attention(tokens, tokens, tokens, token_bias)
    positioned = tokens + token_pe
    return tokens + attention(positioned, positioned, tokens, token_bias)


class TwoWayTransformer(nn.Module):
    """``depth`` two-way layers and a last attention from the tokens to the image."""

    def __init__(
        self,
        depth: int = 2,
        dim: int = 256,
        heads: int = 8,
        mlp_dim: int = 2048,
        *,
        keep_position: bool = False,
        mlp: Callable[[int, int], FeedForward] = MlpBlock,
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(
                dim,
                heads,
                mlp_dim,
                first=index == 0,
                keep_position=keep_position,
                mlp=mlp,
                layer_norm_eps=layer_norm_eps,
            )
            for index in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim, eps=layer_norm_eps)

    @property
    def blocks(self) -> list[TwoWayAttentionBlock]:
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, TwoWayAttentionBlock)]

    def forward(
        self, image_embedding: Tensor, image_pe: Tensor, tokens: Tensor, token_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Let tokens and image attend to each other.

        Shapes:
            image_embedding (B, D, H, W), or (1, D, H, W) for all: its projections in the first layer are then made once
            image_pe (1, D, H, W); tokens (B, T, D)
            token_bias (B, T), added to the scores wherever tokens are keys (self-attention, image to tokens)
            returns tokens (B, T, D), image (B, D, H, W)
        """
        height, width = image_embedding.shape[-2:]
        image = image_embedding.flatten(2).transpose(1, 2)  # (B, D, H, W) -> (B, H*W, D)
        position = image_pe.flatten(2).transpose(1, 2)
        token_pe = tokens
        bias = None if token_bias is None else token_bias[:, None, None]
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, position, bias)
        attended = self.final_attn_token_to_image(tokens + token_pe, image + position, image)
        tokens = self.norm_final_attn(tokens + attended)
        image = image.transpose(1, 2).reshape(
            -1, image_embedding.shape[1], height, width
        )  # (B, H*W, D) -> (B, D, H, W)
        return tokens, image
