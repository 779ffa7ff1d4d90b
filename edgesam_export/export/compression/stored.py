"""What a package stores for one weight, and the values that it stands for.

All is computed in PyTorch on the FP16 values that an export stores; ``formats`` writes these constants as they are, so
what training and parity simulate is what a package holds, bit for bit.
Sources: coremltools ``optimize/_utils.py`` for scales and rounding; Han, Pool, Tran, Dally 2015, "Learning both weights
and connections for efficient neural networks", for pruning by magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgesam_export.export.compression.palettes import SMALL_CELLS, find_palette, nearest_entries, through_fp16
from edgesam_export.export.compression.schemes import Scheme

__all__ = [
    "StoredWeight",
    "find_palettes",
    "integer_entries",
    "kept_weights",
    "looked_up",
    "nearest_indices",
    "storable_entries",
    "store",
    "stored_values",
]

MAX_INTEGER = 127
"""Largest integer of 8 bits, symmetric to zero."""
CELLS_OF_GROUP = 16
"""Cells that merging starts from, for each entry of a group's palette."""
MIN_BOUND = 2.0**-14 * MAX_INTEGER
"""Palettes of smaller values have the smallest normal FP16 number as their scale."""


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """The constants that stand for a weight: palette[element], or scale * element, where ``mask`` is set, else 0."""

    axis: int
    """Axis of the output channels."""
    elements: Tensor
    """Shaped like the weight, float32: indices into palettes, integers, or FP16 values."""
    palettes: Tensor | None = None
    """(groups, entries), FP16 values as float32, ascending; a group is so many output channels."""
    scales: Tensor | None = None
    """FP16 values as float32; each dimension divides that of the weight."""
    mask: Tensor | None = None
    """Shaped like the weight, boolean: the elements that are stored; None for all."""

    def values(self) -> Tensor:
        """Return what the constants stand for, float32; Core ML rounds the products with scales to FP16."""
        values = self.elements
        if self.palettes is not None:
            values = looked_up(values.long(), self.palettes, self.axis)
        if self.scales is not None:
            values = values * spread(self.scales, values.shape)
        return values if self.mask is None else values.where(self.mask, 0.0)


def stored_values(weight: Tensor, scheme: Scheme, axis: int = 0) -> Tensor:
    """Return, float32, exactly what a package that stores ``weight`` with ``scheme`` stands for.

    Of a scheme with scales these are products of an integer and an FP16 scale; Core ML rounds them to FP16.
    """
    return store(weight, scheme, axis).values()


def store(weight: Tensor, scheme: Scheme, axis: int = 0, mask: Tensor | None = None) -> StoredWeight:
    """Return the constants that a package holds for ``weight``.

    ``mask`` are the elements that pruning leaves; None finds those of the largest magnitude.

    Shapes:
        weight of any rank from 2, output channels on ``axis`` (0 or 1), input channels on the other
    """
    elements, scales, palettes = through_fp16(weight), None, None
    if scheme.sparsity:
        mask = kept_weights(elements, scheme) if mask is None else mask
        elements = elements.where(mask, 0.0)
    if scheme.scaled:
        elements, scales = integers_and_scales(elements, scheme, axis)
    if scheme.palette:
        palettes = find_palettes(elements, scheme, axis, mask)
        elements = nearest_indices(elements, palettes, axis).float()
    return StoredWeight(axis=axis, elements=elements, palettes=palettes, scales=scales, mask=mask)


def kept_weights(weight: Tensor, scheme: Scheme) -> Tensor:
    """Return where the weights of the largest magnitude are, as many as ``scheme`` keeps; of equal ones the first."""
    magnitudes = through_fp16(weight).abs().flatten()
    order = magnitudes.argsort(descending=True, stable=True)
    mask = torch.zeros_like(magnitudes, dtype=torch.bool)
    mask[order[: scheme.kept(len(order))]] = True
    return mask.reshape(weight.shape)


# ----------------------------------------------------------------------------------------------- integers and scales


def integers_and_scales(weight: Tensor, scheme: Scheme, axis: int) -> tuple[Tensor, Tensor]:
    """Return integers shaped like ``weight`` and scales of blocks of it, symmetric to zero.

    Every step that coremltools takes in FP16 is rounded to FP16.
    """
    moved = weight.transpose(0, axis)
    blocks = 1 if scheme.block is None else moved.shape[1] // scheme.block
    # all elements of an output channel or, blocks being neighbours in memory, of its block of input channels
    grouped = moved.reshape(len(moved), blocks, -1)
    bound = grouped.abs().amax(2, keepdim=True)
    scale = through_fp16(through_fp16(2 * bound) / (2 * scheme.largest))
    whole = through_fp16(grouped / scale).round().clamp(-scheme.largest, scheme.largest)
    whole = whole.nan_to_num(0.0)  # a channel of zeros: 0 / 0
    scales = scale.reshape(len(moved), blocks, *[1] * (weight.dim() - 2))
    return restored(whole, weight.shape, axis), scales.transpose(0, axis).contiguous()


def spread(scales: Tensor, shape: torch.Size) -> Tensor:
    """Return every scale repeated over its block."""
    for axis, size in enumerate(shape):
        if 1 < scales.shape[axis] < size:
            scales = scales.repeat_interleave(size // scales.shape[axis], axis)
    return scales


# ----------------------------------------------------------------------------------------------------------- palettes


def find_palettes(weight: Tensor, scheme: Scheme, axis: int, mask: Tensor | None = None) -> Tensor:
    """Return a palette (groups, entries) for each group of output channels, of the elements that ``mask`` keeps."""
    groups = 1 if scheme.group is None else weight.shape[axis] // scheme.group
    rows = in_groups(weight, axis, groups)
    kept = torch.ones_like(rows, dtype=torch.bool) if mask is None else in_groups(mask, axis, groups)
    # many groups take long, and a small one needs no finer start
    cells = SMALL_CELLS if scheme.group is None else CELLS_OF_GROUP << scheme.bits
    found = []
    for row, used in zip(rows, kept):
        # a group of which nothing is left is never looked up
        found.append(find_palette(row[used] if bool(used.any()) else row[:1], scheme.bits, cells=cells))
    return storable_entries(torch.stack(found), scheme)


def storable_entries(palettes: Tensor, scheme: Scheme) -> Tensor:
    """Return the nearest entries that a palette of ``scheme`` can have, float32."""
    if scheme.entry_bits == 16:
        return through_fp16(palettes)
    integers, scales = integer_entries(palettes)
    return integers * scales


def integer_entries(palettes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest integers of 8 bits (groups, entries), and the scale (groups, 1) of each palette.

    Scales are powers of two, so that products are FP16 values and give the same integers and scales again.
    """
    bound = palettes.detach().abs().amax(1, keepdim=True).clamp(min=MIN_BOUND)
    scales = torch.exp2(torch.ceil(torch.log2(bound.double() / MAX_INTEGER))).float()
    return (palettes.detach() / scales).round(), scales


def nearest_indices(elements: Tensor, palettes: Tensor, axis: int) -> Tensor:
    """Return the index of the nearest entry in its group's ascending palette for every element, int64."""
    rows = in_groups(elements, axis, len(palettes))
    found = torch.stack([nearest_entries(row, palette) for row, palette in zip(rows, palettes)])
    return restored(found, elements.shape, axis)


def looked_up(indices: Tensor, palettes: Tensor, axis: int) -> Tensor:
    """Return the entries at ``indices`` in the palettes of their groups."""
    entries = palettes.gather(1, in_groups(indices, axis, len(palettes)))
    return restored(entries, indices.shape, axis)


def in_groups(tensor: Tensor, axis: int, groups: int) -> Tensor:
    """Return a tensor as (groups of output channels, their elements)."""
    return tensor.transpose(0, axis).reshape(groups, -1)


def restored(grouped: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """Undo ``in_groups`` for a tensor of this shape."""
    sizes = list(shape)
    sizes[0], sizes[axis] = sizes[axis], sizes[0]
    return grouped.reshape(sizes).transpose(0, axis).contiguous()
