"""What a candidate is held to, and the network as exported, which is held to the model before any file is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from edgesam_export.parity.reference import Reference
from edgesam_export.runners import Runner

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["Comparison", "comparisons", "original_reference"]

GRIDS = (1.0, 1.37)
"""Samples of the noise of half precision: on the FP16 numbers, and on as many others."""


def original_reference(runner: Runner, candidates: Sequence[Runner]) -> Reference:
    """Return the reference, with samples of half precision when a candidate computes in it."""
    samples: list[Runner] = []
    if runner.model is not None and any(candidate.numerics != "fp32" for candidate in candidates):
        from edgesam_export.parity.half_precision import HalfPrecisionRunner

        samples = [HalfPrecisionRunner(runner.model, grid=grid, score=runner.score_kind) for grid in GRIDS]
    return Reference(runner, runner.info.frame, samples)


def stores_fp16(candidate: Runner) -> bool:
    """Return whether files behind a candidate hold weights in FP16."""
    return "fp16" in {artifact.contract.get("precision") for artifact in candidate.artifacts}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A candidate and what it is held to, which is made when it is needed: it may take as much memory as the model."""

    candidate: Runner
    reference: Callable[[], Reference]


def comparisons(candidates: Sequence[Runner], original: Reference) -> list[Comparison]:
    """Return every candidate with its reference: the model, for FP16 files in exact arithmetic two steps to it.

    Their weights are rounded, so they can only be compared with weights rounded alike, which the network has as it was
    exported: rewritten modules, or an ONNX graph of folded constants. A rewrite, a wrapper or a conversion that
    computes something else would be on both sides of that comparison; so the network as exported, with the model's own
    weights, is a candidate itself, before all others. The weights come from the model, rounded as the format stores
    them, never from the file. What rounding them costs is checked by the other numerics, against the model.
    """
    networks, files = [], []
    model = original.runner.model
    for candidate in candidates:
        held = partial(same, original)
        saved = candidate.model is None  # else it is such a step itself
        if candidate.numerics == "fp32" and saved and stores_fp16(candidate) and model is not None:
            exported, stored = two_steps(candidate, model)
            networks.append(Comparison(candidate=exported, reference=held))
            held = partial(stored_reference, stored, original)
        files.append(Comparison(candidate=candidate, reference=held))
    return [*networks, *files]


def two_steps(candidate: Runner, model: SamModel) -> tuple[Runner, Callable[[], Runner]]:
    """Return the network as it was exported to a candidate's format, and what makes it with the weights as stored."""
    if candidate.artifacts[0].format == "onnx":
        from edgesam_export.runners.onnx_exact import ExportedGraphsRunner, StoredGraphsRunner

        graphs = ExportedGraphsRunner(model, candidate.artifacts)
        return graphs, partial(StoredGraphsRunner, graphs)
    from edgesam_export.runners.torch import ExportedModulesRunner, StoredWeightsRunner

    modules = ExportedModulesRunner(model, candidate.artifacts)
    return modules, partial(StoredWeightsRunner, model, candidate.artifacts, modules)


def same(original: Reference) -> Reference:
    """Return the model itself as the reference."""
    return original


def stored_reference(stored: Callable[[], Runner], original: Reference) -> Reference:
    """Return a reference that computes with weights as files store them, in the original's frame."""
    return Reference(stored(), original.frame)
