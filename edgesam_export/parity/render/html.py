"""Parity report as one self-contained HTML page with images; no scripts, no fonts, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from PIL import Image

from edgesam_export.imaging.overlay import overlay
from edgesam_export.parity.divergence import Divergence
from edgesam_export.parity.metrics import grown
from edgesam_export.parity.ranges import RangeRow
from edgesam_export.parity.render.summary import (
    GateLine,
    bound,
    component_of,
    gate_lines,
    measured,
    near_limits,
    reason_of,
    verdict,
)
from edgesam_export.parity.report import Explanation, MaskImage, ParityReport

__all__ = ["SUFFIX", "difference", "render"]

SUFFIX = ".html"

MISSING, EXTRA = (255, 140, 0), (214, 60, 255)
"""Colours of what only the reference has, and of what only the candidate has."""
FAILURES_SHOWN = 40

STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#16181d;--soft:#626a76;--line:#e3e6ea;--ok:#12784a;
--okbg:#dcf5e7;--bad:#b3261e;--badbg:#fde5e2;--bar:#5b7cfa;--missing:#ff8c00;--extra:#d63cff}
@media(prefers-color-scheme:dark){:root{--bg:#101216;--card:#191c22;--ink:#e9ebef;--soft:#9aa3b0;--line:#2b3038;
--ok:#6fdca4;--okbg:#12341f;--bad:#ff9a90;--badbg:#46191a;--bar:#7c97ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:18px;margin:40px 0 12px}
p{margin:4px 0}.soft{color:var(--soft)}code{font:13px/1.4 ui-monospace,SFMono-Regular,Menlo,monospace}
.pill{display:inline-block;padding:1px 10px;border-radius:99px;font-weight:600;font-size:13px;white-space:nowrap}
h1 .pill{font-size:16px;padding:3px 14px;margin-right:8px;vertical-align:3px}
.ok{color:var(--ok);background:var(--okbg)}.bad{color:var(--bad);background:var(--badbg)}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;overflow:auto}
.note .card{border:0;margin:0 -14px -8px;border-radius:0}
.note{padding:14px 18px;border-left:4px solid var(--bad);margin:12px 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 12px;text-align:left;border-bottom:1px solid var(--line);overflow-wrap:break-word}
.at,td code{overflow-wrap:anywhere}.at{min-width:9em}tr:last-child td{border-bottom:0}
th{font-size:12px;color:var(--soft);font-weight:600;letter-spacing:.02em}
td.n,th.n{text-align:right;white-space:nowrap}
.bar{display:block;width:120px;height:8px;border-radius:4px;background:var(--line);overflow:hidden}
.bar i{display:block;height:100%;background:var(--bar)}.bar.bad i{background:var(--bad)}
.prompt{padding:14px 18px 18px;margin:0 0 14px}.prompt h3{font-size:15px;margin:0 0 10px}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(420px,100%),1fr));gap:14px 28px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:10px}
figure{margin:0}figure img{width:100%;display:block;border-radius:8px}
figcaption{font-size:13px;color:var(--soft);margin-top:5px}figcaption b{color:var(--ink);font-weight:600}
.key{display:inline-block;width:10px;height:10px;border-radius:3px;margin:0 5px 0 12px}
"""


def render(report: ParityReport) -> str:
    """Return the whole page."""
    state = pill(report.passed, "passed", "failed")
    made = f"edgesam-export {escape(report.tool_version)}, reference {escape(report.reference)}"
    sections = [
        f"<h1>{state} Parity of {escape(report.model)}</h1><p>{escape(verdict(report))}</p><p class=soft>{made}</p>",
        *(divergence_note(item) for item in report.divergences),
        *(explanation_note(item) for item in report.explanations),
        gates_table(gate_lines(report)),
        gallery(report.images),
        failures_table(report),
        ranges_table(near_limits(report)),
        bullets("Not as in the profile", report.differences),
        bullets("Not compared", report.skipped),
        files_table(report),
    ]
    title = f"Parity of {escape(report.model)}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main>\n{chr(10).join(filter(None, sections))}\n</main></body></html>\n"
    )


def pill(passed: bool, yes: str = "ok", no: str = "FAIL") -> str:
    """Return a result as a coloured word."""
    return f"<span class='pill {'ok' if passed else 'bad'}'>{yes if passed else no}</span>"


def html_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numeric: Sequence[int] = ()) -> str:
    """Return a table in a card; cells are HTML, columns in ``numeric`` are aligned to the right and never wrapped."""

    def cell(tag: str, column: int, content: str) -> str:
        return f"<{tag}{' class=n' if column in numeric else ''}>{content}</{tag}>"

    head = "".join(cell("th", column, content) for column, content in enumerate(headings))
    body = "".join(f"<tr>{''.join(cell('td', *pair) for pair in enumerate(row))}</tr>\n" for row in rows)
    return f"<div class=card><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"


def gates_table(lines: Sequence[GateLine]) -> str:
    """Return the worst value of every gate; the result comes first, where no narrow window hides it."""
    rows = [
        (
            pill(line.passed),
            escape(line.candidate),
            component_of(line),
            f"{escape(line.gate.output)} <span class=soft>{line.gate.metric}</span>",
            f"<b>{measured(line.gate.metric, line.worst.value)}</b>",
            escape(bound(line.gate)),
            f"<div class=at>{escape(line.location)}</div>",
            str(line.count),
        )
        for line in lines
    ]
    headings = ("result", "candidate", "component", "output", "worst", "gate", "worst at", "values")
    return "<h2>Gates</h2>" + html_table(headings, rows, numeric=(4, 5, 7))


def failures_table(report: ParityReport) -> str:
    """Return the failed rows, as many as one can read; empty without any."""
    if not report.failures:
        return ""
    rows = [
        (escape(row.candidate), f"<div class=at>{escape(row.label)}</div>", escape(reason_of(row)))
        for row in report.failures[:FAILURES_SHOWN]
    ]
    hidden = len(report.failures) - len(rows)
    more = f"<p class=soft>and {hidden} more, in the JSON</p>" if hidden else ""
    return f"<h2>Out of tolerance</h2>{html_table(('candidate', 'where', 'why'), rows)}{more}"


def divergence_note(found: Divergence) -> str:
    """Return the operation at which the error enters, and its runners-up."""
    suspects = [
        (
            str(item.index),
            f"<code>{escape(item.operation)}</code>",
            escape(item.type),
            f"<code>{escape(item.module)}</code>",
            f"{item.operand_error:.2g}",
            f"{item.error:.2g}",
        )
        for item in found.suspects
    ]
    headings = ("op", "name", "type", "module", "error in", "error out")
    rest = html_table(headings, suspects, numeric=(0, 4, 5)) if suspects else ""
    where = f"{escape(found.candidate)}, {escape(found.component)}"
    others = f"<p class=soft>Operations that raise the error most on the way:</p>{rest}" if rest else ""
    return f"<div class='card note'><p><b>First divergence</b> in {where}</p><p>{escape(str(found))}</p>{others}</div>"


def explanation_note(found: Explanation) -> str:
    """Return why a component fails without an operation to blame."""
    where = f"{escape(found.candidate)}, {escape(found.component)}"
    return f"<div class='card note'><p><b>No single operation</b> in {where}</p><p>{escape(found.text)}</p></div>"


PROMPTS_SHOWN = 40
"""Most prompts whose masks a page shows, the failed ones first: of a user's thousands it would be gigabytes."""


def gallery(images: Sequence[MaskImage]) -> str:
    """Return a card for each image and prompt: input, reference, then mask and difference of each candidate."""
    if not images:
        return ""
    groups: dict[tuple[str, str], list[MaskImage]] = {}
    for image in images:
        groups.setdefault((image.image, image.prompt.label), []).append(image)
    legend = (
        "<p class=soft>Best mask by the reference's score, within the image. Differences are drawn thicker:"
        "<span class=key style='background:var(--missing)'></span>missing in the candidate"
        "<span class=key style='background:var(--extra)'></span>only in the candidate</p>"
    )
    shown = sorted(
        groups, key=lambda key: (all(one.passed for one in groups[key]), min(one.iou for one in groups[key]))
    )
    chosen = set(shown[:PROMPTS_SHOWN])
    if len(groups) > len(chosen):
        legend += f"<p class=soft>The {len(chosen)} prompts that differ most, of {len(groups)}.</p>"
    cards = (prompt_card(*key, group) for key, group in groups.items() if key in chosen)
    return f"<h2>Masks</h2>{legend}" + "\n".join(cards)


def prompt_card(name: str, prompt: str, images: Sequence[MaskImage]) -> str:
    """Return the card of one image and prompt."""
    first = images[0]
    nothing = np.zeros_like(first.reference)
    pairs = [
        figure(drawn(first, nothing), "<b>input</b>", f"{name} with prompt {prompt}")
        + figure(drawn(first, first.reference), "<b>reference</b>", "reference mask"),
    ]
    for image in images:
        changed = int(np.count_nonzero(image.reference != image.candidate))
        iou, mark = measured("mask_iou", image.iou), "" if image.passed else pill(False)
        mask = figure(
            drawn(image, image.candidate), f"<b>{escape(image.runner)}</b> IoU {iou} {mark}", f"mask of {image.runner}"
        )
        delta = f"{changed} of {image.reference.size} pixels differ" if changed else "no pixel differs"
        pairs.append(mask + figure(difference(image), delta, f"difference of {image.runner}"))
    strip = "".join(f"<div class=pair>{pair}</div>" for pair in pairs)
    title = f"{escape(name)} · {escape(prompt)}"
    return f"<div class='card prompt'><h3>{title}</h3><div class=strip>{strip}</div></div>"


def drawn(image: MaskImage, mask: np.ndarray) -> np.ndarray:
    """Return the source image with a mask and the prompt over it. Shapes: uint8 (h, w, 3)"""
    prompt = image.prompt
    return overlay(image.source, mask, points=prompt.points, labels=prompt.labels, box=prompt.box)


def difference(image: MaskImage) -> np.ndarray:
    """Return the greyed image with the pixels on which both masks disagree, grown by one so that a lone one shows.

    Shapes: returns uint8 (h, w, 3)
    """
    grey = image.source.mean(axis=2, keepdims=True) * 0.35 + 60
    canvas = np.repeat(grey, 3, axis=2).astype(np.uint8)
    canvas[grown(image.reference & ~image.candidate)] = MISSING
    canvas[grown(image.candidate & ~image.reference)] = EXTRA
    return canvas


def figure(pixels: np.ndarray, caption: str, alternative: str) -> str:
    """Return an image inside the page, a JPEG of a few kilobytes, and its caption (HTML)."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=82, optimize=True)
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    source = f"data:image/jpeg;base64,{encoded}"
    return (
        f'<figure><img src="{source}" alt="{escape(alternative, quote=True)}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def ranges_table(rows: Sequence[RangeRow]) -> str:
    """Return the operations near the limit of their kind; empty without any."""
    if not rows:
        return ""
    cells = [
        (
            escape(row.component),
            f"<code>{escape(row.operation)}</code> <span class=soft>{escape(row.type)}</span>",
            f"<code>{escape(row.module)}</code>",
            row.rule,
            f"{row.magnitude:.4g}",
            f"{row.limit:g}",
            f"<span class='bar {'bad' if row.share >= 1 else ''}'><i style='width:{min(row.share, 1):.0%}'></i></span>",
        )
        for row in rows
    ]
    headings = ("component", "operation", "module", "rule", "largest", "limit", "share")
    return "<h2>Near the limits of FP16 and the ANE</h2>" + html_table(headings, cells, numeric=(4, 5))


def bullets(heading: str, lines: Sequence[str]) -> str:
    """Return a heading and a list; empty without lines."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h2>{heading}</h2><ul>{items}</ul>" if lines else ""


def files_table(report: ParityReport) -> str:
    """Return the files that were checked, by digest; empty without any."""
    rows = [(escape(f.file), f.format, f.component, f"<code>{escape(f.sha256)}</code>") for f in report.artifacts]
    return "<h2>Files</h2>" + html_table(("file", "format", "component", "sha256"), rows) if rows else ""
