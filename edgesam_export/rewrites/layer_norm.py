"""Write the channel LayerNorm so that Core ML sees one ``layer_norm`` operation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from edgesam_export.modeling.channels_last import LastAxisNorm
from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.modeling.sam import SamModel
from edgesam_export.rewrites import NEURAL_ENGINE, register_rewrite, replace_modules

__all__ = ["ChannelLayerNorm", "ScaledLayerNorm", "TokenLayerNorm", "layer_norm_2d"]


class ChannelLayerNorm(nn.Module):
    """LayerNorm over axis 1 of a (B, C, H, W) tensor.

    Core ML's converter turns ``(x - mean) * rsqrt(mean((x - mean)^2) + eps)``, followed by adding bias / weight and
    then multiplying by weight, into one ``layer_norm(axes=[1])``, whose squares no longer pass through FP16 (they
    overflow above 255).  Where a weight is so small that bias / weight is not safe, scale and shift stay separate.
    ONNX has no such operation for axis 1, so there the chain itself stays FP32; Core AI takes ``ScaledLayerNorm``.
    Source: coremltools passes/defs/optimize_normalization.py, pattern 5.
    """

    fp32_formats: tuple[str, ...] = ("onnx",)

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

    def form_for(self, format: str) -> nn.Module | None:
        """Return the form for Core AI, None for the other formats."""
        if format != "coreai":
            return None
        return ScaledLayerNorm(self.weight, self.shift * self.weight if self.scale_last else self.shift, self.eps)

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tensor with mean 0 and variance 1."""
        centred = x - x.mean(1, keepdim=True)
        return centred * torch.rsqrt((centred * centred).mean(1, keepdim=True) + self.eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised tensor; shape (B, C, H, W) stays."""
        normalised = self.normalise(x)
        if self.scale_last:
            return (normalised + self.shift) * self.weight
        return normalised * self.weight + self.shift


class ScaledLayerNorm(ChannelLayerNorm):
    """The same for a converter that knows no pattern of it: right in plain FP16.

    The squares of FP16 values overflow above 255 and vanish below 2.4e-4.  Deviations divided by the largest one have
    squares of 0 to 1 with a mean of at least 1 / C, whatever the scale of the input; the quotient stays the same when
    epsilon is divided by the square of that scale too.
    """

    fp32_formats = ()
    # Below it epsilon decides alone, and its quotient must not overflow: (1e-3 / 2 ** -12) ** 2 = 17.
    smallest = 2.0**-12

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, eps: float, *, axis: int = 1) -> None:
        super().__init__(weight, bias, eps)
        self.axis = axis
        if axis == -1:
            self.weight.data, self.shift.data = self.weight.flatten(), self.shift.flatten()

    def form_for(self, format: str) -> nn.Module | None:
        """Return None: this is the form."""
        return None

    def round_weights(self, rounded: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Round scale and shift, which are stored as they are."""
        self.weight.data, self.shift.data = rounded(self.weight), rounded(self.shift)

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tensor with mean 0 and variance 1."""
        centred = x - x.mean(self.axis, keepdim=True)
        scale = centred.abs().amax(self.axis, keepdim=True).clamp(min=self.smallest)
        scaled, root_eps = centred / scale, self.eps**0.5 / scale
        return scaled * torch.rsqrt((scaled * scaled).mean(self.axis, keepdim=True) + root_eps * root_eps)


class TokenLayerNorm(LastAxisNorm):
    """LayerNorm of tokens (B, T, C): one operation in Core ML, ``ScaledLayerNorm`` in Core AI."""

    def form_for(self, format: str) -> nn.Module | None:
        """Return the form for Core AI, None for the other formats."""
        return ScaledLayerNorm(self.weight, self.bias, self.eps, axis=-1) if format == "coreai" else None


# 1e-5: bias is divided by the weight and multiplied again.
@register_rewrite(tolerance=1e-5, formats=NEURAL_ENGINE)
def layer_norm_2d(model: SamModel) -> None:
    """Replace every channel LayerNorm by a form that converts to one operation and cannot overflow FP16."""

    def build(module: nn.Module) -> nn.Module | None:
        if isinstance(module, LayerNorm2d):
            return ChannelLayerNorm(module.weight, module.bias, module.eps)
        return None

    replace_modules(model, build)
