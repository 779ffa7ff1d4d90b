"""The result of a parity check as frozen data: ``check`` fills it, ``render`` shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgesam_export.parity.divergence import Divergence
from edgesam_export.parity.gates import Check
from edgesam_export.parity.ranges import RangeRow

__all__ = [
    "SCHEMA_VERSION",
    "ArtifactDigest",
    "CheckResult",
    "Explanation",
    "MaskImage",
    "Output",
    "ParityReport",
    "ParityRow",
    "Prompt",
]

# 1: first version.
SCHEMA_VERSION = 1

Component = Literal["encoder", "prompt_encoder", "decoder", "proposals"]
Owner = Literal["reference", "own"]
"""Whose embedding a decoder is given: the reference's, which isolates it, or the candidate's own."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of one component, and the inputs it was computed from."""

    name: str
    component: Component
    image: str
    prompt: str = ""
    embeddings: Owner | Literal[""] = ""


@dataclass(frozen=True, kw_only=True)
class ParityRow:
    """Comparison of one output of one component for one image and prompt."""

    candidate: str
    numerics: str
    component: Component
    embeddings: Owner | Literal[""]
    """Whose embedding the decoder was given; empty for the encoder."""
    image: str
    prompt: str
    """point, points, box, box+point, mask, or the name of a user's own; empty for the encoder."""
    output: str
    shape: tuple[int, ...]
    """Of what was compared: without the padding, where an output has some."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    problem: str = ""
    """Why the output fails whatever the gates: missing, wrong shape, not finite. Empty otherwise."""

    @property
    def passed(self) -> bool:
        return not self.problem and all(check.passed for check in self.checks)

    @property
    def label(self) -> str:
        """Component, embedding, output, image and prompt in words."""
        source = f" on {self.embeddings} embedding" if self.embeddings else ""
        return " ".join(filter(None, (self.component + source, self.output, self.image, self.prompt)))


@dataclass(frozen=True, kw_only=True)
class ArtifactDigest:
    """A file that was checked."""

    file: str
    format: str
    component: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a component fails a gate when no single operation is to blame."""

    candidate: str
    component: str
    text: str

    def __str__(self) -> str:
        return f"{self.candidate}: {self.component}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt in pixels of the source image; ``mask`` adds the reference's logits for the same points."""

    kind: Literal["point", "points", "box", "box+point", "mask"]
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    name: str = ""
    """What reports call it where an image has several prompts of a kind."""

    @property
    def label(self) -> str:
        """The name, or else the kind."""
        return self.name or self.kind


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskImage:
    """The best mask of both sides for one prompt, to be looked at. Not part of the stored report.

    Shapes: source uint8 (h, w, 3); reference and candidate bool (h, w); points (N, 2) and box in pixels of source
    """

    runner: str
    image: str
    prompt: Prompt
    source: np.ndarray
    reference: np.ndarray
    candidate: np.ndarray
    iou: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Findings about one candidate, or a part of them; parts add up."""

    rows: tuple[ParityRow, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    images: tuple[MaskImage, ...] = ()
    ranges: tuple[RangeRow, ...] = ()
    notes: tuple[str, ...] = ()
    """What was not compared, and why."""

    def __add__(self, other: CheckResult) -> CheckResult:
        return CheckResult(
            rows=self.rows + other.rows,
            divergences=self.divergences + other.divergences,
            explanations=self.explanations + other.explanations,
            images=self.images + other.images,
            ranges=self.ranges + other.ranges,
            notes=self.notes + other.notes,
        )


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """Result of ``check_parity``."""

    model: str
    tool_version: str
    reference: str
    artifacts: tuple[ArtifactDigest, ...]
    rows: tuple[ParityRow, ...]
    skipped: tuple[str, ...] = ()
    """What was not compared, and why."""
    differences: tuple[str, ...] = ()
    """Of another exporter's files from the profile that they are checked by."""
    divergences: tuple[Divergence, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    """Of the components that fail without a divergence."""
    ranges: tuple[RangeRow, ...] = ()
    """Operations nearest to the limit of their kind, the worst first."""
    schema_version: int = SCHEMA_VERSION
    images: tuple[MaskImage, ...] = field(default=(), repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """True when something was gated and every row passed."""
        return any(row.checks for row in self.rows) and all(row.passed for row in self.rows)

    @property
    def failures(self) -> tuple[ParityRow, ...]:
        return tuple(row for row in self.rows if not row.passed)

    @property
    def first_divergence(self) -> Divergence | None:
        """Where the error enters, of the first component that failed."""
        return self.divergences[0] if self.divergences else None
