"""Weights of a converted package stored compressed, kernel by kernel, with what PyTorch simulates bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

__all__ = ["compress", "folder_bytes"]


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

    A kernel belongs to the layer whose weight it holds unchanged: that one is what PyTorch simulates, per channel or
    per tensor. Names do not tell, since the converter names a reshaped or folded constant anew. The encoder's first
    convolution stays as it is, and so do matrices that no layer owns; for tables see ``tables_of``.
    """
    known = dict(component.traced.named_modules())
    require_folded({path: part.original_name for path, part in known.items()})
    operations = package._mil_program.functions["main"].operations
    readers = [op for op in operations if op.op_type in ("conv", "conv_transpose", "linear")]
    if component.name == "encoder":
        readers = readers[[op.op_type for op in readers].index("conv") + 1 :]
    owners = owners_of({path: part.weight for path, part in known.items() if hasattr(part, "weight")})
    found = {}
    for op in readers:
        weight = op.weight
        if weight.op is None or weight.op.op_type != "const" or weight.val.dtype != np.float16:
            continue
        for path in owners.get(weight.val.tobytes(), ()):
            kernel = Kernel(path=path, shape=tuple(weight.shape), axis=int(op.op_type == "conv_transpose"))
            if kernel.elements >= MIN_ELEMENTS:
                found[path] = weight.op.name, kernel
    return {**found, **program_tables(operations, component)}


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
