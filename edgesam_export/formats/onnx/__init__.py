"""ONNX files."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from edgesam_export.formats import FORMATS, FileTensors, Format
from edgesam_export.formats.onnx.convert import export_onnx
from edgesam_export.formats.onnx.external_data import read_graph
from edgesam_export.spec import OnnxConfig, TensorSpec

__all__ = ["export_onnx", "read_metadata", "read_tensors"]


def read_metadata(path: Path) -> dict[str, str]:
    """Return a file's metadata_props.

    Raises:
        UsageError: the file is no ONNX graph.
    """
    return {entry.key: entry.value for entry in read_graph(path).metadata_props}


def read_tensors(path: Path) -> FileTensors:
    """Return the tensors of any ONNX graph.

    Raises:
        UsageError: the file is no ONNX graph.
    """
    import onnx

    graph = read_graph(path).graph
    names = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16"}
    weights = {entry.name for entry in graph.initializer}
    sizes = dict.fromkeys(names.values(), 0)
    for entry in graph.initializer:
        if entry.data_type in names:
            sizes[names[entry.data_type]] += prod(entry.dims)

    def spec(value: Any) -> TensorSpec:
        tensor = value.type.tensor_type
        dtype = names.get(tensor.elem_type) or onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        shape = tuple(
            size.dim_value if size.HasField("dim_value") else size.dim_param or "?" for size in tensor.shape.dim
        )
        return TensorSpec(name=value.name, shape=shape, dtype=dtype, description="")

    return FileTensors(
        inputs=tuple(spec(value) for value in graph.input if value.name not in weights),
        outputs=tuple(map(spec, graph.output)),
        precision=max(sizes, key=lambda name: sizes[name]),
    )


FORMATS.register("onnx")(
    Format(
        name="onnx",
        suffix=".onnx",
        config=OnnxConfig,
        export=export_onnx,
        read_metadata=read_metadata,
        read_tensors=read_tensors,
    )
)
