"""The result of an ANE analysis: frozen data, no rendering, no arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AneReport", "CostEstimate", "Finding", "Measurement", "OpCost", "OpPlacement", "Segment", "Totals"]

Severity = Literal["error", "warning", "info"]
Evidence = Literal["documented", "measured", "folklore", "unconfirmed"]
Placement = Literal["expected", "at-risk", "off", "rejected"]
"""``rejected``: nothing known against the operation itself, but the ANE's compiler refuses the whole function."""
Bound = Literal["compute", "memory", "dispatch", "transfer"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule's finding about one operation, or on the whole program."""

    rule: str
    """Rule id, e.g. ``A07``."""
    name: str
    """Readable rule name, e.g. ``dynamic-shape``."""
    severity: Severity
    evidence: Evidence
    message: str
    """One line: the finding with its values, and what to write instead."""
    operation: str | None
    """Name of the value the operation produces; None for the whole program."""
    op_type: str | None
    location: str | None
    """Location in the program, e.g. ``main/op 12``."""
    module: str | None
    """Dotted path of the torch module it came from, when the export recorded it."""
    families: tuple[str, ...]
    """Hardware families of the target that it applies to, e.g. ``("H13",)``."""
    source: str


@dataclass(frozen=True, kw_only=True)
class OpPlacement:
    """The expected placement of an operation and the rules behind it; constants are left out."""

    operation: str
    op_type: str
    location: str
    placement: Placement
    rules: tuple[str, ...]
    """Rules behind ``at-risk``, ``off`` or ``rejected``; empty means no known blocker."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of operations, in program order, on the same side."""

    on_ane: bool
    first: str
    last: str
    operations: int
    bytes_in: int
    """Bytes of activations that cross its border inwards."""
    bytes_out: int


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Size of a program."""

    operations: int
    layout_operations: int
    """reshape, transpose, slices, casts, squeezes and the like."""
    multiply_adds: int
    parameters: int
    weight_bytes: int
    activation_bytes: int
    """Sum of all produced activations, as typed."""
    padded_activation_bytes: int
    """The same with the last axis padded to 64 bytes."""
    compressed_share: float
    """Share of weight elements stored compressed, 0..1."""
    quantized_share: float = 0.0
    """Share of the multiply-adds whose activations and weights are both 8-bit integers, 0..1."""


@dataclass(frozen=True, kw_only=True)
class OpCost:
    """Estimated time of one operation on one family."""

    operation: str
    op_type: str
    time_us: float
    bound: Bound


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """A roofline over the predicted segments, for one family. For ranking; never a promise of milliseconds."""

    family: str
    time_ms: float
    compute_ms: float
    memory_ms: float
    dispatch_ms: float
    transfer_ms: float
    operations: tuple[OpCost, ...]
    """Every operation, in program order."""
    calibration: str
    """How far the model was off on published figures: median ratio, rank correlation, number of figures."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Measured latency of this very artifact on one device, from a benchmark record."""

    device: str
    family: str
    system: str
    compute_units: str
    stage: str
    """``encoder`` or ``decoder``."""
    median_ms: float
    smallest_ms: float
    largest_ms: float
    samples: int
    record: str
    """File name of the record."""


@dataclass(frozen=True, kw_only=True)
class AneReport:
    """The analysis of one function of one program."""

    file: str
    function: str
    opset: str
    artifact_sha256: str | None
    tool_version: str
    target: str
    families: tuple[str, ...]
    findings: tuple[Finding, ...]
    placements: tuple[OpPlacement, ...]
    segments: tuple[Segment, ...]
    totals: Totals
    costs: tuple[CostEstimate, ...]
    measured: tuple[Measurement, ...] = ()
    """Measured beats estimated: shown before the estimates."""
    target_note: str = ""
    """Doubt about the family of the target's chip."""
    accuracy: str = ""
    """How often the rules agree with public reports of real devices."""
    schema_version: int = 1

    def worst(self) -> Severity | None:
        """Return the gravest severity among the findings."""
        levels: tuple[Severity, ...] = ("error", "warning", "info")
        present = {finding.severity for finding in self.findings}
        return next((level for level in levels if level in present), None)
