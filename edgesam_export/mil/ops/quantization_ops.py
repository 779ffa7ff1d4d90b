"""Affine quantisation of activations and weights.

Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (quantization_ops).
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.carriers import CARRIERS
from edgesam_export.mil.ops import register_op

__all__ = ["along_axis", "dequantize", "quantize"]


def along_axis(parameter: Tensor, data: Tensor, axis: int | None) -> Tensor:
    """Shape a scalar or a vector so that it broadcasts along ``axis`` of ``data``."""
    if parameter.dim() == 0:
        return parameter
    if axis is None or parameter.numel() != data.shape[axis]:
        raise ProgramError(
            f"scale or zero point of shape {tuple(parameter.shape)} with axis {axis} does not fit {tuple(data.shape)}"
        )
    return parameter.reshape([-1 if i == axis % data.dim() else 1 for i in range(data.dim())])


@register_op(opset="iOS17", exact=True)
def quantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | None = None, *, output_dtype: str, axis: int | None = None
) -> Tensor:
    """clip(round(input / scale) + zero_point) in int8 or uint8, ties to even. Source: iOS17."""
    dtype = CARRIERS[output_dtype]
    levels = torch.round(input / along_axis(scale, input, axis))
    if zero_point is not None:
        levels = levels + along_axis(zero_point, input, axis)
    return levels.clamp(torch.iinfo(dtype).min, torch.iinfo(dtype).max).to(dtype)


@register_op(opset="iOS17")
def dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, *, axis: int | None = None) -> Tensor:
    """scale * (input - zero_point). Source: iOS17."""
    levels = input.to(scale.dtype)
    if zero_point is not None:
        levels = levels - along_axis(zero_point, input, axis)
    return levels * along_axis(scale, input, axis)
