"""Exact bicubic upsampling without a bicubic operation, as a constant linear map."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from edgesam_export.modeling.sam import SamModel
from edgesam_export.rewrites import register_rewrite, replace_modules

__all__ = ["BicubicMatmul", "BicubicPhases", "bicubic_as_matmul", "bicubic_as_phases", "bicubic_matrix"]

CUBIC_A = -0.75
"""The cubic convolution parameter of torch's and Pillow's bicubic (Keys 1981 has -0.5)."""
SHRINK = 8
"""Side of an encoder's image over that of the small one on which the sizes inside it are found."""


def cubic_kernel(distance: float) -> float:
    """Return the cubic convolution weight at a distance in samples (Keys 1981, eq. 15, a = -0.75)."""
    x = abs(distance)
    if x <= 1:
        return (CUBIC_A + 2) * x**3 - (CUBIC_A + 3) * x**2 + 1
    if x < 2:
        return CUBIC_A * (x**3 - 5 * x**2 + 8 * x - 4)
    return 0.0


def bicubic_matrix(size_in: int, size_out: int) -> torch.Tensor:
    """Return the (size_out, size_in) matrix of 1-D bicubic resizing, align_corners false, edges clamped."""
    matrix = torch.zeros(size_out, size_in, dtype=torch.float64)
    scale = size_in / size_out
    for row in range(size_out):
        centre = (row + 0.5) * scale - 0.5
        first = int(torch.tensor(centre).floor()) - 1
        for tap in range(first, first + 4):
            matrix[row, min(max(tap, 0), size_in - 1)] += cubic_kernel(centre - tap)
    return matrix.float()


class BicubicMatmul(nn.Module):
    """Bicubic resizing as two multiplications by constant matrices, one per axis."""

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, size_in: tuple[int, int], size_out: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("rows", bicubic_matrix(size_in[0], size_out[0]))  # (Ho, Hi)
        self.register_buffer("columns", bicubic_matrix(size_in[1], size_out[1]).t().contiguous())  # (Wi, Wo)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, C, Ho, Wo) from (B, C, Hi, Wi)."""
        return self.rows @ (x @ self.columns)


class BicubicPhases(nn.Module):
    """Bicubic upsampling by an integer factor: a depthwise convolution with all phases of a channel, then a shuffle.

    Output samples at the same phase between input samples have the same taps; 2x has two phases along an axis.
    """

    weight: torch.Tensor

    def __init__(self, channels: int, scale: int = 2) -> None:
        super().__init__()
        shifts = [(phase + 0.5) / scale - 0.5 for phase in range(scale)]
        taps = torch.tensor([[cubic_kernel(shift - tap) for tap in range(-2, 3)] for shift in shifts])
        # phase = scale * row phase + column phase
        phases = torch.einsum("iy,jx->ijyx", taps, taps).reshape(scale * scale, 1, 5, 5)
        self.channels = channels
        self.scale = scale
        self.register_buffer("weight", phases.repeat(channels, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, C, scale * H, scale * W) from (B, C, H, W)."""
        padded = nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
        return nn.functional.pixel_shuffle(nn.functional.conv2d(padded, self.weight, groups=self.channels), self.scale)


def bicubic_scale(module: nn.Module) -> int | None:
    """Return the factor by which a module upsamples bicubically, None when it does not.

    A module declares it by ``bicubic_scale``, or by ``is_bicubic_2x``.
    """
    scale: int | None = getattr(module, "bicubic_scale", 2 if getattr(module, "is_bicubic_2x", False) else None)
    return scale


def bicubic_inputs(model: SamModel) -> dict[nn.Module, tuple[int, int]]:
    """Return height and width of the input of each bicubic module of the encoder.

    An encoder that takes any size (``any_size``) says it on a small image: all sizes in it are proportional to the
    image's. Any other says it on the meta device, whose first operation imports a compiler, more than a second's work.
    """
    encoder, size = model.image_encoder, model.info.frame.size
    shrink = SHRINK if getattr(encoder, "any_size", False) else 1
    found: dict[nn.Module, tuple[int, int]] = {}

    def remember(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        found[module] = (inputs[0].shape[-2] * shrink, inputs[0].shape[-1] * shrink)

    bicubic = [module for module in encoder.modules() if bicubic_scale(module) is not None]
    hooks = [module.register_forward_pre_hook(remember) for module in bicubic]
    tensors = dict((*encoder.named_parameters(), *encoder.named_buffers()))
    if shrink == 1:
        tensors = {key: value.to("meta") for key, value in tensors.items()}
    side, device = size // shrink, next(iter(tensors.values())).device
    try:
        if bicubic:
            torch.func.functional_call(encoder, tensors, (torch.zeros(1, 3, side, side, device=device),))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def replace_bicubic(model: SamModel, build: Callable[[nn.Module, int], nn.Module]) -> None:
    """Replace each module that upsamples bicubically by ``build(module, scale)``."""

    def chosen(module: nn.Module) -> nn.Module | None:
        scale = bicubic_scale(module)
        return None if scale is None else build(module, scale)

    replace_modules(model.image_encoder, chosen)


# 1e-6: the same sum of products in another order.
@register_rewrite(tolerance=1e-6)
def bicubic_as_matmul(model: SamModel) -> None:
    """Turn bicubic upsampling into two products with constant interpolation matrices."""
    sizes = bicubic_inputs(model)

    def build(module: nn.Module, scale: int) -> nn.Module:
        rows, columns = sizes[module]
        return BicubicMatmul((rows, columns), (scale * rows, scale * columns))

    replace_bicubic(model, build)


@register_rewrite(tolerance=1e-6, formats=())
def bicubic_as_phases(model: SamModel) -> None:
    """Turn bicubic upsampling into a depthwise convolution with all phases of a channel and a pixel shuffle."""

    def build(module: nn.Module, scale: int) -> nn.Module:
        assert isinstance(module.channels, int)
        return BicubicPhases(module.channels, scale)

    replace_bicubic(model, build)
