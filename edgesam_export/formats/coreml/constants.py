"""Compressed constants of a program: ``constexpr`` operations that hold exactly what ``export/compression`` computes.

Coremltools' own compression passes compute palettes and masks themselves, otherwise for small and for large tensors;
here they only write what they are handed. Programs of before iOS18 have operations of their own, which take packed bits
and one palette, and integers with an offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.passes.helper import block_context_manager
from coremltools.models.utils import _apply_graph_pass
from coremltools.optimize._utils import pack_elements_into_bits

from edgesam_export.export.compression import Scheme, StoredWeight, integer_entries, store

__all__ = ["store_constants"]


def store_constants(package: Any, schemes: Mapping[str, tuple[Scheme, int]], *, blockwise: bool) -> Any:
    """Return the package with constants stored compressed: name -> scheme and axis of the output channels.

    ``blockwise``: the program is for iOS18 or later.
    """
    return _apply_graph_pass(package, StoreConstants(schemes, blockwise=blockwise))


class StoreConstants(AbstractGraphPass):  # type: ignore[misc]  # coremltools has no types
    """Replaces constants by the operations that expand their compressed form."""

    def __init__(self, schemes: Mapping[str, tuple[Scheme, int]], *, blockwise: bool) -> None:
        self.schemes = schemes
        self.write = write_blockwise if blockwise else write_whole

    def apply(self, prog: Any) -> None:
        """Change a program in place."""
        for function in prog.functions.values():
            self.apply_block(function)

    @block_context_manager  # type: ignore[untyped-decorator]
    def apply_block(self, block: Any) -> None:
        """Change the constants of a function."""
        for op in list(block.operations):
            if op.op_type == "const" and op.name in self.schemes:
                scheme, axis = self.schemes[op.name]
                stored = store(torch.from_numpy(np.array(op.outputs[0].val)), scheme, axis)
                value = self.write(stored, scheme, op)
                block.replace_uses_of_var_after_op(
                    anchor_op=op, old_var=op.outputs[0], new_var=value, no_check_var_types=True
                )
                block.remove_ops([op])


def write_whole(stored: StoredWeight, scheme: Scheme, op: Any) -> Any:
    """Return the variable of a constant in the operations of iOS16: one palette, a scale per channel, or sparse."""
    shape = np.array(stored.elements.shape, np.uint32)
    elements = stored.elements.numpy()
    if stored.palettes is not None:
        return mb.constexpr_lut_to_dense(
            indices=pack_elements_into_bits(elements.astype(np.uint8), scheme.bits),
            lut=stored.palettes.numpy().reshape(-1).astype(np.float16),
            shape=shape,
            before_op=op,
            name=f"{op.name}_palettized",
        )
    if stored.scales is not None:
        scale = stored.scales.numpy().reshape(-1).astype(np.float16)
        return mb.constexpr_affine_dequantize(
            quantized_data=elements.astype(np.int8),
            zero_point=np.zeros_like(scale, np.int8),
            scale=scale,
            axis=np.int32(stored.axis),
            before_op=op,
            name=f"{op.name}_quantized",
        )
    assert stored.mask is not None
    mask = stored.mask.numpy()
    return mb.constexpr_sparse_to_dense(
        nonzero_data=elements[mask].astype(np.float16),
        mask=pack_elements_into_bits(mask.astype(np.uint8), 1),
        shape=shape,
        before_op=op,
        name=f"{op.name}_sparsified",
    )


def write_blockwise(stored: StoredWeight, scheme: Scheme, op: Any) -> Any:
    """Return the variable of a constant in the operations of iOS18: palettes or scales, then what is pruned."""
    elements = stored.elements.numpy().astype(element_type(scheme))
    lut = None if stored.palettes is None else lookup_table(stored.palettes, stored, scheme, op)
    scale = None if stored.scales is None else stored.scales.numpy().astype(np.float16)
    if stored.mask is not None:
        return write_sparse(elements, stored.mask.numpy(), lut, scale, op)
    if lut is None:
        return mb.constexpr_blockwise_shift_scale(data=elements, scale=scale, before_op=op, name=f"{op.name}_quantized")
    return mb.constexpr_lut_to_dense(indices=elements, lut=lut, before_op=op, name=f"{op.name}_palettized")


def write_sparse(elements: np.ndarray, mask: np.ndarray, lut: Any | None, scale: np.ndarray | None, op: Any) -> Any:
    """Return the same of a weight of which only the elements under ``mask`` are stored."""
    bits: Any = mask.astype(types.nptype_from_builtin(types.uint1))
    values: Any = elements[mask]
    if lut is not None:
        bits, values = mb.constexpr_lut_to_sparse(
            indices_mask=bits, indices_nonzero_data=values, lut=lut, before_op=op, name=f"{op.name}_palettized"
        )
    if scale is not None:
        bits, values = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=bits, nonzero_data=values, scale=scale, before_op=op, name=f"{op.name}_quantized"
        )
    return mb.constexpr_sparse_to_dense(nonzero_data=values, mask=bits, before_op=op, name=f"{op.name}_sparsified")


def element_type(scheme: Scheme) -> Any:
    """Return the numpy type of what is stored for each element."""
    if scheme.bits == 16:
        return np.float16
    return types.nptype_from_builtin(types.string_to_builtin(f"{'uint' if scheme.palette else 'int'}{scheme.bits}"))


def lookup_table(palettes: torch.Tensor, stored: StoredWeight, scheme: Scheme, op: Any) -> Any:
    """Return palettes as (groups on the axis of the output channels, entries, 1), or the variable that they become.

    Integers are scaled before they are looked up: iOS18 does the other order wrong, see coremltools' pass
    ``canonicalize_quantized_lut_pattern``.
    """
    sizes = [1] * (stored.elements.dim() + 2)
    sizes[stored.axis] = len(palettes)
    sizes[-2] = palettes.shape[1]
    if scheme.entry_bits == 16:
        return palettes.numpy().astype(np.float16).reshape(sizes)
    integers, scales = integer_entries(palettes)
    return mb.constexpr_blockwise_shift_scale(
        data=integers.numpy().astype(np.int8).reshape(sizes),
        scale=scales.numpy().astype(np.float16).reshape(*sizes[:-2], 1, 1),
        before_op=op,
        name=f"{op.name}_entries",
    )
