"""Core AI assets in our own executor."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.coreai.program import load_asset
from edgesam_export.mil import Program
from edgesam_export.runners import RUNNERS
from edgesam_export.runners.mil import MilRunner

__all__ = ["CoreAIRunner"]


@RUNNERS.register("coreai")
class CoreAIRunner(MilRunner):
    """Runs ``.aimodel`` files with one of the executor's numerics."""

    formats = ("coreai",)
    name = "coreai"
    witness = "apple"
    label = "executor {} (Core AI)"

    def load(self, path: Path) -> Program:
        """Return the program of an asset."""
        return load_asset(path)
