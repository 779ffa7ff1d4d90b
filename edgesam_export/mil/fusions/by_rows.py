"""Two convolutions of single pixels, with what is between and behind them, a band of rows at a time.

The value between the two is the largest of such a block, several times what the cache holds; a band of it stays there.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from edgesam_export.mil.fusions import Chain, Fused, fused_whole, register_fusion
from edgesam_export.mil.memory import CHUNK, channels_last
from edgesam_export.mil.ops.conv import PackedConvolution
from edgesam_export.mil.plan import Step

__all__ = ["by_rows"]

BETWEEN = ("add", "gelu", "mul", "relu", "sub")


@register_fusion(heads=["conv"], tails=["conv", *BETWEEN])
def by_rows(chain: Chain) -> Fused | None:
    """Return the chain of two convolutions that computes bands of their rows one after the other."""
    splits = [index for index, kind in enumerate(chain.types) if kind == "conv"]
    shape = chain.steps[0].outputs[0][2].fixed_shape
    convolutions = [chain.steps[index].fn for index in splits]
    pointwise = all(isinstance(fn, PackedConvolution) and fn.is_pointwise for fn in convolutions)
    if len(splits) != 2 or not pointwise or shape is None or shape[0] != 1 or prod(shape) < 2 * CHUNK:
        return None
    if chain.links[splits[1] - 1] != 0:
        return None  # the value between is the second convolution's weight
    first = part(chain, 0, splits[1])
    second = replace(part(chain, splits[1], len(chain.steps)), owned=chain.owned)
    fused = fused_whole(first), fused_whole(second)
    out_shape = chain.steps[-1].outputs[0][2].fixed_shape
    rows = band_rows(shape)

    def compute(arguments: list[list[Any]]) -> Tensor | None:
        x = channels_last(arguments[0][0])
        if out_shape is None or x.shape[0] != 1 or x.shape[2:] != shape[2:]:
            return None
        out = overwritable(chain, arguments)
        for start in range(0, shape[2], rows):
            band = slice(start, start + rows)
            given = [
                banded(positional, band, shape, conv=kind == "conv") for positional, kind in zip(arguments, chain.types)
            ]
            given[0][0] = x[:, :, band]
            given[splits[1]][0] = first.compute(fused[0], given[: splits[1]])
            value = second.compute(fused[1], given[splits[1] :])
            if value.shape[:2] != out_shape[:2] or value.shape[3] != out_shape[3]:
                return None  # not what the program declares
            if out is None:
                out = torch.empty(out_shape, memory_format=torch.channels_last)
            if value.data_ptr() != out[:, :, band].data_ptr():
                out[:, :, band] = value
        return out

    return compute


def overwritable(chain: Chain, arguments: list[list[Any]]) -> Tensor | None:
    """Return the last operation's other operand if the bands may be written over it: each has read its rows by then."""
    position = 1 - chain.links[-1]
    slot = dict(chain.steps[-1].call.feeds).get(position)
    operand = arguments[-1][position] if slot in chain.owned else None
    fits = (
        operand is not None
        and operand.dtype == torch.float32
        and tuple(operand.shape) == chain.steps[-1].outputs[0][2].fixed_shape
        and operand.is_contiguous(memory_format=torch.channels_last)
    )
    return operand if fits else None


def part(chain: Chain, start: int, end: int) -> Chain:
    """Return some operations of a chain, declared for any number of rows."""

    def of_a_band(step: Step) -> Step:
        slot, name, declared = step.outputs[0]
        batch, channels, _, width = declared.fixed_shape or (None,) * 4
        return replace(step, outputs=[(slot, name, replace(declared, shape=(batch, channels, None, width)))])

    return Chain([of_a_band(step) for step in chain.steps[start:end]], chain.links[start : end - 1], chain.numerics)


def band_rows(shape: tuple[int, ...]) -> int:
    """Return how many rows make a band that stays in the cache, the rows halved until they do."""
    rows = shape[2]
    while rows > 1 and prod(shape[1:]) // shape[2] * rows > CHUNK:
        rows = -(-rows // 2)
    return rows


def banded(positional: list[Any], band: slice, shape: tuple[int, ...], *, conv: bool) -> list[Any]:
    """Return the arguments of an operation for a band: of values with as many rows, those in it."""
    if conv:
        return list(positional)
    return [
        value[:, :, band] if isinstance(value, Tensor) and value.ndim == 4 and value.shape[2] == shape[2] else value
        for value in positional
    ]
