"""One mechanism for the files of every kind of report: a module with a suffix and a function is a format."""

from __future__ import annotations

import sys

import pytest

from edgesam_export.errors import UsageError
from edgesam_export.rendering import escape_markdown, markdown_table, renderers, text_table, write_reports


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of formats: plain text, bytes, and a module that the two share."""
    folder = tmp_path / "toy_render"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "words.py").write_text("def shout(text): return text.upper()\n")
    (folder / "text.py").write_text(
        "from toy_render.words import shout\nSUFFIX = '.txt'\ndef render(report): return shout(report['text'])\n"
    )
    (folder / "raw.py").write_text("SUFFIX = '.bin'\ndef render(report): return bytes(report['raw'])\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "toy_render"
    for name in [name for name in sys.modules if name.split(".")[0] == "toy_render"]:
        del sys.modules[name]


def test_a_format_is_a_module_that_has_a_suffix(package):
    assert sorted(renderers(package)) == [".bin", ".txt"]


def test_a_report_is_written_in_every_format(package, tmp_path):
    paths = write_reports(package, {"text": "ok \udcff", "raw": [1, 2]}, tmp_path / "out", "toy")
    assert paths == {".bin": tmp_path / "out/toy.bin", ".txt": tmp_path / "out/toy.txt"}
    assert paths[".bin"].read_bytes() == b"\x01\x02"
    assert paths[".txt"].read_text() == "OK ?"


def test_a_format_that_fails_leaves_the_earlier_files_alone(package, tmp_path):
    write_reports(package, {"text": "old", "raw": [1]}, tmp_path, "toy")
    with pytest.raises(ValueError):
        write_reports(package, {"text": "new", "raw": [256]}, tmp_path, "toy")
    assert (tmp_path / "toy.txt").read_text() == "OLD"
    assert not list(tmp_path.glob(".edgesam-export-*"))


def test_a_folder_that_is_a_file_is_named(package, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match=r"cannot write to output folder '.*out': "):
        write_reports(package, {"text": "", "raw": []}, tmp_path / "out", "toy")


def test_markdown_cells_show_what_they_hold():
    assert escape_markdown("a|b `c`\n<d> [e](f) _g_") == r"a\|b \`c\` &lt;d&gt; \[e\](f) \_g\_"


def test_tables_align_numbers_to_the_right():
    rows = [("conv", "12.5"), ("add|mul", "3")]
    assert text_table(("op", "ms"), rows, right={1}) == "op         ms\nconv     12.5\nadd|mul     3"
    assert markdown_table(("op", "ms"), rows, right={1}) == (
        "| op | ms |\n| --- | ---: |\n| conv | 12.5 |\n| add\\|mul | 3 |"
    )
