"""Ops that read from and write to positions that another tensor names.

An index below zero counts from the end: the rule up to iOS16, and a permitted answer to the undefined case since iOS17.
An index outside the axis is refused, whatever ``validate_indices`` says: the program's result would be undefined.
Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (scatter_gather).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import register_op

__all__ = ["gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd"]


def positions(indices: Tensor, size: int, axis: int, strict: bool = False) -> Tensor:
    """Return ``indices`` as int64 in ``[0, size)``.

    Raises:
        ProgramError: an index is outside the axis; below zero counts as outside if ``strict``.
    """
    if indices.numel():
        low, high = (bound.item() for bound in torch.aminmax(indices))
        if low < (0 if strict else -size) or high >= size:
            raise ProgramError(f"indices {low} to {high} leave axis {axis} of size {size}")
        if low < 0:
            return torch.where(indices < 0, indices + size, indices).to(torch.int64)
    return indices.to(torch.int64)


@register_op(exact=True)
def gather(x: Tensor, indices: Tensor, *, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Slices of ``axis`` at ``indices``, whose first ``batch_dims`` axes run with ``x``. Source: iOS15 to iOS17."""
    axis %= x.dim()
    where = positions(indices, x.shape[axis], axis, validate_indices)
    sizes = (*x.shape[:axis], *indices.shape[batch_dims:], *x.shape[axis + 1 :])
    if where.dim() == 0:
        return x.select(axis, int(where))
    if batch_dims == 0:
        return x.index_select(axis, where.flatten()).reshape(sizes)
    moved = x.movedim(axis, batch_dims)
    where = where.flatten(batch_dims) if where.dim() > batch_dims else where.unsqueeze(-1)
    where = where.reshape(*where.shape, *[1] * (moved.dim() - where.dim()))
    return torch.take_along_dim(moved, where, batch_dims).movedim(batch_dims, axis).reshape(sizes)


@register_op(exact=True)
def gather_along_axis(x: Tensor, indices: Tensor, *, axis: int = 0, validate_indices: bool = False) -> Tensor:
    """Element by element, the position along ``axis`` comes from ``indices``. Source: iOS15 to iOS17."""
    return torch.gather(x, axis, positions(indices, x.shape[axis], axis, validate_indices))


@register_op(exact=True)
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """The last axis of ``indices`` holds one position of ``x`` behind the batch axes. Source: iOS15 to iOS17."""
    batch = [
        torch.arange(size, device=x.device).reshape([-1 if i == axis else 1 for i in range(indices.dim() - 1)])
        for axis, size in enumerate(x.shape[:batch_dims])
    ]
    selected = [
        positions(part, x.shape[batch_dims + i], batch_dims + i, validate_indices)
        for i, part in enumerate(indices.unbind(-1))
    ]
    return x[tuple(batch + selected)]


def scattered(data: Tensor, where: Tensor, updates: Tensor, axis: int, mode: str) -> Tensor:
    """Copy of ``data`` with ``updates`` combined at the positions ``where`` (same shape) of ``axis``."""
    if mode == "update":
        return data.scatter(axis, where, updates)
    if mode in ("add", "sub"):
        return data.scatter_add(axis, where, updates if mode == "add" else -updates)
    if mode == "div":
        divisor = torch.ones_like(data).scatter_reduce(axis, where, updates, "prod")
        return torch.div(data, divisor, rounding_mode=None if data.is_floating_point() else "trunc")
    reductions = {"mul": "prod", "max": "amax", "min": "amin"}
    if mode not in reductions:
        raise ProgramError(f"scatter mode is '{mode}'; update, add, sub, mul, div, max and min exist")
    return data.scatter_reduce(axis, where, updates, reductions[mode])


@register_op()
def scatter(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, mode: str = "add", validate_indices: bool = False
) -> Tensor:
    """Combine slice ``i`` of ``updates`` into slice ``indices[i]`` of ``axis``. Source: iOS15, iOS17."""
    axis %= data.dim()
    where = positions(indices, data.shape[axis], axis, validate_indices)
    where = where.reshape([-1 if i == axis else 1 for i in range(data.dim())]).expand_as(updates)
    return scattered(data, where, updates, axis, mode)


@register_op()
def scatter_along_axis(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, mode: str = "add", validate_indices: bool = False
) -> Tensor:
    """Combine element by element: the position along ``axis`` comes from ``indices``. Source: iOS15, iOS17."""
    return scattered(data, positions(indices, data.shape[axis], axis, validate_indices), updates, axis, mode)


@register_op()
def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, *, mode: str = "add", validate_indices: bool = False
) -> Tensor:
    """Combine slices of ``updates`` at the positions that the last axis of ``indices`` holds. Source: iOS15, iOS17."""
    depth = indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=data.device)
    for axis, part in enumerate(indices.unbind(-1)):
        flat = flat * data.shape[axis] + positions(part, data.shape[axis], axis, validate_indices)
    rows = data.reshape(math.prod(data.shape[:depth]), math.prod(data.shape[depth:]))
    updates = updates.reshape(flat.numel(), rows.shape[1])
    return scattered(rows, flat.reshape(-1, 1).expand_as(updates), updates, 0, mode).reshape(data.shape)
