"""Core ML packages."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.formats import FORMATS, Format
from edgesam_export.formats.coreml.convert import export_coreml
from edgesam_export.mil.program import load_program
from edgesam_export.spec import CoreMLConfig

__all__ = ["export_coreml", "read_metadata"]


def read_metadata(path: Path) -> dict[str, str]:
    """Return a package's user-defined metadata, on any machine.

    Raises:
        ProgramError: the package cannot be loaded.
    """
    return load_program(path).metadata


FORMATS.register("coreml")(
    Format(name="coreml", suffix=".mlpackage", config=CoreMLConfig, export=export_coreml, read_metadata=read_metadata)
)
