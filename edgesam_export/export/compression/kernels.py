"""Which weights of a component an export may compress, and compressing them in place.

Compressed are kernels of convolutions and linear layers, but the encoder's first one: all that follows sees its error,
and it is small. Norms and interpolation matrices are not; they are small, or exact. The decoder's table of positional
encodings, which in a small model is its largest constant, is compressed where a recipe names it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.export.compression.schemes import MIN_ELEMENTS, Kernel, Scheme
from edgesam_export.export.compression.stored import stored_values
from edgesam_export.export.trace import build_components, fp32_modules, within
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import CoreMLConfig, ExportConfig

__all__ = [
    "compress_modules",
    "kernel_modules",
    "kernels_of",
    "model_kernels",
    "output_axis",
    "require_folded",
    "tables_of",
]

KERNELS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
TABLES = ("image_pe",)
"""Buffers of a component's module that may be compressed, channels on axis 1."""


def output_axis(module: nn.Module) -> int:
    """Return the axis of the output channels in a kernel: 1 of a transposed convolution, else 0."""
    return 1 if isinstance(module, nn.ConvTranspose2d) else 0


def kernel_modules(root: nn.Module, format: str = "coreml") -> dict[str, nn.Module]:
    """Return path -> module of every convolution and linear layer, but for those whose arithmetic stays FP32."""
    exact = fp32_modules(root, format)
    return {
        path: module for path, module in root.named_modules() if isinstance(module, KERNELS) and not within(path, exact)
    }


def kernels_of(root: nn.Module, component: str, format: str = "coreml") -> dict[str, Kernel]:
    """Return path -> kernel of every weight of an exported component's module that may be compressed.

    Raises:
        UsageError: batch norms are not folded.
    """
    require_folded({path: type(part).__name__ for path, part in root.named_modules()})
    layers = list(kernel_modules(root, format).items())
    found = {}
    for path, module in layers[component == "encoder" :]:
        kernel = Kernel(path=path, shape=tuple(module.get_parameter("weight").shape), axis=output_axis(module))
        if kernel.elements >= MIN_ELEMENTS:
            found[path] = kernel
    return {**found, **tables_of(root)}


def tables_of(root: nn.Module) -> dict[str, Kernel]:
    """Return path -> kernel of the tables of an exported component's module."""
    tables = {path: buffer for path, buffer in root.named_buffers(recurse=False) if path in TABLES}
    return {path: Kernel(path=path, shape=tuple(table.shape), axis=1, is_table=True) for path, table in tables.items()}


def model_kernels(model: SamModel, config: ExportConfig | None = None) -> dict[str, dict[str, Kernel]]:
    """Return the kernels of every component that a Core ML export of ``model`` has, by component and path."""
    components, _ = build_components(model, config or CoreMLConfig(), format="coreml")
    return {component.name: kernels_of(component.module, component.name) for component in components}


def require_folded(kinds: Mapping[str, str]) -> None:
    """Raise UsageError if one of the modules, path -> name of its class, is a batch norm.

    Its fold would change a weight that is simulated as it is.
    """
    norm = next((path for path, kind in kinds.items() if kind.startswith("BatchNorm")), None)
    if norm is not None:
        raise UsageError(f"compressed weights need batch norms folded, and '{norm}' is not; rewrite fold_branches")


def compress_modules(root: nn.Module, schemes: Mapping[str, Scheme], where: str) -> None:
    """Replace the weights of the modules at the paths of ``schemes`` by the values that a package stores.

    Tensors are new ones: those of ``root`` may be shared with the model that it was built from.

    Raises:
        SchemaError: ``root`` has no such layer; ``where`` opens the message.
    """
    layers, tables = kernel_modules(root), tables_of(root)
    for path, scheme in schemes.items():
        if path in tables:
            setattr(root, path, stored_values(root.get_buffer(path), scheme, tables[path].axis))
            continue
        if path not in layers:
            raise SchemaError(f"{where}: contract lists a compressed layer '{path}' that the model does not have")
        module = layers[path]
        weight = module.get_parameter("weight")
        module.weight = nn.Parameter(stored_values(weight, scheme, output_axis(module)), requires_grad=False)
