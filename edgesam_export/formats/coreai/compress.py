"""Kernels stored compressed: ``lut_to_dense`` and ``blockwise_shift_scale`` with the values that training simulates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgesam_export.errors import UsageError
from edgesam_export.export.compression import (
    Recipe,
    Scheme,
    StoredWeight,
    compression_entry,
    kernel_modules,
    kernels_of,
    output_axis,
    schemes_for,
    store,
)
from edgesam_export.export.trace import TracedComponent

__all__ = ["compress"]


class PaletteWeight(nn.Module):
    """A weight as indices, one byte each until they are stored, into palettes."""

    indices: Tensor
    lut: Tensor

    def __init__(self, stored: StoredWeight) -> None:
        super().__init__()
        assert stored.palettes is not None
        sizes = [1] * stored.elements.dim()
        sizes[stored.axis] = len(stored.palettes)
        self.register_buffer("indices", stored.elements.to(torch.uint8))
        self.register_buffer("lut", stored.palettes.reshape(*sizes, -1, 1))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that is stored for ``weight``."""
        dense: Tensor = torch.ops.coreai.lut_to_dense(self.indices, self.lut, 0)
        return dense


class LinearWeight(nn.Module):
    """A weight as integers with scales, symmetric to zero."""

    quantized_data: Tensor
    scale: Tensor

    def __init__(self, stored: StoredWeight, bits: int) -> None:
        super().__init__()
        assert stored.scales is not None
        self.register_buffer("quantized_data", stored.elements.to(torch.int8))
        self.register_buffer("scale", stored.scales)
        self.dtype: torch.dtype = getattr(torch, f"int{bits}")

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that is stored for ``weight``."""
        dense: Tensor = torch.ops.coreai.constexpr_blockwise_shift_scale(
            self.quantized_data, self.scale, None, None, self.dtype, None
        )
        return dense


def compress(component: TracedComponent, compress: str | Recipe) -> dict[str, Any]:
    """Let the kernels of a component be stored as chosen; return what its contract says of that.

    Raises:
        UsageError: batch norms are not folded, a scheme takes no kernel, or a recipe does not fit.
    """
    # Only this module of coreai-torch defines the operations that its converter knows.
    from coreai_torch._compression import custom_layers  # noqa: F401

    schemes = schemes_for(compress, component.name, kernels_of(component.traced, component.name, "coreai"))
    entry = compression_entry(compress, component.contract, schemes)
    refused = next((scheme for scheme in schemes.values() if not is_storable(scheme)), None)
    if refused is not None:
        raise UsageError(
            f"compress {refused.name} is for Core ML; a Core AI export takes palettes of FP16 values that are not of 3"
            " bits, and linear schemes"
        )
    layers = kernel_modules(component.traced, "coreai")
    saved = 0
    for path, scheme in schemes.items():
        module = layers[path]
        stored = store(module.get_parameter("weight"), scheme, output_axis(module))
        part = PaletteWeight(stored) if scheme.palette else LinearWeight(stored, scheme.bits)
        parametrize.register_parametrization(module, "weight", part, unsafe=True)
        table = part.lut if isinstance(part, PaletteWeight) else part.scale
        count = stored.elements.numel()
        saved += 2 * count - count * scheme.bits // 8 - 2 * table.numel()
    return {
        **entry,
        "tensors": {
            path: "lut_to_dense" if scheme.palette else "blockwise_shift_scale" for path, scheme in schemes.items()
        },
        "bytes_saved": saved,
    }


def is_storable(scheme: Scheme) -> bool:
    """Return whether Core AI's operations store a scheme: no pruned weights, and integers as PyTorch has types for."""
    return not scheme.sparsity and scheme.entry_bits == 16 and scheme.bits != 3
