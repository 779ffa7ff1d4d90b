"""Recovery in the loop: what is trained, and what is reported before and after."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from test_shrink_result import RESULT, agreement

from edgesam_export.cli.shrink import recovery
from edgesam_export.distill import run
from edgesam_export.families import load_model
from edgesam_export.resources import shipped_file
from edgesam_export.shrink import shrinking
from edgesam_export.shrink.search import Goal
from edgesam_export.shrink.shrinking import Images, ShrinkConfig, Task
from edgesam_export.spec import Recipe

AFTER = agreement(0.992, 0.994)


class Recovered:
    """Stands for a simulation of the trained model."""

    def __init__(self, model, used):
        self.model, self.used = model, used

    def use(self, choice):
        self.used.append((self.model, choice))

    def agreement(self, cases, progress, text):
        return AFTER


def test_the_same_choice_on_trained_weights_is_compared_with_the_masks_of_before(monkeypatch, tmp_path):
    written, used = [], []
    monkeypatch.setattr(shrinking, "export_coreml", lambda *_, **__: [])
    monkeypatch.setattr(shrinking, "Simulation", lambda model, artifacts: Recovered(model, used))
    monkeypatch.setattr(shrinking, "write_packages", lambda model, choice, *_: written.append((model, choice)) or [])
    trained = load_model("edge_sam_tiny", random_weights=4)
    task = Task(
        model=load_model("edge_sam_tiny", random_weights=3),
        config=ShrinkConfig(goal=Goal(min_iou=0.99), verify=False),
        images=Images(name="some", search=[], held_out=[]),
        output=tmp_path,
        recover=None,
        state=None,
        progress=lambda *_: None,
        plain=[],
    )
    choice = {("encoder", "image_encoder.neck.2"): "palettize4"}
    before = shrinking.replace(RESULT, goal=task.config.goal)
    result = task.recovered(before, choice, [], lambda recipe: trained)
    assert not before.passed and result.passed  # 0.986 before, 0.993 after
    assert (result.found.name, result.found.held_out, result.compressed) == ("recovered", AFTER, RESULT.found.held_out)
    assert used == written == [(trained, choice)]
    assert result.recipe.components == {"encoder": {"image_encoder.neck.2": "palettize4"}}
    assert [point.name for point in result.points][-2:] == ["found", "recovered"]


def test_the_command_trains_on_the_recipe_and_goes_on_with_a_run_that_is_there(monkeypatch, tmp_path):
    calls = []

    def train(model, compress, folder, **options):
        calls.append((model, compress, folder, options))
        return SimpleNamespace(weights=shipped_file("models/edge_sam_tiny.safetensors"))

    monkeypatch.setattr(run, "recover_recipe", train)
    options = {"random_weights": None, "checkpoint": None, "recover_data": "scenes:7", "recover_steps": 3}
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
