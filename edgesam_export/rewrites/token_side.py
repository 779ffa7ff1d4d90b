"""The decoder for runtimes of matrix products: what is projected are a few tokens, not the image's 4096 positions.

A score q . (W_k x) is (W_k^T q) . x, and a weighted mean of projected values is the projection of the weighted mean.
So an attention between T tokens and the image multiplies the image itself, by 8 T vectors for 8 heads; a projection of
the image is 128 such vectors.  It is less work for T below 16: 7 tokens for a point, 13 for eight prompt slots.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgesam_export.modeling.channels_last import LastAxisNorm
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.transformer import (
    Attention,
    TwoWayAttentionBlock,
    TwoWayTransformer,
    attend_to_tokens,
    batch_of,
)
from edgesam_export.rewrites import register_rewrite

__all__ = ["ImageToTokens", "TokenSideTransformer", "TokensToImage", "token_side_transformer"]


def by_head(linear: nn.Linear, heads: int) -> Tensor:
    """Return the rows of a projection to heads, (heads, d, D)."""
    return linear.weight.detach().reshape(heads, -1, linear.in_features)


class TokensToImage(nn.Module):
    """Attention from tokens to the image.

    A bias of the keys adds the same to all scores of a query, which softmax ignores; a bias of the values is a constant
    of the output, since weights sum to 1.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads, width = attention.heads, attention.inner // attention.heads
        queries = by_head(attention.q_proj, self.heads).transpose(1, 2) * width**-0.5
        self.query = nn.Parameter(queries.clone())  # (heads, D, d)
        self.query_bias = nn.Parameter(attention.q_proj.bias.detach().reshape(self.heads, 1, -1) * width**-0.5)
        self.key = nn.Parameter(by_head(attention.k_proj, self.heads).clone())  # (heads, d, D)
        self.value = nn.Parameter(by_head(attention.v_proj, self.heads).transpose(1, 2).clone())  # (heads, D, d)
        out = attention.out_proj
        self.out_proj = nn.Linear(out.in_features, out.out_features)
        self.out_proj.weight = out.weight
        self.out_proj.bias = nn.Parameter(out.bias.detach() + out.weight.detach() @ attention.v_proj.bias.detach())

    def forward(self, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (B, T, D) from tokens (B, T, D) and the image as keys and values, (B or 1, H*W, D) each."""
        batch, dim = batch_of(tokens), self.key.shape[2]
        queries = (tokens.unsqueeze(1) @ self.query + self.query_bias) @ self.key  # (B, heads, T, D)
        weights = (queries.reshape(batch, -1, dim) @ keys.transpose(1, 2)).softmax(dim=2)  # (B, heads * T, H*W)
        attended = (weights @ values).reshape(batch, self.heads, -1, dim) @ self.value  # (B, heads, T, d)
        return self.out_proj(attended.transpose(1, 2).reshape(batch, -1, self.out_proj.in_features))


class ImageToTokens(nn.Module):
    """Attention from the image to tokens; the output's bias is shared out among the heads, whose weights sum to 1."""

    def __init__(self, attention: Attention, positions: int) -> None:
        super().__init__()
        self.positions = positions
        self.heads, width = attention.heads, attention.inner // attention.heads
        self.key = nn.Parameter(by_head(attention.k_proj, self.heads).transpose(1, 2) * width**-0.5)  # (heads, D, d)
        self.key_bias = nn.Parameter(attention.k_proj.bias.detach().reshape(self.heads, 1, -1) * width**-0.5)
        self.query = nn.Parameter(by_head(attention.q_proj, self.heads).clone())  # (heads, d, D)
        self.query_bias = nn.Parameter(attention.q_proj.bias.detach().reshape(self.heads, -1, 1).clone())
        self.value = nn.Parameter(by_head(attention.v_proj, self.heads).transpose(1, 2).clone())  # (heads, D, d)
        out = attention.out_proj.weight.detach().t().reshape(self.heads, width, -1)
        self.out = nn.Parameter(out.clone())  # (heads, d, D)
        values = attention.v_proj.bias.detach().reshape(self.heads, 1, -1) @ out
        self.out_bias = nn.Parameter(values + attention.out_proj.bias.detach() / self.heads)  # (heads, 1, D)

    def forward(self, image: Tensor, keys: Tensor, values: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Return (B, H*W, D) from the image (B or 1, H*W, D), keys and values (B, T, D) and key_bias (B, 1, 1, T)."""
        batch, dim = batch_of(keys), self.query.shape[2]
        projected = keys.unsqueeze(1) @ self.key + self.key_bias  # (B, heads, T, d)
        offsets = projected @ self.query_bias  # (B, heads, T, 1)
        if key_bias is not None:
            offsets = offsets + key_bias.transpose(2, 3)
        columns = (projected @ self.query).reshape(batch, -1, dim)  # (B, heads * T, D)
        scores = image @ columns.transpose(1, 2) + offsets.reshape(batch, 1, -1)  # (B, H*W, heads * T)
        weights = scores.reshape(batch, self.positions, self.heads, -1).softmax(dim=3)
        outputs = (values.unsqueeze(1) @ self.value) @ self.out + self.out_bias  # (B, heads, T, D)
        return weights.reshape(batch, self.positions, -1) @ outputs.reshape(batch, -1, dim)


class TokenSideBlock(nn.Module):
    """One layer of the two-way transformer."""

    def __init__(self, block: TwoWayAttentionBlock, positions: int) -> None:
        super().__init__()
        self.first, self.keep_position = block.first, block.keep_position
        self.self_attn, self.mlp = block.self_attn, block.mlp
        self.norm1, self.norm2, self.norm3, self.norm4 = map(
            LastAxisNorm, (block.norm1, block.norm2, block.norm3, block.norm4)
        )
        self.cross_attn_token_to_image = TokensToImage(block.cross_attn_token_to_image)
        self.cross_attn_image_to_token = ImageToTokens(block.cross_attn_image_to_token, positions)

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor, token_bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Update tokens and image; shapes as in ``TwoWayAttentionBlock.forward``."""
        tokens = attend_to_tokens(
            self.self_attn, tokens, token_pe, token_bias, first=self.first, keep_position=self.keep_position
        )
        tokens = self.norm1(tokens)
        positioned = image + image_pe
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_pe, positioned, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        attended = self.cross_attn_image_to_token(positioned, tokens + token_pe, tokens, token_bias)
        return tokens, self.norm4(image + attended)


class TokenSideTransformer(nn.Module):
    """``TwoWayTransformer`` with every projection on the side of the tokens; same interface, any number of prompts."""

    def __init__(self, transformer: TwoWayTransformer, grid: tuple[int, int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TokenSideBlock(block, grid[0] * grid[1]) for block in transformer.blocks)
        self.final_attn_token_to_image = TokensToImage(transformer.final_attn_token_to_image)
        self.norm_final_attn = LastAxisNorm(transformer.norm_final_attn)
        self.grid, self.dim = grid, transformer.norm_final_attn.weight.numel()

    def forward(
        self, image_embedding: Tensor, image_pe: Tensor, tokens: Tensor, token_bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, D) and image (B, D, H, W); see ``TwoWayTransformer.forward``."""
        positions = self.grid[0] * self.grid[1]
        image, position = (  # (B, D, H, W) -> (B, H*W, D)
            x.reshape(-1, self.dim, positions).transpose(1, 2) for x in (image_embedding, image_pe)
        )
        token_pe = tokens
        bias = None if token_bias is None else token_bias[:, None, None]
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, position, bias)
        attended = self.final_attn_token_to_image(tokens + token_pe, image + position, image)
        tokens = self.norm_final_attn(tokens + attended)
        return tokens, image.reshape(-1, *self.grid, self.dim).permute(0, 3, 1, 2)


# 1e-5: sums over the 256 channels of an embedding instead of the 16 of a head.
@register_rewrite(tolerance=1e-5, formats=("onnx",))
def token_side_transformer(model: SamModel) -> None:
    """Project tokens instead of the image's positions in the decoder's transformer."""
    if isinstance(model.mask_decoder.transformer, TwoWayTransformer):
        rewritten = TokenSideTransformer(model.mask_decoder.transformer, model.prompt_encoder.grid)
        model.mask_decoder.transformer = rewritten
