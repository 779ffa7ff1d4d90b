"""A comparison as text, Markdown and picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from edgesam_export.bench.compare import Comparison, Row
from edgesam_export.errors import UsageError

__all__ = ["case_table", "save_plot", "to_markdown", "to_text"]

HEADINGS = (
    "#",
    "model",
    "part",
    "device",
    "system",
    "runtime",
    "p50 ms",
    "fps p50",
    "fps sustained",
    "method",
    "source",
)
NUMBERS = {"#", "p50 ms", "fps p50", "fps sustained"}
PUBLISHED_NOTE = "published figures, each by its own method: shown beside, not ranked"
MOST_BARS = 30
MOST_CHARACTERS = 44
LOG_SPAN = 20.0
"""Ratio of the slowest to the fastest from which a panel's scale is logarithmic."""
COLOURS = ("#3566a8", "#d98e32", "#4f9a5d", "#a3508c", "#5aa7b8", "#8a6d4f")
PUBLISHED_COLOUR, INK, FAINT = "#b9bec7", "#22252a", "#6b7078"


def number(value: float | None) -> str:
    """Return a figure with three digits that count; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cells(rows: Iterable[Row], *, ranked: bool) -> list[tuple[str, ...]]:
    """Return the table's cells; ranks start anew with each part."""
    found = []
    for _, group in groupby(rows, key=lambda row: row.part_text):
        for rank, row in enumerate(group, 1):
            figures = (number(row.p50_ms), number(row.fps_p50), number(row.fps_sustained))
            place = (row.device, row.system, row.runtime)
            found.append(
                (str(rank) if ranked else "", row.model, row.part_text, *place, *figures, row.method, row.source)
            )
    return found


def used_columns(table: Sequence[tuple[str, ...]]) -> list[int]:
    """Return the columns that say something in at least one row."""
    return [c for c in range(len(HEADINGS)) if any(line[c] not in ("", "-") for line in table)]


def aligned(table: Sequence[tuple[str, ...]]) -> str:
    """Return cells under their headings, numbers to the right, empty columns left out."""
    columns = used_columns(table)
    lines = [HEADINGS, *table]
    widths = {c: max(len(line[c]) for line in lines) for c in columns}
    return "\n".join(
        "  ".join(
            line[c].rjust(widths[c]) if HEADINGS[c] in NUMBERS else line[c].ljust(widths[c]) for c in columns
        ).rstrip()
        for line in lines
    )


def unranked_lines(rows: Iterable[Row]) -> list[str]:
    """Return invalid rows, one line for each case: what was timed all the same, and the reason."""
    cases: dict[str, list[Row]] = {}
    for row in rows:
        name = f"{row.model} on {row.device}, {row.method if row.published else row.runtime}"
        points = "" if row.points in (None, 1) else f", {row.points} points"
        cases.setdefault(f"{name}{points} ({row.source})", []).append(row)
    lines = []
    for name, group in cases.items():
        times = ", ".join(f"{row.part} {number(row.p50_ms)} ms" for row in group if row.p50_ms is not None)
        lines.append(
            f"{name}: {times}{'; ' if times else ''}{'; '.join(dict.fromkeys(r for row in group for r in row.reasons))}"
        )
    return lines


def to_text(comparison: Comparison) -> str:
    """Return the tables for a terminal."""
    parts = []
    if comparison.ranked:
        parts.append(aligned(cells(comparison.ranked, ranked=True)))
    if comparison.published:
        parts.append(f"{PUBLISHED_NOTE}\n{aligned(cells(comparison.published, ranked=False))}")
    if comparison.unranked:
        lines = "\n".join(f"  {line}" for line in unranked_lines(comparison.unranked))
        parts.append(f"not ranked\n{lines}")
    return "\n\n".join(parts)


def to_markdown(comparison: Comparison) -> str:
    """Return the tables as Markdown."""
    parts = []
    for title, rows, ranked in (
        ("", comparison.ranked, True),
        (PUBLISHED_NOTE.capitalize() + ".", comparison.published, False),
    ):
        if not rows:
            continue
        table = cells(rows, ranked=ranked)
        columns = used_columns(table)
        marks = ["---:" if HEADINGS[c] in NUMBERS else "---" for c in columns]
        lines = [[HEADINGS[c] for c in columns], marks]
        lines += [[line[c].replace("|", "\\|") for c in columns] for line in table]
        parts.append("\n".join(([title, ""] if title else []) + [f"| {' | '.join(line)} |" for line in lines]))
    if comparison.unranked:
        parts.append("Not ranked:\n\n" + "\n".join(f"- {line}" for line in unranked_lines(comparison.unranked)))
    return "\n\n".join(parts)


def case_table(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return what ``bench`` prints of a record: headings, then a line for each case."""
    lines = [("case", "encoder ms", "decoder ms", "end to end ms", "fps p50", "fps sustained", "parity", "result")]
    for case in record["cases"]:
        medians = [case["stages"].get(stage, {}).get("p50") for stage in ("encoder", "decoder", "end_to_end")]
        times = [number(None if value is None else value / 1e6) for value in medians]
        reasons = case["validity"]["reasons"]
        result = case["outcome"] if case["outcome"] != "ok" else "not valid" if reasons else "ok"
        rates = (number(case["fps_p50"]), number(case["fps_sustained"]))
        lines.append((case["id"], *times, *rates, parity_text(case.get("parity")), result))
    return lines


def parity_text(parity: dict[str, Any] | None) -> str:
    """Return the smallest PSNR and mask IoU of a case."""
    if not parity:
        return "-"
    if not all(stage.get("finite", True) for stage in parity.values()):
        return "NOT FINITE"
    levels = [stage["psnr_db"] for stage in parity.values() if stage.get("psnr_db") is not None]
    overlap = [f"IoU {stage['mask_iou']:.3f}" for stage in parity.values() if stage.get("mask_iou") is not None]
    return ", ".join([f"{min(levels):.1f} dB" if levels else "equal", *overlap])


# -------------------------------------------------------------------------------------------------------------- picture


def save_plot(comparison: Comparison, path: Path) -> list[str]:
    """Write a picture: a panel for each part, a bar for each row; return what was left out.

    Raises:
        UsageError: there is nothing to draw, or the file cannot be written.
    """
    panels = panels_of(comparison)
    if not panels:
        raise UsageError("nothing to draw; no row has a time")
    from matplotlib.figure import Figure

    notes = [
        f"{title}: {len(rows) - MOST_BARS} slower rows are not drawn" for title, rows in panels if len(rows) > MOST_BARS
    ]
    panels = [(title, rows[:MOST_BARS]) for title, rows in panels]
    colours = method_colours(row for _, rows in panels for row in rows)
    heights = [len(rows) * 0.3 + 0.75 for _, rows in panels]
    figure = Figure(figsize=(11, sum(heights) + 0.6), layout="constrained", facecolor="white")
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, (title, rows) in zip(axes, panels):
        draw_panel(axis, title, rows, colours)
    draw_legend(figure, colours, panels)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, format=path.suffix[1:].lower() or "png")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write picture '{path}': {error}; give a .png") from None
    return notes


def panels_of(comparison: Comparison) -> list[tuple[str, list[Row]]]:
    """Return the rows of each panel: published figures apart from the ranking unless they are in it."""
    panels = []
    for suffix, rows in (("", comparison.ranked), (" (published, not ranked)", comparison.published)):
        for part, group in groupby((row for row in rows if row.p50_ms), key=lambda row: row.part):
            panels.append((f"{part}{suffix}", sorted(group, key=lambda row: row.p50_ms or 0.0)))
    return panels


def method_colours(rows: Iterable[Row]) -> dict[str, str]:
    """Return a colour for each runtime of our own records, in order of appearance; published ones share a grey."""
    runtimes = dict.fromkeys(row.runtime.split()[0] for row in rows if not row.published)
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(runtimes)}


def draw_panel(axis: Any, title: str, rows: Sequence[Row], colours: dict[str, str]) -> None:
    """Draw one panel, fastest on top."""
    times = [row.p50_ms or 0.0 for row in rows]
    places = range(len(rows))
    own = [colours.get(row.runtime.split()[0], PUBLISHED_COLOUR) for row in rows]
    bars = axis.barh(places, times, height=0.68, color=own, edgecolor="white", linewidth=0)
    for bar, row in zip(bars, rows):
        if row.published:
            bar.set(facecolor=PUBLISHED_COLOUR, hatch="////", edgecolor="white")
    logarithmic = max(times) / min(times) > LOG_SPAN
    if logarithmic:
        axis.set_xscale("log")
        axis.set_xlim(min(times) * 0.7, max(times) * 2)
        axis.xaxis.set_major_formatter("{x:g}")
    else:
        axis.set_xlim(0, max(times) * 1.14)
    for place, value in zip(places, times):
        axis.annotate(number(value), (value, place), (4, 0), textcoords="offset points", va="center", color=INK, size=8)
    axis.set_yticks(list(places), [bar_label(row) for row in rows], size=8, color=INK)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_title(
        f"{title}, ms{' (logarithmic)' if logarithmic else ''}", loc="left", size=10, color=INK, weight="bold"
    )
    axis.tick_params(axis="x", labelsize=8, colors=FAINT)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#e4e6ea", linewidth=0.7)
    axis.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color("#c4c8cf")


def bar_label(row: Row) -> str:
    """Return what stands beside a bar."""
    detail, mark, _ = (row.method if row.published else row.runtime).partition(" (inferred)")
    points = "" if row.points in (None, 1) else f", {row.points} points"
    return f"{row.model}  |  {row.device}  |  {shortened(detail)}{mark}{points}"


def shortened(text: str) -> str:
    """Return a text that leaves room for the bars."""
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def draw_legend(figure: Any, colours: dict[str, str], panels: Sequence[tuple[str, list[Row]]]) -> None:
    """Draw what the colours mean, when there is more than one."""
    from matplotlib.patches import Patch

    keys = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    if any(row.published for _, rows in panels for row in rows):
        keys.append(Patch(facecolor=PUBLISHED_COLOUR, hatch="////", edgecolor="white", label="published, own method"))
    if len(keys) > 1:
        figure.legend(handles=keys, loc="outside lower left", ncols=min(len(keys), 6), frameon=False, fontsize=8)
