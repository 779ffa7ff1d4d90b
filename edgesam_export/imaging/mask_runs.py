"""Masks as runs of pixels: kilobytes where an array of the source's size would be megabytes.

Pixels are numbered column by column, ``x * height + y``, the order in which COCO's run-length encoding counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["MaskRuns", "joined_runs", "runs_of", "runs_of_columns", "shared_area", "without_small_regions"]

Bounds = tuple[int, int, int, int]
DIGITS = 7
"""Digits of five bits that hold any 32-bit count, and its sign."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskRuns:
    """One mask: the half-open ranges of pixel numbers that belong to it, ascending, none touching the next.

    Shapes: starts, ends int64 (R,)
    """

    size: tuple[int, int]
    """Height and width of the image."""
    starts: np.ndarray
    ends: np.ndarray

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int((self.ends - self.starts).sum())

    @property
    def bounds(self) -> Bounds | None:
        """x0, y0, x1, y1 (exclusive) around the mask, None when it is empty."""
        if not len(self.starts):
            return None
        height, last = self.size[0], self.ends - 1
        x0, x1 = int(self.starts[0]) // height, int(last[-1]) // height + 1
        if (self.starts // height != last // height).any():  # from the bottom of a column on to the top of the next
            return x0, 0, x1, height
        return x0, int((self.starts % height).min()), x1, int((last % height).max()) + 1

    @property
    def counts(self) -> list[int]:
        """Lengths of the runs outside and inside by turns, the first outside: COCO's uncompressed encoding."""
        edges = np.stack([self.starts, self.ends], axis=1).reshape(-1)
        lengths: list[int] = np.diff(edges, prepend=0, append=self.size[0] * self.size[1]).tolist()
        return lengths if lengths[-1] else lengths[:-1]

    def coco(self) -> dict[str, Any]:
        """Return COCO's compressed encoding: ``size`` (height, width) and ``counts`` as text."""
        return {"size": list(self.size), "counts": compressed(self.counts)}

    def mask(self) -> np.ndarray:
        """Return the mask as an array. Shapes: returns bool (H, W)"""
        height, width = self.size
        return self.window((0, 0, width, height))

    def window(self, bounds: Bounds) -> np.ndarray:
        """Return the part of the mask within x0, y0, x1, y1 (exclusive). Shapes: returns bool (y1 - y0, x1 - x0)"""
        x0, y0, x1, y1 = bounds
        height, tall = self.size[0], y1 - y0
        columns, starts, ends = self.in_columns()
        inside = (columns >= x0) & (columns < x1)
        columns, starts, ends = (values[inside] for values in (columns, starts, ends))
        base = (columns - x0) * (tall + 1)  # a row more: a run may end where the next column's begins
        steps = np.zeros((x1 - x0) * (tall + 1) + 1, np.int8)
        np.add.at(steps, base + np.clip(starts - columns * height - y0, 0, tall), 1)
        np.add.at(steps, base + np.clip(ends - columns * height - y0, 0, tall), -1)
        filled = np.cumsum(steps[:-1], dtype=np.int8).reshape(x1 - x0, tall + 1)
        mask: np.ndarray = filled[:, :tall].T > 0
        return mask

    def in_columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return column, start and end of each run, cut where it goes on in the next column."""
        height = self.size[0]
        first, last = self.starts // height, (self.ends - 1) // height
        parts = last - first + 1
        run = np.repeat(np.arange(len(parts)), parts)
        columns = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)
        starts = np.maximum(self.starts[run], columns * height)
        ends = np.minimum(self.ends[run], (columns + 1) * height)
        return columns, starts, ends

    def inverted(self) -> MaskRuns:
        """Return the runs outside the mask."""
        edges = np.stack([self.starts, self.ends], axis=1).reshape(-1)
        outer = np.concatenate([[0], edges, [self.size[0] * self.size[1]]]).reshape(-1, 2).astype(np.int64)
        outer = outer[outer[:, 0] < outer[:, 1]]
        return MaskRuns(size=self.size, starts=outer[:, 0], ends=outer[:, 1])


def shared_area(one: MaskRuns, other: MaskRuns) -> int:
    """Return the pixels that two masks of one image have in common."""
    before = np.concatenate([[0], np.cumsum(other.ends - other.starts)])  # pixels of the runs before each run
    last_end = np.concatenate([[0], other.ends])

    def below(numbers: np.ndarray) -> np.ndarray:
        """Return how many pixels of the other mask have lower numbers."""
        begun = np.searchsorted(other.starts, numbers, side="right")
        counted: np.ndarray = before[begun] - np.maximum(last_end[begun] - numbers, 0)
        return counted

    return int((below(one.ends) - below(one.starts)).sum())


def runs_of(mask: np.ndarray) -> MaskRuns:
    """Return the runs of a mask. Shapes: mask bool (H, W)"""
    return joined_runs([runs_of_columns(mask.T, mask.shape[0])], (mask.shape[0], mask.shape[1]))


def runs_of_columns(columns: np.ndarray, height: int, *, x0: int = 0, y0: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and ends of the runs in part of an image ``height`` pixels high whose top left corner is x0, y0.

    Shapes: columns bool (w, h), column by column; returns int64 (R,) each
    """
    edged = np.zeros((columns.shape[0], columns.shape[1] + 2), np.int8)
    edged[:, 1:-1] = columns
    steps = np.diff(edged, axis=1)
    starts, ends = (np.argwhere(steps == sign) for sign in (1, -1))
    starts, ends = ((found[:, 0] + x0) * height + found[:, 1] + y0 for found in (starts, ends))
    return starts.astype(np.int64), ends.astype(np.int64)


def joined_runs(pieces: Sequence[tuple[np.ndarray, np.ndarray]], size: tuple[int, int]) -> MaskRuns:
    """Return a mask of starts and ends piece by piece, in order; runs that touch become one."""
    empty = np.zeros(0, np.int64)
    starts, ends = (np.concatenate([empty, *(piece[side] for piece in pieces)]) for side in (0, 1))
    gaps = starts[1:] > ends[:-1]
    first, last = np.append(True, gaps)[: len(starts)], np.append(gaps, True)[: len(ends)]
    return MaskRuns(size=size, starts=starts[first], ends=ends[last])


def compressed(counts: Sequence[int]) -> str:
    """Return counts as COCO's text: differences from the count before last, in digits of five bits, lowest first.

    A digit's sixth bit says that more follow; the sign is that of the last digit; 48 makes it a printable letter.
    Source: the file format of pycocotools, ``rleToString``.
    """
    rest = np.asarray(counts, np.int64)
    rest = np.concatenate([rest[:3], rest[3:] - rest[1:-2]])
    letters = np.zeros((len(rest), DIGITS), np.uint8)
    used = np.ones(len(rest), bool)
    for digit in range(DIGITS):
        low, rest = rest & 31, rest >> 5
        follows = np.where(low & 16, rest != -1, rest != 0)
        letters[used, digit] = (low + 32 * follows + 48)[used]
        used &= follows
    return letters[letters > 0].tobytes().decode("ascii")


def without_small_regions(runs: MaskRuns, smallest: int) -> tuple[MaskRuns, bool]:
    """Return the mask with holes and islands below ``smallest`` pixels removed, and whether there were any.

    When every island is small the largest stays.
    Source: Kirillov et al. 2023, "Segment Anything", https://arxiv.org/abs/2304.02643, appendix B, "postprocessing".
    """
    starts, ends, areas, _ = regions(runs.inverted())
    kept = areas >= smallest
    any_hole = not kept.all()
    if any_hole:
        runs = joined_runs([(starts[kept], ends[kept])], runs.size).inverted()
    starts, ends, areas, region = regions(runs)
    kept = areas >= smallest
    any_island = not kept.all()
    if any_island:
        kept = kept if kept.any() else region == region[np.argmax(areas)]
        runs = joined_runs([(starts[kept], ends[kept])], runs.size)
    return runs, any_hole or any_island


def regions(runs: MaskRuns) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return start and end of each run of a column, the area of the region that it belongs to, and its number.

    Pixels that touch by a side or a corner are of one region.
    """
    columns, starts, ends = runs.in_columns()
    shift = 2 * columns  # two rows more in every column: its last run must not seem to touch the next one's first
    tall, tops, bottoms = runs.size[0] + 2, starts + shift, ends + shift
    first = np.searchsorted(bottoms, tops + tall, side="left")
    behind = np.searchsorted(tops, bottoms + tall, side="right")
    touching = np.maximum(behind - first, 0)
    left = np.repeat(np.arange(len(starts)), touching)
    right = np.arange(len(left)) + np.repeat(first - np.cumsum(touching) + touching, touching)
    region = components(len(starts), left, right)
    areas = np.bincount(region, weights=ends - starts, minlength=len(starts)).astype(np.int64)
    return starts, ends, areas[region], region


def components(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return for each of ``count`` nodes the lowest node that edges between ``left`` and ``right`` connect it with."""
    lowest = np.arange(count)
    while True:
        ends = np.sort(np.stack([lowest[left], lowest[right]]), axis=0)
        apart = ends[0] < ends[1]
        if not apart.any():
            return lowest
        np.minimum.at(lowest, ends[1][apart], ends[0][apart])
        while not np.array_equal(lowest, lowest[lowest]):
            lowest = lowest[lowest]
