"""What half precision costs on one output: measured on samples of the reference, never on a candidate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

__all__ = ["Noise", "side_by_side", "spread"]

Sample = TypeVar("Sample")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """Root mean square errors of the samples for one prompt, in the unit of the output.

    Shapes: logits (4,), one for each mask token
    """

    logits: np.ndarray
    scores: float
    object_score: float = 0.0

    def of(self, tokens: Sequence[int]) -> Noise:
        """Return the noise of a decoder that returns these mask tokens only."""
        return replace(self, logits=self.logits[list(tokens)])


def spread(
    logits: np.ndarray,
    scores: np.ndarray,
    samples: Sequence[tuple[np.ndarray, np.ndarray]],
    extent: tuple[int, int],
) -> Noise:
    """Return the noise of samples of logits and scores about the exact ones, within ``extent`` (rows, columns).

    Shapes: logits (4, 256, 256), scores (4,); each sample has the same
    """
    rows, columns = extent
    errors = np.stack([sample - logits for sample, _ in samples])[..., :rows, :columns].astype(np.float64)
    moved = np.stack([sample - scores for _, sample in samples]).astype(np.float64)
    return Noise(logits=np.sqrt(np.mean(errors**2, axis=(0, 2, 3))), scores=math.sqrt(float(np.mean(moved**2))))


def side_by_side(compute: Callable[[Sample], Result], samples: Sequence[Sample]) -> list[Result]:
    """Return what ``compute`` makes of each sample, in threads that share out PyTorch's.

    Rounding is many short operations. Threads that share one wait for each other at its end, on a busy machine ten
    times as long as they compute; a thread with a sample of its own waits for nobody, and two take as long as one did.
    """
    threads = torch.get_num_threads()
    if len(samples) < 2 or threads < len(samples):
        return [compute(sample) for sample in samples]
    share = threads // len(samples)
    with ThreadPoolExecutor(len(samples), initializer=torch.set_num_threads, initargs=(share,)) as pool:
        try:
            return list(pool.map(compute, samples))
        finally:
            torch.set_num_threads(threads)
