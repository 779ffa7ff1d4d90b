"""The one mechanism of warnings: Python warnings in the library, lines on stderr and a JSON key on the command line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable

import pytest

import edgesam_export.catalogue
from edgesam_export.checkpoints.reading import ChecksumWarning
from edgesam_export.errors import EdgeSAMExportWarning, UsageError, collected_warnings, current_warnings, warn


def test_library_issues_a_python_warning_of_one_line():
    with pytest.warns(EdgeSAMExportWarning, match="^first second$"):
        warn("first\n  second")


def test_collectors_take_each_text_once_and_the_outer_ones_too():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with collected_warnings() as outer:
            warn("before")
            with collected_warnings() as inner:
                warn("one")
                warn("one")
            assert current_warnings() == ["before", "one"]
    assert (outer, inner) == (["before", "one"], ["one"])
    assert current_warnings() == []


def test_collector_is_not_silent_unless_asked_to():
    with collected_warnings(), pytest.warns(EdgeSAMExportWarning, match="seen"):
        warn("seen")
    with collected_warnings(silent=True) as found:
        warn("unseen")  # an error otherwise, as in every test
    assert found == ["unseen"]


def test_command_prints_each_warning_once_and_lists_it_in_json(command: Callable, monkeypatch: pytest.MonkeyPatch):
    entries = edgesam_export.catalogue.catalogue

    def noisy() -> list:
        warn("image.tif: is dark")
        warn("image.tif: is dark")
        return entries()

    monkeypatch.setattr(edgesam_export.catalogue, "catalogue", noisy)
    code, out, err = command("models", "--json")
    assert code == 0
    assert json.loads(out)["warnings"] == ["image.tif: is dark"]
    assert err == "warning: image.tif: is dark\n"


def test_many_warnings_are_counted_on_the_terminal_and_all_in_json(command: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        edgesam_export.catalogue, "catalogue", lambda: [warn(f"{n}.png: is dark") for n in range(50)][:0]
    )
    code, out, err = command("models", "--json", "--quiet")
    assert code == 0 and len(json.loads(out)["warnings"]) == 50
    assert len(err.splitlines()) == 21 and err.splitlines()[-1] == "warning: 30 more; --json lists all 50"


def test_warnings_stand_before_the_error(command: Callable, monkeypatch: pytest.MonkeyPatch):
    def failing() -> list:
        warn("image.tif: is dark")
        raise UsageError("nothing there")

    monkeypatch.setattr(edgesam_export.catalogue, "catalogue", failing)
    code, _, err = command("models")
    assert code == 2
    assert err.splitlines() == ["warning: image.tif: is dark", "edgesam-export models: nothing there"]


def test_checksum_of_a_released_name_is_such_a_warning():
    assert issubclass(ChecksumWarning, EdgeSAMExportWarning)
