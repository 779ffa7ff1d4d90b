"""Palettes: which few FP16 values stand for those of a tensor, by k-means from a deterministic start.

Sources: Lloyd 1982, "Least squares quantization in PCM"; Ward 1963, "Hierarchical grouping to optimize an objective
function"; Panter, Dite 1951, "Quantization distortion in pulse-count modulation with nonuniform spacing of levels", for
the density of levels.
"""

from __future__ import annotations

import heapq

import numpy as np
import torch
from torch import Tensor

__all__ = ["find_palette", "nearest_entries", "through_fp16"]

LLOYD_ROUNDS = 500
SMALL_CELLS = 1024
"""Cells that merging starts from for a whole tensor; it takes a step for each."""


def through_fp16(tensor: Tensor) -> Tensor:
    """Return the nearest FP16 values as float32, without gradient."""
    return tensor.detach().half().float()


def find_palette(weight: Tensor, bits: int, *, cells: int = SMALL_CELLS) -> Tensor:
    """Return ``2 ** bits`` FP16 values, ascending, float32, that stand for the FP16 values of ``weight``.

    A tensor with no more values than that keeps them all, so weights that were compressed once stay what they are.
    Otherwise k-means, started from ``cells`` neighbours merged where that costs least: deterministic, and close to the
    best.
    """
    values, counts = (part.numpy() for part in torch.unique(through_fp16(weight).cpu().double(), return_counts=True))
    size = 2**bits
    if len(values) <= size:
        return torch.from_numpy(np.pad(values, (0, size - len(values)), mode="edge")).float().to(weight.device)
    mass, total = (np.concatenate([[0.0], np.cumsum(part)]) for part in (counts.astype(np.float64), counts * values))
    centres = merged_centres(values, mass, total, size, cells)
    for _ in range(LLOYD_ROUNDS):
        edges = cell_edges(values, centres)
        weights = np.diff(mass[edges])
        filled = weights > 0
        moved = centres.copy()
        moved[filled] = np.diff(total[edges])[filled] / weights[filled]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return through_fp16(torch.from_numpy(centres)).to(weight.device)


def merged_centres(values: np.ndarray, mass: np.ndarray, total: np.ndarray, size: int, cells: int) -> np.ndarray:
    """Return ``size`` ascending centres: small cells, of which the cheapest two neighbours are merged again and again.

    ``mass`` and ``total`` are running sums of how often the ascending ``values`` occur, and of that times the value.
    """
    centres = values if len(values) <= cells else dense_centres(values, mass, cells)
    edges = np.unique(cell_edges(values, centres))
    weights, sums = np.diff(mass[edges]).tolist(), np.diff(total[edges]).tolist()
    merge_cheapest(weights, sums, size)
    merged = np.array([part / weight for part, weight in zip(sums, weights) if weight])
    return np.pad(merged, (0, size - len(merged)), mode="edge")


def merge_cheapest(weights: list[float], sums: list[float], size: int) -> None:
    """Merge neighbouring cells into the left one, which costs least first, until ``size`` are left; others weigh 0."""
    count = len(weights)
    left, right = list(range(-1, count - 1)), list(range(1, count + 1))
    means = [part / weight for part, weight in zip(sums, weights)]

    def cost(cell: int) -> float:
        """Return the growth of the sum of squares when a cell and its right neighbour become one."""
        after = right[cell]
        step = means[after] - means[cell]
        return weights[after] * weights[cell] / (weights[after] + weights[cell]) * (step * step)

    latest = [cost(cell) for cell in range(count - 1)]
    queue = [(price, cell) for cell, price in enumerate(latest)]
    heapq.heapify(queue)
    for _ in range(count - size):
        price, cell = heapq.heappop(queue)
        while not weights[cell] or right[cell] == count or latest[cell] != price:
            price, cell = heapq.heappop(queue)  # out of date
        after = right[cell]
        weights[cell] += weights[after]
        sums[cell] += sums[after]
        weights[after] = 0.0
        means[cell] = sums[cell] / weights[cell]
        right[cell] = right[after]
        if right[after] < count:
            left[right[after]] = cell
        for changed in (left[cell], cell):
            if changed >= 0 and right[changed] < count:
                latest[changed] = cost(changed)
                heapq.heappush(queue, (latest[changed], changed))


def dense_centres(values: np.ndarray, mass: np.ndarray, size: int) -> np.ndarray:
    """Return ``size`` ascending centres whose density is proportional to the cube root of that of the values."""
    bins = 8 * size
    edges = torch.linspace(float(values[0]), float(values[-1]), bins + 1, dtype=torch.float64)
    below = torch.from_numpy(mass[np.searchsorted(values, edges[1:].numpy(), side="right")])
    density = torch.cat([below[:1], below.diff()]) ** (1 / 3)
    share = density.cumsum(0) / density.sum()
    middles = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    cell = torch.searchsorted(share, middles)
    before = torch.cat([share.new_zeros(1), share])[cell]
    return torch.lerp(edges[cell], edges[cell + 1], (middles - before) / (share[cell] - before)).numpy()


def cell_edges(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return where the values that are nearest to each ascending centre begin, and the number of values."""
    inner = np.searchsorted(values, (centres[1:] + centres[:-1]) / 2, side="right")
    return np.concatenate([[0], inner, [len(values)]])


def nearest_entries(weight: Tensor, palette: Tensor) -> Tensor:
    """Return the index of the nearest entry of an ascending ``palette`` for every value; of two, the lower one."""
    entries = palette.double()  # holds the middle of two FP16 values exactly
    return torch.bucketize(weight.double().contiguous(), (entries[1:] + entries[:-1]) / 2)
