"""What a user sets for a check: images with prompts of their own, gates, and an earlier report to be no worse than."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgesam_export.parity.baseline import against_baseline
from edgesam_export.parity.check import check_parity
from edgesam_export.parity.gate_file import GateFile, read_gates
from edgesam_export.parity.prompt_file import PromptFile, read_prompts
from edgesam_export.parity.render.json import load_report
from edgesam_export.parity.report import ParityReport

__all__ = ["Bar", "read_bar"]


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A check as a user's files set it; by default as the project does."""

    prompts: PromptFile | None = None
    gates: GateFile = field(default_factory=GateFile)
    baseline: ParityReport | None = None

    def check(self, reference: Any, candidate: Any, *, images: Sequence[Path] | None, **options: Any) -> ParityReport:
        """Return the report of ``check_parity``, whose further ``options`` are handed on.

        Raises: UsageError when images and prompts do not belong together, or the baseline is of something else.
        """
        chosen: Any = images
        if self.prompts is not None:
            chosen = self.prompts.images(images)
            options["prompts"] = self.prompts.by_image
        report = check_parity(reference, candidate, images=chosen, gates=self.gates.gates, **options)
        if self.baseline is None:
            return report
        return against_baseline(report, self.baseline, self.gates.allowances)


def read_bar(*, prompts: Path | None = None, gates: Path | None = None, baseline: Path | None = None) -> Bar:
    """Return what a user's files set.

    Raises:
        UsageError: a file that cannot be read, or sets something that is no prompt or gate.
        SchemaError: a baseline that is no parity report, or a gate file that is no TOML.
    """
    return Bar(
        prompts=None if prompts is None else read_prompts(prompts),
        gates=GateFile() if gates is None else read_gates(gates),
        baseline=None if baseline is None else load_report(baseline),
    )
