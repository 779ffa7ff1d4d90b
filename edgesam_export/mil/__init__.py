"""An executor for Core ML ML Programs that runs on any machine."""

from edgesam_export.mil.program import Program, load_program

__all__ = ["Program", "load_program"]
