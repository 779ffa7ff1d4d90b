"""Prompts as vectors: points, box corners and padding point as tokens, a mask as a map added to the image embedding.

Source: Kirillov et al. 2023, "Segment Anything", https://arxiv.org/abs/2304.02643, appendix A, "Prompt encoder";
Tancik et al. 2020, "Fourier Features", https://arxiv.org/abs/2006.10739, for the positional encoding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.spec import NOT_A_POINT

__all__ = ["POINT_LABELS", "BasePromptEncoder", "PositionEncodingRandom", "PromptEncoder", "never_trained_on_masks"]

POINT_LABELS = (0, 1, 2, 3)
"""Background, foreground, top left and bottom right box corner; a label is its index in ``point_embeddings``."""


class PositionEncodingRandom(nn.Module):
    """Sines and cosines of random projections of a position."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, half_dim: int = 128) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, half_dim))

    def encode(self, coords: Tensor) -> Tensor:
        """Encode positions.

        Shapes:
            coords (..., 2) x,y, 0..1 across the frame; returns (..., 2 * half_dim), sines first
        """
        centred, (x_row, y_row) = 2 * coords - 1, self.positional_encoding_gaussian_matrix
        # Not a matrix product: mixed precision would round the coordinates.
        angle = 2 * math.pi * (centred[..., :1] * x_row + centred[..., 1:] * y_row)
        return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)

    def encode_grid(self, grid: tuple[int, int]) -> Tensor:
        """Encode the centres of all cells of a grid of (height, width) cells: (1, 2 * half_dim, height, width)."""
        height, width = grid
        like = self.positional_encoding_gaussian_matrix
        y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
        x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        encoded = self.encode(torch.stack([columns, rows], dim=-1))
        return encoded.permute(2, 0, 1).unsqueeze(0)  # (H, W, D) -> (1, D, H, W)


class BasePromptEncoder(nn.Module):
    """The interface of a prompt encoder, and its encoding of positions.

    ``grid`` is the size of the image embedding, ``prompt_size`` the side of the frame of the coordinates, in pixels.
    """

    mask_limit: float | None = None
    """Logits of a mask prompt are clamped to this magnitude first; None: they are taken as they are."""

    def __init__(self, dim: int = 256, grid: tuple[int, int] = (64, 64), prompt_size: int = 1024) -> None:
        super().__init__()
        self.dim = dim
        self.grid = grid
        self.prompt_size = prompt_size
        self.pe_layer = PositionEncodingRandom(dim // 2)

    def encode_points(self, point_coords: Tensor, point_labels: Tensor) -> Tensor:
        """Encode points as tokens.

        Shapes:
            point_coords (B, N, 2) x,y in pixels of the prompt frame; point_labels (B, N); returns (B, N, D)
        """
        raise NotImplementedError

    def dense(self, mask_input: Tensor | None) -> Tensor:
        """Encode a mask prompt, or its absence, as a map that is added to the image embedding.

        Shapes:
            mask_input (B, 1, 4 * grid, 4 * grid) logits -> (B, D, *grid)
            None -> broadcasts to (1, D, *grid), the same everywhere
        """
        raise NotImplementedError

    def dense_pe(self) -> Tensor:
        """Return the positional encoding of the centre of every cell of the image embedding, (1, D, *grid)."""
        return self.pe_layer.encode_grid(self.grid)


class PromptEncoder(BasePromptEncoder):
    """Points, boxes and masks to the inputs of the mask decoder."""

    def __init__(self, dim: int = 256, grid: tuple[int, int] = (64, 64), prompt_size: int = 1024) -> None:
        super().__init__(dim, grid, prompt_size)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in POINT_LABELS)
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, kernel_size=2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def encode_points(self, point_coords: Tensor, point_labels: Tensor) -> Tensor:
        """Encode points; a label outside -1..3 adds nothing to the positional encoding (``SamModel`` refuses those).

        Shapes:
            point_coords (B, N, 2) x,y in pixels of the prompt frame; point_labels (B, N); returns (B, N, D)
        """
        # Half a pixel: a coordinate names a pixel and means its centre.
        position = self.pe_layer.encode((point_coords + 0.5) / self.prompt_size)
        labels = point_labels.unsqueeze(-1)
        encoded = position
        for label, embedding in zip(POINT_LABELS, self.point_embeddings):
            assert isinstance(embedding, nn.Embedding)
            encoded = torch.where(labels == label, position + embedding.weight, encoded)
        return torch.where(labels == NOT_A_POINT, self.not_a_point_embed.weight, encoded)

    def dense(self, mask_input: Tensor | None) -> Tensor:
        """Encode a mask prompt, or its absence.

        Shapes:
            mask_input (B, 1, 4 * grid, 4 * grid) logits -> (B, D, *grid); None -> (1, D, *grid), the same everywhere
        """
        if mask_input is not None:
            limit = self.mask_limit
            return self.mask_downscaling(mask_input if limit is None else mask_input.clamp(-limit, limit))
        return self.no_mask_embed.weight.reshape(1, self.dim, 1, 1).expand(1, self.dim, *self.grid)


def never_trained_on_masks(encoder: nn.Module) -> bool:
    """Return whether the layers that read a mask prompt are as they were initialised.

    The norms tell: they start with equal weights and biases of zero, which a step of training changes and weight decay
    keeps equal. An encoder without such layers was not.
    """
    layers = getattr(encoder, "mask_downscaling", None)
    norms = [layer for layer in layers if isinstance(layer, LayerNorm2d)] if layers is not None else []
    return bool(norms) and all(
        bool((norm.weight == norm.weight[0]).all()) and not bool(norm.bias.any()) for norm in norms
    )
