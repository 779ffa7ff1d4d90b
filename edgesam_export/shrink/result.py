"""What a search found: a point for each way to store a model, and the one that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgesam_export.shrink.agreement import CONFIDENCE, Agreement
from edgesam_export.shrink.search import Goal
from edgesam_export.spec import Artifact, Recipe

__all__ = ["MB", "RECOVERED", "PackageFacts", "Point", "PointKind", "ShrinkResult", "by_size"]

PointKind = Literal["fp16", "uniform", "preset", "recipe"]
# 1: first version.
SCHEMA_VERSION = 1
MB = 1e6
RECOVERED = "recovered"
"""Name of the point with what was found on weights that were trained for it."""


@dataclass(frozen=True, kw_only=True)
class PackageFacts:
    """What the analysis says about packages that were written."""

    findings: Mapping[str, int]
    """Severity -> findings of encoder and decoder together."""
    estimate_ms: Mapping[str, float]
    """ANE family -> estimated time of encoder and decoder; weights count as expanded, however they are stored."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One way to store a model."""

    name: str
    kind: PointKind
    """Without compression, one scheme for all kernels, or a scheme for each."""
    bytes: int
    """Of all packages: measured where they were written, else at most."""
    held_out: Agreement
    search: Agreement | None = None
    """On the images that the search looked at."""
    facts: PackageFacts | None = None

    def keeps_more_than(self, other: Point) -> bool:
        """Return whether this point agrees more where both were searched."""
        return self.search is not None and other.search is not None and self.search.mean > other.search.mean

    def document(self) -> dict[str, Any]:
        """Return the point as JSON data."""
        document: dict[str, Any] = {"name": self.name, "kind": self.kind, "bytes": self.bytes}
        document["held_out"] = self.held_out.document()
        if self.search is not None:
            document["search"] = self.search.document()
        if self.facts is not None:
            document["findings"] = dict(self.facts.findings)
            document["estimate_ms"] = dict(self.facts.estimate_ms)
        return document


@dataclass(frozen=True, kw_only=True)
class ShrinkResult:
    """The result of a search."""

    model: str
    weights: str | None
    """SHA-256 of the checkpoint."""
    goal: Goal
    images: str
    target: str
    points: tuple[Point, ...]
    """Without compression, uniform schemes, presets, recipes: each by size, the largest first."""
    found: Point
    """The recipe that was asked for, one of ``points``."""
    recipe: Recipe
    artifacts: tuple[Artifact, ...]
    parity_passed: bool | None = None
    """FP32 arithmetic on the packages gives what PyTorch gives with the weights as stored; None: not checked."""
    compressed: Agreement | None = None
    """With ``--recover``: the held-out agreement of the same recipe before the weights were trained."""
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def discarded(self) -> Point | None:
        """What was trained and not kept, since it agreed no more than what it was trained from."""
        return next((one for one in self.points if one.name == RECOVERED and one is not self.found), None)

    @property
    def bound_kept(self) -> bool:
        """The held-out images confirm the least agreement that was asked for."""
        return self.goal.min_iou is None or self.found.held_out.mean >= self.goal.min_iou

    @property
    def passed(self) -> bool:
        return self.bound_kept and self.parity_passed is not False

    @property
    def best_uniform(self) -> Point | None:
        """Smallest uniform scheme that does as well: that keeps the bound, or that agrees as much as what was found."""
        least = self.found.held_out.mean if self.goal.min_iou is None else self.goal.min_iou
        good = [point for point in self.points if point.kind == "uniform" and point.held_out.mean >= least]
        return min(good, key=lambda point: point.bytes, default=None)

    def document(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        best = self.best_uniform
        return {
            "kind": "shrink",
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "weights_sha256": self.weights,
            "goal": {"min_iou": self.goal.min_iou, "max_bytes": self.goal.max_bytes},
            "confidence": CONFIDENCE,
            "images": self.images,
            "target": self.target,
            "points": [point.document() for point in self.points],
            "found": self.found.name,
            "best_uniform": None if best is None else best.name,
            "compressed_before_recovery": None if self.compressed is None else self.compressed.document(),
            "recipe": {component: dict(table) for component, table in self.recipe.components.items()},
            "artifacts": {artifact.component: artifact.sha256 for artifact in self.artifacts},
            "parity_passed": self.parity_passed,
            "bound_kept": self.bound_kept,
            "passed": self.passed,
            "files": dict(self.files),
        }


def by_size(points: Sequence[Point]) -> list[Point]:
    """Return points, the largest first."""
    return sorted(points, key=lambda point: -point.bytes)
