"""Time budget, running mean of the parameters, and a run whose scenes come from the pool."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgesam_export.distill import trainer as trainer_module
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.loop import PromptStep
from edgesam_export.distill.processes import Processes
from edgesam_export.distill.start import start_run
from edgesam_export.distill.trainer import AVERAGE_EVERY, Trainer, learning_rate
from edgesam_export.distill.training import distill
from edgesam_export.errors import UsageError

NAME = "edge_sam_tiny"
CONFIG = DistillConfig(
    student=NAME,
    data="scenes:5",
    schedule=(Phase(size=64, batch=2, steps=3, rounds=0), Phase(size=96, batch=2, steps=4)),
    objects=2,
    rounds=1,
    refinements=1,
    mask_share=0.5,
    pool=16,
    warmup=2,
    checkpoint_every=100,
    calibrate=1,
    workers=0,
)
HERE = Processes(rank=0, world=1, device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def one_thread():
    """Sums have one order, and small work is not spread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer_of(config: DistillConfig) -> Trainer:
    student, _ = start_run(config)
    student.train().requires_grad_(True)
    return Trainer(config, student, PromptStep(student, None, config), HERE, target=lambda *_: None)


class Clock:
    """Time that passes when a step is done."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def monotonic(self) -> float:
        return self.now

    def step(self, *_) -> dict[str, float]:
        self.now += self.seconds
        return {"loss": 1.0}


def test_a_time_budget_ends_the_run_and_moves_its_phases(monkeypatch):
    """Pixels of the phases: 2 * 64 ** 2 * 3 and 2 * 96 ** 2 * 4, a quarter and three quarters of the time."""
    trainer = trainer_of(replace(CONFIG, seconds=8.0))
    clock = Clock(0.5)
    phases = []
    monkeypatch.setattr(trainer_module, "time", clock)
    monkeypatch.setattr(trainer, "one", clock.step)
    until_finished = iter(lambda: trainer.finished, True)
    reported = []
    trainer.steps(
        (phases.append(trainer.phase().size) for _ in until_finished),
        lambda: None,
        lambda *progress: reported.append(progress),
    )
    assert trainer.done == 16 and trainer.seconds == pytest.approx(8.0)
    assert phases == [64] * 4 + [96] * 12
    assert reported[-1][:2] == (8, 8) and trainer.history[-1]["seconds"] == pytest.approx(8.0)


def test_the_learning_rate_follows_the_clock():
    config = replace(CONFIG, warmup=10, learning_rate=2.0)
    assert learning_rate(config, 4, 0.0) == pytest.approx(1.0)  # half way up
    assert learning_rate(config, 50, 0.5) == pytest.approx(1.0)  # half way down
    assert learning_rate(config, 50, 1.0) == pytest.approx(0.0)
    assert learning_rate(config, 4, 0.5) == pytest.approx(0.5)  # both


def test_several_processes_have_no_common_clock(tmp_path, monkeypatch):
    two = Processes(rank=0, world=2, device=torch.device("cpu"))
    monkeypatch.setattr(Processes, "find", staticmethod(lambda device: two))
    config = replace(CONFIG, seconds=5.0)
    with pytest.raises(UsageError, match="a time budget is of one process"):
        distill(config, start_run(config)[0], tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(UsageError, match="no embedding can be kept"):
        distill(CONFIG, start_run(CONFIG)[0], tmp_path / "run", cache=tmp_path)


def test_the_mean_follows_the_parameters():
    trainer = trainer_of(replace(CONFIG, average=0.9))
    name = "mask_decoder.iou_token.weight"
    values = dict(trainer.student.named_parameters())
    mean = dict(trainer.average.named_parameters())[name]
    start = mean.clone()
    with torch.no_grad():
        values[name] += 1.0
    for number in range(AVERAGE_EVERY - 1):
        trainer.update_average(number)
    assert torch.equal(mean, start)
    trainer.update_average(AVERAGE_EVERY - 1)  # the first update keeps 1 / 11
    assert torch.allclose(mean, start + 10 / 11)
    for number in range(AVERAGE_EVERY, 100 * AVERAGE_EVERY):
        trainer.update_average(number)
    with torch.no_grad():
        values[name] += 1.0
    trainer.update_average(101 * AVERAGE_EVERY - 1)
    assert torch.allclose(mean, start + 2 - 0.9**AVERAGE_EVERY, atol=1e-4)


def test_a_run_writes_the_mean_and_measures_its_norms_again(tmp_path):
    folder = tmp_path / "run"
    config = replace(CONFIG, average=0.9, schedule=(Phase(size=64, batch=2, steps=2 * AVERAGE_EVERY, rounds=0),))
    student, _ = start_run(config)
    result = distill(config, student, folder)
    written, latest = load_file(result.weights), load_file(folder / "latest.safetensors")
    state = torch.load(folder / "checkpoints" / f"step_{2 * AVERAGE_EVERY:08d}.pt", weights_only=True)
    name = "mask_decoder.mask_tokens.weight"
    assert torch.equal(written[name], state["average"][name]) and torch.equal(latest[name], written[name])
    assert not torch.equal(written[name], state["student"][name])
    statistics = "image_encoder.features.0.0.bn.running_mean"
    assert not torch.equal(written[statistics], state["average"][statistics])
    assert torch.equal(student.state_dict()[name], written[name])


def test_a_run_from_the_pool_can_be_repeated_and_goes_on_with_new_scenes(tmp_path):
    def run(name: str, config: DistillConfig, **options) -> dict[str, torch.Tensor]:
        return load_file(distill(config, start_run(config)[0], tmp_path / name, **options).weights)

    config = replace(CONFIG, schedule=(Phase(size=64, batch=4, steps=3),))
    first, again = run("first", config), run("again", config)
    assert all(torch.equal(first[name], again[name]) for name in first)
    history = json.loads((tmp_path / "first" / "history.json").read_text())["steps"]
    assert history[-1]["scenes"] == 4 and np.isfinite(history[-1]["loss"]) and "seconds" in history[-1]
    trainer = trainer_of(CONFIG)
    trainer.scenes = 7
    pool = trainer.make_pool()
    assert pool.next == 7 and pool.labels.shape == (16, 96, 96)
    pool.close()


def test_a_loss_that_is_not_finite_names_its_step():
    trainer = trainer_of(CONFIG)
    trainer.done, trainer.lines = 14, [{"loss": torch.tensor(1.0)}, {"loss": torch.tensor(float("nan"))}]
    with pytest.raises(UsageError, match="step 13: the loss is nan"):
        trainer.read_lines()
