"""A search's result as a table for the terminal, and in a few lines."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.rendering import text_table
from edgesam_export.shrink.agreement import Agreement
from edgesam_export.shrink.result import MB, Point, ShrinkResult

__all__ = ["summary", "to_table"]


def to_table(result: ShrinkResult) -> str:
    """Return a row for each point: size, agreement on held-out images with its standard error, by prompt."""
    kinds = result.found.held_out.kinds
    headings = ("stored as", "MB", "of FP16", "IoU held out", "std error", "lowest 5 %", *kinds)
    base = max(point.bytes for point in result.points)
    rows = [row_of(point, base, kinds) for point in result.points]
    return text_table(headings, rows, right=range(1, len(headings)))


def row_of(point: Point, base: int, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cells of a point."""
    found = point.held_out
    by_kind = (f"{mean[0]:.4f}" if (mean := found.mean_of(kind)) else "-" for kind in kinds)
    share = f"{point.bytes / base:.0%}"
    return (
        point.name,
        f"{point.bytes / MB:.2f}",
        share,
        f"{found.mean:.4f}",
        f"{found.error:.4f}",
        f"{found.low:.3f}",
        *by_kind,
    )


def summary(result: ShrinkResult) -> Iterator[str]:
    """Yield what was found, line by line."""
    found = result.found
    searched = "" if found.search is None else f" (where it was searched {in_words(found.search)})"
    yield (
        f"{found.name}: {found.bytes / MB:.2f} MB, agreement with FP32 masks {in_words(found.held_out)} on held-out"
        f" images{searched}"
    )
    if result.compressed is not None:
        yield f"before recovery: {in_words(result.compressed)}"
    if result.discarded is not None:
        reason = "its packages are too large" if result.discarded.keeps_more_than(found) else "it keeps no more masks"
        yield f"recovery is not kept, since {reason}: {in_words(result.discarded.held_out)} on held-out images"
    best = result.best_uniform
    if best is None:
        yield "no uniform scheme does as well"
    else:
        saved = 1 - found.bytes / best.bytes
        compared = f"{saved:.0%} smaller" if saved >= 0 else f"{-saved:.0%} larger"
        yield f"{compared} than the smallest uniform scheme that does: {best.name}, {best.bytes / MB:.2f} MB"
    if not result.bound_kept:
        yield f"FAIL: held-out images keep {found.held_out.mean:.4f}, less than --min-iou {result.goal.min_iou:g}"
    if result.parity_passed is False:
        yield "FAIL: parity of the packages with PyTorch on the stored weights"


def in_words(agreement: Agreement) -> str:
    """Return mean and standard error."""
    return f"{agreement.mean:.4f} ± {agreement.error:.4f}"
