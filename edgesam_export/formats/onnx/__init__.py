"""ONNX files."""

from __future__ import annotations

from edgesam_export.formats.onnx.convert import export_onnx

__all__ = ["export_onnx"]
