"""Element-wise functions of two tensors, with NumPy broadcasting."""

from __future__ import annotations

import torch
from torch import Tensor

from edgesam_export.mil.ops import register_op

__all__ = [
    "add",
    "equal",
    "floor_div",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "mul",
    "not_equal",
    "pow_",
    "real_div",
    "sub",
]


@register_op()
def add(x: Tensor, y: Tensor) -> Tensor:
    """Sum.

    Source: MIL spec, elementwise_binary.
    """
    return torch.add(x, y)


@register_op(exact=True)
def equal(x: Tensor, y: Tensor) -> Tensor:
    """Truth of x == y.

    Source: MIL spec, elementwise_binary.
    """
    return torch.eq(x, y)


@register_op()
def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """Quotient rounded towards minus infinity.

    Source: MIL spec, elementwise_binary.
    """
    return torch.floor_divide(x, y)


@register_op(exact=True)
def greater(x: Tensor, y: Tensor) -> Tensor:
    """Truth of x > y.

    Source: MIL spec, elementwise_binary.
    """
    return torch.gt(x, y)


@register_op(exact=True)
def greater_equal(x: Tensor, y: Tensor) -> Tensor:
    """Truth of x >= y.

    Source: MIL spec, elementwise_binary.
    """
    return torch.ge(x, y)


@register_op(exact=True)
def less(x: Tensor, y: Tensor) -> Tensor:
    """Truth of x < y.

    Source: MIL spec, elementwise_binary.
    """
    return torch.lt(x, y)


@register_op(exact=True)
def less_equal(x: Tensor, y: Tensor) -> Tensor:
    """Truth of x <= y.

    Source: MIL spec, elementwise_binary.
    """
    return torch.le(x, y)


@register_op(exact=True)
def logical_and(x: Tensor, y: Tensor) -> Tensor:
    """Truth of x and y.

    Source: MIL spec, elementwise_binary.
    """
    return torch.logical_and(x, y)


@register_op(exact=True)
def logical_or(x: Tensor, y: Tensor) -> Tensor:
    """Truth of x or y, or both.

    Source: MIL spec, elementwise_binary.
    """
    return torch.logical_or(x, y)


@register_op(exact=True)
def logical_xor(x: Tensor, y: Tensor) -> Tensor:
    """Truth of either x or y.

    Source: MIL spec, elementwise_binary.
    """
    return torch.logical_xor(x, y)


@register_op(exact=True)
def maximum(x: Tensor, y: Tensor) -> Tensor:
    """Larger of the two.

    Source: MIL spec, elementwise_binary.
    """
    return torch.maximum(x, y)


@register_op(exact=True)
def minimum(x: Tensor, y: Tensor) -> Tensor:
    """Smaller of the two.

    Source: MIL spec, elementwise_binary.
    """
    return torch.minimum(x, y)


@register_op()
def mod(x: Tensor, y: Tensor) -> Tensor:
    """Remainder with the sign of the divisor: x - y * floor(x / y).

    Source: MIL spec, elementwise_binary.
    """
    return torch.remainder(x, y)


@register_op()
def mul(x: Tensor, y: Tensor) -> Tensor:
    """Product.

    Source: MIL spec, elementwise_binary.
    """
    return torch.mul(x, y)


@register_op(exact=True)
def not_equal(x: Tensor, y: Tensor) -> Tensor:
    """Truth of x != y.

    Source: MIL spec, elementwise_binary.
    """
    return torch.ne(x, y)


@register_op()
def pow_(x: Tensor, y: Tensor) -> Tensor:
    """Power x ^ y; integers through double precision, truncated.

    Source: MIL spec, elementwise_binary.
    """
    if not x.is_floating_point():
        return torch.pow(x.double(), y.double()).to(x.dtype)
    return torch.pow(x, y.item()) if y.ndim == 0 else torch.pow(x, y)  # a number gets the fast squares and roots


@register_op()
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """Quotient; of integers truncated towards zero, because the result has their type.

    Source: MIL spec, elementwise_binary, which gives the type of the result and not its rounding.
    """
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() or y.is_floating_point() else "trunc")


@register_op()
def sub(x: Tensor, y: Tensor) -> Tensor:
    """Difference.

    Source: MIL spec, elementwise_binary.
    """
    return torch.sub(x, y)
