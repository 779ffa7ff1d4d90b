"""Random ops: shape, range, moments, repeatability. Which numbers they give is nobody's promise."""

import pytest
import torch

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS


def op(name: str):
    return OPS.lookup(name, "iOS15")


def test_uniform_fills_the_interval() -> None:
    drawn = op("random_uniform")(shape=[100, 100], low=2.0, high=4.0, seed=3)
    assert drawn.shape == (100, 100)
    assert drawn.min() >= 2.0 and drawn.max() < 4.0
    assert drawn.mean() == pytest.approx(3.0, abs=0.05)


def test_normal_has_the_mean_and_deviation_asked_for() -> None:
    drawn = op("random_normal")(shape=[10000], mean=5.0, stddev=0.5, seed=3)
    assert drawn.mean() == pytest.approx(5.0, abs=0.05)
    assert drawn.std() == pytest.approx(0.5, abs=0.05)


def test_bernoulli_gives_ones_with_the_probability_asked_for() -> None:
    drawn = op("random_bernoulli")(shape=[10000], prob=0.25, seed=3)
    assert set(drawn.tolist()) == {0.0, 1.0}
    assert drawn.mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(("mode", "row"), [("probs", [0.0, 0.25, 0.75]), ("logits", [-100.0, 0.0, 1.0986123])])
def test_categorical_draws_classes_by_their_probability(mode: str, row: list[float]) -> None:
    drawn = op("random_categorical")(torch.tensor([row, row]), mode=mode, size=10000, seed=3)
    assert drawn.shape == (2, 10000) and drawn.dtype == torch.float32
    assert drawn.min() == 1.0  # the first class has probability 0
    assert drawn.mean() == pytest.approx(1.75, abs=0.03)


def test_categorical_refuses_an_unknown_mode() -> None:
    with pytest.raises(ProgramError, match="'counts'"):
        op("random_categorical")(torch.ones(2), mode="counts")


@pytest.mark.parametrize("name", ["random_uniform", "random_normal", "random_bernoulli"])
def test_seed_repeats_and_no_seed_does_not(name: str) -> None:
    assert torch.equal(op(name)(shape=[64], seed=5), op(name)(shape=[64], seed=5))
    assert not torch.equal(op(name)(shape=[64]), op(name)(shape=[64]))


def test_hostile_shape_is_refused() -> None:
    with pytest.raises(ProgramError, match="the limit is"):
        op("random_uniform")(shape=[2**30, 2**30])
