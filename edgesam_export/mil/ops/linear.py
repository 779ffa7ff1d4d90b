"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgesam_export.mil.carriers import CARRIERS
from edgesam_export.mil.ops import register_op
from edgesam_export.mil.types import ValueType

__all__ = ["einsum", "linear", "matmul", "matmul_mixed"]


@register_op()
def einsum(values: list[Tensor], *, equation: str) -> Tensor:
    """Sum of products of two tensors in Einstein notation; sizes of 1 broadcast.

    Shapes:
        values (B, C, H, W1) and (B, W1, H, W2), or both without B; returns (B, C, H, W2)
    Source: MIL spec, linear.
    """
    return torch.einsum(equation, *values)


@register_op()
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Product of ``x`` with the transpose of ``weight``, plus ``bias``.

    Shapes:
        x (*B, D_in); weight (D_out, D_in); bias (D_out,); returns (*B, D_out)
    Source: MIL spec, linear.
    """
    weight = weight.to(x.dtype)
    bias = None if bias is None else bias.to(x.dtype)
    if x.is_floating_point():
        return F.linear(x, weight, bias)
    product = torch.matmul(x, weight.T)
    return product if bias is None else product + bias


@register_op()
def matmul(x: Tensor, y: Tensor, *, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Product of matrices (last two dimensions) with broadcast batch dimensions; a vector is a row on the left.

    Source: MIL spec, linear. Transposing a vector has no effect.
    """
    x = x.mT if transpose_x and x.ndim > 1 else x
    y = y.mT if transpose_y and y.ndim > 1 else y
    return torch.matmul(x, y)


@register_op(opset="iOS17", name="matmul")
def matmul_mixed(
    x: Tensor, y: Tensor, *, transpose_x: bool = False, transpose_y: bool = False, out_types: tuple[ValueType, ...]
) -> Tensor:
    """Product as before of operands whose types may differ, in the wider one; the program says which one results.

    Source: MIL spec, linear (iOS17): the type of the operand that is not constant.
    """
    common = torch.promote_types(x.dtype, y.dtype)
    product = matmul(x.to(common), y.to(common), transpose_x=transpose_x, transpose_y=transpose_y)
    return product.to(CARRIERS[out_types[0].dtype])
