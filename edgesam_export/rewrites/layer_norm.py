"""Write the channel LayerNorm so that Core ML sees one ``layer_norm`` operation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.modeling.sam import SamModel
from edgesam_export.rewrites import register_rewrite, replace_modules

__all__ = ["ChannelLayerNorm", "layer_norm_2d"]


class ChannelLayerNorm(nn.Module):
    """LayerNorm over axis 1 of a (B, C, H, W) tensor.

    Core ML's converter turns ``(x - mean) * rsqrt(mean((x - mean)^2) + eps)``, followed by adding bias / weight and
    then multiplying by weight, into one ``layer_norm(axes=[1])``, whose squares no longer pass through FP16 (they
    overflow above 255).  Where a weight is so small that bias / weight is not safe, scale and shift stay separate.
    ONNX has no such operation for axis 1, so there the chain itself stays FP32.
    Source: coremltools passes/defs/optimize_normalization.py, pattern 5.
    """

    fp32_formats = ("onnx",)

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(weight.detach().clone().reshape(1, -1, 1, 1))
        # 1e-3: the quotient loses as many bits as the weight is smaller than the largest one.
        self.scale_last = bool((weight.abs() > 1e-3 * weight.abs().max()).all())
        shift = bias / weight if self.scale_last else bias
        self.shift = nn.Parameter(shift.detach().clone().reshape(1, -1, 1, 1))

    def round_weights(self, rounded: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Round scale and shift as a file stores them: the converter multiplies the shift out again."""
        shift = rounded(self.shift * self.weight) if self.scale_last else rounded(self.shift)
        self.weight.data = rounded(self.weight)
        self.shift.data = shift / self.weight if self.scale_last else shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised tensor; shape (B, C, H, W) stays."""
        centred = x - x.mean(1, keepdim=True)
        normalised = centred * torch.rsqrt((centred * centred).mean(1, keepdim=True) + self.eps)
        if self.scale_last:
            return (normalised + self.shift) * self.weight
        return normalised * self.weight + self.shift


# 1e-5: bias is divided by the weight and multiplied again.
@register_rewrite(tolerance=1e-5)
def layer_norm_2d(model: SamModel) -> None:
    """Replace every channel LayerNorm by a form that converts to one operation and cannot overflow FP16."""

    def build(module: nn.Module) -> nn.Module | None:
        if isinstance(module, LayerNorm2d):
            return ChannelLayerNorm(module.weight, module.bias, module.eps)
        return None

    replace_modules(model, build)
