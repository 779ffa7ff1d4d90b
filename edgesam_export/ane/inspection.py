"""What ``analyze`` does from files to files: report, comparison with a plan, the files written, the gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesam_export.ane.analyzer import analyze, read_ranges
from edgesam_export.ane.baseline import load_baseline, new_findings
from edgesam_export.ane.compute_plan import obtain_plan, target_of
from edgesam_export.ane.plan_comparison import PlanComparison, compare_plan
from edgesam_export.ane.render import json, plan, text, write_ane_reports
from edgesam_export.ane.report import AneReport, Finding
from edgesam_export.files import json_text, read_json

__all__ = ["Inspection", "inspect_package"]

GATES = {None: (), "error": ("error",), "warning": ("error", "warning")}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """An analysis with what was compared and written."""

    report: AneReport
    comparison: PlanComparison | None
    failing: tuple[Finding, ...]
    """Findings that the gate counts: at or above its level, and new when there is a baseline."""
    paths: tuple[Path, ...]

    def render(self, *, as_json: bool) -> str:
        """Return it for stdout: text, or one JSON document, a comparison under the key ``plan_comparison``."""
        if self.comparison is None:
            return json.render(self.report) if as_json else text.render(self.report)
        if not as_json:
            return f"{text.render(self.report)}\n{plan.to_text(self.comparison)}"
        return json_text(json.to_document(self.report) | {"plan_comparison": plan.to_document(self.comparison)})


def inspect_package(
    package: Path,
    output: Path,
    *,
    target: str = "all",
    function: str | None = None,
    ranges: Path | None = None,
    records: Path | None = None,
    fail_on: str | None = None,
    baseline: Path | None = None,
    compute_plan: Path | None = None,
    native_plan: bool = False,
) -> Inspection:
    """Return the analysis of a package and the findings that fail its gate; write the reports to ``output``.

    ``records`` is a folder of benchmark records. With a plan and target ``all``, the analysis is for the plan's device
    when it names one.

    Raises:
        UsageError: a file, the target, or the pair of package and plan cannot be used.
        SchemaError: baseline or plan has not the form this version reads.
        ProgramError: no readable ML Program.
        RunnerUnavailableError: ``native_plan`` where there is no Core ML.
    """
    # Every input is read before anything is written: a baseline may be the very file that is replaced.
    magnitudes = None if ranges is None else read_ranges(read_json(ranges))
    earlier = () if baseline is None else load_baseline(baseline)
    core_ml = obtain_plan(compute_plan, native=native_plan, package=package)
    report = analyze(package, target=target_of(core_ml, target), function=function, ranges=magnitudes, records=records)
    comparison = None if core_ml is None else compare_plan(report, core_ml)
    paths = write_ane_reports(report, output)
    if comparison is not None:
        paths.append(plan.write_comparison(comparison, output))
    failing = tuple(finding for finding in new_findings(report, earlier) if finding.severity in GATES[fail_on])
    return Inspection(report=report, comparison=comparison, failing=failing, paths=tuple(paths))
