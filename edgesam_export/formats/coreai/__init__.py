"""Core AI assets (experimental)."""

from __future__ import annotations

from edgesam_export.formats import FORMATS, Format
from edgesam_export.formats.coreai.convert import export_coreai
from edgesam_export.formats.coreai.metadata import read_metadata
from edgesam_export.spec import CoreAIConfig

__all__ = ["export_coreai", "read_metadata"]

FORMATS.register("coreai")(
    Format(name="coreai", suffix=".aimodel", config=CoreAIConfig, export=export_coreai, read_metadata=read_metadata)
)
