"""Size against what masks lose, as a PNG: uniform schemes, and the curve of recipes."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from edgesam_export.shrink.result import MB, Point, ShrinkResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SUFFIX", "render"]

SUFFIX = ".png"
RECIPE, UNIFORM, INK, FAINT = "#3566a8", "#d98e32", "#22252a", "#6b7078"
LEAST_LOSS = 1e-4
"""1 - IoU below this is drawn at it: the axis is logarithmic."""
DPI = 150
NEAR = (110.0, 12.0)
"""Width and height of a name, in pixels of a figure at its own resolution."""


def render(result: ShrinkResult) -> bytes:
    """Return the plot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 5.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    recipes = [point for point in result.points if point.kind == "recipe"]
    others = [point for point in result.points if point.kind != "recipe"]
    draw(axes, recipes, RECIPE, "o", "a scheme for each kernel", line="-")
    draw(axes, others, UNIFORM, "s", "one scheme for all")
    least = result.goal.min_iou
    if least is not None:
        axes.axhline(1 - least, color=FAINT, linewidth=1, linestyle="--", label=f"IoU {least:g}, asked for")
    finish(axes, result)
    mark(axes, result.found)
    label(axes, others)
    stream = BytesIO()
    figure.savefig(stream, dpi=DPI, format="png")
    return stream.getvalue()


def loss(point: Point) -> float:
    """Return what is drawn upwards."""
    return max(1 - point.held_out.mean, LEAST_LOSS)


def draw(axes: Axes, points: Sequence[Point], colour: str, marker: str, label: str, line: str = "") -> None:
    """Draw points with their standard errors."""
    sizes, losses = [point.bytes / MB for point in points], [loss(point) for point in points]
    errors = [min(point.held_out.error, 0.9 * value) for point, value in zip(points, losses)]
    axes.errorbar(
        sizes,
        losses,
        yerr=errors,
        color=colour,
        marker=marker,
        markersize=5,
        linestyle=line,
        linewidth=1.3,
        elinewidth=0.8,
        capsize=2,
        label=label,
    )


def label(axes: Axes, points: Sequence[Point]) -> None:
    """Write the points' names to the right of them, below one another where points are close."""
    taken: list[tuple[float, float]] = []
    for point in sorted(points, key=loss, reverse=True):
        at = (point.bytes / MB, loss(point))
        x, y = axes.transData.transform(at)
        beside = y
        for other_x, other_y in taken:
            if abs(other_x - x) < NEAR[0] and abs(other_y - beside) < NEAR[1]:
                beside = other_y - NEAR[1]
        taken.append((x, beside))
        offset = (8, (beside - y) * 72 / axes.figure.dpi - 3)  # points
        axes.annotate(point.name, at, offset, textcoords="offset points", size=7.5, color=INK)


def mark(axes: Axes, found: Point) -> None:
    """Draw the point that was asked for larger, with its size."""
    axes.plot([found.bytes / MB], [loss(found)], marker="*", markersize=15, color=RECIPE, linestyle="", zorder=5)
    axes.annotate(
        f"found: {found.bytes / MB:.2f} MB",
        (found.bytes / MB, loss(found)),
        (-8, -14),
        textcoords="offset points",
        ha="right",
        size=9,
        weight="bold",
        color=RECIPE,
    )


def finish(axes: Axes, result: ShrinkResult) -> None:
    """Label the axes."""
    axes.set_yscale("log")
    axes.set_xlim(0, max(point.bytes for point in result.points) / MB * 1.12)
    axes.set_xlabel("encoder and decoder, MB", color=INK)
    axes.set_ylabel("1 - mask IoU with the FP32 model (held out, logarithmic)", color=INK)
    images = len({row.image for row in result.found.held_out.results})
    axes.set_title(
        f"{result.model} for {result.target}: {images} held-out images, bars are standard errors",
        loc="left",
        size=10,
        color=INK,
        weight="bold",
    )
    axes.grid(which="both", color="#e4e6ea", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")
