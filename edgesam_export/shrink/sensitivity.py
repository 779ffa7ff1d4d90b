"""What each kernel costs with each scheme: the exact change of its weights, carried to the masks by gradients.

The output's error is about J dw, with the exact difference dw between a weight and what a package stores for it. With
random signs v over the pixels, (v . J dw)^2 has the squared error as its mean (Hutchinson), so one pass backward serves
every kernel and every scheme. Pixels count by how near they are to the mask's border, and scores a little.

Linear estimates are off by a factor that is the kernel's own. So each kernel is also measured once: it alone is stored
with a probe scheme, and how far the masks' probabilities move scales its estimates.
Sources: Hutchinson 1990, "A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines",
Communications in Statistics 19 (2); Dong et al. 2020 (HAWQ-V2), https://arxiv.org/abs/1911.03852, for the use of exact
weight changes in place of bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from edgesam_export.shrink.allocation import Key
from edgesam_export.shrink.prompts import Asked, Case
from edgesam_export.shrink.simulation import Simulation
from edgesam_export.spec import Progress

__all__ = ["Pairs", "calibrated", "measure_kernels", "squared_errors"]

Pairs = Mapping[Key, Sequence[str]]
"""Kernel -> schemes that it may be stored with."""
PROJECTIONS = 4
"""Random signs on each image: with ten images, an error of 16 % of each estimate's square root of 40 terms."""
SCORE_WEIGHT, CHOOSING_WEIGHT = 0.1, 1.0
"""What a score that is off by 1 costs, in masks' IoU; the latter for one point, where scores choose the mask.

A choice turns out otherwise where two candidates' scores are that near, and then costs a third of the mask, about.
"""
LEAST_AREA = 50
"""Pixels (of 256 x 256) that a mask has at least, for its share of changed ones."""
TRUSTED = 4.0
"""Largest factor between a kernel's estimate and its measurement, against the median of all, that is believed."""


def squared_errors(simulation: Simulation, case: Case, pairs: Pairs, seed: int) -> dict[tuple[Key, str], float]:
    """Return the mean squared error on one image for every kernel and scheme, in units of the masks' areas."""
    weights = {key: simulation.put(key, simulation.original[key], trained=True) for key in pairs}
    generator = torch.Generator().manual_seed(seed)
    totals = {(key, scheme): 0.0 for key, schemes in pairs.items() for scheme in schemes}
    maps = simulation.embed(case.prepared)
    answers = [simulation.decoded(maps, asked) for asked in case.asked]
    borders = [border_weights(torch.from_numpy(asked.logits)) for asked in case.asked]
    for _ in range(PROJECTIONS):
        output = torch.zeros(())
        for (logits, scores), border, asked in zip(answers, borders, case.asked):
            output = output + (signs(logits, generator) * border * logits).sum()
            output = output + score_weight(asked) * (signs(scores, generator) * scores).sum()
        gradients = simulation.gradients(output, weights)
        for key, gradient in gradients.items():
            for scheme in pairs[key]:
                change = simulation.values(key, scheme) - simulation.original[key]
                totals[key, scheme] += float((gradient * change).sum()) ** 2
    simulation.use({})
    return {pair: total / PROJECTIONS / len(answers) for pair, total in totals.items()}


def signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return random signs, float32, of a tensor's shape."""
    return torch.randint(0, 2, like.shape, generator=generator).float() * 2 - 1


def score_weight(asked: Asked) -> float:
    """Return what a prompt's scores count."""
    return CHOOSING_WEIGHT if asked.one_point else SCORE_WEIGHT


def border_weights(logits: Tensor) -> Tensor:
    """Return how much a change of each logit (256, 256) changes the mask, as a share of its area."""
    share = torch.sigmoid(logits)
    return share * (1 - share) / max(int((logits > 0).sum()), LEAST_AREA)


def measure_kernels(
    simulation: Simulation, cases: Sequence[Case], probes: Mapping[Key, str], progress: Progress
) -> dict[Key, float]:
    """Return how far masks move, as a share of their areas, and scores, with each kernel alone in its probe scheme.

    Moves are of probabilities, of low-resolution logits: counted pixels would be too coarse for what one kernel does.
    Embeddings are computed once for all kernels of the decoder.
    """
    with torch.inference_mode():
        maps = [simulation.embed(case.prepared) for case in cases]
        base = [answers_on(simulation, case, found) for case, found in zip(cases, maps)]
        losses = {}
        for number, (key, scheme) in enumerate(probes.items()):
            progress(number, len(probes), f"measuring kernels: {key[1]}")
            simulation.put(key, simulation.values(key, scheme))
            found = []
            for case, known, answers in zip(cases, maps, base):
                own = simulation.embed(case.prepared) if key[0] == "encoder" else known
                pairs = zip(answers_on(simulation, case, own), answers, case.asked)
                found += [moved(answer, other, score_weight(asked)) for answer, other, asked in pairs]
            losses[key] = float(np.mean(found))
            simulation.put(key, simulation.original[key])
    return losses


Answer = tuple[Tensor, Tensor]
"""Probabilities (256, 256) of the shown mask, and all scores (M,)."""


def answers_on(simulation: Simulation, case: Case, maps: Sequence[Tensor]) -> list[Answer]:
    """Return the answer to each of an image's prompts."""
    decoded = (simulation.decoded(maps, asked) for asked in case.asked)
    return [(torch.sigmoid(logits), scores) for logits, scores in decoded]


def moved(answer: Answer, other: Answer, weight: float) -> float:
    """Return how far a mask is from another, as a share of the other's area, and its scores times their weight."""
    area = max(int((other[0] > 0.5).sum()), LEAST_AREA)
    return float((answer[0] - other[0]).abs().sum()) / area + weight * float((answer[1] - other[1]).abs().mean())


def calibrated(
    errors: Mapping[tuple[Key, str], float], probes: Mapping[Key, str], measured: Mapping[Key, float]
) -> dict[tuple[Key, str], float]:
    """Return squared losses: estimates times the square of what a kernel's measurement says they are off by."""
    ratios = {
        key: measured[key] / np.sqrt(errors[key, scheme])
        for key, scheme in probes.items()
        if key in measured and errors[key, scheme] > 0
    }
    middle = float(np.median([ratio for ratio in ratios.values() if ratio > 0] or [1.0]))
    factors = {key: np.clip(ratio, middle / TRUSTED, middle * TRUSTED) for key, ratio in ratios.items()}
    return {(key, scheme): value * float(factors.get(key, middle)) ** 2 for (key, scheme), value in errors.items()}
