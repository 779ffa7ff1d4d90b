"""Sensitivities of a linear network, whose errors are known exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from edgesam_export.imaging.feeds import PackedPrompt
from edgesam_export.shrink import sensitivity
from edgesam_export.shrink.prompts import Asked, Case
from edgesam_export.shrink.sensitivity import border_weights, calibrated, measure_kernels, squared_errors

SIDE = 8
LEFT, RIGHT = ("encoder", "left"), ("decoder", "right")


class Linear:
    """Stands for a simulation: logits are the image plus the sum of two weights times it, shifted."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.original = {key: torch.randn(SIDE, generator=generator) for key in (LEFT, RIGHT)}
        self.stored = {key: weight.round() for key, weight in self.original.items()}
        self.now: dict[tuple[str, str], Tensor] = dict(self.original)

    def values(self, key: tuple[str, str], scheme: str) -> Tensor:
        return self.stored[key]

    def put(self, key: tuple[str, str], value: Tensor, *, trained: bool = False) -> Tensor:
        self.now[key] = value.clone().requires_grad_(trained)
        return self.now[key]

    def use(self, choice: dict) -> None:
        self.now = dict(self.original)

    def embed(self, prepared: Tensor) -> tuple[Tensor, ...]:
        return (self.now[LEFT][:, None] * prepared, prepared)

    def decoded(self, maps: Sequence[Tensor], asked: Asked) -> tuple[Tensor, Tensor]:
        return maps[0] + self.now[RIGHT][None] * maps[1], torch.zeros(4)

    def gradients(self, output: Tensor, weights: dict) -> dict:
        found = torch.autograd.grad(output, list(weights.values()), retain_graph=True)
        return dict(zip(weights, found))


@pytest.fixture
def case() -> Case:
    image = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    logits = image.numpy().astype(np.float32)
    prompt = PackedPrompt(np.zeros((1, 1, 2)), np.zeros((1, 1)), None)
    asked = Asked(kind="box", packed=prompt, token=0, logits=logits, mask=logits > 0, truth=None)
    return Case(name="x", prepared=image, asked=(asked,))


def test_the_estimate_is_the_squared_error_of_the_logits_weighted_by_the_border(monkeypatch, case):
    monkeypatch.setattr(sensitivity, "PROJECTIONS", 4000)
    simulation = Linear()
    found = squared_errors(simulation, case, {LEFT: ["rounded"], RIGHT: ["rounded"]}, seed=0)
    weights = border_weights(torch.from_numpy(case.asked[0].logits))
    change = {key: simulation.stored[key] - simulation.original[key] for key in (LEFT, RIGHT)}
    left = ((weights * change[LEFT][:, None] * case.prepared) ** 2).sum()
    right = ((weights * change[RIGHT][None] * case.prepared) ** 2).sum()
    assert found[LEFT, "rounded"] == pytest.approx(float(left), rel=0.1)  # 4 standard errors of 4000 terms
    assert found[RIGHT, "rounded"] == pytest.approx(float(right), rel=0.1)


def test_weights_are_as_before_afterwards_and_the_estimate_is_the_same_again(case):
    simulation = Linear()
    first = squared_errors(simulation, case, {LEFT: ["rounded"]}, seed=5)
    assert all(torch.equal(simulation.now[key], simulation.original[key]) for key in (LEFT, RIGHT))
    assert squared_errors(simulation, case, {LEFT: ["rounded"]}, seed=5) == first


def test_border_weights_are_largest_on_the_border_and_a_share_of_the_area():
    logits = torch.full((16, 16), 8.0)
    logits[:, 8:] = -8.0
    logits[:, 8] = 0.0
    weights = border_weights(logits)
    assert weights[3, 8] == pytest.approx(0.25 / 128) and weights[3, 0] < weights[3, 8] / 500


def test_a_kernel_alone_is_measured_by_how_far_probabilities_move(case):
    simulation = Linear()
    losses = measure_kernels(simulation, [case], {LEFT: "rounded", RIGHT: "rounded"}, lambda *_: None)
    for key in (LEFT, RIGHT):
        before = simulation.decoded(simulation.embed(case.prepared), case.asked[0])[0]
        simulation.put(key, simulation.stored[key])
        after = simulation.decoded(simulation.embed(case.prepared), case.asked[0])[0]
        simulation.use({})
        share = [1 / (1 + np.exp(-logits.double().numpy())) for logits in (before, after)]
        # the masks have fewer pixels than the least that is divided by
        assert losses[key] == pytest.approx(float(np.abs(share[1] - share[0]).sum()) / 50, rel=1e-5)


def test_measurements_scale_every_estimate_of_their_kernel_within_limits():
    keys = [("decoder", name) for name in "abc"]
    errors = {(key, scheme): value for key in keys for scheme, value in (("coarse", 4e-4), ("fine", 1e-4))}
    probes = dict.fromkeys(keys, "coarse")
    measured = {keys[0]: 0.02, keys[1]: 0.04, keys[2]: 20.0}  # 1, 2 and 1000 times the root of the estimate
    found = calibrated(errors, probes, measured)
    assert found[keys[0], "coarse"] == pytest.approx(0.02**2)
    assert found[keys[1], "fine"] == pytest.approx(0.02**2)
    assert found[keys[2], "coarse"] == pytest.approx((2 * 4 * 0.02) ** 2)  # the median is 2, at most 4 times that


def test_a_kernel_that_was_not_measured_takes_the_median():
    errors = {(("encoder", "x"), "fine"): 1e-4, (("decoder", "y"), "fine"): 1e-4}
    found = calibrated(errors, {("decoder", "y"): "fine"}, {("decoder", "y"): 0.03})
    assert found[("encoder", "x"), "fine"] == pytest.approx(0.03**2)
