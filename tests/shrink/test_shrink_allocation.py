"""The walk over allocations, against every combination of a small problem."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest

from edgesam_export.shrink.allocation import Option, convex_hull, walk


def options_of(points: list[tuple[int, float]]) -> list[Option]:
    """Return options called by their bytes."""
    return [Option(scheme=str(size), bytes=size, loss=loss) for size, loss in points]


def total(chosen: Sequence[Option]) -> tuple[int, float]:
    """Return bytes and loss of some options together."""
    return sum(one.bytes for one in chosen), sum(one.loss for one in chosen)


def test_the_hull_leaves_out_what_is_beaten_or_lies_above_it():
    points = [(10, 8.0), (20, 7.9), (30, 1.0), (30, 2.0), (40, 1.5), (50, 0.0)]
    assert [(one.bytes, one.loss) for one in convex_hull(options_of(points))] == [(10, 8.0), (30, 1.0), (50, 0.0)]


def test_one_option_is_a_hull():
    assert [one.scheme for one in convex_hull(options_of([(7, 0.0)]))] == ["7"]


@pytest.mark.parametrize("seed", range(4))
def test_no_allocation_of_at_most_the_bytes_has_a_smaller_loss(seed):
    rng = np.random.default_rng(seed)
    kernels = {
        ("encoder", str(index)): options_of(
            [(int(size), float(loss)) for size, loss in zip(rng.integers(1, 100, 4), rng.random(4))]
        )
        for index in range(4)
    }
    known = {(key, one.scheme): one for key, choices in kernels.items() for one in choices}
    every = [total(chosen) for chosen in product(*kernels.values())]
    totals = [total([known[pair] for pair in choice.items()]) for choice in walk(kernels)]
    for size, loss in totals:
        assert not [other for other in every if other[0] <= size and other[1] < loss - 1e-9]
    assert min(size for size, _ in every) == totals[0][0]
    assert min(loss for _, loss in every) == pytest.approx(totals[-1][1])
    assert all(left[0] < right[0] and left[1] > right[1] for left, right in pairwise(totals))
