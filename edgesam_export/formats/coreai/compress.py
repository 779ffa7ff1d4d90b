"""Kernels stored compressed: ``lut_to_dense`` and ``blockwise_shift_scale`` with the values that training simulates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edgesam_export.errors import UsageError
from edgesam_export.export.compression import (
    Scheme,
    find_palette,
    is_worth_it,
    kernel_modules,
    linear_parts,
    nearest_entries,
    output_axis,
    require_folded,
    through_fp16,
)
from edgesam_export.export.trace import TracedComponent

__all__ = ["compress"]


class PaletteWeight(nn.Module):
    """A weight as indices, one byte each until they are stored, into one palette."""

    indices: Tensor
    lut: Tensor

    def __init__(self, weight: Tensor, scheme: Scheme) -> None:
        super().__init__()
        palette = find_palette(weight, scheme.bits)
        self.register_buffer("indices", nearest_entries(weight, palette).to(torch.uint8))
        self.register_buffer("lut", palette.reshape(*[1] * weight.dim(), -1, 1))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that is stored for ``weight``."""
        dense: Tensor = torch.ops.coreai.lut_to_dense(self.indices, self.lut, 0)
        return dense


class LinearWeight(nn.Module):
    """A weight as integers with scales, symmetric to zero."""

    quantized_data: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scheme: Scheme, axis: int) -> None:
        super().__init__()
        integers, scale = linear_parts(weight, scheme, axis)
        self.register_buffer("quantized_data", integers.to(torch.int8))
        self.register_buffer("scale", scale)
        self.dtype: torch.dtype = getattr(torch, f"int{scheme.bits}")

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight that is stored for ``weight``."""
        dense: Tensor = torch.ops.coreai.constexpr_blockwise_shift_scale(
            self.quantized_data, self.scale, None, None, self.dtype, None
        )
        return dense


def compress(component: TracedComponent, scheme: Scheme) -> dict[str, Any]:
    """Let the kernels of a component be stored by ``scheme``; return what its contract says of that.

    Raises:
        UsageError: batch norms are not folded, or no kernel is large enough.
    """
    # Only this module of coreai-torch defines the operations that its converter knows.
    from coreai_torch._compression import custom_layers  # noqa: F401

    kernels = kernels_to_compress(component, scheme)
    saved = 0
    for module in kernels.values():
        weight = through_fp16(module.get_parameter("weight"))
        stored = PaletteWeight(weight, scheme) if scheme.palette else LinearWeight(weight, scheme, output_axis(module))
        parametrize.register_parametrization(module, "weight", stored, unsafe=True)
        table = stored.lut if isinstance(stored, PaletteWeight) else stored.scale
        saved += 2 * weight.numel() - weight.numel() * scheme.bits // 8 - 2 * table.numel()
    kind = "lut_to_dense" if scheme.palette else "blockwise_shift_scale"
    return {"scheme": scheme.name, "tensors": dict.fromkeys(kernels, kind), "bytes_saved": saved}


def kernels_to_compress(component: TracedComponent, scheme: Scheme) -> dict[str, nn.Module]:
    """Return path -> layer, for every kernel that ``scheme`` takes; the encoder's first one stays as it is."""
    root = component.traced
    require_folded({path: type(part).__name__ for path, part in root.named_modules()}, scheme)
    layers = list(kernel_modules(root, "coreai").items())
    found = {
        path: module
        for path, module in layers[component.name == "encoder" :]
        if is_worth_it(module.get_parameter("weight").shape, output_axis(module), scheme)
    }
    if not found:
        raise UsageError(f"compress {scheme.name} finds no weight in {component.name} that it applies to; leave it out")
    return found
