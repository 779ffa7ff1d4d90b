"""The options of ``coreml`` where a model's decoder has a fixed number of prompt slots."""

from __future__ import annotations

import pytest

from edgesam_export.cli.app import cli
from edgesam_export.cli.coreml import coreml_config
from edgesam_export.spec import CoreMLConfig

NAME, SLOTS = "efficient_sam_vitt", 6


@pytest.mark.parametrize("points", [5, 8])
def test_a_chosen_number_of_slots_never_becomes_another_one(command, tmp_path, points):
    # A checkpoint that is not there: the number is refused before a model is loaded.
    words = ("coreml", NAME, "--points", points, "--checkpoint", tmp_path / "none.pth", "--output", tmp_path / "out")
    code, out, err = command(*words)
    assert (code, out) == (2, "") and not (tmp_path / "out").exists()
    assert err.strip() == (
        f"edgesam-export coreml: points is {points}, but {NAME} always has {SLOTS} prompt slots,"
        " whose unused ones take part; leave it out"
    )


@pytest.mark.parametrize(
    ("name", "words", "points"),
    [(NAME, [], 8), (NAME, ["--points", str(SLOTS)], SLOTS), ("edge_sam", ["--points", "8"], 8)],
)
def test_no_number_or_the_models_own_is_taken(name, words, points):
    """8 is the configuration's default, which stands for none chosen."""
    options = cli.commands["coreml"].make_context("coreml", [name, *words]).params
    assert coreml_config(name, options) == CoreMLConfig(points=points)


def test_help_names_the_default(command):
    code, out, _ = command("coreml", "--help")
    assert code == 0 and "default: 8, or the model's own number" in " ".join(out.split())
