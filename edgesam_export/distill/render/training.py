"""A finished training run as text and as JSON data."""

from __future__ import annotations

from typing import Any

from edgesam_export.distill.training import TrainingResult

__all__ = ["result_document", "result_text", "summary"]

SHOWN = ("loss", "mse", "iou_first", "iou_last")


def last_line(result: TrainingResult) -> dict[str, float]:
    """Return the last line of the history; empty when there is none."""
    return result.history[-1] if result.history else {}


def result_text(result: TrainingResult) -> str:
    """Return the paths of the weights and of the run's other files."""
    files = "config.json, history.json, curves.png, samples/, checkpoints/"
    return f"weights  {result.weights}\nrun      {result.folder}: {files}"


def result_document(result: TrainingResult) -> dict[str, Any]:
    """Return paths, steps and the last line of the history as JSON data."""
    return {
        "weights": str(result.weights),
        "folder": str(result.folder),
        "steps": result.steps,
        "last": last_line(result),
    }


def summary(result: TrainingResult) -> str:
    """Return steps and last figures on one line."""
    last = last_line(result)
    return f"{result.steps} steps; " + ", ".join(f"{name} {last[name]:.4f}" for name in SHOWN if name in last)
