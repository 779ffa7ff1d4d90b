"""Tables and curve of docs/parity.md from benchmarks/gate_roc.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
PAGE, CURVE = DOCS / "parity.md", DOCS / "gates.svg"
BEGIN, END = "<!-- gates: begin, written by make gate-roc -->", "<!-- gates: end -->"
GATE = 0.01
FORMATS = {"coreml": "Core ML", "onnx": "ONNX", "onnx fp16": "ONNX in FP16"}
CURVES = {"weight bits": "#5b7cfa", "result bits": "#12784a", "compression": "#ff8c00", "precision": "#d63cff"}
SIZE, MARGIN = (660, 360), 64
LEAST_X, LEAST_Y, MOST = 1e-4, 1e-5, 1.0

Case = dict[str, Any]


def write_page(record: dict[str, Case]) -> None:
    """Write the tables between their marks, and the curve beside the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{tables(list(record.values()))}\n{END}{after}", encoding="utf-8")
    CURVE.write_text(curve(list(record.values())), encoding="utf-8")


def tables(cases: Sequence[Case]) -> str:
    """The three tables in Markdown."""
    parts = [totals(cases), correct_files(cases), doses(cases)]
    return "\n\n".join(parts)


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(headings)} |", "|" + " --- |" * len(headings)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def totals(cases: Sequence[Case]) -> str:
    """How many cases of each kind there are, and how many the gates got wrong."""
    rows = []
    for name, kind, wrong in (
        ("correct files", "correct", False),
        ("wrong weights", "weights", True),
        ("wrong graphs", "graph", True),
    ):
        for format in sorted({case["format"] for case in cases if case["kind"] == kind}):
            found = [case for case in cases if (case["kind"], case["format"]) == (kind, format)]
            mistakes = [case for case in found if case["passed"] is wrong]
            label = ("missed: " if wrong else "false alarms: ") + str(len(mistakes))
            models = ", ".join(f"`{model}`" for model in dict.fromkeys(sorted(case["model"] for case in found)))
            rows.append((f"{name}, {FORMATS[format]}", str(len(found)), label, models))
    return markdown(("what", "exports", "mistakes", "models"), rows)


def correct_files(cases: Sequence[Case]) -> str:
    """The correct files: how near they come to the gates, and what the IoU of all masks would have said."""
    rows = []
    for case in sorted(
        (case for case in cases if case["kind"] == "correct"), key=lambda c: (c["model"], c["weights"], c["format"])
    ):
        exact = [value for name, value in case["worst"].items() if name.endswith("masks: psnr_db") and "fp32" in name]
        half = any("fp16" in name and "fp32" not in name for name in case["candidates"])
        rows.append(
            (
                f"`{case['model']}`",
                case["weights"],
                case["format"],
                f"{min(map(float, exact)):.0f} dB" if exact else "-",
                share(case["visible_change"]) if half else "-",
                f"{float(case['noise_ratio']):.1f}" if half else "-",
                f"{float(case['mask_iou']):.4f}" if half else "-",
            )
        )
    headings = ("model", "weights", "format", "logits, exact", "visible change", "error / noise", "worst mask IoU")
    return markdown(headings, rows)


def doses(cases: Sequence[Case]) -> str:
    """Faults of precision, compression and the points of the curve, by the change of the masks."""
    found = [case for case in cases if case["kind"] in CURVES]
    order = sorted(found, key=lambda c: (c["model"], list(CURVES).index(c["kind"]), c["what"]))
    rows = [
        (
            f"`{case['model']}`",
            case["kind"],
            case["what"],
            f"{float(case['best_mask_iou']):.4f}" if not case["problems"] else "not finite",
            share(case["visible_change"]) if not case["problems"] else "-",
            result(case),
        )
        for case in order
    ]
    return markdown(("model", "what", "dose", "best mask, worst IoU", "visible change", "result"), rows)


def result(case: Case) -> str:
    """What the gates say of a case: passes, is not the network, or is flagged by these metrics."""
    failed = [one for one in case["failed"] if "fp32" not in one["candidate"]]
    if failed:
        return "flagged by " + ", ".join(dict.fromkeys(one["metric"] for one in failed))
    return "passes" if case["passed"] else "passes; fails in exact arithmetic: its weights are other ones"


def share(value: Any) -> str:
    """A share in percent."""
    return f"{100 * float(value):.2f} %"


def curve(cases: Sequence[Case]) -> str:
    """The change of the mask a user gets, by IoU, against what the gate measures: an SVG."""
    width, height = SIZE
    marks = []
    for kind, colour in CURVES.items():
        for case in cases:
            if case["kind"] == kind and not case["problems"]:
                x, y = at_x(1 - float(case["best_mask_iou"])), at_y(float(case["visible_change"]))
                fill = colour if result(case).startswith("flagged") else "none"
                marks.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
                )
    axis = [f'<path d="M{MARGIN} 16V{height - MARGIN}H{width - 30}" fill="none" stroke="#626a76"/>']
    for exponent in range(round(math.log10(LEAST_X)), 1):
        axis.append(text(at_x(10.0**exponent), height - MARGIN + 18, f"{100 * 10.0**exponent:g} %", "middle"))
    for exponent in range(round(math.log10(LEAST_Y)), 1):
        axis.append(text(MARGIN - 6, at_y(10.0**exponent) + 4, f"{100 * 10.0**exponent:g} %", "end"))
    line = at_y(GATE)
    axis.append(f'<path d="M{MARGIN} {line:.1f}H{width - 30}" stroke="#b3261e" stroke-dasharray="6 4"/>')
    axis.append(text(width - 34, line - 6, "gate", "end"))
    axis.append(text(width / 2, height - 12, "1 - IoU of the best mask, worst of all prompts", "middle"))
    axis.append(text(MARGIN + 8, 24, "visible change", "start"))
    for number, (kind, colour) in enumerate(CURVES.items()):
        y = 46 + 18 * number
        axis.append(
            f'<circle cx="{MARGIN + 16}" cy="{y - 4}" r="5" fill="{colour}"/>' + text(MARGIN + 28, y, kind, "start")
        )
    body = "\n".join([*axis, *marks])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui,sans-serif" '
        f'font-size="12" fill="#626a76">\n<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def text(x: float, y: float, words: str, anchor: str) -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def at_x(value: float) -> float:
    """Position of a share on the horizontal axis, logarithmic."""
    left = math.log10(max(value, LEAST_X) / LEAST_X) / math.log10(MOST / LEAST_X)
    return MARGIN + left * (SIZE[0] - 30 - MARGIN)


def at_y(value: float) -> float:
    """Position of a share on the vertical axis, logarithmic."""
    up = math.log10(max(value, LEAST_Y) / LEAST_Y) / math.log10(MOST / LEAST_Y)
    return SIZE[1] - MARGIN - up * (SIZE[1] - 16 - MARGIN)
