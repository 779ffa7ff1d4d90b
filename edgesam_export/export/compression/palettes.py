"""Palettes: which few FP16 values stand for those of a tensor, by k-means from a deterministic start.

Sources: Lloyd 1982, "Least squares quantization in PCM"; Ward 1963, "Hierarchical grouping to optimize an objective
function"; Panter, Dite 1951, "Quantization distortion in pulse-count modulation with nonuniform spacing of levels", for
the density of levels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["find_palette", "nearest_entries", "through_fp16"]

LLOYD_ROUNDS = 500
SMALL_CELLS = 1024
"""Cells that merging starts from; it takes a step for each."""


def through_fp16(tensor: Tensor) -> Tensor:
    """Return the nearest FP16 values as float32, without gradient."""
    return tensor.detach().half().float()


def find_palette(weight: Tensor, bits: int) -> Tensor:
    """Return ``2 ** bits`` FP16 values, ascending, float32, that stand for the FP16 values of ``weight``.

    A tensor with no more values than that keeps them all, so weights that were compressed once stay what they are.
    Otherwise k-means, started from neighbours merged where that costs least: deterministic, and close to the best.
    """
    values, counts = torch.unique(through_fp16(weight).cpu().double(), return_counts=True)
    size = 2**bits
    if len(values) <= size:
        return torch.cat([values, values[-1:].expand(size - len(values))]).float().to(weight.device)
    zero = values.new_zeros(1)
    mass = torch.cat([zero, counts.double().cumsum(0)])
    total = torch.cat([zero, (counts * values).cumsum(0)])
    centres = merged_centres(values, mass, total, size)
    for _ in range(LLOYD_ROUNDS):
        edges = cell_edges(values, centres)
        weights = mass[edges].diff()
        moved = torch.where(weights > 0, total[edges].diff() / weights, centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return through_fp16(centres).to(weight.device)


def merged_centres(values: Tensor, mass: Tensor, total: Tensor, size: int) -> Tensor:
    """Return ``size`` ascending centres: small cells, of which the cheapest two neighbours are merged again and again.

    ``mass`` and ``total`` are running sums of how often the ascending ``values`` occur, and of that times the value.
    """
    centres = values if len(values) <= SMALL_CELLS else dense_centres(values, mass, SMALL_CELLS)
    edges = torch.unique(cell_edges(values, centres))
    weights, sums = mass[edges].diff().numpy(), total[edges].diff().numpy()
    while len(weights) > size:
        steps = np.diff(sums / weights)
        cost = weights[1:] * weights[:-1] / (weights[1:] + weights[:-1]) * steps**2  # growth of the sum of squares
        left = int(cost.argmin())
        weights[left] += weights[left + 1]
        sums[left] += sums[left + 1]
        weights, sums = np.delete(weights, left + 1), np.delete(sums, left + 1)
    merged = torch.from_numpy(sums / weights)
    return torch.cat([merged, merged[-1:].expand(size - len(merged))])


def dense_centres(values: Tensor, mass: Tensor, size: int) -> Tensor:
    """Return ``size`` ascending centres whose density is proportional to the cube root of that of the values."""
    bins = 8 * size
    edges = torch.linspace(float(values[0]), float(values[-1]), bins + 1, dtype=torch.float64)
    below = mass[torch.searchsorted(values, edges[1:], right=True)]
    density = torch.cat([below[:1], below.diff()]) ** (1 / 3)
    share = density.cumsum(0) / density.sum()
    middles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    cell = torch.searchsorted(share, middles)
    before = torch.cat([share.new_zeros(1), share])[cell]
    return torch.lerp(edges[cell], edges[cell + 1], (middles - before) / (share[cell] - before))


def cell_edges(values: Tensor, centres: Tensor) -> Tensor:
    """Return where the values that are nearest to each ascending centre begin, and the number of values."""
    inner = torch.searchsorted(values, centres_between(centres), right=True)
    return torch.cat([inner.new_zeros(1), inner, inner.new_full((1,), len(values))])


def centres_between(centres: Tensor) -> Tensor:
    """Return the middles between neighbours."""
    return (centres[1:] + centres[:-1]) / 2


def nearest_entries(weight: Tensor, palette: Tensor) -> Tensor:
    """Return the index of the nearest entry of an ascending ``palette`` for every value; of two, the lower one."""
    # float64 holds the middle of two FP16 values exactly
    return torch.bucketize(weight.double().contiguous(), centres_between(palette.double()))
