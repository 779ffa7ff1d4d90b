"""Convolutions over one to three spatial dimensions.

Two-dimensional ones run in channels-last memory, which is the layout that the CPU kernels want; weights that the
program stores get it once, at load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.memory import channels_last
from edgesam_export.mil.ops import prepares, register_op, specialises

__all__ = ["PackedConvolution", "conv", "conv_quantized", "conv_transpose", "window_pads"]

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
MKLDNN_AVAILABLE = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch has no type for it
HAS_ONEDNN = MKLDNN_AVAILABLE and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
MAX_PACKED = 4
"""Sizes of input that a convolution keeps packed weights for; a fixed export has one."""
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def window_pads(
    pad_type: str, pad: Sequence[int] | None, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return (before, after) padding of each spatial dimension of a sliding window; ``kernel`` is the dilated extent.

    ``same`` makes ceil(size / stride) windows; an odd total puts the extra element behind, ``same_lower`` in front.

    Raises:
        ProgramError: unknown pad_type.

    Source: MIL spec, conv and pool.
    """
    kind = pad_type.lower()
    if kind == "valid":
        return [(0, 0)] * len(sizes)
    if kind == "custom":
        pad = pad or [0] * 2 * len(sizes)
        return list(zip(pad[::2], pad[1::2], strict=True))
    if kind not in ("same", "same_lower"):
        raise ProgramError(f"unknown pad_type '{pad_type}'; one of valid, same, same_lower, custom")
    totals = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(sizes, kernel, strides, strict=True)]
    halves = [(total // 2, total - total // 2) for total in totals]
    return halves if kind == "same" else [(after, before) for before, after in halves]


prepares("conv", "weight")(channels_last)
prepares("conv_transpose", "weight")(channels_last)


@register_op()
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    strides: list[int] | None = None,
    pad_type: str = "valid",
    pad: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of ``x`` with ``weight``.

    Shapes:
        x (B, C_in, *D); weight (C_out, C_in / groups, *K); bias (C_out,); returns (B, C_out, *D_out)
    Source: MIL spec, conv.
    """
    ones = [1] * (x.ndim - 2)
    strides, dilations = strides or ones, dilations or ones
    extents = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pads = window_pads(pad_type, pad, x.shape[2:], extents, strides)
    x = channels_last(x)
    if any(before != after for before, after in pads):
        x = F.pad(x, [amount for pair in reversed(pads) for amount in pair])
        pads = [(0, 0)] * len(pads)
    return CONVOLUTIONS[len(ones)](
        x, channels_last(weight), bias, strides, [before for before, _ in pads], dilations, groups
    )


@dataclass(frozen=True)
class Packed:
    """What a packed convolution needs for one size of input."""

    weight: Tensor
    geometry: tuple[list[int], list[int], list[int], int]
    """Padding, strides, dilations, groups."""


class PackedConvolution:
    """``conv`` with the weight in the block layout of oneDNN, packed at the first call for each size of input.

    torch sends a 1x1 convolution to a general matrix product, half as fast as oneDNN on a CPU with AVX-512; its own
    compiler takes this way round it.
    """

    def __init__(self, weight: Tensor, attributes: Mapping[str, Any]) -> None:
        self.weight, self.attributes = weight, attributes
        self.packed: dict[tuple[int, ...], Packed | None] = {}

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, **attributes: Any) -> Tensor:
        packed = self.packed_for(x)
        if packed is None:
            return conv(x, weight, bias, **attributes)
        product: Tensor = torch.ops.mkldnn._convolution_pointwise(
            channels_last(x), packed.weight, bias, *packed.geometry, "none", [], ""
        )
        return product

    @property
    def is_pointwise(self) -> bool:
        """True if each output pixel is made of the input pixel in the same position alone."""
        ones = all((self.attributes.get(key) or [1, 1]) == [1, 1] for key in ("strides", "dilations"))
        padded = self.attributes.get("pad_type") == "custom" and any(self.attributes.get("pad") or [])
        return self.weight.shape[2:] == (1, 1) and ones and not padded

    def packed_for(self, x: Tensor) -> Packed | None:
        """Return the packed weight for an input of this size, None for what oneDNN's function cannot take."""
        size = tuple(x.shape)
        if x.dtype != torch.float32 or x.ndim != self.weight.ndim:
            return None
        if size not in self.packed:
            if len(self.packed) >= MAX_PACKED:
                self.packed.clear()
            self.packed[size] = self.pack(size)
        return self.packed[size]

    def pack(self, size: tuple[int, ...]) -> Packed | None:
        strides, dilations = self.attributes.get("strides") or [1, 1], self.attributes.get("dilations") or [1, 1]
        extents = [(k - 1) * d + 1 for k, d in zip(self.weight.shape[2:], dilations)]
        kind, pad = self.attributes.get("pad_type", "valid"), self.attributes.get("pad")
        pads = window_pads(kind, pad, size[2:], extents, strides)
        if any(before != after for before, after in pads):
            return None
        groups = self.attributes.get("groups", 1)
        if groups == 1 and all(length == 1 for length in size[2:]):
            return None  # a vector: oneDNN takes longer to begin than the product
        geometry = ([before for before, _ in pads], strides, dilations, groups)
        return Packed(torch.ops.mkldnn._reorder_convolution_weight(self.weight, *geometry, size), geometry)


@specialises("conv")
def packed_convolution(positional: Sequence[Any], keyword: Mapping[str, Any]) -> PackedConvolution | None:
    """Return the packed form for a two-dimensional float convolution on the CPU whose weight is a constant."""
    weight = positional[1]
    usable = isinstance(weight, Tensor) and weight.ndim == 4 and weight.dtype == torch.float32 and not weight.is_cuda
    return PackedConvolution(weight, keyword) if usable and HAS_ONEDNN else None


@register_op()
def conv_quantized(
    x: Tensor,
    weight: Tensor,
    quant_scale: Tensor,
    quant_bias: Tensor,
    bias: Tensor | None = None,
    *,
    quantization_type: str,
    nbits: int = 8,
    strides: list[int] | None = None,
    pad_type: str = "valid",
    pad: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """Convolution with weights stored as integers: weight * quant_scale + quant_bias, per output channel or for all.

    Shapes:
        as ``conv``; quant_scale and quant_bias (C_out,) or one element
    Source: MIL spec, conv. Only linear 8-bit weights; the packing of the others is not documented.
    """
    if quantization_type != "linear" or nbits != 8:
        raise ProgramError(f"conv_quantized: '{quantization_type}' with {nbits} bits cannot be run; linear with 8 can")
    per_channel = (-1, *[1] * (weight.ndim - 1))
    weight = weight * quant_scale.view(per_channel) + quant_bias.view(per_channel)
    bias = None if bias is None else bias.to(x.dtype)
    return conv(x, weight, bias, strides=strides, pad_type=pad_type, pad=pad, dilations=dilations, groups=groups)


@register_op()
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    pad: list[int] | None = None,
    output_shape: list[int] | None = None,
    pad_type: str = "valid",
    strides: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """Transposed convolution: scatter of ``weight`` scaled by each element of ``x``, cropped by the padding.

    Shapes:
        x (B, C_in, *D); weight (C_in, C_out / groups, *K); bias (C_out,); output_shape all dimensions of the result
    Source: MIL spec, conv.
    """
    ones = [1] * (x.ndim - 2)
    strides, dilations = strides or ones, dilations or ones
    extents = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, extents, strict=True)]
    crops = transposed_crops(pad_type, pad, x.shape[2:], strides, full, output_shape)
    # The kernel crops both ends by the same amount and lengthens the far end; what is left is a view.
    even = [max(0, min(before, after)) for before, after in crops]
    longer = [max(0, -after) for _, after in crops]
    y = TRANSPOSED[len(ones)](channels_last(x), channels_last(weight), bias, strides, even, longer, groups, dilations)
    for axis, ((before, after), size) in enumerate(zip(crops, full, strict=True)):
        y = y.narrow(2 + axis, before - even[axis], size - before - after)
    return y


def transposed_crops(
    pad_type: str,
    pad: Sequence[int] | None,
    sizes: Sequence[int],
    strides: Sequence[int],
    full: Sequence[int],
    output_shape: Sequence[int] | None,
) -> list[tuple[int, int]]:
    """Return (before, after) crop of each dimension of the uncropped result; a negative ``after`` lengthens it."""
    same = pad_type.lower() in ("same", "same_lower")
    sizes_out = output_shape[2:] if output_shape else [n * s for n, s in zip(sizes, strides, strict=True)]
    totals = [n - size for n, size in zip(full, sizes_out, strict=True)]
    if same:
        small = [max(0, total) // 2 for total in totals]
        before = small if pad_type.lower() == "same" else [max(0, t) - s for t, s in zip(totals, small, strict=True)]
        return [(b, total - b) for b, total in zip(before, totals, strict=True)]
    crops = window_pads(pad_type, pad, sizes, full, strides)
    if output_shape is None:
        return crops
    return [(b, total - b) for (b, _), total in zip(crops, totals, strict=True)]
