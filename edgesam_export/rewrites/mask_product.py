"""The mask product before pixels are in their rows: at 16384 columns instead of 65536, or with channels last."""

from __future__ import annotations

import torch
from torch import nn

from edgesam_export.modeling.channels_last import LastAxisNorm, channels_last
from edgesam_export.modeling.common import bias_of
from edgesam_export.modeling.mask_decoder import MaskProduct
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.transformer import batch_of
from edgesam_export.rewrites import NEURAL_ENGINE, register_rewrite

__all__ = ["PhaseMaskProduct", "RowMaskProduct", "mask_product_by_phases"]

COLUMNS = 16384
"""Longest axis that the Neural Engine takes (``hardware.toml``)."""


class PhaseMaskProduct(nn.Module):
    """Multiply hypernetwork outputs with features that still sit in the four phases of the last 2x2 upscaling.

    The last transposed convolution (kernel 2, stride 2) is a 1x1 convolution to four phases; GELU and the product with
    the hypernetworks act on each pixel alone, so the phases are interleaved only afterwards, on M maps instead of C.
    """

    placing: torch.Tensor

    def __init__(self, masks: int, channels: int, side: tuple[int, int]) -> None:
        super().__init__()
        self.masks, self.channels, self.side = masks, channels, side
        phases = torch.eye(4).reshape(4, 1, 1, 2, 2)
        placing = phases * torch.eye(masks)[None, :, :, None, None]  # phase, mask, mask, row, column
        self.register_buffer("placing", placing.reshape(4 * masks, masks, 2, 2))

    def forward(self, hyper: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
        """Return (B, M, 2H, 2W) logits from hyper (B, M, C) and phases (B, 4*C, H, W), phase-major.

        A transposed convolution of zeros and ones puts each phase's pixels in their places: one operation, where a
        pixel shuffle would want the phases of each mask together first.
        """
        rows, columns = self.side
        hyper = hyper.reshape(-1, 1, self.masks, self.channels)
        product = hyper @ phases.reshape(-1, 4, self.channels, rows * columns)  # (B, 4, M, H*W)
        return nn.functional.conv_transpose2d(product.reshape(-1, 4 * self.masks, *self.side), self.placing, stride=2)


class RowMaskProduct(MaskProduct):
    """The mask product band by band: as many rows at once as have ``COLUMNS`` pixels."""

    def forward(self, hyper: torch.Tensor, upscaled: torch.Tensor) -> torch.Tensor:
        """Return logits (B, M, H, W) from hyper (B, M, C) and upscaled (B, C, H, W)."""
        bands = torch.split(upscaled, COLUMNS // upscaled.shape[-1], dim=2)
        return torch.cat([super(RowMaskProduct, self).forward(hyper, band) for band in bands], dim=2)


def as_phase_convolution(upscale: nn.ConvTranspose2d) -> nn.Conv2d:
    """Return the 1x1 convolution whose output, phase-major, holds the pixels of ``upscale`` (kernel 2, stride 2)."""
    inputs, outputs = upscale.in_channels, upscale.out_channels
    conv = nn.Conv2d(inputs, 4 * outputs, 1)
    weight = upscale.weight.detach()  # (inputs, outputs, 2, 2)
    conv.weight.data = weight.permute(2, 3, 1, 0).reshape(4 * outputs, inputs, 1, 1).clone()
    bias_of(conv).data = bias_of(upscale).detach().repeat(4)
    return conv


# 1e-6: the same products, summed in another order.
@register_rewrite(tolerance=1e-6, formats=NEURAL_ENGINE)
def mask_product_by_phases(model: SamModel) -> None:
    """Take the mask product before the last 2x2 interleaving, so that no matmul is 65536 wide.

    A decoder that adds maps while it upscales needs rows and columns in their order; its product is taken in bands.
    """
    decoder = model.mask_decoder
    if model.info.further_maps:
        decoder.mask_product = RowMaskProduct()
        return
    path, upscale = [item for item in decoder.named_modules() if isinstance(item[1], nn.ConvTranspose2d)][-1]
    rows, columns = model.prompt_encoder.grid
    decoder.set_submodule(path, as_phase_convolution(upscale))
    decoder.mask_product = PhaseMaskProduct(decoder.num_mask_tokens, upscale.out_channels, (2 * rows, 2 * columns))


class LastAxisUpscaling(nn.Module):
    """Two transposed convolutions of kernel 2 and stride 2 as linear layers whose pixels stay in the order of cells."""

    def __init__(self, first: nn.ConvTranspose2d, norm: LastAxisNorm, second: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.first, self.norm, self.second = as_phase_linear(first), norm, as_phase_linear(second)
        self.channels = first.out_channels, second.out_channels
        self.activation = nn.GELU()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return pixels (B, H*W*16, C / 8) of an image (B, C, H, W): cell, its 2x2 phases, theirs."""
        inner, outer = self.channels
        cells = channels_last(image)
        cells = self.first(cells.reshape(batch_of(image), -1, self.first.in_features))
        cells = self.activation(self.norm(cells.reshape(batch_of(image), -1, inner)))
        return self.activation(self.second(cells)).reshape(batch_of(image), -1, outer)


class CellMaskProduct(nn.Module):
    """Multiply hypernetwork outputs with the pixels of ``LastAxisUpscaling``, then put the logits in their rows."""

    def __init__(self, masks: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.masks, self.grid = masks, grid

    def forward(self, hyper: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """Return (B, M, 4H, 4W) logits from hyper (B, M, C) and pixels (B, H*W*16, C)."""
        rows, columns = self.grid
        product = (hyper @ pixels.transpose(1, 2)).reshape(-1, rows, columns, 2, 2, 2, 2)  # y, x, then y, x of phases
        return product.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, self.masks, 4 * rows, 4 * columns)


def as_phase_linear(upscale: nn.ConvTranspose2d) -> nn.Linear:
    """Return the linear layer whose output, phase-major, holds the pixels of ``upscale`` (kernel 2, stride 2)."""
    conv = as_phase_convolution(upscale)
    linear = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
    linear.weight, linear.bias = nn.Parameter(conv.weight.detach().flatten(1)), nn.Parameter(bias_of(conv).detach())
    return linear


# 1e-6: the same products, summed in another order.
@register_rewrite(tolerance=1e-6, formats=("onnx",))
def mask_product_by_cells(model: SamModel) -> None:
    """Upscale with channels on the last axis and put pixels in their rows after the mask product.

    Only a decoder with SAM's own upscaling, which adds no maps and has no other layers, is changed.
    """
    decoder = model.mask_decoder
    layers = list(getattr(decoder, "output_upscaling", ()))
    if model.info.further_maps or [type(layer) for layer in layers[::3]] != [nn.ConvTranspose2d] * 2:
        return
    first, norm, _, second, _ = layers
    upscaling: nn.Module = LastAxisUpscaling(first, LastAxisNorm(norm), second)
    decoder.add_module("output_upscaling", upscaling)
    decoder.mask_product = CellMaskProduct(decoder.num_mask_tokens, model.prompt_encoder.grid)
