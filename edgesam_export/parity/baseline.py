"""Comparison with an earlier report: in half precision, only what became worse fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from edgesam_export.errors import UsageError
from edgesam_export.parity.gates import Check
from edgesam_export.parity.report import ParityReport, ParityRow

__all__ = ["ALLOWANCES", "against_baseline"]

ALLOWANCES = {
    "psnr_db": 6.0,
    "visible_change": 0.005,
    "score_error": 0.005,
    "choice_loss": 1e-3,
    "mask_iou": 0.005,
    "best_mask_iou": 0.005,
    "sign_agreement": 5e-4,
    "cosine": 1e-3,
}
"""Metric -> by how much it may be worse than a baseline's: 6 dB are twice the error, others half of a gate's bound."""

Key = tuple[str, ...]


def against_baseline(
    report: ParityReport, baseline: ParityReport, allowances: Mapping[str, float] = ALLOWANCES
) -> ParityReport:
    """Return a report whose checks in half precision fail only when worse than ``baseline`` by more than allowed.

    Exact arithmetic asks whether the file is the network, which no earlier file answers: its checks stay. So do those
    of a row or metric that the baseline has not, or has no finite value of.

    Raises: UsageError when the baseline is of another model, or has none of the rows.
    """
    if baseline.model != report.model:
        raise UsageError(f"the baseline is of {baseline.model}, the files are of {report.model}; give one of theirs")
    before = {key_of(row): row for row in baseline.rows if row.numerics != "fp32"}
    if not any(key_of(row) in before for row in report.rows):
        raise UsageError("the baseline has no output of the same candidate, image and prompt in half precision")
    rows = tuple(
        replace(row, checks=tuple(relative(check, before.get(key_of(row)), allowances) for check in row.checks))
        for row in report.rows
    )
    failing = {(row.candidate, row.component) for row in rows if not row.passed}
    return replace(
        report,
        rows=rows,
        divergences=tuple(item for item in report.divergences if (item.candidate, item.component) in failing),
        explanations=tuple(item for item in report.explanations if (item.candidate, item.component) in failing),
        skipped=(*report.skipped, *(f"not in the baseline: {row.label}" for row in missing(rows, before))),
    )


def key_of(row: ParityRow) -> Key:
    return row.candidate, row.component, row.embeddings, row.image, row.prompt, row.output


def missing(rows: tuple[ParityRow, ...], before: Mapping[Key, ParityRow]) -> list[ParityRow]:
    """Return the rows in half precision that the baseline has not, at most a few."""
    return [row for row in rows if row.numerics != "fp32" and key_of(row) not in before][:5]


def relative(check: Check, before: ParityRow | None, allowances: Mapping[str, float]) -> Check:
    """Return a check whose bound is the baseline's value, worsened by what is allowed."""
    gate = check.gate
    value = math.nan if before is None else before.metrics.get(gate.metric, math.nan)
    if not math.isfinite(value) or gate.metric not in allowances:
        return check
    if gate.minimum is not None:
        return replace(check, gate=replace(gate, minimum=value - allowances[gate.metric]))
    return replace(check, gate=replace(gate, maximum=value + allowances[gate.metric]))
