"""From exported files to report files: the library call behind ``parity``, and behind the check after an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.parity.bar import Bar
from edgesam_export.parity.foreign import open_foreign
from edgesam_export.parity.inputs import load_reference
from edgesam_export.parity.render import write_reports
from edgesam_export.parity.render.table import to_table
from edgesam_export.parity.report import ParityReport
from edgesam_export.spec import NUMERICS, Artifact, Progress

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["Verification", "verify_files", "verify_foreign_files"]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A parity report and the files it was written to."""

    report: ParityReport
    paths: dict[str, Path]
    """By kind of report: json, xml, md, html."""

    def table(self) -> str:
        """Return the report as a table for a terminal."""
        return to_table(self.report)

    def document(self) -> dict[str, Any]:
        """Return the verdict and the paths as JSON data."""
        return {"passed": self.report.passed, "reports": {kind: str(path) for kind, path in self.paths.items()}}


def verify_files(
    files: Sequence[Artifact | Path],
    folder: Path,
    *,
    reference: SamModel | None = None,
    checkpoint: Path | None = None,
    random_weights: int | None = None,
    upsample: str | None = None,
    images: Sequence[Path] | None = None,
    numerics: Sequence[str] = NUMERICS,
    bar: Bar | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare exported files with PyTorch and write the reports to ``folder``.

    Without ``reference`` the model is loaded as the files' contracts say, see ``load_reference`` for the three options.
    Without ``images`` the bundled ones are used; Core ML files are executed once under each of ``numerics``.
    ``bar`` is what a user sets of prompts, gates and a baseline.

    Raises:
        UsageError: nothing to compare, weights other than the exported ones, or a folder that cannot be written.
        CheckpointError: the checkpoint cannot be read or obtained.
        RunnerUnavailableError: this machine cannot execute a file.
    """
    if reference is None:
        reference = load_reference(
            files, checkpoint=checkpoint, random_weights=random_weights, upsample=upsample, progress=progress
        )
    report = (bar or Bar()).check(reference, list(files), images=images, numerics=numerics, progress=progress)
    return Verification(report=report, paths=write_reports(report, folder))


def verify_foreign_files(
    files: Sequence[Path],
    folder: Path,
    *,
    model: str,
    profile: str,
    score: str | None = None,
    checkpoint: Path | None = None,
    random_weights: int | None = None,
    upsample: str | None = None,
    images: Sequence[Path] | None = None,
    numerics: Sequence[str] = NUMERICS,
    bar: Bar | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Compare files that another exporter made with a model of ours, and write the reports to ``folder``.

    The tensors are those of ``profile``; differences from it are in the report. ``score`` is what the files' scores
    are, None for the profile's choice. The other options are those of ``verify_files``.

    Raises:
        UsageError: no such model or profile, files that do not match it, or nothing to compare.
        CheckpointError: the checkpoint cannot be read or obtained.
        RunnerUnavailableError: this machine cannot execute a file.
    """
    from edgesam_export.families import load_model

    reference = load_model(model, checkpoint, random_weights=random_weights, upsample=upsample, progress=progress)
    opened = open_foreign(files, reference, profile=profile, score=score, numerics=numerics)
    report = (bar or Bar()).check(reference, list(opened.runners), images=images, progress=progress)
    report = replace(report, differences=opened.differences, skipped=(*opened.skipped, *report.skipped))
    return Verification(report=report, paths=write_reports(report, folder))
