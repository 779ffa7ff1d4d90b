"""Recovery in the loop: what is trained, and what is reported before and after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_shrink_result import RESULT, agreement

from edgesam_export.cli.shrink import export_words, recovery
from edgesam_export.distill import run
from edgesam_export.families import load_model
from edgesam_export.resources import shipped_file
from edgesam_export.shrink import shrinking
from edgesam_export.shrink.render.text import summary
from edgesam_export.shrink.search import Goal
from edgesam_export.shrink.shrinking import Images, ShrinkConfig, Task
from edgesam_export.spec import Recipe

AFTER = agreement(0.992, 0.994)
CHOICE = {("encoder", "image_encoder.neck.2"): "palettize4"}


class Recovered:
    """Stands for a simulation of the trained model."""

    def __init__(self, model, used, found):
        self.model, self.used, self.found = model, used, found

    def use(self, choice):
        self.used.append((self.model, choice))

    def agreement(self, cases, progress, text):
        return self.found


@pytest.fixture
def recovered(monkeypatch, tmp_path):
    """Return a function that recovers ``RESULT``, and what is then simulated and written, and where."""

    def run_task(found, **goal):
        written, used = [], []
        monkeypatch.setattr(shrinking, "export_coreml", lambda *_, **__: [])
        monkeypatch.setattr(shrinking, "Simulation", lambda model, artifacts: Recovered(model, used, found))
        monkeypatch.setattr(shrinking, "write_packages", lambda *words: written.append(words[:3]) or [])
        monkeypatch.setattr(shrinking, "bytes_of", lambda artifacts: 1_500_100)
        trained = load_model("edge_sam_tiny", random_weights=4)
        task = Task(
            model=load_model("edge_sam_tiny", random_weights=3),
            config=ShrinkConfig(goal=Goal(**goal), verify=False),
            images=Images(name="some", search=[], held_out=[]),
            output=tmp_path,
            recover=None,
            state=None,
            progress=lambda *_: None,
            plain=[],
        )
        before = replace(RESULT, goal=task.config.goal)
        result = task.recovered(before, CHOICE, [], [], lambda recipe: trained)
        assert used == [(trained, CHOICE)]
        kept = [words for words in written if words[2] == tmp_path]
        assert all(words[:2] == (trained, CHOICE) for words in written)
        return result, kept

    return run_task


def test_the_same_choice_on_trained_weights_is_compared_with_the_masks_of_before(recovered):
    result, kept = recovered(AFTER, min_iou=0.99)
    assert not replace(RESULT, goal=Goal(min_iou=0.99)).passed and result.passed  # 0.986 before, 0.993 after
    assert (result.found.name, result.found.held_out, result.compressed) == ("recovered", AFTER, RESULT.found.held_out)
    assert result.found.bytes == 1_500_100 and len(kept) == 1
    assert result.recipe.components == {"encoder": {"image_encoder.neck.2": "palettize4"}}
    assert [point.name for point in result.points][-2:] == ["found", "recovered"] and result.discarded is None


def test_training_that_does_not_help_leaves_the_packages_of_before(recovered):
    worse = agreement(0.97, 0.99)  # 0.985 where it was searched, before
    result, kept = recovered(worse, max_bytes=1_600_000)
    assert (result.found, result.recipe, result.compressed, kept) == (RESULT.found, RESULT.recipe, None, [])
    assert result.discarded.held_out == worse and result.points[-1] is result.discarded
    line = "recovery is not kept, since it keeps no more masks: 0.9800 ± 0.0100 on held-out images"
    assert line in list(summary(result))


def test_trained_packages_above_the_size_asked_for_are_not_kept(recovered):
    result, kept = recovered(AFTER, max_bytes=1_500_000)
    assert result.found == RESULT.found and kept == []
    assert any("since its packages are too large: 0.9930" in line for line in summary(result))


def test_the_command_trains_on_the_recipe_and_goes_on_with_a_run_that_is_there(monkeypatch, tmp_path):
    calls = []

    def train(model, compress, folder, **options):
        calls.append((model, compress, folder, options))
        return SimpleNamespace(weights=shipped_file("models/edge_sam_tiny.safetensors"))

    monkeypatch.setattr(run, "recover_recipe", train)
    options = {"random_weights": None, "checkpoint": None, "upsample": None}
    options |= {"recover_data": "scenes:7", "recover_steps": 3}
    recipe = Recipe(name="shrink")
    recover = recovery("edge_sam_tiny", tmp_path, options, lambda *_: None)
    assert recover(recipe).info.name == "edge_sam_tiny"
    (tmp_path / "recovery").mkdir()
    (tmp_path / "recovery" / "config.json").write_text("{}")
    recover(recipe)
    model, compress, folder, first = calls[0]
    assert (model, compress, folder, first["data"]) == ("edge_sam_tiny", recipe, tmp_path / "recovery", "scenes:7")
    assert (first["schedule"][0].size, first["schedule"][0].steps) == (512, 3)
    assert [call[3]["resume"] for call in calls] == [False, True]


def test_stand_in_weights_are_not_recovered(tmp_path):
    with pytest.raises(Exception, match="--random-weights mean nothing"):
        recovery("edge_sam_tiny", tmp_path, {"random_weights": 0}, lambda *_: None)


def test_the_packages_are_exported_again_with_the_options_and_the_weights_that_they_have():
    options = {"target": "iOS18", "points": None, "checkpoint": None, "random_weights": None, "upsample": None}
    assert list(export_words({**options, "mask_input": False}, None)) == ["--target", "iOS18", "--no-verify"]
    own = {**options, "points": 4, "checkpoint": Path("mine.pt"), "upsample": "bilinear", "mask_input": True}
    words = "--target iOS18 --points 4 --checkpoint mine.pt --upsample bilinear --mask-input --no-verify"
    assert " ".join(export_words(own, None)) == words
    assert " ".join(export_words(own, Path("trained"))) == words.replace("mine.pt", "trained")
