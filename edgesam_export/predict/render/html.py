"""A profile as one self-contained HTML page: the time line of a run, then bars by kind and for the slowest steps."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from edgesam_export.mil.profiling import Profile
from edgesam_export.predict.render.table import SLOWEST, share, summary

__all__ = ["SUFFIX", "render"]

SUFFIX = ".html"
COLOURS = ("#3566a8", "#d98e32", "#4f9a5d", "#a3508c", "#5aa7b8", "#8a6d4f", "#b9bec7")
"""Of the most expensive kinds; the last one for all others."""
STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--ink:#16181d;--soft:#626a76;--line:#e3e6ea}
@media(prefers-color-scheme:dark){:root{--bg:#101216;--ink:#e9ebef;--soft:#9aa3b0;--line:#2b3038}}
body{margin:0 auto;max-width:1080px;padding:32px 20px 64px;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:24px;margin:0}h2{font-size:17px;margin:32px 0 10px}.soft{color:var(--soft)}
.line{display:flex;height:44px;border-radius:6px;overflow:hidden;background:var(--line)}.line i{display:block}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;text-align:left;border-bottom:1px solid var(--line)}td.n,th.n{text-align:right}
.bar{width:38%}.bar i{display:block;height:12px;border-radius:3px;min-width:1px}
"""


def render(profile: Profile) -> str:
    """Return the page."""
    colours = {kind.kind: COLOURS[min(rank, len(COLOURS) - 1)] for rank, kind in enumerate(profile.kinds)}
    spent = sum(step.time_ms for step in profile.steps) or 1.0
    line = "".join(
        f'<i style="width:{step.time_ms / spent:.4%};background:{colours[step.kind]}" '
        f'title="{escape(step.name)}: {escape(step.kind)}, {step.time_ms:.2f} ms"></i>'
        for step in profile.steps
    )
    kinds = [
        (kind.kind, str(kind.count), f"{kind.time_ms:.2f}", share(kind.time_ms, profile), kind.time_ms, kind.kind)
        for kind in profile.kinds
    ]
    slowest = [
        (
            step.name,
            f"{step.kind} {step.output}",
            f"{step.time_ms:.2f}",
            share(step.time_ms, profile),
            step.time_ms,
            step.kind,
        )
        for step in profile.slowest[:SLOWEST]
    ]
    return (
        f"<!doctype html><meta charset=utf-8><title>Profile</title><style>{STYLE}</style><h1>Where the time goes</h1>"
        f"<p class=soft>{escape(summary(profile))}</p><h2>In program order</h2><div class=line>{line}</div>"
        f"<h2>By kind of operation</h2>{table(('operation', 'steps'), kinds, colours)}"
        f"<h2>The slowest steps</h2>{table(('value', 'operation and type'), slowest, colours)}"
    )


def table(
    headings: tuple[str, str], rows: Iterable[tuple[str, str, str, str, float, str]], colours: dict[str, str]
) -> str:
    """Return a table whose rows end in a bar, the longest for the first row."""
    lines, longest = [], None
    for first, second, time, part, length, kind in rows:
        longest = longest or length or 1.0
        bar = f'<i style="width:{length / longest:.2%};background:{colours[kind]}"></i>'
        cells = f"<td>{escape(first)}<td>{escape(second)}<td class=n>{time}<td class=n>{part}<td class=bar>{bar}"
        lines.append(f"<tr>{cells}")
    head = "".join(f"<th>{heading}" for heading in headings)
    return f"<table><tr>{head}<th class=n>ms<th class=n>share<th>{''.join(lines)}</table>"
