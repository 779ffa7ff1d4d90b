"""ONNX files."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.formats import FORMATS, Format
from edgesam_export.formats.onnx.convert import export_onnx
from edgesam_export.formats.onnx.external_data import read_graph
from edgesam_export.spec import OnnxConfig

__all__ = ["export_onnx", "read_metadata"]


def read_metadata(path: Path) -> dict[str, str]:
    """Return a file's metadata_props.

    Raises:
        UsageError: the file is no ONNX graph.
    """
    return {entry.key: entry.value for entry in read_graph(path).metadata_props}


FORMATS.register("onnx")(
    Format(name="onnx", suffix=".onnx", config=OnnxConfig, export=export_onnx, read_metadata=read_metadata)
)
