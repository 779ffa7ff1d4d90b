"""Core ML packages."""

from __future__ import annotations

from edgesam_export.formats.coreml.convert import export_coreml

__all__ = ["export_coreml"]
