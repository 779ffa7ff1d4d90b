"""The generated table of ops is current, and no op of coremltools is forgotten."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from edgesam_export.mil.ops import OPS


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance_table", Path(__file__).with_name("table.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_is_what_the_generator_writes(table: ModuleType) -> None:
    assert table.README.read_text(encoding="utf-8") == table.render(), "run python tests/conformance/table.py"


def test_every_op_of_coremltools_has_a_function(table: ModuleType) -> None:
    OPS.load()
    assert set(table.known_ops()) - set(OPS.versions) == {"const"}


def test_every_op_has_a_literal_case(table: ModuleType) -> None:
    OPS.load()
    without = sorted(name for name in OPS.versions if not table.has_literal_case(name))
    assert without == []
