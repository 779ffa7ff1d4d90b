"""Every scheme as a package stores it: coremltools and the executor unpack what is simulated, bytes are as computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import coremltools as ct
import numpy as np
import pytest
import torch
from compressed_weights import decoded_weights
from coremltools.converters.mil.frontend import milproto
from coremltools.converters.mil.mil import Builder as mb
from coremltools.models.utils import _convert_model_spec_to_pymil_prog

from edgesam_export.export.compression import (
    SCHEMES,
    Kernel,
    Scheme,
    applicable,
    stored_bytes,
    stored_values,
)
from edgesam_export.formats.coreml.constants import store_constants
from edgesam_export.mil import load_program

SHAPES = {
    "conv": (64, 32, 1, 1),
    "depthwise": (256, 1, 3, 3),
    "linear": (96, 64),
    "conv_transpose": (32, 64, 1, 2),
}
TARGETS = ("iOS16", "iOS18")


EVERYWHERE = {"palettize4", "palettize4_g16", "linear8", "linear4_b16", "sparse50", "sparse75_palettize4"}
"""Schemes that are tried on every kind of layer; the others on one, by turns."""


class Stored(NamedTuple):
    """A constant of the package, and how it is stored."""

    kernel: Kernel
    scheme: Scheme
    weight: np.ndarray
    simulated: torch.Tensor


def stored_kernels(target: str) -> Iterator[Stored]:
    """Yield kernels for every scheme that the target reads."""
    rng = np.random.default_rng(5)
    schemes = [scheme for scheme in SCHEMES.values() if target == "iOS18" or scheme.target == target]
    for number, scheme in enumerate(schemes):
        kinds = [kind for kind in SHAPES if applicable(kernel_of(scheme, kind), scheme)]
        for kind in kinds if scheme.name in EVERYWHERE else [kinds[number % len(kinds)]]:
            kernel = kernel_of(scheme, kind)
            weight = rng.standard_normal(kernel.shape).astype(np.float16)
            weight.reshape(-1)[:3] = 0, -0.0, 6e-8  # the smallest number
            yield Stored(kernel, scheme, weight, stored_values(torch.from_numpy(weight), scheme, kernel.axis))


def kernel_of(scheme: Scheme, kind: str) -> Kernel:
    return Kernel(path=f"{scheme.name}_{kind}", shape=SHAPES[kind], axis=int(kind == "conv_transpose"))


def layer(x: Any, stored: Stored) -> Any:
    """Return what a layer makes of 256 values; its weight has the kernel's path as its name."""
    kind = next(kind for kind in SHAPES if stored.kernel.path.endswith(f"_{kind}"))
    weight = mb.const(val=stored.weight, name=stored.kernel.path)
    if kind == "linear":
        return mb.linear(x=mb.reshape(x=x, shape=[4, 64]), weight=weight)
    sides = {"conv": (1, 32, 2, 4), "depthwise": (1, 256, 1, 1), "conv_transpose": (1, 32, 2, 4)}[kind]
    x = mb.reshape(x=x, shape=list(sides))
    if kind == "conv_transpose":
        return mb.conv_transpose(x=x, weight=weight)
    return mb.conv(x=x, weight=weight, groups=256 if kind == "depthwise" else 1, pad_type="same")


class Package(NamedTuple):
    """A package with a layer for each of ``kernels``, and how many bytes more its weights take than as FP16."""

    path: Path
    target: str
    kernels: dict[str, Stored]
    growth: int
    model: Any


@pytest.fixture(scope="module", params=TARGETS)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    kernels = {stored.kernel.path: stored for stored in stored_kernels(request.param)}
    target = getattr(ct.target, request.param)

    @mb.program(input_specs=[mb.TensorSpec(shape=(256,), dtype=ct.converters.mil.mil.types.fp16)], opset_version=target)
    def program(x: Any) -> tuple[Any, ...]:
        return tuple(layer(x, stored) for stored in kernels.values())

    plain = ct.convert(
        program, minimum_deployment_target=target, skip_model_load=True, pass_pipeline=ct.PassPipeline.EMPTY
    )
    before = weight_bytes(Path(plain.weights_dir))
    model = store_constants(
        plain,
        {path: (stored.scheme, stored.kernel.axis) for path, stored in kernels.items()},
        blockwise=request.param == "iOS18",
    )
    path = tmp_path_factory.mktemp(request.param) / "stored.mlpackage"
    model.save(str(path))
    return Package(path, request.param, kernels, weight_bytes(Path(model.weights_dir)) - before, model)


def weight_bytes(folder: Path) -> int:
    """Bytes of the weight file once what follows its last constant is padded, too."""
    return sum(-(-file.stat().st_size // 64) * 64 for file in folder.rglob("weight.bin"))


def test_what_is_stored_decodes_to_what_is_simulated(package: Package) -> None:
    exact, rounded = (decoded_weights(load_program(package.path), numerics) for numerics in ("fp32", "fp16"))
    for path, stored in package.kernels.items():
        assert torch.equal(exact[path], stored.simulated), path
        assert torch.equal(rounded[path], stored.simulated.half().float()), path
        assert not np.array_equal(stored.simulated.numpy(), stored.weight.astype(np.float32)), path


def test_coremltools_decodes_the_same(package: Package) -> None:
    version = package.model.get_spec().specificationVersion
    program = _convert_model_spec_to_pymil_prog(package.model, version, milproto.load.load)
    unpacked = {}
    for op in program.functions["main"].operations:
        readers = [reader.op_type for output in op.outputs for reader in output.child_ops]
        if op.op_type.startswith("constexpr_") and not any(reader.startswith("constexpr_") for reader in readers):
            unpacked[op.name.rpartition("_")[0]] = decompressed(op)
    assert unpacked.keys() == package.kernels.keys()
    for path, stored in package.kernels.items():
        assert np.array_equal(unpacked[path], stored.simulated.half().numpy()), path


OPERANDS = {
    "constexpr_lut_to_dense": ("indices", "lut", "vector_axis"),
    "constexpr_blockwise_shift_scale": ("data", "scale", "offset"),
    "constexpr_sparse_to_dense": ("nonzero_data", "mask"),
    "constexpr_lut_to_sparse": ("indices_mask", "indices_nonzero_data", "lut", "vector_axis"),
    "constexpr_sparse_blockwise_shift_scale": ("data_mask", "nonzero_data", "scale", "offset"),
}


def decompressed(op: Any) -> Any:
    """Return what coremltools makes of a chain of operations; its own inference stops at operands that are computed."""
    computed = {name: operand.op for name, operand in op.inputs.items() if operand is not None and operand.val is None}
    if not computed:
        return op.materialized_val_inference()
    values = {name: None if operand is None else operand.val for name, operand in op.inputs.items()}
    for name, maker in computed.items():
        found = decompressed(maker)
        values[name] = found[maker.outputs.index(op.inputs[name])] if isinstance(found, tuple) else found
    return type(op).decompress(*(values.get(name) for name in OPERANDS[op.op_type]))


def test_a_weight_file_changes_by_the_bytes_that_are_computed(package: Package) -> None:
    changes = [
        stored_bytes(stored.kernel, stored.scheme, package.target) - stored_bytes(stored.kernel, None)
        for stored in package.kernels.values()
    ]
    assert all(change < 0 for change in changes) and sum(changes) == package.growth
