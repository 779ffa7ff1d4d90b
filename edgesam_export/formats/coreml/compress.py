"""Weights of a converted package stored compressed, kernel by kernel, with what PyTorch simulates bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgesam_export.errors import UsageError
from edgesam_export.export.compression import Scheme, find_palette, is_worth_it, nearest_entries, require_folded
from edgesam_export.export.trace import TracedComponent

__all__ = ["compress", "folder_bytes"]


def compress(package: Any, component: TracedComponent, scheme: Scheme, modules: dict[str, str]) -> Any:
    """Return the package with its kernels stored by ``scheme``; the contract says which, and what that saved.

    Raises:
        UsageError: batch norms are not folded, or no kernel is large enough.
    """
    import coremltools.optimize.coreml as cto

    kernels = kernels_to_compress(package, component, scheme, modules)
    if not kernels:
        raise UsageError(f"compress {scheme.name} finds no weight in {component.name} that it applies to; leave it out")
    apply = cto.palettize_weights if scheme.palette else cto.linear_quantize_weights
    options = dict.fromkeys(kernels.values(), operation_options(scheme))
    before = folder_bytes(Path(package.weights_dir))
    compressed = apply(package, cto.OptimizationConfig(op_name_configs=options))
    component.contract["compression"] = {
        "scheme": scheme.name,
        "tensors": kernels,
        "bytes_before": before,
        "bytes_after": folder_bytes(Path(compressed.weights_dir)),
    }
    return compressed


def operation_options(scheme: Scheme) -> Any:
    """Return coremltools' options for one kernel stored by ``scheme``."""
    import coremltools.optimize.coreml as cto

    if scheme.palette:
        # coremltools' own k-means is one for small and another for large tensors, and cannot be repeated in training
        return cto.OpPalettizerConfig(
            mode="CUSTOM", lut_function=lambda values: lookup_table(values, scheme), weight_threshold=0
        )
    granularity: dict[str, Any] = {"granularity": "per_channel"}
    if scheme.block is not None:
        granularity = {"granularity": "per_block", "block_size": scheme.block}
    return cto.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype=f"int{scheme.bits}", weight_threshold=0, **granularity
    )


def kernels_to_compress(
    package: Any, component: TracedComponent, scheme: Scheme, modules: dict[str, str]
) -> dict[str, str]:
    """Return torch module path -> constant, for every kernel of the program that ``scheme`` takes.

    It must hold its module's weight unchanged: that one is what PyTorch simulates, per channel or per tensor.
    The encoder's first convolution stays as it is, and so do tables and matrices that no layer owns.
    """
    known = dict(component.traced.named_modules())
    require_folded({path: part.original_name for path, part in known.items()}, scheme)
    operations = package._mil_program.functions["main"].operations
    readers = [op for op in operations if op.op_type in ("conv", "conv_transpose", "linear")]
    if component.name == "encoder":
        readers = readers[[op.op_type for op in readers].index("conv") + 1 :]
    # the converter calls a constant like its parameter; where it folded one, the operation may know its module
    owners = {f"{path}.weight".replace(".", "_"): path for path in known}
    found = {}
    for op in readers:
        kernel = op.weight
        if kernel.op is None or kernel.op.op_type != "const" or kernel.val.dtype != np.float16:
            continue
        path = owners.get(kernel.op.name.removesuffix("_to_fp16"), modules.get(op.outputs[0].name, ""))
        own = getattr(known.get(path), "weight", None)
        if own is None or not np.array_equal(own.detach().half().numpy().reshape(-1), kernel.val.reshape(-1)):
            continue
        if is_worth_it(kernel.shape, int(op.op_type == "conv_transpose"), scheme):
            found[path] = kernel.op.name
    return found


def lookup_table(values: np.ndarray, scheme: Scheme) -> tuple[np.ndarray, np.ndarray]:
    """Return the palette of an FP16 tensor and, flat, the index of each element's entry."""
    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    palette = find_palette(tensor, scheme.bits)
    indices = nearest_entries(tensor, palette).flatten()
    return palette.numpy().astype(values.dtype), indices.numpy().astype(np.uint8)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(member.stat().st_size for member in folder.iterdir())
