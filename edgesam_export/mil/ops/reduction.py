"""Reductions over ``axes`` (all by default); the result has the type of ``x``, integers are truncated towards zero."""

from __future__ import annotations

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import register_op

__all__ = [
    "reduce_argmax",
    "reduce_argmax_typed",
    "reduce_argmin",
    "reduce_argmin_typed",
    "reduce_l1_norm",
    "reduce_l2_norm",
    "reduce_log_sum",
    "reduce_log_sum_exp",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_prod",
    "reduce_sum",
    "reduce_sum_square",
]


def every_axis(x: Tensor, axes: list[int] | None) -> list[int]:
    """Return ``axes``, or all dimensions of ``x``."""
    return list(range(x.ndim)) if axes is None else axes


def real(x: Tensor) -> Tensor:
    """Return ``x``, integers in double precision."""
    return x if x.is_floating_point() else x.double()


@register_op(exact=True)
def reduce_argmax(x: Tensor, *, axis: int = -1, keep_dims: bool = False) -> Tensor:
    """Position of the largest element along ``axis``, int32.

    Source: MIL spec, reduction.
    """
    return torch.argmax(x, axis, keep_dims).to(torch.int32)


@register_op(opset="iOS17", name="reduce_argmax", exact=True)
def reduce_argmax_typed(x: Tensor, *, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Position of the largest element along ``axis``, int32 or uint16.

    Source: MIL spec, reduction (iOS17).
    """
    check_index_dtype(output_dtype)
    return reduce_argmax(x, axis=axis, keep_dims=keep_dims)


@register_op(exact=True)
def reduce_argmin(x: Tensor, *, axis: int = -1, keep_dims: bool = False) -> Tensor:
    """Position of the smallest element along ``axis``, int32.

    Source: MIL spec, reduction.
    """
    return torch.argmin(x, axis, keep_dims).to(torch.int32)


@register_op(opset="iOS17", name="reduce_argmin", exact=True)
def reduce_argmin_typed(x: Tensor, *, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Position of the smallest element along ``axis``, int32 or uint16.

    Source: MIL spec, reduction (iOS17).
    """
    check_index_dtype(output_dtype)
    return reduce_argmin(x, axis=axis, keep_dims=keep_dims)


def check_index_dtype(output_dtype: str) -> None:
    """Accept the two index types, both of which int32 carries.

    Raises:
        ProgramError: another type.
    """
    if output_dtype.lower() not in ("int32", "uint16"):
        raise ProgramError(f"output_dtype '{output_dtype}' of an argmax or argmin; one of int32, uint16")


@register_op()
def reduce_l1_norm(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Sum of absolute values.

    Source: MIL spec, reduction.
    """
    return torch.sum(x.abs(), every_axis(x, axes), keep_dims, dtype=x.dtype)


@register_op()
def reduce_l2_norm(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Root of the sum of squares.

    Source: MIL spec, reduction.
    """
    return real(x).square().sum(every_axis(x, axes), keep_dims).sqrt_().to(x.dtype)


@register_op()
def reduce_log_sum(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Natural logarithm of the sum.

    Source: MIL spec, reduction.
    """
    return real(x).sum(every_axis(x, axes), keep_dims).log_().to(x.dtype)


@register_op()
def reduce_log_sum_exp(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Natural logarithm of the sum of exponentials, without overflow.

    Source: MIL spec, reduction.
    """
    return torch.logsumexp(real(x), every_axis(x, axes), keep_dims).to(x.dtype)


@register_op(exact=True)
def reduce_max(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Largest element.

    Source: MIL spec, reduction.
    """
    return torch.amax(x, every_axis(x, axes), keep_dims)


@register_op()
def reduce_mean(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Arithmetic mean.

    Source: MIL spec, reduction.
    """
    return torch.mean(real(x), every_axis(x, axes), keep_dims).to(x.dtype)


@register_op(exact=True)
def reduce_min(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Smallest element.

    Source: MIL spec, reduction.
    """
    return torch.amin(x, every_axis(x, axes), keep_dims)


@register_op()
def reduce_prod(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Product of the elements.

    Source: MIL spec, reduction.
    """
    y = x
    for axis in sorted((axis % x.ndim for axis in every_axis(x, axes)), reverse=True):
        y = torch.prod(y, axis, keep_dims, dtype=x.dtype)
    return y


@register_op()
def reduce_sum(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Sum of the elements.

    Source: MIL spec, reduction.
    """
    return torch.sum(x, every_axis(x, axes), keep_dims, dtype=x.dtype)


@register_op()
def reduce_sum_square(x: Tensor, *, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """Sum of squares.

    Source: MIL spec, reduction.
    """
    return torch.sum(x.square(), every_axis(x, axes), keep_dims, dtype=x.dtype)
