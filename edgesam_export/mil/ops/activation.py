"""Activations. ``x`` is a float tensor of any shape; the result has the shape of ``x``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.memory import flat, is_dense
from edgesam_export.mil.ops import register_op

__all__ = [
    "clamped_relu",
    "elu",
    "gelu",
    "leaky_relu",
    "linear_activation",
    "prelu",
    "relu",
    "relu6",
    "scaled_tanh",
    "sigmoid",
    "sigmoid_hard",
    "silu",
    "softmax",
    "softplus",
    "softplus_parametric",
    "softsign",
    "thresholded_relu",
]

GELU_APPROXIMATIONS = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
"""MIL's mode -> torch's name."""


@register_op()
def clamped_relu(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Leaky rectifier with an upper bound: min(beta, x if x >= 0 else alpha * x).

    Source: MIL spec, activation.
    """
    return torch.where(x >= 0, x, alpha * x).clamp_(max=beta)


@register_op()
def elu(x: Tensor, *, alpha: float) -> Tensor:
    """Exponential linear unit: x if x > 0 else alpha * (e^x - 1).

    Source: MIL spec, activation.
    """
    return F.elu(x, alpha)


@register_op()
def gelu(x: Tensor, *, mode: str = "EXACT") -> Tensor:
    """Gaussian error linear unit: x * Phi(x), exact or by one of two approximations.

    EXACT x/2 * (1 + erf(x/sqrt 2)); TANH_APPROXIMATION x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)));
    SIGMOID_APPROXIMATION x * sigmoid(1.702 x).
    Source: MIL spec, activation; Hendrycks and Gimpel 2016, section 2.
    """
    if mode in GELU_APPROXIMATIONS:
        approximate = GELU_APPROXIMATIONS[mode]
        # torch computes dense memory with oneDNN if it is flat: faster, and with the bits of a fused convolution.
        if is_dense(x):
            return F.gelu(flat(x), approximate=approximate).as_strided(x.shape, x.stride())
        return F.gelu(x, approximate=approximate)
    if mode == "SIGMOID_APPROXIMATION":
        return (1.702 * x).sigmoid_().mul_(x)
    raise ProgramError(f"gelu: unknown mode '{mode}'; one of EXACT, TANH_APPROXIMATION, SIGMOID_APPROXIMATION")


@register_op()
def leaky_relu(x: Tensor, *, alpha: float) -> Tensor:
    """Leaky rectifier: x if x >= 0 else alpha * x.

    Source: MIL spec, activation.
    """
    return F.leaky_relu(x, alpha)


@register_op()
def linear_activation(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Affine map of every element: alpha * x + beta.

    Source: MIL spec, activation.
    """
    return (alpha * x).add_(beta)


@register_op()
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """Leaky rectifier with one slope per channel.

    Shapes:
        x (B, C, *D); alpha (C,)
    Source: MIL spec, activation.
    """
    return F.prelu(x, alpha)


@register_op(exact=True)
def relu(x: Tensor) -> Tensor:
    """Rectifier: max(x, 0).

    Source: MIL spec, activation.
    """
    return F.relu(x)


@register_op(exact=True)
def relu6(x: Tensor) -> Tensor:
    """Rectifier with the upper bound 6.

    Source: MIL spec, activation.
    """
    return x.clamp(0, 6)


@register_op()
def scaled_tanh(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Scaled hyperbolic tangent: alpha * tanh(beta * x).

    Source: MIL spec, activation.
    """
    return (beta * x).tanh_().mul_(alpha)


@register_op()
def sigmoid(x: Tensor) -> Tensor:
    """Logistic function: 1 / (1 + e^-x).

    Source: MIL spec, activation.
    """
    return torch.sigmoid(x)


@register_op()
def sigmoid_hard(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Piecewise linear sigmoid: alpha * x + beta, limited to 0 .. 1.

    Source: MIL spec, activation.
    """
    return (alpha * x).add_(beta).clamp_(0, 1)


@register_op()
def silu(x: Tensor) -> Tensor:
    """Sigmoid linear unit: x * sigmoid(x).

    Source: MIL spec, activation.
    """
    return F.silu(x)


@register_op()
def softplus(x: Tensor) -> Tensor:
    """Smooth rectifier: log(1 + e^x).

    Source: MIL spec, activation.
    """
    return F.softplus(x)


@register_op()
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Smooth rectifier with two parameters per channel: alpha * log(1 + e^(beta * x)).

    Shapes:
        x (B, C, *D); alpha (C,); beta (C,)
    Source: MIL spec, activation.
    """
    per_channel = (-1, *[1] * (x.ndim - 2))
    return F.softplus(x * beta.view(per_channel)).mul_(alpha.view(per_channel))


@register_op()
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Exponentials along ``axis``, divided by their sum.

    Source: MIL spec, activation.
    """
    return torch.softmax(x, axis)


@register_op()
def softsign(x: Tensor) -> Tensor:
    """Rational sigmoid: x / (1 + |x|).

    Source: MIL spec, activation.
    """
    return x / x.abs().add_(1)


@register_op(exact=True)
def thresholded_relu(x: Tensor, *, alpha: float) -> Tensor:
    """Elements of ``x`` that are at least ``alpha``, zero for the others.

    Source: MIL spec, activation.
    """
    return torch.where(x >= alpha, x, 0.0)
