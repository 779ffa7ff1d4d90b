"""An FP16 graph in exact arithmetic: every FP16 tensor as float32 of the same value, so nothing is rounded anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgesam_export.files import data_beside
from edgesam_export.formats.onnx.external_data import read_graph, tensors

__all__ = ["save_exact"]

OUTSIDE_BYTES = 1 << 20
"""Weights from this size on are written beside the graph: protobuf ends at 2 GB, and FP32 is twice as large."""


def save_exact(source: Path, target: Path) -> None:
    """Write the FP16 graph at ``source`` to ``target`` with all its types and weights in FP32.

    Raises:
        UsageError: the file cannot be read, is no ONNX, or wants data from anywhere but beside it.
    """
    import onnx
    from onnx import TensorProto

    graph = read_graph(source)
    for tensor in tensors(graph):
        if tensor.data_type == TensorProto.FLOAT16:
            values = onnx.numpy_helper.to_array(tensor, base_dir=str(source.parent))
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype("float32"), tensor.name))
        elif tensor.external_data:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(source.parent))
    for part in messages(graph):
        if part.DESCRIPTOR.full_name.endswith("TypeProto.Tensor") and part.elem_type == TensorProto.FLOAT16:
            part.elem_type = TensorProto.FLOAT
        elif part.DESCRIPTOR.full_name.endswith("NodeProto") and part.op_type == "Cast":
            for attribute in part.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                    attribute.i = TensorProto.FLOAT
    data = data_beside(target).name
    onnx.save_model(graph, target, save_as_external_data=True, location=data, size_threshold=OUTSIDE_BYTES)


def messages(message: Any) -> Iterator[Any]:
    """Yield a message and every message inside it, but for tensors."""
    if message.DESCRIPTOR.full_name.endswith(".TensorProto"):
        return
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in [value] if hasattr(value, "DESCRIPTOR") else value:
                yield from messages(part)
