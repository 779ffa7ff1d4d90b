"""Ops that unpack compressed constants: palettes, sparsity, quantisation.

The op set of iOS16 packs indices and masks into bytes, least significant bit first; since iOS18 the loader has unpacked
them. Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (constexpr_ops,
compression).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import register_op
from edgesam_export.mil.ops.quantization_ops import along_axis
from edgesam_export.mil.ops.tensor_operation import require_size

__all__ = [
    "constexpr_affine_dequantize",
    "constexpr_blockwise_shift_scale",
    "constexpr_cast",
    "constexpr_lut_to_dense",
    "constexpr_lut_to_dense_ios18",
    "constexpr_lut_to_sparse",
    "constexpr_sparse_blockwise_shift_scale",
    "constexpr_sparse_to_dense",
    "constexpr_sparse_to_dense_ios18",
]


def unpacked(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return ``count`` unsigned numbers of ``bits`` bits each, as int64, from a byte vector, lowest bit first."""
    if packed.numel() * 8 < count * bits:
        raise ProgramError(f"{packed.numel()} bytes cannot hold {count} values of {bits} bits; the constant is cut off")
    stream = np.unpackbits(packed.numpy().view(np.uint8), bitorder="little")[: count * bits].reshape(count, bits)
    return torch.from_numpy(stream.astype(np.int64) @ (1 << np.arange(bits)))


def repeated(parameter: Tensor, sizes: torch.Size) -> Tensor:
    """Repeat every element of ``parameter`` over its block, so that the result has ``sizes``."""
    for axis, (size, count) in enumerate(zip(sizes, parameter.shape)):
        if count == 0 or size % count:
            raise ProgramError(f"blocks of {tuple(parameter.shape)} do not divide {tuple(sizes)} along axis {axis}")
        if 1 < count < size:
            parameter = parameter.repeat_interleave(size // count, axis)
    return parameter


@register_op(opset="iOS16")
def constexpr_affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, *, axis: int) -> Tensor:
    """scale * (quantized_data - zero_point), scalars or one per entry of ``axis``. Source: iOS16."""
    offset = along_axis(zero_point, quantized_data, axis).to(scale.dtype)
    return (quantized_data.to(scale.dtype) - offset) * along_axis(scale, quantized_data, axis)


@register_op(opset="iOS16", exact=True)
def constexpr_cast(source_val: Tensor, *, output_dtype: str) -> Tensor:
    """FP16 to FP32: the same numbers. Source: iOS16."""
    if output_dtype != "fp32":
        raise ProgramError(f"constexpr_cast to '{output_dtype}'; only fp32 exists")
    return source_val.to(torch.float32)


@register_op(opset="iOS16", exact=True)
def constexpr_lut_to_dense(indices: Tensor, lut: Tensor, *, shape: list[int]) -> Tensor:
    """Look bit-packed ``indices`` up in a vector of 2, 4, 16, 64 or 256 values. Source: iOS16."""
    count = math.prod(require_size(shape, lut.dtype))
    return lut[unpacked(indices, lut.numel().bit_length() - 1, count)].reshape(shape)


@register_op(opset="iOS16", exact=True)
def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, *, shape: list[int]) -> Tensor:
    """Put values where the bit-packed ``mask`` has ones, zero elsewhere. Source: iOS16."""
    count = math.prod(require_size(shape, nonzero_data.dtype))
    return constexpr_sparse_to_dense_ios18(nonzero_data, unpacked(mask, 1, count).reshape(shape))


@register_op(opset="iOS18", name="constexpr_sparse_to_dense", exact=True)
def constexpr_sparse_to_dense_ios18(nonzero_data: Tensor, mask: Tensor) -> Tensor:
    """Put values where ``mask`` is one, in row-major order, zero elsewhere. Source: iOS18."""
    positions = mask != 0
    if int(positions.sum()) != nonzero_data.numel():
        raise ProgramError(f"mask has {int(positions.sum())} ones for {nonzero_data.numel()} values; one per value")
    dense = torch.zeros(mask.shape, dtype=nonzero_data.dtype)
    dense[positions] = nonzero_data
    return dense


@register_op(opset="iOS18", name="constexpr_lut_to_dense", exact=True)
def constexpr_lut_to_dense_ios18(indices: Tensor, lut: Tensor, *, vector_axis: int | None = None) -> Tensor:
    """Look ``indices`` up in the palette (..., entries, vector) of their block. Source: iOS18."""
    entries, length = lut.shape[-2:]
    require_size((*indices.shape, length), lut.dtype)
    palettes = lut.reshape(-1, length)
    block = torch.arange(palettes.shape[0] // entries).reshape(lut.shape[:-2])
    dense = palettes[repeated(block, indices.shape) * entries + indices.to(torch.int64)]
    if length == 1:
        return dense.squeeze(-1)
    if vector_axis is None:
        raise ProgramError(f"palette of vectors of {length} values without vector_axis; the program must name the axis")
    axis = vector_axis % indices.dim()
    return dense.movedim(-1, axis + 1).flatten(axis, axis + 1)


@register_op(opset="iOS18", exact=True)
def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, *, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """``constexpr_lut_to_dense`` of sparse indices; the result stays sparse: mask, values. Source: iOS18."""
    indices = constexpr_sparse_to_dense_ios18(indices_nonzero_data, indices_mask)
    dense = constexpr_lut_to_dense_ios18(indices, lut, vector_axis=vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        mask = mask.repeat_interleave(lut.shape[-1], vector_axis)
    return mask, dense[mask != 0]


@register_op(opset="iOS18")
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """scale * (data - offset); each of them covers a block of ``data``. Source: iOS18."""
    shifted = data.to(scale.dtype)
    if offset is not None:
        shifted = shifted - repeated(offset, data.shape)
    return shifted * repeated(scale, data.shape)


@register_op(opset="iOS18")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``constexpr_blockwise_shift_scale`` of sparse data; the result stays sparse: mask, values. Source: iOS18."""
    dense = constexpr_sparse_to_dense_ios18(nonzero_data, data_mask)
    return data_mask, constexpr_blockwise_shift_scale(dense, scale, offset)[data_mask != 0]
