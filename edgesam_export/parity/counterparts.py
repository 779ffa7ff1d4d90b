"""What a candidate is held to, and the network as exported, which is held to the model before any file is."""

from __future__ import annotations

from collections.abc import Sequence

from edgesam_export.parity.reference import Reference
from edgesam_export.runners import Runner

__all__ = ["counterpart", "exported_networks", "original_reference"]

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


def exported_networks(candidates: Sequence[Runner], original: Reference) -> list[Runner]:
    """Return, for FP16 files in exact arithmetic, the modules they were traced from, with the model's own weights.

    Together with ``counterpart`` these prove in two steps that a file is the network: its weights are rounded, so it
    can only be compared with rounded ones, and those exist only in the rewritten modules. A rewrite or a wrapper that
    computes something else would be on both sides of that comparison; here it faces the model itself.
    """
    model = original.runner.model
    if model is None:
        return []
    from edgesam_export.runners.torch import ExportedModulesRunner

    return [
        ExportedModulesRunner(model, candidate.artifacts)
        for candidate in candidates
        if candidate.numerics == "fp32" and stores_fp16(candidate)
    ]


def counterpart(candidate: Runner, original: Reference) -> Reference:
    """Return what a candidate is held to: for FP16 files in exact arithmetic, PyTorch with the weights as stored.

    The weights come from the model, rounded as the format stores them, never from the file. What rounding them costs
    is checked by the other numerics, against the original.
    """
    model = original.runner.model
    if candidate.numerics != "fp32" or not stores_fp16(candidate) or model is None:
        return original
    from edgesam_export.runners.torch import ExportedModulesRunner, StoredWeightsRunner

    if isinstance(candidate, ExportedModulesRunner):
        return original
    return Reference(StoredWeightsRunner(model, candidate.artifacts), original.frame)
