"""The golden files, for the tests of this folder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.fixture(scope="session")
def goldens() -> Path:
    return GOLDENS


@pytest.fixture(scope="session")
def manifest() -> dict:
    return json.loads((GOLDENS / "edge_sam.manifest.json").read_text())


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that makes stand-in parameters and pictures, independent of the package."""
    spec = importlib.util.spec_from_file_location("synthetic_weights", GOLDENS / "synthetic_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
