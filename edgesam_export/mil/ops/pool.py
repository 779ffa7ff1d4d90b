"""Pooling over one to three spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgesam_export.mil.ops import register_op
from edgesam_export.mil.ops.conv import window_pads

__all__ = ["avg_pool", "l2_pool", "max_pool"]

AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}

Pads = list[tuple[int, int]]


def same_both_sides(pads: Pads, kernel: Sequence[int]) -> bool:
    """Say whether the pooling kernels of torch can apply the padding: equal on both sides, at most half a window."""
    return all(before == after <= k // 2 for (before, after), k in zip(pads, kernel, strict=True))


def pad_windows(
    x: Tensor, kernel: Sequence[int], strides: Sequence[int], pads: Pads, *, ceil_mode: bool, value: float
) -> Tensor:
    """Return ``x`` padded (or cropped) at the end of each dimension so that whole windows cover exactly the output.

    With ceil_mode a last window may reach over the padding, but must start within ``x`` or the padding before it.
    """
    amounts = []
    for n, k, s, (before, after) in zip(x.shape[2:], kernel, strides, pads, strict=True):
        room = n + before + after - k
        count = (math.ceil(room / s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + before:
            count -= 1
        amounts.append((before, (count - 1) * s + k - n - before))
    return F.pad(x, [amount for pair in reversed(amounts) for amount in pair], value=value)


@register_op()
def avg_pool(
    x: Tensor,
    *,
    kernel_sizes: list[int],
    strides: list[int] | None = None,
    pad_type: str,
    pad: list[int] | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """Mean of each window; padding counts as zeros or not at all.

    Shapes:
        x (B, C, *D); returns (B, C, *D_out)
    Source: MIL spec, pool; what ceil_mode adds beyond the padding is never counted, as in PyTorch.
    """
    strides = strides or [1] * len(kernel_sizes)
    pads = window_pads(pad_type, pad, x.shape[2:], kernel_sizes, strides)
    average, counted = AVERAGES[len(kernel_sizes)], not exclude_padding_from_average
    if same_both_sides(pads, kernel_sizes):
        return average(x, kernel_sizes, strides, [before for before, _ in pads], ceil_mode, counted)
    weight = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype)
    if counted:
        weight = F.pad(weight, [amount for pair in reversed(pads) for amount in pair], value=1.0)
    padded = pad_windows(x, kernel_sizes, strides, pads, ceil_mode=ceil_mode, value=0.0)
    missing = [n - m for n, m in zip(padded.shape[2:], weight.shape[2:], strict=True)]
    front = [0 if counted else before for before, _ in pads]
    ends = [(before, total - before) for before, total in zip(front, missing, strict=True)]
    weight = F.pad(weight, [amount for pair in reversed(ends) for amount in pair])
    return average(padded, kernel_sizes, strides).div_(average(weight, kernel_sizes, strides))


@register_op()
def l2_pool(
    x: Tensor,
    *,
    kernel_sizes: list[int],
    strides: list[int] | None = None,
    pad_type: str,
    pad: list[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Root of the sum of squares of each window.

    Source: MIL spec, pool.
    """
    strides = strides or [1] * len(kernel_sizes)
    pads = window_pads(pad_type, pad, x.shape[2:], kernel_sizes, strides)
    padded = pad_windows(x, kernel_sizes, strides, pads, ceil_mode=ceil_mode, value=0.0)
    means = AVERAGES[len(kernel_sizes)](padded.square(), kernel_sizes, strides)
    return means.mul_(math.prod(kernel_sizes)).sqrt_()


@register_op(exact=True)
def max_pool(
    x: Tensor,
    *,
    kernel_sizes: list[int],
    strides: list[int] | None = None,
    pad_type: str,
    pad: list[int] | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Largest element of each window; padding never wins.

    Source: MIL spec, pool.
    """
    strides = strides or [1] * len(kernel_sizes)
    pads = window_pads(pad_type, pad, x.shape[2:], kernel_sizes, strides)
    largest = MAXIMA[len(kernel_sizes)]
    if same_both_sides(pads, kernel_sizes):
        return largest(x, kernel_sizes, strides, [before for before, _ in pads], ceil_mode=ceil_mode)
    return largest(
        pad_windows(x, kernel_sizes, strides, pads, ceil_mode=ceil_mode, value=-math.inf), kernel_sizes, strides
    )
