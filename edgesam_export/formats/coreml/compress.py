"""Weights of a converted package stored compressed, kernel by kernel, with what PyTorch simulates bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgesam_export.export.compression import (
    MIN_ELEMENTS,
    Kernel,
    Recipe,
    compression_entry,
    require_folded,
    schemes_for,
    tables_of,
)
from edgesam_export.export.trace import TracedComponent

__all__ = ["compress", "folder_bytes", "layer_paths"]


def compress(package: Any, component: TracedComponent, compress: str | Recipe) -> Any:
    """Return the package with its kernels stored as chosen; the contract says which and how, and what that saved.

    Raises:
        UsageError: batch norms are not folded, a scheme takes no kernel, or a recipe does not fit.
    """
    # coremltools is slow to import, and only exports need it
    from edgesam_export.formats.coreml.constants import store_constants

    constants = program_kernels(package, component)
    kernels = {path: kernel for path, (_, kernel) in constants.items()}
    layers = {path for path, part in component.traced.named_modules() if hasattr(part, "weight")}
    schemes = schemes_for(compress, component.name, kernels, layers)
    entry = compression_entry(compress, component.contract, schemes)
    before = folder_bytes(Path(package.weights_dir))
    package = store_constants(
        package,
        {constants[path][0]: (scheme, kernels[path].axis) for path, scheme in schemes.items()},
        blockwise=component.contract["export"]["target"] == "iOS18",
    )
    component.contract["compression"] = {
        **entry,
        "tensors": {path: constants[path][0] for path in schemes},
        "bytes_before": before,
        "bytes_after": folder_bytes(Path(package.weights_dir)),
    }
    return package


def program_kernels(package: Any, component: TracedComponent) -> dict[str, tuple[str, Kernel]]:
    """Return torch module path -> name of its constant, and the kernel, for every weight that may be compressed.

    Compressed is what PyTorch can simulate, per channel or per tensor: the weight of a layer, unchanged. The encoder's
    first convolution stays as it is, and so do matrices that no layer owns; for tables see ``tables_of``.
    """
    require_folded({path: part.original_name for path, part in component.traced.named_modules()})
    readers = list(kernel_readers(package, component))
    if component.name == "encoder":
        readers = readers[[op.op_type for op, _ in readers].index("conv") + 1 :]
    found = {}
    for op, paths in readers:
        for path in paths:
            kernel = Kernel(path=path, shape=tuple(op.weight.shape), axis=int(op.op_type == "conv_transpose"))
            if kernel.elements >= MIN_ELEMENTS:
                found[path] = op.weight.op.name, kernel
    operations = package._mil_program.functions["main"].operations
    return {**found, **program_tables(operations, component)}


def kernel_readers(package: Any, component: TracedComponent) -> Iterator[tuple[Any, list[str]]]:
    """Yield each convolution and linear layer of a program, with the paths of the layers whose FP16 weight it holds.

    A kernel belongs to the layer whose weight it holds unchanged; to several where weights are equal, since the
    converter keeps one constant for them. Names do not tell: a reshaped or folded constant is named anew.
    """
    weights = {path: getattr(part, "weight", None) for path, part in component.traced.named_modules()}
    owners = owners_of({path: weight for path, weight in weights.items() if isinstance(weight, torch.Tensor)})
    for op in package._mil_program.functions["main"].operations:
        if op.op_type in ("conv", "conv_transpose", "linear"):
            source, value = op.weight.op, op.weight.val
            is_held = source is not None and source.op_type == "const" and value.dtype == np.float16
            yield op, owners.get(value.tobytes(), []) if is_held else []


def layer_paths(package: Any, component: TracedComponent, modules: Mapping[str, str]) -> dict[str, str]:
    """Return output of each convolution and linear layer -> path of the one layer whose weight it computes with.

    ``modules`` has the module that each operation was traced in, perhaps without the containers that it lies in: it
    tells layers of equal weights apart.
    """
    found = {}
    for op, paths in kernel_readers(package, component):
        name = op.outputs[0].name
        fitting = paths if len(paths) == 1 else [path for path in paths if may_be(modules.get(name, ""), path)]
        if len(fitting) == 1:
            found[name] = fitting[0]
    return found


def may_be(scope: str, path: str) -> bool:
    """Return whether ``scope`` is a module's ``path`` but for containers left out."""
    parts = iter(path.split("."))
    return all(part in parts for part in scope.split(".")) and path.split(".")[-1] == scope.split(".")[-1]


def program_tables(operations: Iterable[Any], component: TracedComponent) -> dict[str, tuple[str, Kernel]]:
    """Return path -> name of its constant, and the kernel, for every table that the program holds, perhaps reshaped."""
    tables = tables_of(component.traced)
    values = {path: buffer for path, buffer in component.traced.named_buffers(recurse=False) if path in tables}
    owners = owners_of(values)
    found = {}
    for op in operations:
        value = op.val.val if op.op_type == "const" else None
        if isinstance(value, np.ndarray) and value.dtype == np.float16:
            for path in owners.get(value.tobytes(), ()):
                found[path] = op.name, replace(tables[path], shape=value.shape)
    return found


def owners_of(weights: Mapping[str, torch.Tensor]) -> dict[bytes, list[str]]:
    """Return the paths of the weights by their FP16 values: several where layers are equal, whose constant is one."""
    owners: dict[bytes, list[str]] = {}
    for path, weight in weights.items():
        owners.setdefault(weight.detach().half().numpy().tobytes(), []).append(path)
    return owners


def folder_bytes(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(member.stat().st_size for member in folder.iterdir())
