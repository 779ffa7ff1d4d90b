"""The cases of one record for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgesam_export.bench.render.summary import number
from edgesam_export.bench.statistics import NS_PER_MS
from edgesam_export.rendering import text_table

__all__ = ["case_table", "parity_text"]

HEADINGS = ("case", "encoder ms", "decoder ms", "end to end ms", "fps p50", "fps sustained", "parity", "result")
STAGES = ("encoder", "decoder", "end_to_end")


def case_table(record: Mapping[str, Any]) -> str:
    """Return a table of a record with one line for each case."""
    return text_table(HEADINGS, [case_cells(case) for case in record["cases"]])


def case_cells(case: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of one case."""
    medians = [case["stages"].get(stage, {}).get("p50") for stage in STAGES]
    times = [number(None if value is None else value / NS_PER_MS) for value in medians]
    rates = (number(case["fps_p50"]), number(case["fps_sustained"]))
    result = case["outcome"]
    if result == "ok" and case["validity"]["reasons"]:
        result = "not valid"
    return (case["id"], *times, *rates, parity_text(case.get("parity")), result)


def parity_text(parity: Mapping[str, Any] | None) -> str:
    """Return the smallest PSNR and the mask IoU of a case."""
    if not parity:
        return "-"
    if not all(stage.get("finite", True) for stage in parity.values()):
        return "NOT FINITE"
    levels = [stage["psnr_db"] for stage in parity.values() if stage.get("psnr_db") is not None]
    overlap = [f"IoU {stage['mask_iou']:.3f}" for stage in parity.values() if stage.get("mask_iou") is not None]
    return ", ".join([f"{min(levels):.1f} dB" if levels else "equal", *overlap])
