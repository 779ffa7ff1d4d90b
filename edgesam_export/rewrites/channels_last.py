"""Channels on the last axis wherever cells attend or are normalised, for runtimes of matrix products."""

from __future__ import annotations

from torch import nn

from edgesam_export.modeling.channels_last import PermutedLayerNorm
from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.modeling.sam import SamModel
from edgesam_export.rewrites import register_rewrite, replace_modules

__all__ = ["blocks_channels_last", "layer_norm_last_axis"]


# 1e-5: ONNX Runtime and PyTorch sum the squares of up to 1280 channels in another order.
@register_rewrite(tolerance=1e-5, formats=("onnx",))
def layer_norm_last_axis(model: SamModel) -> None:
    """Replace every channel LayerNorm by one over the last axis, which ONNX has as one operation."""

    def build(module: nn.Module) -> nn.Module | None:
        return PermutedLayerNorm(module) if isinstance(module, LayerNorm2d) else None

    replace_modules(model, build)


# 1e-5: biases of keys and values move out of the attention, where sums run in another order.
@register_rewrite(tolerance=1e-5, formats=("onnx",))
def blocks_channels_last(model: SamModel) -> None:
    """Let the blocks of vision transformers keep channels on the last axis: matrix products instead of convolutions.

    A module takes part by having a method ``channels_last() -> nn.Module``, which its family writes.
    """

    def build(module: nn.Module) -> nn.Module | None:
        form = getattr(module, "channels_last", None)
        return form() if form is not None else None

    replace_modules(model.image_encoder, build)
