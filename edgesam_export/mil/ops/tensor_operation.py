"""Ops that build, join, sort, pad and search tensors.

Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (tensor_operation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.carriers import CARRIERS
from edgesam_export.mil.ops import register_op
from edgesam_export.mil.types import ValueType

__all__ = [
    "MAX_BYTES",
    "argsort",
    "band_part",
    "concat",
    "cumsum",
    "fill",
    "fill_like",
    "flatten2d",
    "identity",
    "non_maximum_suppression",
    "non_maximum_suppression_ios17",
    "non_zero",
    "one_hot",
    "pad",
    "range_1d",
    "require_size",
    "shape",
    "split",
    "stack",
    "tile",
    "topk",
    "topk_ios16",
    "topk_ios17",
]

MAX_BYTES = 16 * 2**30
"""Largest tensor that an op creates out of sizes that the program names: a hostile number must not exhaust memory."""


def require_size(sizes: Sequence[int], dtype: torch.dtype = torch.float32) -> tuple[int, ...]:
    """Return ``sizes`` as a tuple if a tensor of them is permitted.

    Raises:
        ProgramError: a size is negative, or the tensor would exceed ``MAX_BYTES``.
    """
    if any(size < 0 for size in sizes):
        raise ProgramError(f"output shape {tuple(sizes)} has a negative size; correct the program")
    size_bytes = math.prod(sizes) * dtype.itemsize
    if size_bytes > MAX_BYTES:
        raise ProgramError(f"output shape {tuple(sizes)} takes {size_bytes} bytes; the limit is {MAX_BYTES}")
    return tuple(sizes)


@register_op(exact=True)
def band_part(x: Tensor, *, lower: int = -1, upper: int = -1) -> Tensor:
    """Keep ``lower`` diagonals below and ``upper`` above the main one (negative: all), else zero. Source: iOS15."""
    row = torch.arange(x.shape[-2], device=x.device)[:, None]
    column = torch.arange(x.shape[-1], device=x.device)[None, :]
    keep = torch.ones(x.shape[-2:], dtype=torch.bool, device=x.device)
    if lower >= 0:
        keep &= row - column <= lower
    if upper >= 0:
        keep &= column - row <= upper
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype, device=x.device))


@register_op()
def cumsum(x: Tensor, *, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Running sum, without the element itself if ``exclusive``, from the end if ``reverse``. Source: iOS15."""
    if reverse:
        x = x.flip(axis)
    if exclusive:
        x = torch.cat([torch.zeros_like(x.narrow(axis, 0, 1)), x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    total = torch.cumsum(x, axis, dtype=x.dtype)
    return total.flip(axis) if reverse else total


@register_op(exact=True)
def fill(*, shape: list[int], value: float | int | bool = 0.0, out_types: tuple[ValueType, ...]) -> Tensor:
    """A tensor of ``shape`` that holds ``value`` everywhere. Source: iOS15."""
    dtype = CARRIERS[out_types[0].dtype]
    return torch.full(require_size(shape, dtype), value, dtype=dtype)


@register_op(opset="iOS16", exact=True)
def fill_like(ref_tensor: Tensor, *, value: float | int | bool = 0.0, out_types: tuple[ValueType, ...]) -> Tensor:
    """A tensor of the shape of ``ref_tensor`` that holds ``value`` everywhere. Source: iOS16."""
    return torch.full(ref_tensor.shape, value, dtype=CARRIERS[out_types[0].dtype], device=ref_tensor.device)


def iou_matrix(boxes: Tensor) -> Tensor:
    """Intersection over union of every pair of ``boxes`` (B, 4) given as centre x, centre y, width, height."""
    low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    overlap = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp(min=0).prod(-1)
    area = boxes[:, 2:].prod(-1)
    return overlap / (area[:, None] + area - overlap)


def surviving_boxes(boxes: Tensor, scores: Tensor, iou: float, score: float, count: int, per_class: bool) -> list[int]:
    """Indices, best score first, of the boxes of one image that suppression leaves.

    ``boxes`` (B, 4), ``scores`` (B, K). A box suppresses the later ones that overlap it by more than ``iou``; with
    ``per_class`` only those whose best class is the same. When no score reaches ``score``, the best box stays.
    """
    best, label = scores.max(-1)
    order = torch.sort(best, descending=True, stable=True).indices
    overlapping = iou_matrix(boxes) > iou
    if per_class:
        overlapping &= label[:, None] == label
    alive = best >= score
    kept: list[int] = []
    for index in order.tolist():
        if alive[index] and len(kept) < count:
            kept.append(index)
            alive &= ~overlapping[index]
    return kept or [int(index) for index in order[: min(count, 1)]]


@register_op(exact=True)
def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    *,
    iou_threshold: float,
    score_threshold: float = -math.inf,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes (n, B, 4), scores (n, B, K) -> the best that do not overlap, padded with 0 and index -1. Source: iOS15."""
    batch, _, classes = scores.shape
    out_boxes = boxes.new_zeros(require_size((batch, max_boxes, 4)))
    out_scores = scores.new_zeros(require_size((batch, max_boxes, classes)))
    indices = torch.full((batch, max_boxes), -1, dtype=torch.int32, device=boxes.device)
    counts = torch.zeros(batch, dtype=torch.int32, device=boxes.device)
    for n in range(batch):
        kept = surviving_boxes(boxes[n], scores[n], iou_threshold, score_threshold, max_boxes, per_class_suppression)
        counts[n] = len(kept)
        out_boxes[n, : len(kept)], out_scores[n, : len(kept)] = boxes[n, kept], scores[n, kept]
        indices[n, : len(kept)] = torch.tensor(kept, dtype=torch.int32)
    return out_boxes, out_scores, indices, counts


@register_op(opset="iOS17", name="non_maximum_suppression", exact=True)
def non_maximum_suppression_ios17(
    boxes: Tensor, scores: Tensor, *, iou_threshold: float, max_boxes: int, per_class_suppression: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """As before, with boxes (n, 4, B) and scores (n, K, B), no score threshold and no count. Source: iOS17."""
    out_boxes, out_scores, indices, _ = non_maximum_suppression(
        boxes.mT,
        scores.mT,
        iou_threshold=iou_threshold,
        max_boxes=max_boxes,
        per_class_suppression=per_class_suppression,
    )
    return out_boxes.mT, out_scores.mT, indices


@register_op(exact=True)
def non_zero(x: Tensor) -> Tensor:
    """Indices (N, rank) of the elements that are not zero, in row-major order. Source: iOS15."""
    return torch.nonzero(x).to(torch.int32)


@register_op(exact=True)
def one_hot(
    indices: Tensor,
    *,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: float | int | bool = 1,
    off_value: float | int | bool = 0,
    out_types: tuple[ValueType, ...],
) -> Tensor:
    """A new ``axis`` that holds ``on_value`` at the index and ``off_value`` elsewhere. Source: iOS15."""
    dtype = CARRIERS[out_types[0].dtype]
    require_size((*indices.shape, one_hot_vector_size), dtype)
    hit = indices[..., None] == torch.arange(one_hot_vector_size, device=indices.device)
    on, off = (torch.tensor(value, dtype=dtype, device=indices.device) for value in (on_value, off_value))
    return torch.where(hit, on, off).movedim(-1, axis)


def padded_positions(size: int, before: int, after: int, mode: str) -> Tensor:
    """Where each element of a padded axis of ``size`` comes from, for ``reflect`` and ``replicate``."""
    position = torch.arange(-before, size + after)
    if mode == "replicate":
        return position.clamp(0, size - 1)
    if max(before, after) >= size:
        raise ProgramError(f"pad of ({before}, {after}) by reflection needs an axis longer than {size}")
    return (size - 1) - ((size - 1) - position.abs()).abs()


@register_op(name="pad", exact=True)
def pad(x: Tensor, *, pad: list[int], mode: str = "constant", constant_val: float | int = 0.0) -> Tensor:
    """Pad the last axes by (before, after) pairs, first of these axes first. Source: iOS15."""
    pairs = list(zip(pad[::2], pad[1::2]))
    axes = range(x.dim() - len(pairs), x.dim())
    added = dict(zip(axes, pairs))
    require_size([size + sum(added.get(axis, (0, 0))) for axis, size in enumerate(x.shape)], x.dtype)
    if any(amount < 0 for amount in pad):
        raise ProgramError(f"pad is {pad}; amounts cannot be negative")
    if mode == "constant":
        reversed_pairs = [amount for pair in reversed(pairs) for amount in pair]
        return torch.nn.functional.pad(x, reversed_pairs, value=constant_val)
    if mode not in ("reflect", "replicate"):
        raise ProgramError(f"pad mode is '{mode}'; constant, reflect and replicate exist")
    for axis, (before, after) in added.items():
        if before or after:
            x = x.index_select(axis, padded_positions(x.shape[axis], before, after, mode).to(x.device))
    return x


@register_op()
def range_1d(end: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """``start``, ``start + step`` ... up to but without ``end``. Source: iOS15."""
    first, last, by = start.item(), end.item(), step.item()
    if by == 0 or not math.isfinite((last - first) / by):
        raise ProgramError(f"range_1d from {first} to {last} by {by} is not a finite sequence")
    require_size([max(math.ceil((last - first) / by), 0)], start.dtype)
    return torch.arange(first, max(first, last) if by > 0 else min(first, last), by, dtype=start.dtype)


@register_op(exact=True)
def tile(x: Tensor, *, reps: list[int]) -> Tensor:
    """Repeat the whole tensor ``reps[i]`` times along axis ``i``. Source: iOS15."""
    if len(reps) != x.dim():
        raise ProgramError(f"tile has {len(reps)} repetitions for a tensor of rank {x.dim()}; one per axis")
    require_size([size * count for size, count in zip(x.shape, reps)], x.dtype)
    return x.repeat(reps) if x.dim() else x


@register_op(exact=True)
def argsort(x: Tensor, *, axis: int = -1, ascending: bool = False) -> Tensor:
    """Positions of the sorted values along ``axis``; equal values keep their order. Source: iOS15."""
    return torch.sort(x, dim=axis, descending=not ascending, stable=True).indices.to(torch.int32)


@register_op(exact=True)
def topk(x: Tensor, *, k: int = 1, axis: int = -1, ascending: bool = False) -> tuple[Tensor, Tensor]:
    """The ``k`` largest (smallest if ``ascending``) values along ``axis`` and where they are. Source: iOS15."""
    if not 0 <= k <= x.shape[axis]:
        raise ProgramError(f"topk wants {k} of the {x.shape[axis]} values of axis {axis}")
    values, indices = torch.sort(x, dim=axis, descending=not ascending, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k).to(torch.int32)


@register_op(opset="iOS16", name="topk", exact=True)
def topk_ios16(
    x: Tensor, *, k: int = 1, axis: int = -1, ascending: bool = False, sort: bool = True, return_indices: bool = True
) -> tuple[Tensor, ...]:
    """``topk`` with optional indices; without ``sort`` any order is right, so they stay sorted. Source: iOS16."""
    values, indices = topk(x, k=k, axis=axis, ascending=ascending)
    return (values, indices) if return_indices else (values,)


@register_op(opset="iOS17", name="topk", exact=True)
def topk_ios17(
    x: Tensor,
    *,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Tensor, ...]:
    """``topk`` where ``k`` of -1 takes everything; both types of index have one carrier. Source: iOS17."""
    values, indices = topk(x, k=x.shape[axis] if k == -1 else k, axis=axis, ascending=ascending)
    return (values, indices) if return_indices else (values,)


@register_op(exact=True)
def flatten2d(x: Tensor, *, axis: int = 1) -> Tensor:
    """A matrix: the axes before ``axis`` are its rows, the others its columns. Source: iOS15."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@register_op(exact=True)
def shape(x: Tensor) -> Tensor:
    """The sizes of ``x`` as an int32 vector. Source: iOS15."""
    return torch.tensor(x.shape, dtype=torch.int32)


@register_op(exact=True)
def concat(values: list[Tensor], *, axis: int, interleave: bool = False) -> Tensor:
    """Join along ``axis``; ``interleave`` takes one slice of each in turn. Source: iOS15."""
    if values[0].dim() == 0:
        return torch.stack(values)
    if not interleave:
        return torch.cat(values, axis)
    axis %= values[0].dim()
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


@register_op(exact=True)
def split(
    x: Tensor, *, axis: int, num_splits: int | None = None, split_sizes: list[int] | None = None
) -> tuple[Tensor, ...]:
    """Views of consecutive parts of ``axis``: equal ones, or of ``split_sizes``. Source: iOS15."""
    if split_sizes is None:
        if not num_splits or x.shape[axis] % num_splits:
            raise ProgramError(f"split of axis {axis} with size {x.shape[axis]} into {num_splits} equal parts")
        split_sizes = [x.shape[axis] // num_splits] * num_splits
    return torch.split(x, split_sizes, axis)


@register_op(exact=True)
def stack(values: list[Tensor], *, axis: int) -> Tensor:
    """Join tensors of the same shape along a new ``axis``. Source: iOS15."""
    return torch.stack(values, axis)


@register_op(exact=True)
def identity(x: Tensor) -> Tensor:
    """The same value under another name. Source: iOS15."""
    return x
