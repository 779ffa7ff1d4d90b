"""From a decoder's logits to one mask of the source image in bounded memory: as runs, and how stable it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgesam_export.imaging.geometry import PreparedImage, linear_taps
from edgesam_export.imaging.mask_runs import MaskRuns, joined_runs, runs_of_columns
from edgesam_export.imaging.masks import resized

__all__ = ["mask_at_source"]

STRIP_PIXELS = 1 << 21
"""Pixels that are upsampled at once, about."""


def mask_at_source(
    logits: np.ndarray,
    prepared: PreparedImage,
    *,
    offset: float = 1.0,
    image_size: tuple[int, int] | None = None,
    corner: tuple[int, int] = (0, 0),
) -> tuple[MaskRuns, float]:
    """Return the mask that ``masks_to_source`` gives, and its stability at the source's size, see ``masks.stability``.

    ``prepared`` may be a crop of an image of ``image_size`` (height, width), its top left corner at ``corner`` (x, y).

    Shapes: logits float32 (256, 256), threshold 0
    """
    size = image_size or prepared.source_size
    pieces, inner, outer = [], 0, 0
    for x0, y0, columns in source_strips(logits, prepared, above=-offset):
        inner += np.count_nonzero(columns > offset)
        outer += np.count_nonzero(columns > -offset)
        pieces.append(runs_of_columns(columns > 0, size[0], x0=x0 + corner[0], y0=y0 + corner[1]))
    return joined_runs(pieces, size), inner / max(outer, 1)


def source_strips(
    logits: np.ndarray, prepared: PreparedImage, *, above: float
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the logits at source size, column by column and strip by strip, wherever they can exceed ``above``.

    Linear upsampling is a mean of neighbours: where none exceeds a value, nothing between them does. A cubic one comes
    in one strip.

    Shapes: logits (256, 256); yields x, y of the strip's top left pixel, and float32 (w, h)
    """
    frame, (height, width) = prepared.frame, prepared.prompt_extent
    if frame.mask_resize == "bicubic":
        yield 0, 0, resized(logits[None], prepared.source_size, "bicubic")[0].T
        return
    if frame.mask_resize == "bilinear":
        logits = resized(logits[None], (frame.prompt_size,) * 2)[0, :height, :width]
    exceeding: np.ndarray = logits > above
    rows, columns = (Taps(side, np.asarray(exceeding.any(axis))) for side, axis in zip(prepared.source_size, (1, 0)))
    if not rows.count or not columns.count:
        return
    stretched = rows.blended(logits, 0, rows.count).T  # (rows of the source, columns of the logits), transposed
    step = max(1, STRIP_PIXELS // rows.count)
    for start in range(0, columns.count, step):
        strip = columns.blended(stretched, start, min(columns.count, start + step))
        yield columns.first + start, rows.first, strip


class Taps:
    """Linear upsampling along one axis, of the positions that are next to a value that counts."""

    def __init__(self, side: int, counting: np.ndarray) -> None:
        low, high, share = linear_taps(len(counting), side)
        near = np.flatnonzero(counting[low] | counting[high])
        self.first, self.count = (int(near[0]), int(near[-1] - near[0]) + 1) if len(near) else (0, 0)
        self.low, self.high, self.share = (
            values[self.first : self.first + self.count] for values in (low, high, share.astype(np.float32))
        )

    def blended(self, values: np.ndarray, start: int, stop: int) -> np.ndarray:
        """Return some positions of the first axis of ``values``, counted from ``first``."""
        low, high, share = (taps[start:stop] for taps in (self.low, self.high, self.share[:, None]))
        result: np.ndarray = values[high]
        result -= values[low]
        result *= share
        result += values[low]
        return result
