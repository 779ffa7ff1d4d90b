"""Normalisation by mean, variance or sum of squares."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgesam_export.mil.ops import register_op

__all__ = ["batch_norm", "instance_norm", "l2_norm", "layer_norm", "local_response_norm"]


@register_op()
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    epsilon: float = 1e-5,
) -> Tensor:
    """Per channel: gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    Shapes:
        x (B, C, *D); all others (C,)
    Source: MIL spec, normalization.
    """
    return F.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)


@register_op()
def instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, *, epsilon: float = 1e-5
) -> Tensor:
    """Per image and channel: gamma * (x - mean) / sqrt(variance + epsilon) + beta, over the spatial dimensions.

    Shapes:
        x (B, C, *D); gamma, beta (C,)
    Source: MIL spec, normalization.
    """
    variance, mean = torch.var_mean(x, dim=list(range(2, x.ndim)), correction=0, keepdim=True)
    y = (x - mean).mul_(torch.rsqrt(variance + epsilon))
    per_channel = (-1, *[1] * (x.ndim - 2))
    y = y if gamma is None else y.mul_(gamma.view(per_channel))
    return y if beta is None else y.add_(beta.view(per_channel))


@register_op()
def l2_norm(x: Tensor, *, epsilon: float = 1e-6) -> Tensor:
    """Quotient of ``x`` and the root of the sum of squares over the last three dimensions, plus ``epsilon``.

    Source: MIL spec, normalization; x / sqrt(sum(x^2) + epsilon).
    """
    return x * x.square().sum(dim=(-3, -2, -1), keepdim=True).add_(epsilon).rsqrt_()


@register_op()
def layer_norm(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    axes: list[int] | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Over ``axes`` (all by default): gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    Shapes:
        gamma, beta: the sizes of ``axes``, in the order of the dimensions
    Source: MIL spec, normalization.
    """
    inner = sorted(axis % x.ndim for axis in (axes or range(x.ndim)))
    order = [axis for axis in range(x.ndim) if axis not in inner] + inner
    y = F.layer_norm(x.permute(order), [x.shape[axis] for axis in inner], gamma, beta, epsilon)
    return y.permute([order.index(axis) for axis in range(x.ndim)])


@register_op()
def local_response_norm(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Quotient of ``x`` and (k + alpha / size * sum of squares of ``size`` neighbouring channels) ^ beta.

    Source: MIL spec, normalization. An even ``size`` counts one channel more before than after, as PyTorch does.
    """
    return F.local_response_norm(x, size, alpha, beta, k)
