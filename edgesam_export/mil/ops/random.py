"""Ops that draw random numbers; a seed that is not negative makes the draw repeatable, but Core ML's numbers differ.

Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (random).
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import register_op
from edgesam_export.mil.ops.tensor_operation import require_size

__all__ = ["random_bernoulli", "random_categorical", "random_normal", "random_uniform"]


def generator(seed: int) -> torch.Generator | None:
    """Return a source of random numbers that starts at ``seed``, or torch's own if it is negative."""
    return torch.Generator().manual_seed(seed) if seed >= 0 else None


@register_op(exact=True)
def random_bernoulli(*, shape: list[int], prob: float = 0.5, seed: int = -1) -> Tensor:
    """1 with probability ``prob``, else 0. Source: iOS15."""
    return (torch.rand(require_size(shape), generator=generator(seed)) < prob).float()


@register_op()
def random_normal(*, shape: list[int], mean: float = 0.0, stddev: float = 1.0, seed: int = -1) -> Tensor:
    """Normal distribution. Source: iOS15."""
    return torch.randn(require_size(shape), generator=generator(seed)) * stddev + mean


@register_op()
def random_uniform(*, shape: list[int], low: float = 0.0, high: float = 1.0, seed: int = -1) -> Tensor:
    """Uniform distribution from ``low`` up to, without, ``high``. Source: iOS15."""
    return torch.rand(require_size(shape), generator=generator(seed)) * (high - low) + low


@register_op()
def random_categorical(x: Tensor, *, mode: str = "logits", size: int = 1, seed: int = -1) -> Tensor:
    """``size`` draws, with replacement, of a class from the distribution along the last axis. Source: iOS15."""
    if mode not in ("logits", "probs"):
        raise ProgramError(f"random_categorical mode is '{mode}'; logits and probs exist")
    require_size((*x.shape[:-1], size))
    weights = torch.softmax(x, -1) if mode == "logits" else x
    rows = weights.reshape(-1, x.shape[-1])
    drawn = torch.multinomial(rows, size, replacement=True, generator=generator(seed))
    return drawn.reshape(*x.shape[:-1], size).to(x.dtype)
