"""The golden files' own weights and pictures, for the tests of this folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

GOLDENS = Path(__file__).parents[1] / "goldens"

pytest.register_assert_rewrite("golden_picture")


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that makes stand-in parameters and pictures, independent of the package."""
    spec = importlib.util.spec_from_file_location("synthetic_weights", GOLDENS / "synthetic_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Results do not depend on the machine, and time not on who else uses it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
