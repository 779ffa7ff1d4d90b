"""A second executor of the same files, written by others: its FP32 results against PyTorch, and ours against its.

Apple's interpreter executes Core AI assets here. It sums FP16 products in FP16, so it only says something about FP32:
files in FP16 are represented by a twin, a fresh export of the same model with the same options but the precision. Both
executors get the very same inputs, which is why their agreement does not depend on what either did before.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgesam_export.artifacts import config_of
from edgesam_export.formats import find_format
from edgesam_export.parity.gates import Check, Gate
from edgesam_export.parity.outputs import Pair, measure
from edgesam_export.parity.reference import Reference
from edgesam_export.parity.report import ParityRow
from edgesam_export.runners import ArtifactRunner, Runner, runner_of
from edgesam_export.spec import Artifact, PackageConfig, Progress

__all__ = ["WitnessRunner", "agreement_rows", "shown_to", "witness_runners"]

Shown = TypeVar("Shown")
AGREEMENT = "both executors fp32"
IMAGES = 1
"""Images that a witness sees: Apple's interpreter takes up to a minute for an encoder that takes ours a second."""
AGREEMENT_DB = 100.0
"""Two implementations of exact arithmetic differ in the order of summation and in the last bits of functions such as
exp: 108 to 150 dB on this project's networks."""
BY_VALUE = {"scores": "max_abs_error", "object_score": "presence_error"}
"""Outputs of a few numbers -> the metric that is gated instead."""
SCORE_ERROR = 1e-4
"""As between a file and PyTorch. Of scores only predicted IoUs are compared: stability counts logits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """What both executors made of the same inputs."""

    component: str
    ours: dict[str, np.ndarray]
    theirs: dict[str, np.ndarray]


class WitnessRunner(ArtifactRunner):
    """Runs FP32 files in both executors; its results are the witness's, and both are kept in ``calls``."""

    def __init__(self, artifacts: Sequence[Artifact], prefix: str) -> None:
        super().__init__(artifacts)
        self.ours, self.theirs = (open_files(self.artifacts, numerics) for numerics in (self.numerics, prefix))
        self.name = self.theirs.name
        self.calls: list[Call] = []
        self.folder: tempfile.TemporaryDirectory[str] | None = None

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component twice; the witness's outputs by name."""
        call = Call(component=component, ours=self.ours.run(component, feed), theirs=self.theirs.run(component, feed))
        self.calls.append(call)
        return call.theirs

    def release(self) -> None:
        """Free both executors, and remove the twin that was exported for this runner."""
        self.ours.release()
        self.theirs.release()
        if self.folder is not None:
            self.folder.cleanup()


def open_files(artifacts: Sequence[Artifact], numerics: str) -> ArtifactRunner:
    """Return a runner of exported files."""
    runner = runner_of(artifacts, numerics=numerics)
    assert isinstance(runner, ArtifactRunner)
    return runner


def witness_runners(
    candidates: Sequence[Runner], original: Reference, progress: Progress | None = None
) -> list[WitnessRunner]:
    """Return a witness for each candidate in exact arithmetic whose class has one.

    Files that compute in FP16 have none when the reference is no model, since no twin can be exported.
    """
    found = []
    for candidate in candidates:
        if not candidate.witness or candidate.numerics != "fp32":
            continue
        if {artifact.contract["precision"] for artifact in candidate.artifacts} == {"fp32"}:
            found.append(WitnessRunner(candidate.artifacts, candidate.witness))
        elif original.runner.model is not None:
            if progress:
                progress(0, 0, "exporting the FP32 twin")
            found.append(twin_of(candidate, original))
    return found


def twin_of(candidate: Runner, original: Reference) -> WitnessRunner:
    """Return the witness of a candidate's FP32 twin, whose files go when it is released."""
    first = candidate.artifacts[0]
    exported = config_of(first)
    # together: a compressed export in FP32 is no valid one
    also: dict[str, Any] = {"compress": None, "functions": ()} if isinstance(exported, PackageConfig) else {}
    config = replace(exported, precision="fp32", **also)
    components = {artifact.component for artifact in candidate.artifacts}
    folder = tempfile.TemporaryDirectory(prefix="edgesam-export-twin-", ignore_cleanup_errors=True)
    try:
        files = find_format(first.format).export(original.runner.model, Path(folder.name), config)
        runner = WitnessRunner([file for file in files if file.component in components], candidate.witness)
    except BaseException:
        folder.cleanup()
        raise
    runner.folder = folder
    return runner


def shown_to(runner: Runner, images: Sequence[Shown]) -> Sequence[Shown]:
    """Return the images that a candidate is checked on."""
    return images[:IMAGES] if isinstance(runner, WitnessRunner) else images


def agreement_rows(runner: Runner, rows: Sequence[ParityRow]) -> Iterator[ParityRow]:
    """Yield a row for each output of each call of a witness, ours against its; none for another runner.

    ``rows`` are those of the comparison with PyTorch: their first output of each call says what was asked.
    """
    if not isinstance(runner, WitnessRunner):
        return
    first = {"encoder": runner.embedding_names[:1], "decoder": ("masks",), "proposals": ("boxes",)}
    for component in dict.fromkeys(call.component for call in runner.calls):
        asked = [row for row in rows if row.component == component and row.output in first[component]]
        calls = [call for call in runner.calls if call.component == component]
        for row, call in zip(asked, calls):
            yield from (compared(runner, row, call, name) for name in call.theirs)


def compared(runner: WitnessRunner, row: ParityRow, call: Call, name: str) -> ParityRow:
    """Return the comparison of one output of one call."""
    theirs, ours = (in_one_image(side[name]) for side in (call.theirs, call.ours))
    pair = Pair(expected=theirs, actual=ours)
    output = "box_scores" if (row.component, name) == ("proposals", "scores") else name
    values = measure(output, pair)
    gate = gate_on(output, runner.score_kind)
    return replace(
        row,
        candidate=AGREEMENT,
        output=output,
        shape=call.ours[name].shape,
        metrics=values,
        checks=() if gate is None else (Check(gate=gate, value=values.get(gate.metric, math.nan)),),
        problem="",
    )


def in_one_image(array: np.ndarray) -> np.ndarray:
    """Return maps of several prompts as maps of one, and any other array as it is, float32."""
    together = array.reshape(1, -1, *array.shape[2:]) if array.ndim == 4 else array
    return together.astype(np.float32)


def gate_on(output: str, score_kind: str) -> Gate | None:
    """Return the gate on the agreement about an output."""
    if output not in BY_VALUE:
        return Gate(output=output, metric="psnr_db", numerics="fp32", minimum=AGREEMENT_DB)
    if (output, score_kind) == ("scores", "stability"):
        return None
    return Gate(output=output, metric=BY_VALUE[output], numerics="fp32", maximum=SCORE_ERROR)
