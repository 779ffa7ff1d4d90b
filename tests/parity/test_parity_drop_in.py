"""A format of the parity report is a file in ``parity/render/``: nothing else has to know of it."""

from __future__ import annotations

import importlib
import sys

import pytest

from edgesam_export.parity import render
from edgesam_export.parity.report import ParityReport

FORMAT = """
from edgesam_export.parity.render.summary import verdict

SUFFIX = ".words"


def render(report):
    return verdict(report)
"""
EMPTY = ParityReport(model="toy", tool_version="0", reference="torch", artifacts=(), rows=())


@pytest.fixture
def dropped_in(tmp_path, monkeypatch):
    """A module ``words`` among the formats, for the duration of a test."""
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats/words.py").write_text(FORMAT)
    monkeypatch.setattr(render, "__path__", [*render.__path__, str(tmp_path / "formats")])
    importlib.invalidate_caches()
    yield
    sys.modules.pop(f"{render.__name__}.words", None)
    vars(render).pop("words", None)


def test_a_format_is_written_without_being_registered(dropped_in, tmp_path):
    paths = render.write_reports(EMPTY, tmp_path / "out")
    assert sorted(paths) == ["html", "json", "md", "words", "xml"]
    assert paths["words"] == tmp_path / "out/parity.words"
    assert paths["words"].read_text() == "parity: 0 of 0 outputs out of tolerance"


def test_the_help_of_the_command_lists_the_formats(command, dropped_in):
    code, out, _ = command("parity", "--help")
    assert code == 0 and "parity{.html, .json, .md, .words, .xml}" in out


def test_only_modules_with_a_suffix_are_formats(command, tmp_path):
    assert sorted(render.write_reports(EMPTY, tmp_path)) == ["html", "json", "md", "xml"]
    code, out, _ = command("parity", "--help")
    assert code == 0 and "parity{.html, .json, .md, .xml}" in out
