"""A convolution with an activation, or with a sum, difference or product, in oneDNN's own pass over its output.

Only what gives the bits of the two operations is here. oneDNN's sigmoid, tanh and SiLU differ from torch's in the last
place, and so does its approximate GELU; its rectifier turns NaN into 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgesam_export.mil.fusions import Chain, Fused, register_fusion
from edgesam_export.mil.memory import channels_last
from edgesam_export.mil.ops.conv import PackedConvolution
from edgesam_export.mil.results import fits

__all__ = ["convolution_with_gelu", "convolution_with_operand"]

OPERANDS = ("add", "mul", "sub")


def convolution_of(chain: Chain) -> PackedConvolution | None:
    """Return the chain's convolution if nothing has to be rounded between it and the operations that follow."""
    head = chain.steps[0].fn
    rounds = any(step.rounds[0] for step in chain.steps)
    return head if isinstance(head, PackedConvolution) and not rounds and chain.has_one_type else None


@register_fusion(heads=["conv"], tails=["gelu"])
def convolution_with_gelu(chain: Chain) -> Fused | None:
    """Return the convolution that applies the exact GELU."""
    convolution = convolution_of(chain)
    exact = chain.steps[-1].call.keyword.get("mode", "EXACT") == "EXACT"
    if convolution is None or len(chain.steps) != 2 or not exact:
        return None

    def compute(arguments: list[list[Any]]) -> Tensor | None:
        x, _, bias = arguments[0]
        packed = convolution.packed_for(x)
        if packed is None:
            return None
        product: Tensor = torch.ops.mkldnn._convolution_pointwise(
            channels_last(x), packed.weight, bias, *packed.geometry, "gelu", [], "none"
        )
        return product

    return compute


@register_fusion(heads=["conv"], tails=OPERANDS)
def convolution_with_operand(chain: Chain) -> Fused | None:
    """Return the convolution that combines its product with another tensor, a residual say."""
    convolution = convolution_of(chain)
    if convolution is None or len(chain.steps) != 2:
        return None
    operation, position = chain.types[1], 1 - chain.links[0]
    if operation == "sub" and position == 0:
        return None  # oneDNN subtracts the operand, it does not subtract from it
    slot = dict(chain.steps[1].call.feeds).get(position)
    apart = slot not in dict(chain.steps[0].call.feeds).values()
    declared = chain.steps[0].outputs[0][2]

    def compute(arguments: list[list[Any]]) -> Tensor | None:
        x, _, bias = arguments[0]
        other = arguments[1][position]
        packed = convolution.packed_for(x)
        if (
            packed is None
            or other.dtype != torch.float32
            or other.ndim != 4
            or not fits(tuple(other.shape), declared.shape)
        ):
            return None
        x, laid_out = channels_last(x), channels_last(other)
        product: tuple[Any, ...] = (packed.weight, bias, *packed.geometry, operation, 1.0, None, [], None)
        if operation == "add" and ((apart and slot in chain.owned) or laid_out is not other):
            summed: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(laid_out, x, *product)
            return summed
        combined: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(x, laid_out, *product)
        return combined

    return compute
