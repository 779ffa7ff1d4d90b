"""The second executor in a parity check: what it gets, agreement as rows with gates, the twin of FP16 files."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgesam_export.errors import ConversionError
from edgesam_export.parity import witness
from edgesam_export.parity.report import ParityRow
from edgesam_export.parity.witness import WitnessRunner, agreement_rows, shown_to, twin_of, witness_runners
from edgesam_export.runners import ArtifactRunner, Runner
from edgesam_export.spec import Artifact, CoreAIConfig

RANDOM = np.random.default_rng(0)
MAPS = RANDOM.standard_normal((1, 32, 64, 64)).astype(np.float32)
LOGITS = RANDOM.standard_normal((1, 4, 256, 256)).astype(np.float32)
SCORES = np.float32([[0.9, 0.8, 0.7, 0.6]])
ROW = ParityRow(
    candidate="theirs",
    numerics="fp32",
    component="encoder",
    embeddings="",
    image="cat.jpg",
    prompt="",
    output="image_embeddings",
    shape=(),
)
ROWS = (
    ROW,
    replace(ROW, component="decoder", embeddings="reference", prompt="box", output="masks"),
    replace(ROW, component="decoder", embeddings="reference", prompt="box", output="scores"),
)


class Stub:
    """A runner of files that returns what it is told to, and counts its calls."""

    name = "theirs"

    def __init__(self, error: float = 0.0) -> None:
        self.error = error
        self.feeds: list[dict] = []
        self.released = False

    def run(self, component: str, feed: dict) -> dict:
        self.feeds.append(feed)
        if component == "encoder":
            return {"image_embeddings": MAPS + np.float32(self.error)}
        return {"masks": LOGITS + np.float32(self.error), "scores": SCORES + np.float32(self.error)}

    def release(self) -> None:
        self.released = True


def contract(component: str, precision: str = "fp32", score: str = "iou") -> dict:
    maps = [{"name": "image_embeddings", "shape": [1, 32, 64, 64], "dtype": precision}]
    sides = {"encoder": ([{"name": "image"}], maps), "decoder": (maps, [{"name": "masks"}, {"name": "scores"}])}
    frame = {"size": 64, "prompt_size": 1024, "mean": [0, 0, 0], "std": [1, 1, 1]}
    inputs, outputs = sides[component]
    shared = {
        "model": "m",
        "family": "f",
        "upsample": "bicubic",
        "frame": frame,
        "precision": precision,
        "score": score,
    }
    return {**shared, "component": component, "inputs": inputs, "outputs": outputs, "export": {"precision": precision}}


def artifacts(precision: str = "fp32", score: str = "iou") -> list[Artifact]:
    return [
        Artifact(
            path=Path(f"{part}.aimodel"),
            format="coreai",
            component=part,
            model="m",
            sha256=part,
            contract=contract(part, precision, score),
        )
        for part in ("encoder", "decoder")
    ]


@pytest.fixture
def both(monkeypatch):
    """``both(error, score)`` -> a witness whose own executor is off by that error, its two calls made."""

    def make(error: float = 0.0, score: str = "iou") -> WitnessRunner:
        stubs = {"fp32": Stub(error), "apple": Stub()}
        monkeypatch.setattr(witness, "open_files", lambda files, numerics: stubs[numerics])
        runner = WitnessRunner(artifacts(score=score), "apple")
        for component in ("encoder", "decoder"):
            runner.run(component, {"x": MAPS})
        return runner

    return make


def test_both_executors_get_the_same_feed_and_the_witness_answers(both):
    runner = both(error=0.5)
    assert runner.name == "theirs" and [call.component for call in runner.calls] == ["encoder", "decoder"]
    assert all(one is other for one, other in zip(runner.ours.feeds, runner.theirs.feeds, strict=True))
    assert np.array_equal(runner.run("encoder", {})["image_embeddings"], MAPS)
    runner.release()
    assert runner.ours.released and runner.theirs.released


def test_agreement_is_a_row_with_a_gate_of_its_own(both):
    rows = list(agreement_rows(both(), ROWS))
    assert [(row.candidate, row.component, row.output, row.image, row.prompt) for row in rows] == [
        ("both executors fp32", "encoder", "image_embeddings", "cat.jpg", ""),
        ("both executors fp32", "decoder", "masks", "cat.jpg", "box"),
        ("both executors fp32", "decoder", "scores", "cat.jpg", "box"),
    ]
    gates = [(check.gate.metric, check.gate.minimum, check.gate.maximum) for row in rows for check in row.checks]
    assert gates == [("psnr_db", 100.0, None), ("psnr_db", 100.0, None), ("max_abs_error", None, 1e-4)]
    assert all(row.passed for row in rows)


@pytest.mark.parametrize(("error", "passed"), [(2e-5, True), (2e-4, False), (np.nan, False)])
def test_an_executor_that_is_off_fails_at_a_hundred_decibels(both, error, passed):
    # the peaks of the arrays are 4 to 5, so 100 dB are an rms error of 4e-5 to 5e-5
    rows = list(agreement_rows(both(error), ROWS))
    assert {row.output: row.passed for row in rows} == {"image_embeddings": passed, "masks": passed, "scores": passed}


def test_stability_scores_are_not_compared(both):
    *_, scores = agreement_rows(both(1e-5, score="stability"), ROWS)
    assert scores.output == "scores" and scores.checks == ()


def test_other_runners_have_no_agreement_and_see_every_image(both):
    assert list(agreement_rows(SimpleNamespace(calls=[]), ROWS)) == []
    assert shown_to(SimpleNamespace(), [1, 2, 3]) == [1, 2, 3] and shown_to(both(), [1, 2, 3]) == [1]


class Candidate(ArtifactRunner):
    """A runner with a witness."""

    name, witness = "ours", "apple"

    def run(self, component, feed):
        raise AssertionError


def candidate(precision: str, numerics: str = "fp32") -> Runner:
    runner = Candidate(artifacts(precision))
    runner.numerics = numerics
    return runner


def test_a_witness_is_for_exact_arithmetic_alone(both, monkeypatch):
    both()
    model = SimpleNamespace(runner=SimpleNamespace(model=None))
    found = witness_runners([candidate("fp32"), candidate("fp32", "fp16")], model)
    assert [runner.artifacts[0].path.name for runner in found] == ["encoder.aimodel"]
    assert witness_runners([candidate("fp16")], model) == []  # no model, no twin


def test_files_in_half_precision_are_represented_by_a_twin(both, tmp_path, monkeypatch):
    both()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    exported = []

    def export(model, folder, config):
        exported.append((model, config))
        (folder / "encoder.aimodel").mkdir()
        return artifacts("fp32")

    monkeypatch.setattr(
        witness, "config_of", lambda file: CoreAIConfig(points=5, compress="palettize8", functions=(3,))
    )
    monkeypatch.setattr(witness, "find_format", lambda name: SimpleNamespace(export=export))
    original = SimpleNamespace(runner=SimpleNamespace(model="the model"))
    runner = twin_of(candidate("fp16"), original)
    assert exported == [("the model", CoreAIConfig(points=5, precision="fp32"))]
    assert len(list(tmp_path.iterdir())) == 1
    runner.release()
    assert not list(tmp_path.iterdir())

    def fail(model, folder, config):
        raise ConversionError("no")

    monkeypatch.setattr(witness, "find_format", lambda name: SimpleNamespace(export=fail))
    with pytest.raises(ConversionError):
        twin_of(candidate("fp16"), original)
    assert not list(tmp_path.iterdir())
