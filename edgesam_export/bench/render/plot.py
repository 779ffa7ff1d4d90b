"""The plot of a comparison as a PNG image: a panel for each part, a bar for each row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING

from edgesam_export.bench.compare import Comparison
from edgesam_export.bench.render.summary import number
from edgesam_export.bench.rows import Row
from edgesam_export.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SUFFIX", "image_of", "render"]

SUFFIX = ".png"
MOST_BARS = 30
MOST_CHARACTERS = 44
LOG_SPAN = 20.0
"""Ratio of the slowest to the fastest from which a panel's scale is logarithmic."""
COLOURS = ("#3566a8", "#d98e32", "#4f9a5d", "#a3508c", "#5aa7b8", "#8a6d4f")
PUBLISHED_COLOUR, INK, FAINT = "#b9bec7", "#22252a", "#6b7078"
DPI = 150


def render(comparison: Comparison) -> bytes:
    """Return the plot.

    Raises:
        UsageError: no ranked or published row has a time.
    """
    return image_of(comparison, "png")


def image_of(comparison: Comparison, format: str) -> bytes:
    """Return the plot in a format of matplotlib; raises like ``render``."""
    stream = BytesIO()
    draw(comparison).savefig(stream, dpi=DPI, format=format)
    return stream.getvalue()


@dataclass(frozen=True)
class Panel:
    """The rows of one part, fastest first; ``count`` includes those that are not drawn."""

    title: str
    rows: Sequence[Row]
    count: int

    @property
    def times(self) -> list[float]:
        """Times in milliseconds."""
        return [row.p50_ms or 0.0 for row in self.rows]

    @property
    def logarithmic(self) -> bool:
        """True when the times span too much for a linear scale."""
        return max(self.times) / min(self.times) > LOG_SPAN

    @property
    def heading(self) -> str:
        """Title with the unit, and with what is left out."""
        left_out = f", fastest {len(self.rows)} of {self.count}" if self.count > len(self.rows) else ""
        return f"{self.title}, ms{' (logarithmic)' if self.logarithmic else ''}{left_out}"


def panels_of(comparison: Comparison) -> list[Panel]:
    """Return the panels: published figures apart from the ranking unless they are in it."""
    panels = []
    for suffix, rows in (("", comparison.ranked), (" (published, not ranked)", comparison.published)):
        for part, group in groupby((row for row in rows if row.p50_ms), key=lambda row: row.part):
            ordered = sorted(group, key=lambda row: row.p50_ms or 0.0)
            panels.append(Panel(f"{part}{suffix}", ordered[:MOST_BARS], len(ordered)))
    return panels


def draw(comparison: Comparison) -> Figure:
    """Return the figure; raises like ``render``."""
    panels = panels_of(comparison)
    if not panels:
        raise UsageError("nothing to draw; no ranked or published row has a time")
    from matplotlib.figure import Figure

    colours = runtime_colours(row for panel in panels for row in panel.rows)
    heights = [len(panel.rows) * 0.3 + 0.75 for panel in panels]
    figure = Figure(figsize=(11, sum(heights) + 0.6), layout="constrained", facecolor="white")
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, panel in zip(axes, panels):
        draw_panel(axis, panel, colours)
    draw_legend(figure, colours, any(row.published for panel in panels for row in panel.rows))
    return figure


def runtime_colours(rows: Iterable[Row]) -> dict[str, str]:
    """Return a colour for each runtime of our own records, in order of appearance; published ones share a grey."""
    runtimes = dict.fromkeys(row.runtime.split()[0] for row in rows if not row.published)
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(runtimes)}


def draw_panel(axis: Axes, panel: Panel, colours: Mapping[str, str]) -> None:
    """Draw one panel, fastest on top."""
    positions = range(len(panel.rows))
    own = [colours.get(row.runtime.split()[0], PUBLISHED_COLOUR) for row in panel.rows]
    bars = axis.barh(positions, panel.times, height=0.68, color=own, edgecolor="white", linewidth=0)
    for bar, row in zip(bars, panel.rows):
        if row.published:
            bar.set(facecolor=PUBLISHED_COLOUR, hatch="////", edgecolor="white")
    for position, time in zip(positions, panel.times):
        axis.annotate(
            number(time), (time, position), (4, 0), textcoords="offset points", va="center", color=INK, size=8
        )
    axis.set_yticks(list(positions), [bar_label(row) for row in panel.rows], size=8, color=INK)
    axis.set_ylim(len(panel.rows) - 0.4, -0.6)
    axis.set_title(panel.heading, loc="left", size=10, color=INK, weight="bold")
    set_scale(axis, panel)
    set_frame(axis)


def set_scale(axis: Axes, panel: Panel) -> None:
    """Scale the axis of the times, with room for the numbers beside the bars."""
    if panel.logarithmic:
        axis.set_xscale("log")
        axis.set_xlim(min(panel.times) * 0.7, max(panel.times) * 2)
        axis.xaxis.set_major_formatter("{x:g}")
    else:
        axis.set_xlim(0, max(panel.times) * 1.14)


def set_frame(axis: Axes) -> None:
    """Leave of the frame the line below, and a faint grid."""
    axis.tick_params(axis="x", labelsize=8, colors=FAINT)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#e4e6ea", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#c4c8cf")


def bar_label(row: Row) -> str:
    """Return the label of a bar."""
    detail, mark, _ = (row.method if row.published else row.runtime).partition(" (inferred)")
    points = "" if row.points in (None, 1) else f", {row.points} points"
    return f"{row.model}  |  {row.device}  |  {shortened(detail)}{mark}{points}"


def shortened(text: str) -> str:
    """Return a text that leaves room for the bars."""
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def draw_legend(figure: Figure, colours: Mapping[str, str], published: bool) -> None:
    """Draw the meaning of the colours, when there is more than one."""
    from matplotlib.patches import Patch

    keys = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    if published:
        keys.append(Patch(facecolor=PUBLISHED_COLOUR, hatch="////", edgecolor="white", label="published, own method"))
    if len(keys) > 1:
        figure.legend(handles=keys, loc="outside lower left", ncols=min(len(keys), 6), frameon=False, fontsize=8)
