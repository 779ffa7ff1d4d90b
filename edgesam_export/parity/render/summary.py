"""Numbers and words of a parity report that several formats show; no markup."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgesam_export.parity.gates import Check, Gate
from edgesam_export.parity.ranges import RangeRow
from edgesam_export.parity.report import ParityReport, ParityRow

__all__ = [
    "FAILURES_SHOWN",
    "HEADINGS",
    "GateLine",
    "bound",
    "cells",
    "component_of",
    "gate_lines",
    "measured",
    "near_limits",
    "reason_of",
    "verdict",
]

UNITS = {"psnr_db": "dB"}
OF_MASKS = ("mask_iou", "sign_agreement", "visible_change")
RANGE_SHOWN = 0.5
"""Share of its limit from which on an operation is shown in summaries; the JSON has the nearest, whatever they are."""
FAILURES_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class GateLine:
    """All rows of one candidate, component and embedding that a gate was applied to, and the worst of them."""

    candidate: str
    component: str
    embeddings: str
    gate: Gate
    count: int
    worst: Check
    row: ParityRow
    """The row that the worst value comes from."""

    @property
    def passed(self) -> bool:
        return self.worst.passed

    @property
    def location(self) -> str:
        """Image and prompt of the worst value."""
        return " ".join(filter(None, (self.row.image, self.row.prompt)))


def gate_lines(report: ParityReport) -> list[GateLine]:
    """Return a line for each candidate, component, embedding and gate; those that failed come last."""
    groups: dict[tuple[str, ...], list[tuple[Check, ParityRow]]] = {}
    for row in report.rows:
        for check in row.checks:
            kind = "minimum" if check.gate.minimum is not None else "maximum"
            gate = check.gate.output, check.gate.metric, kind  # a baseline gives every row a bound of its own
            groups.setdefault((row.candidate, row.component, row.embeddings, *gate), []).append((check, row))
    lines = []
    for (candidate, component, embeddings, *_), found in groups.items():
        worst, row = max(found, key=lambda pair: pair[0].gate.shortfall(pair[0].value))
        lines.append(
            GateLine(
                candidate=candidate,
                component=component,
                embeddings=embeddings,
                gate=worst.gate,
                count=len(found),
                worst=worst,
                row=row,
            )
        )
    return sorted(lines, key=lambda line: not line.passed)


def measured(metric: str, value: float) -> str:
    """Return a value with its unit; shares are rounded down, so that none is shown as the bound that it missed."""
    if not math.isfinite(value):
        return str(value)
    if metric == "psnr_db":
        return f"{value:.1f} {UNITS[metric]}"
    if metric.endswith("iou") or metric == "sign_agreement":
        return f"{math.floor(value * 1e5) / 1e5:.5f}"
    return f"{value:.2g}"


def bound(gate: Gate) -> str:
    """Return a gate as text: ``>= 40 dB``."""
    unit = f" {UNITS[gate.metric]}" if gate.metric in UNITS else ""
    sign = ">=" if gate.minimum is not None else "<="
    return f"{sign} {gate.bound:g}{unit}"


def verdict(report: ParityReport) -> str:
    """Return the last line of every summary."""
    failed, total = len(report.failures), len(report.rows)
    if report.passed:
        return f"parity: all {total} outputs within their gates"
    divergence = f"; first divergence: {report.first_divergence}" if report.first_divergence else ""
    return f"parity: {failed} of {total} outputs out of tolerance{divergence}"


def component_of(line: GateLine) -> str:
    """Return the component; ``decoder end to end`` on the candidate's own embedding."""
    return line.component + {"own": " end to end", "reference": "", "": ""}[line.embeddings]


def near_limits(report: ParityReport) -> list[RangeRow]:
    """Return the operations that summaries show, see ``RANGE_SHOWN``."""
    return [row for row in report.ranges if row.share >= RANGE_SHOWN]


HEADINGS = ("candidate", "component", "output", "metric", "worst", "gate", "at", "result")


def cells(line: GateLine) -> tuple[str, ...]:
    """Return a line's cells under ``HEADINGS``."""
    gate = line.gate
    value = measured(gate.metric, line.worst.value)
    result = "ok" if line.passed else "FAIL"
    return line.candidate, component_of(line), gate.output, gate.metric, value, bound(gate), line.location, result


def reason_of(row: ParityRow) -> str:
    """Return why a row failed, in words."""
    failed = [c for c in row.checks if not c.passed]
    broken = [f"{c.gate.metric} {measured(c.gate.metric, c.value)}, gate {bound(c.gate)}" for c in failed]
    if any(check.gate.metric in OF_MASKS for check in failed) and "sign_margin" in row.metrics:
        broken.append(f"signs differ only below {row.metrics['sign_margin']:.2%} of the rms logit")
    return row.problem or "; ".join(broken)
