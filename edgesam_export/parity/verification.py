"""From exported files to report files: the library call behind ``parity``, and behind the check after an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesam_export.parity.bar import Bar
from edgesam_export.parity.inputs import load_reference
from edgesam_export.parity.render import write_reports
from edgesam_export.parity.render.table import to_table
from edgesam_export.parity.report import ParityReport
from edgesam_export.spec import NUMERICS, Artifact, Progress

if TYPE_CHECKING:
    from edgesam_export.modeling.sam import SamModel

__all__ = ["Verification", "verify_files"]


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
