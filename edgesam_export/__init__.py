"""Take Segment Anything models to the iPhone: export, parity without a Mac, and running ML Programs on any machine.

Names are imported on first use, so that ``import edgesam_export`` stays quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "CoreMLConfig",
    "OnnxConfig",
    "Predictor",
    "analyze",
    "check_parity",
    "export_coreml",
    "export_onnx",
    "load_model",
    "load_program",
]

HOMES = {
    "CoreMLConfig": "edgesam_export.spec",
    "OnnxConfig": "edgesam_export.spec",
    "Predictor": "edgesam_export.predict.predictor",
    "analyze": "edgesam_export.ane.analyzer",
    "check_parity": "edgesam_export.parity",
    "export_coreml": "edgesam_export.formats.coreml",
    "export_onnx": "edgesam_export.formats.onnx",
    "load_model": "edgesam_export.families",
    "load_program": "edgesam_export.artifacts",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module (PEP 562)."""
    if name not in HOMES:
        raise AttributeError(f"module 'edgesam_export' has no attribute '{name}'")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
