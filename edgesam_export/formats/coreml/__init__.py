"""Core ML packages."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.formats import FORMATS, FileTensors, Format
from edgesam_export.formats.coreml.convert import export_coreml
from edgesam_export.mil.features import FeatureSpec
from edgesam_export.mil.program import load_program
from edgesam_export.spec import CoreMLConfig, TensorSpec

__all__ = ["export_coreml", "read_metadata", "read_tensors"]


def read_metadata(path: Path) -> dict[str, str]:
    """Return a package's user-defined metadata, on any machine.

    Raises:
        ProgramError: the package cannot be loaded.
    """
    return load_program(path).metadata


def read_tensors(path: Path) -> FileTensors:
    """Return the tensors of any package.

    Raises:
        ProgramError: the package cannot be loaded.
    """
    program = load_program(path)
    half = sum(op.outputs[0].type.dtype == "fp16" for op in program.operations if op.outputs)
    full = sum(op.outputs[0].type.dtype == "fp32" for op in program.operations if op.outputs)
    return FileTensors(
        inputs=tuple(map(tensor_spec, program.inputs)),
        outputs=tuple(map(tensor_spec, program.outputs)),
        precision="fp16" if half > full else "fp32",
    )


def tensor_spec(feature: FeatureSpec) -> TensorSpec:
    """Return a feature as a tensor; a size of which it allows several is free."""
    allowed = feature.choices or ()
    if feature.ranges is not None:
        allowed = tuple(tuple(bound if bound is not None else -1 for bound in ends) for ends in zip(*feature.ranges))
    free = [len(set(sizes)) > 1 for sizes in zip(*allowed)] if allowed else [False] * len(feature.shape)
    shape = tuple(f"size{axis}" if free[axis] else size for axis, size in enumerate(feature.shape))
    dtype = "image" if feature.kind == "image" else feature.dtype
    return TensorSpec(name=feature.name, shape=shape, dtype=dtype, description=feature.description)


FORMATS.register("coreml")(
    Format(
        name="coreml",
        suffix=".mlpackage",
        config=CoreMLConfig,
        export=export_coreml,
        read_metadata=read_metadata,
        read_tensors=read_tensors,
    )
)
