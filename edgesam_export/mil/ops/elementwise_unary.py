"""Element-wise functions of one tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.carriers import CARRIERS
from edgesam_export.mil.ops import register_op
from edgesam_export.mil.types import BITS, FLOATS

__all__ = [
    "abs_",
    "acos",
    "asin",
    "atan",
    "atanh",
    "cast",
    "ceil",
    "clip",
    "cos",
    "cosh",
    "erf",
    "exp",
    "exp2",
    "floor",
    "inverse",
    "log",
    "logical_not",
    "round_",
    "rsqrt",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "threshold",
]


@register_op(exact=True)
def abs_(x: Tensor) -> Tensor:
    """Absolute value.

    Source: MIL spec, elementwise_unary.
    """
    return torch.abs(x)


@register_op()
def acos(x: Tensor) -> Tensor:
    """Inverse cosine, radians.

    Source: MIL spec, elementwise_unary.
    """
    return torch.acos(x)


@register_op()
def asin(x: Tensor) -> Tensor:
    """Inverse sine, radians.

    Source: MIL spec, elementwise_unary.
    """
    return torch.asin(x)


@register_op()
def atan(x: Tensor) -> Tensor:
    """Inverse tangent, radians.

    Source: MIL spec, elementwise_unary.
    """
    return torch.atan(x)


@register_op()
def atanh(x: Tensor) -> Tensor:
    """Inverse hyperbolic tangent.

    Source: MIL spec, elementwise_unary.
    """
    return torch.atanh(x)


@register_op()
def cast(x: Tensor, *, dtype: str) -> Tensor:
    """Conversion to ``dtype``: a fraction is cut off, a float out of range saturates, an integer wraps around.

    Source: MIL spec, elementwise_unary, which leaves the two overflows open; saturating is what ARM's fcvtz does.
    """
    if dtype not in CARRIERS:
        raise ProgramError(f"cast: unknown dtype '{dtype}'; one of {', '.join(CARRIERS)}")
    carrier, bits = CARRIERS[dtype], BITS[dtype]
    if dtype in FLOATS or dtype == "bool":
        return x.to(carrier)
    if x.is_floating_point():
        low, high = (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return x.double().nan_to_num(nan=0.0).clamp(low, high).to(carrier)
    if dtype[0] == "u" and carrier.itemsize * 8 > bits:
        x = x.to(torch.int64) & (2**bits - 1)
    return x.to(carrier)


@register_op(exact=True)
def ceil(x: Tensor) -> Tensor:
    """Smallest integer that is not less.

    Source: MIL spec, elementwise_unary.
    """
    return torch.ceil(x)


@register_op(exact=True)
def clip(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Elements limited to ``alpha`` .. ``beta``.

    Source: MIL spec, elementwise_unary; min(max(x, alpha), beta).
    """
    return x.clamp(alpha, beta)


@register_op()
def cos(x: Tensor) -> Tensor:
    """Cosine of radians.

    Source: MIL spec, elementwise_unary.
    """
    return torch.cos(x)


@register_op()
def cosh(x: Tensor) -> Tensor:
    """Hyperbolic cosine.

    Source: MIL spec, elementwise_unary.
    """
    return torch.cosh(x)


@register_op()
def erf(x: Tensor) -> Tensor:
    """Gauss error function.

    Source: MIL spec, elementwise_unary.
    """
    return torch.erf(x)


@register_op()
def exp(x: Tensor) -> Tensor:
    """Power of e.

    Source: MIL spec, elementwise_unary.
    """
    return torch.exp(x)


@register_op()
def exp2(x: Tensor) -> Tensor:
    """Power of 2; of integers truncated.

    Source: MIL spec, elementwise_unary.
    """
    return torch.exp2(x).to(x.dtype)


@register_op(exact=True)
def floor(x: Tensor) -> Tensor:
    """Largest integer that is not greater.

    Source: MIL spec, elementwise_unary.
    """
    return torch.floor(x)


@register_op()
def inverse(x: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """Reciprocal: 1 / (x + epsilon).

    Source: MIL spec, elementwise_unary.
    """
    return (x + epsilon).reciprocal_()


@register_op()
def log(x: Tensor, *, epsilon: float = 1e-45) -> Tensor:
    """Natural logarithm: log(x + epsilon).

    Source: MIL spec, elementwise_unary.
    """
    return (x + epsilon).log_()


@register_op(exact=True)
def logical_not(x: Tensor) -> Tensor:
    """Opposite truth value.

    Source: MIL spec, elementwise_unary.
    """
    return torch.logical_not(x)


@register_op(exact=True)
def round_(x: Tensor) -> Tensor:
    """Nearest integer, halves to the even one.

    Source: MIL spec, elementwise_unary.
    """
    return torch.round(x)


@register_op()
def rsqrt(x: Tensor, *, epsilon: float = 1e-12) -> Tensor:
    """Reciprocal of the square root: 1 / sqrt(x + epsilon).

    Source: MIL spec, elementwise_unary.
    """
    return (x + epsilon).rsqrt_()


@register_op(exact=True)
def sign(x: Tensor) -> Tensor:
    """Sign: -1, 0 or 1.

    Source: MIL spec, elementwise_unary.
    """
    return torch.sign(x)


@register_op()
def sin(x: Tensor) -> Tensor:
    """Sine of radians.

    Source: MIL spec, elementwise_unary.
    """
    return torch.sin(x)


@register_op()
def sinh(x: Tensor) -> Tensor:
    """Hyperbolic sine.

    Source: MIL spec, elementwise_unary.
    """
    return torch.sinh(x)


@register_op()
def sqrt(x: Tensor) -> Tensor:
    """Square root.

    Source: MIL spec, elementwise_unary.
    """
    return torch.sqrt(x)


@register_op()
def square(x: Tensor) -> Tensor:
    """Square.

    Source: MIL spec, elementwise_unary.
    """
    return torch.square(x)


@register_op()
def tan(x: Tensor) -> Tensor:
    """Tangent of radians.

    Source: MIL spec, elementwise_unary.
    """
    return torch.tan(x)


@register_op()
def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent.

    Source: MIL spec, elementwise_unary.
    """
    return torch.tanh(x)


@register_op(exact=True)
def threshold(x: Tensor, *, alpha: float) -> Tensor:
    """Elements raised to at least ``alpha``.

    Source: MIL spec, elementwise_unary.
    """
    return x.clamp(min=alpha)
