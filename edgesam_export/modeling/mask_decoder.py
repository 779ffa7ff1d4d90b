"""From image embedding and prompt to masks and their predicted quality.

Source: Kirillov et al. 2023, "Segment Anything", https://arxiv.org/abs/2304.02643, appendix A.
Attribute names and their order are the keys of the released checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgesam_export.modeling.common import MLP, LayerNorm2d
from edgesam_export.modeling.transformer import TwoWayTransformer

__all__ = ["Hypernetworks", "MaskDecoder", "MaskProduct"]


class MaskProduct(nn.Module):
    """Every mask's logit at every pixel: the dot product of the mask's vector and the pixel's. No parameters."""

    def forward(self, hyper: Tensor, upscaled: Tensor) -> Tensor:
        """Multiply.

        Shapes:
            hyper (B, M, C); upscaled (B, C, H, W); returns (B, M, H, W)
        """
        product = hyper @ upscaled.flatten(2)
        return product.reshape(*product.shape[:2], *upscaled.shape[-2:])  # (B, M, H*W) -> (B, M, H, W)


class Hypernetworks(nn.ModuleList):
    """One small MLP per mask token."""

    def forward(self, mask_tokens: Tensor) -> Tensor:
        """Each mask token through its own MLP: (B, M, D) -> (B, M, D / 8)."""
        return torch.stack([mlp(mask_tokens[:, i]) for i, mlp in enumerate(self)], dim=1)


class MaskDecoder(nn.Module):
    """Two-way transformer, upscaling, one small MLP per mask token, and a head for the predicted IoU.

    Mask token 0 is the single-mask answer, tokens 1 to 3 the candidates of an ambiguous prompt. All are returned.
    """

    leading_tokens = 0
    """Output tokens before that of the predicted IoU."""
    scores_objects = False
    """The decoder scores an object's presence, and its one mask may be chosen by stability."""

    def __init__(
        self,
        transformer_dim: int = 256,
        num_mask_tokens: int = 4,
        *,
        mlp_dim: int = 2048,
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        dim = transformer_dim
        self.transformer: nn.Module = TwoWayTransformer(dim=dim, mlp_dim=mlp_dim, layer_norm_eps=layer_norm_eps)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(num_mask_tokens, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps: nn.Module = Hypernetworks(
            MLP(dim, dim, dim // 8, 3) for _ in range(num_mask_tokens)
        )
        self.iou_prediction_head: nn.Module = MLP(dim, dim, num_mask_tokens, 3)
        self.mask_product: nn.Module = MaskProduct()
        self.num_mask_tokens = num_mask_tokens

    def forward(
        self,
        embedding: Tensor,
        image_pe: Tensor,
        sparse: Tensor,
        dense: Tensor,
        token_bias: Tensor | None = None,
        further: tuple[Tensor, ...] = (),
        *,
        object_score: bool = False,
    ) -> tuple[Tensor, ...]:
        """Predict all masks.

        Shapes (B of ``sparse``; the other inputs may have 1 instead):
            embedding, dense (B, D, H, W); image_pe (1, D, H, W); sparse (B, N, D) prompt tokens
            token_bias (B, N) for the prompt tokens: 0 for a token that counts, -inf for an empty slot
            further: maps beside the embedding, of a decoder whose ``upscale`` takes them
            returns logits (B, M, 4H, 4W); predicted IoU (B, M), not clamped; with ``object_score`` that, (B, 1)
        """
        tokens, image = self.attend(embedding, image_pe, sparse, dense, token_bias)
        outputs = self.read(tokens, image, further)
        return (*outputs, self.object_score(tokens)) if object_score else outputs

    def attend(
        self, embedding: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor, token_bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return all tokens (B, T, D) and the image (B, D, H, W) after the transformer; inputs as in ``forward``."""
        tokens = self.add_output_tokens(sparse)
        bias = None if token_bias is None else self.add_output_bias(token_bias)
        attended: tuple[Tensor, Tensor] = self.transformer(embedding + dense, image_pe, tokens, bias)
        return attended

    def read(self, tokens: Tensor, image: Tensor, further: tuple[Tensor, ...] = ()) -> tuple[Tensor, Tensor]:
        """Return logits and predicted IoU, see ``forward``, of what ``attend`` returns."""
        quality = self.leading_tokens
        hyper = self.output_hypernetworks_mlps(tokens[:, quality + 1 : quality + 1 + self.num_mask_tokens])
        logits = self.mask_product(hyper, self.upscale(image, *further))
        return logits, self.iou_prediction_head(tokens[:, quality])

    def object_score(self, tokens: Tensor) -> Tensor:
        """Return the logit (B, 1) of an object's presence; of a decoder with ``scores_objects``."""
        raise NotImplementedError

    def upscale(self, image: Tensor) -> Tensor:
        """Four times the size: (B, D, H, W) -> (B, D / 8, 4H, 4W)."""
        return self.output_upscaling(image)

    def output_tokens(self) -> tuple[Tensor, ...]:
        """Return the learned tokens that precede the prompt, (1, D) or (M, D) each."""
        return self.iou_token.weight, self.mask_tokens.weight

    def add_output_tokens(self, sparse: Tensor) -> Tensor:
        """Put the IoU token and the mask tokens before the prompt: (B, N, D) -> (B, 1 + M + N, D)."""
        output = torch.cat(self.output_tokens(), dim=0)
        return torch.cat([repeat_batch(output.unsqueeze(0), sparse.shape[0]), sparse], dim=1)

    def add_output_bias(self, token_bias: Tensor) -> Tensor:
        """Output tokens always count: (B, N) -> (B, 1 + M + N)."""
        zeros = token_bias.new_zeros(1, self.leading_tokens + 1 + self.num_mask_tokens)
        return torch.cat([repeat_batch(zeros, token_bias.shape[0]), token_bias], dim=-1)


def repeat_batch(x: Tensor, batch: int) -> Tensor:
    """Give ``x`` a batch of ``batch``; for one prompt nothing happens, which keeps shapes out of exported graphs."""
    return x if batch == 1 or len(x) == batch else x.expand(batch, *x.shape[1:])
