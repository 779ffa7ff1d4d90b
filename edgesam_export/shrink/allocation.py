"""Which scheme each kernel gets: bytes against loss, by Lagrange multiplier.

Losses of kernels add up, about, as squares: they are independent noise on the logits, and what a mask loses is how far
its border moves. So a kernel's options are points (bytes, squared loss), of which the convex hull counts, and walking
down all hulls by slope gives every best allocation, each one step larger than the one before.
Source: Shoham, Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Transactions on
Acoustics, Speech, and Signal Processing 36 (9); for networks Dong et al. 2020 (HAWQ-V2), https://arxiv.org/abs/1911.03852.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Choice", "Key", "Option", "convex_hull", "walk"]

Key = tuple[str, str]
"""Component and path of a kernel."""
Choice = Mapping[Key, str]
"""Kernel -> scheme, or ``fp16``."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to store a kernel."""

    scheme: str
    bytes: int
    loss: float
    """What it costs alone, squared."""


def convex_hull(options: Sequence[Option]) -> list[Option]:
    """Return the options on the lower convex hull of loss over bytes, smallest first; there is at least one."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda one: (one.bytes, one.loss, one.scheme)):
        if hull and option.loss >= hull[-1].loss:
            continue
        while len(hull) > 1 and slope(hull[-2], hull[-1]) <= slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def slope(smaller: Option, larger: Option) -> float:
    """Return the loss that each further byte saves."""
    return (smaller.loss - larger.loss) / (larger.bytes - smaller.bytes)


def walk(options: Mapping[Key, Sequence[Option]]) -> list[dict[Key, str]]:
    """Return the best allocations, from the smallest to that of the least loss; each changes one kernel of the last."""
    hulls = {key: convex_hull(choices) for key, choices in options.items()}
    choice = {key: hull[0].scheme for key, hull in hulls.items()}
    steps = [
        (-slope(smaller, larger), key, larger.scheme)
        for key, hull in hulls.items()
        for smaller, larger in pairwise(hull)
    ]
    found = [choice]
    for _, key, scheme in sorted(steps):  # slopes of one hull fall, so its steps keep their order
        choice = {**choice, key: scheme}
        found.append(choice)
    return found
