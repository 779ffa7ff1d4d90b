"""Ops that reshape, slice and reorder a tensor without computing; most results are views.

Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (tensor_transformation).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import register_op
from edgesam_export.mil.ops.tensor_operation import require_size

__all__ = [
    "batch_to_space",
    "depth_to_space",
    "expand_dims",
    "pixel_shuffle",
    "pixel_unshuffle",
    "reshape",
    "reshape_ios17",
    "reshape_like",
    "reverse",
    "reverse_sequence",
    "slice_by_index",
    "slice_by_size",
    "slice_update",
    "sliding_windows",
    "space_to_batch",
    "space_to_depth",
    "squeeze",
    "transpose",
]


@register_op(exact=True)
def depth_to_space(x: Tensor, *, block_size: int) -> Tensor:
    """Move channels into blocks of the image; the position in a block is the slow part of a channel. Source: iOS15."""
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // b**2, h * b, w * b)


@register_op(exact=True)
def space_to_depth(x: Tensor, *, block_size: int) -> Tensor:
    """Inverse of ``depth_to_space``. Source: iOS15."""
    n, c, h, w = x.shape
    b = block_size
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b**2, h // b, w // b)


@register_op(exact=True)
def pixel_shuffle(x: Tensor, *, upscale_factor: int) -> Tensor:
    """Move channels into blocks of the image; the position in a block is the fast part of a channel. Source: iOS15."""
    return torch.pixel_shuffle(x, upscale_factor)


@register_op(opset="iOS16", exact=True)
def pixel_unshuffle(x: Tensor, *, downscale_factor: int) -> Tensor:
    """Inverse of ``pixel_shuffle``. Source: iOS16."""
    return torch.pixel_unshuffle(x, downscale_factor)


@register_op(exact=True)
def space_to_batch(x: Tensor, *, block_shape: list[int], paddings: list[list[int]]) -> Tensor:
    """Pad the image, then move the position within a block to the front of the batch. Source: iOS15."""
    (top, bottom), (left, right) = paddings
    require_size((*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right), x.dtype)
    x = torch.nn.functional.pad(x, (left, right, top, bottom))
    (n, c, h, w), (bh, bw) = x.shape, block_shape
    x = x.reshape(n, c, h // bh, bh, w // bw, bw).permute(3, 5, 0, 1, 2, 4)
    return x.reshape(bh * bw * n, c, h // bh, w // bw)


@register_op(exact=True)
def batch_to_space(x: Tensor, *, block_shape: list[int], crops: list[list[int]]) -> Tensor:
    """Inverse of ``space_to_batch``. Source: iOS15."""
    ((top, bottom), (left, right)), (bh, bw) = crops, block_shape
    n, c, h, w = x.shape
    x = x.reshape(bh, bw, n // (bh * bw), c, h, w).permute(2, 3, 4, 0, 5, 1)
    x = x.reshape(n // (bh * bw), c, h * bh, w * bw)
    return x[:, :, top : h * bh - bottom, left : w * bw - right]


@register_op(exact=True)
def expand_dims(x: Tensor, *, axes: list[int]) -> Tensor:
    """Insert axes of size 1 at these axes of the result. Source: iOS15."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@register_op(exact=True)
def squeeze(x: Tensor, *, axes: list[int] | None = None) -> Tensor:
    """Remove these axes, or all, where the size is 1; others stay. Source: iOS15."""
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


@register_op(exact=True)
def reshape(x: Tensor, *, shape: list[int]) -> Tensor:
    """New shape, -1 for the remaining size, 0 for the size of the same axis. Source: iOS15."""
    if 0 in shape and len(shape) != x.dim() and x.numel():
        raise ProgramError(f"reshape of {tuple(x.shape)} to {shape}: a 0 needs as many sizes as the tensor has axes")
    return x.reshape([x.shape[i] if size == 0 and x.numel() else size for i, size in enumerate(shape)])


@register_op(opset="iOS17", name="reshape", exact=True)
def reshape_ios17(x: Tensor, *, shape: list[int]) -> Tensor:
    """``reshape`` whose 0 takes the size of the axis that is as far from the end, or 1. Source: iOS17."""
    if not x.numel():
        return x.reshape(shape)
    sizes = [1] * (len(shape) - x.dim()) + list(x.shape)
    sizes = sizes[len(sizes) - len(shape) :]
    return x.reshape([own if size == 0 else size for size, own in zip(shape, sizes)])


@register_op(opset="iOS16", exact=True)
def reshape_like(
    x: Tensor, ref_tensors: list[Tensor], *, begins: list[int], ends: list[int], end_masks: list[bool]
) -> Tensor:
    """The shape is a chain of parts of the shapes of other tensors. Source: iOS16."""
    sizes: list[int] = []
    for ref, begin, end, to_the_end in zip(ref_tensors, begins, ends, end_masks):
        sizes += ref.shape[begin:] if to_the_end else ref.shape[begin:end]
    return x.reshape(sizes)


@register_op(exact=True)
def reverse(x: Tensor, *, axes: list[int] | None = None) -> Tensor:
    """Reverse the order along these axes, or all. Source: iOS15."""
    return x.flip(tuple(range(x.dim())) if axes is None else tuple(axes))


@register_op(exact=True)
def reverse_sequence(x: Tensor, *, lengths: list[int], seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """Reverse the first ``lengths[i]`` elements of ``seq_axis`` of entry ``i`` of ``batch_axis``. Source: iOS15."""
    position = torch.arange(x.shape[seq_axis])
    length = torch.tensor(lengths)[:, None]
    source = torch.where(position < length, length - 1 - position, position)
    sizes = [1] * x.dim()
    sizes[batch_axis], sizes[seq_axis] = source.shape
    source = source.reshape(sizes) if batch_axis % x.dim() < seq_axis % x.dim() else source.mT.reshape(sizes)
    return torch.take_along_dim(x, source.to(x.device), seq_axis)


def region(
    x: Tensor,
    begin: list[int],
    end: list[int],
    stride: list[int] | None,
    begin_mask: list[bool] | None,
    end_mask: list[bool] | None,
    squeeze_mask: list[bool] | None,
) -> tuple[Tensor, list[int], list[int]]:
    """View of the elements that a slice selects, axes that run backwards, axes to drop.

    torch has no negative steps: the view runs forwards, and flipping the named axes gives the slice.
    """
    rank, backwards = x.dim(), []
    if len(begin) != rank or len(end) != rank:
        raise ProgramError(f"slice has {len(begin)} begins and {len(end)} ends for a tensor of rank {rank}")
    steps, from_start, to_end, single = (
        value or [default] * rank for value, default in ((stride, 1), (begin_mask, 0), (end_mask, 0), (squeeze_mask, 0))
    )
    for axis in range(rank):
        first = None if from_start[axis] else begin[axis]
        if single[axis]:
            x = x.narrow(axis, single_index(first or 0, x.shape[axis], axis), 1)
            continue
        if steps[axis] == 0:
            raise ProgramError(f"slice has stride 0 at axis {axis}; it must be positive or negative")
        taken = range(*slice(first, None if to_end[axis] else end[axis], steps[axis]).indices(x.shape[axis]))
        if steps[axis] < 0:
            taken = taken[::-1]
            backwards.append(axis)
        x = x[(slice(None),) * axis + (slice(taken.start, max(taken.stop, taken.start), taken.step),)]
    return x, backwards, [axis for axis in range(rank) if single[axis]]


def single_index(index: int, size: int, axis: int) -> int:
    """Position of ``index``, which may count from the end, in an axis of ``size``."""
    if not -size <= index < size:
        raise ProgramError(f"index {index} is outside axis {axis} of size {size}")
    return index % size


@register_op(exact=True)
def slice_by_index(
    x: Tensor,
    *,
    begin: list[int],
    end: list[int],
    stride: list[int] | None = None,
    begin_mask: list[bool] | None = None,
    end_mask: list[bool] | None = None,
    squeeze_mask: list[bool] | None = None,
) -> Tensor:
    """``x[begin:end:stride]`` per axis, as Python slices; masks open an end or take one index. Source: iOS15."""
    view, backwards, dropped = region(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    view = view.flip(backwards) if backwards else view
    return view.squeeze(dropped) if dropped else view


@register_op(opset="iOS18", exact=True)
def slice_update(
    x: Tensor,
    update: Tensor,
    *,
    begin: list[int],
    end: list[int],
    stride: list[int] | None = None,
    begin_mask: list[bool] | None = None,
    end_mask: list[bool] | None = None,
    squeeze_mask: list[bool] | None = None,
) -> Tensor:
    """A copy of ``x`` whose slice, as ``slice_by_index`` selects it, holds ``update``. Source: iOS18."""
    out = x.clone()
    view, backwards, _ = region(out, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    view.copy_(update.reshape(view.shape).flip(backwards))
    return out


@register_op(exact=True)
def slice_by_size(x: Tensor, *, begin: list[int], size: list[int]) -> Tensor:
    """``size`` elements from ``begin`` per axis, -1 for all that remain. Source: iOS15."""
    for axis, (start, count) in enumerate(zip(begin, size)):
        length = x.shape[axis]
        start += length if start < 0 else 0
        count = length - start if count == -1 else count
        if start < 0 or count < 0 or start + count > length:
            raise ProgramError(f"slice of {count} from {start} leaves axis {axis} of size {length}")
        x = x.narrow(axis, start, count)
    return x


@register_op(exact=True)
def transpose(x: Tensor, *, perm: Sequence[int]) -> Tensor:
    """Reorder the axes. Source: iOS15."""
    return x.permute(tuple(perm))


@register_op(exact=True)
def sliding_windows(x: Tensor, *, axis: int, size: int, stride: int = 1) -> Tensor:
    """All windows of ``size`` along ``axis``; their elements form a new axis behind it. Source: iOS15."""
    axis %= x.dim()
    return x.unfold(axis, size, stride).movedim(-1, axis + 1)
