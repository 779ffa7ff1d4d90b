"""The program as a strip: operations left to right, coloured by placement, as wide as their estimated cost."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from edgesam_export.ane.render.summary import placement_counts, summary_line
from edgesam_export.ane.report import AneReport, CostEstimate, OpPlacement
from edgesam_export.errors import UsageError

__all__ = ["SUFFIX", "render"]

SUFFIX = ".png"
Colour = tuple[int, int, int]
# Told apart by people with any kind of colour vision, and by lightness in print.
COLOURS: dict[str, tuple[Colour, Colour]] = {
    "expected": ((86, 152, 192), (112, 172, 208)),
    "at-risk": ((240, 178, 40), (248, 198, 84)),
    "off": ((178, 44, 44), (202, 74, 66)),
    "rejected": ((92, 52, 88), (118, 76, 112)),
}
"""Two shades each, in turns, so that neighbours are seen apart."""
MEANINGS = {
    "expected": "no known blocker",
    "at-risk": "at risk",
    "off": "off the ANE",
    "rejected": "rejected with the whole function",
}
SIDES = {"expected": "ANE", "off": "off", "rejected": "rejected"}
"""What a bracket says over operations on the same side."""
INK: Colour = (32, 36, 40)
FAINT: Colour = (120, 126, 132)
RULE: Colour = (214, 218, 222)
WHITE: Colour = (255, 255, 255)

WIDTH, MARGIN = 1600, 40
STRIP_TOP, STRIP_HEIGHT = 172, 120
SIDE_TOP, SIDE_HEIGHT = 142, 20
NOTES_TOP, NOTE_HEIGHT = 358, 26
NUMBERED = 10
MIN_SEEN = 3.0
"""Pixels that an operation with a problem gets at least, however little it costs."""


@dataclass(frozen=True)
class Bar:
    """One operation on the strip, in pixels."""

    placement: OpPlacement
    left: float
    right: float
    time_us: float
    bound: str

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2


def render(report: AneReport, *, family: str | None = None) -> bytes:
    """Return the strip as PNG for one of the report's families, by default its first; equal widths without an estimate.

    Shapes:
        PNG 1600 pixels wide

    Raises:
        UsageError: the report has no operations, or no estimate for ``family``.
    """
    if not report.placements:
        raise UsageError(f"{report.file}: no operations to draw")
    cost = pick_cost(report, family)
    bars = lay_out(report.placements, cost)
    numbered = sorted(sorted(bars, key=lambda bar: -bar.time_us)[:NUMBERED], key=lambda bar: bar.left)
    numbered = [bar for bar in numbered if bar.time_us > 0]
    height = NOTES_TOP + NOTE_HEIGHT * (len(numbered) + 1) + MARGIN if numbered else STRIP_TOP + STRIP_HEIGHT + MARGIN
    image = Image.new("RGB", (WIDTH, height), WHITE)
    draw = ImageDraw.Draw(image)
    draw_head(draw, report, cost)
    draw_sides(draw, bars)
    draw_bars(draw, bars)
    if cost and numbered:
        draw_notes(draw, numbered, cost)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def pick_cost(report: AneReport, family: str | None) -> CostEstimate | None:
    if family is None:
        return report.costs[0] if report.costs else None
    by_family = {cost.family: cost for cost in report.costs}
    if family not in by_family:
        raise UsageError(f"{report.file}: no estimate for family '{family}'; it has: {', '.join(by_family) or 'none'}")
    return by_family[family]


def lay_out(placements: Sequence[OpPlacement], cost: CostEstimate | None) -> list[Bar]:
    """Return the bars: the width shared among operations by cost, those with a problem wide enough to be seen."""
    if cost and len(cost.operations) == len(placements):
        times = [row.time_us for row in cost.operations]
        bounds: list[str] = [row.bound for row in cost.operations]
    else:
        times, bounds = [0.0] * len(placements), [""] * len(placements)
    room = WIDTH - 2 * MARGIN
    shares = times if sum(times) else [1.0] * len(placements)
    widths = [room * share / sum(shares) for share in shares]
    widths = [max(w, 0.0 if p.placement == "expected" else MIN_SEEN) for w, p in zip(widths, placements)]
    scale, left, bars = room / sum(widths), float(MARGIN), []
    for placement, width, time, bound in zip(placements, widths, times, bounds):
        bars.append(Bar(placement, left, left + width * scale, time, bound))
        left += width * scale
    return bars


def draw_head(draw: ImageDraw.ImageDraw, report: AneReport, cost: CostEstimate | None) -> None:
    draw.text((MARGIN, 24), shortened(draw, report.file, 28, WIDTH - 2 * MARGIN), INK, font(28))
    draw.text((MARGIN, 62), shortened(draw, summary_line(report), 19, WIDTH - 2 * MARGIN), INK, font(19))
    counts, left = placement_counts(report), float(MARGIN)
    for name, meaning in MEANINGS.items():
        if name == "rejected" and not counts[name]:
            continue
        draw.rectangle((left, 100, left + 18, 118), COLOURS[name][0])
        text = f"{meaning}: {counts[name]}"
        draw.text((left + 26, 99), text, INK, font(17))
        left += 26 + draw.textlength(text, font(17)) + 34
    text = f"width: estimated time on {cost.family}, {cost.time_ms:.2f} ms" if cost else "width: every operation alike"
    draw.text((WIDTH - MARGIN - draw.textlength(text, font(17)), 99), text, FAINT, font(17))


def draw_sides(draw: ImageDraw.ImageDraw, bars: Sequence[Bar]) -> None:
    """Draw a bracket over each run of operations on the same side, with its number of operations."""
    start = 0
    for index in range(1, len(bars) + 1):
        if index < len(bars) and side_of(bars[index]) == side_of(bars[start]):
            continue
        side, left, right = side_of(bars[start]), bars[start].left, bars[index - 1].right
        box = (left + 1, SIDE_TOP + SIDE_HEIGHT, max(right - 1, left + 2), SIDE_TOP + SIDE_HEIGHT + 3)
        draw.rectangle(box, COLOURS[side][0])
        for text in (f"{SIDES[side]}: {index - start} operations", f"{SIDES[side]} {index - start}"):
            if draw.textlength(text, font(15)) < right - left - 4:
                draw.text(((left + right) / 2, SIDE_TOP + 8), text, INK, font(15), anchor="mm")
                break
        start = index


def side_of(bar: Bar) -> str:
    """Return the key in ``SIDES``; at risk is still on the ANE's side."""
    placement = bar.placement.placement
    return placement if placement in SIDES else "expected"


def draw_bars(draw: ImageDraw.ImageDraw, bars: Sequence[Bar]) -> None:
    drawn = 0
    for bar in bars:
        if not bar.width:
            continue
        drawn += 1
        shade = COLOURS[bar.placement.placement][drawn % 2]
        draw.rectangle((bar.left, STRIP_TOP, max(bar.right - 0.5, bar.left), STRIP_TOP + STRIP_HEIGHT), shade)
        text = bar.placement.op_type
        if draw.textlength(text, font(16)) < bar.width - 8:
            ink = INK if side_of(bar) == "expected" else WHITE
            draw.text((bar.middle, STRIP_TOP + STRIP_HEIGHT / 2), text, ink, font(16), anchor="mm")


def draw_notes(draw: ImageDraw.ImageDraw, numbered: Sequence[Bar], cost: CostEstimate) -> None:
    """Draw the costliest operations, numbered on the strip and listed below."""
    draw.text((MARGIN, NOTES_TOP - 12), f"costliest on {cost.family}, in the order of the file", FAINT, font(16))
    end, bottom = -1e9, STRIP_TOP + STRIP_HEIGHT
    for number, bar in enumerate(numbered, 1):
        x = max(bar.middle, end + 20)
        end = x
        draw.line((bar.middle, bottom + 2, x, bottom + 22), FAINT, 1)
        draw.text((x, bottom + 34), str(number), INK, font(17), anchor="mm")
        y = NOTES_TOP + NOTE_HEIGHT * number
        draw.rectangle((MARGIN, y, MARGIN + 14, y + 14), COLOURS[bar.placement.placement][0])
        columns = (
            (MARGIN + 46, str(number), "ra"),
            (MARGIN + 150, f"{bar.time_us:.0f} us", "ra"),
            (MARGIN + 230, f"{bar.time_us / cost.time_ms / 10:.1f} %", "ra"),
            (MARGIN + 256, bar.placement.op_type, "la"),
            (MARGIN + 456, f"bound by {bar.bound}", "la"),
        )
        for left, text, anchor in columns:
            draw.text((left, y - 2), text, INK, font(16), anchor=anchor)
        name = bar.placement.operation + (f"  ({', '.join(bar.placement.rules)})" if bar.placement.rules else "")
        draw.text((MARGIN + 656, y - 2), shortened(draw, name, 16, WIDTH - 2 * MARGIN - 656), INK, font(16))


def shortened(draw: ImageDraw.ImageDraw, text: str, points: int, room: float) -> str:
    """Return the text, shortened in the middle until it fits ``room`` pixels."""
    if draw.textlength(text, font(points)) <= room:
        return text
    keep = len(text) - 1
    while keep > 4 and draw.textlength(text[: keep // 2] + "…" + text[-(keep // 2) :], font(points)) > room:
        keep -= 1
    return text[: keep // 2] + "…" + text[-(keep // 2) :]


def font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(points)
