"""What ``analyze`` does from files to files: report, comparison with a plan, the files written, the gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgesam_export.ane.analyzer import analyze, read_ranges
from edgesam_export.ane.baseline import load_baseline, new_findings
from edgesam_export.ane.compute_plan import obtain_plan, target_of
from edgesam_export.ane.plan_comparison import PlanComparison, compare_plan, render, write_comparison
from edgesam_export.ane.render import write_ane_reports
from edgesam_export.ane.report import AneReport, Finding
from edgesam_export.files import read_json

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
        """Return it for stdout."""
        return render(self.report, self.comparison, as_json=as_json)


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
    """Analyse a package, write the reports to ``output``, and judge it.

    ``records`` is a folder of benchmark records. With a plan and target ``all``, the analysis is for the plan's device
    when it names one.

    Raises:
        UsageError: a file, the target, or the pair of package and plan cannot be used.
        SchemaError: baseline or plan has not the form this version reads.
        ProgramError: no readable ML Program.
        RunnerUnavailableError: ``native_plan`` where there is no Core ML.
    """
    # Everything given is read before anything is written: a baseline may be the very file that is replaced.
    magnitudes = None if ranges is None else read_ranges(read_json(ranges))
    known = () if baseline is None else load_baseline(baseline)
    plan = obtain_plan(compute_plan, native=native_plan, package=package)
    report = analyze(package, target=target_of(plan, target), function=function, ranges=magnitudes, records=records)
    comparison = None if plan is None else compare_plan(report, plan)
    paths = write_ane_reports(report, output)
    if comparison is not None:
        paths.append(write_comparison(comparison, output))
    failing = tuple(finding for finding in new_findings(report, known) if finding.severity in GATES[fail_on])
    return Inspection(report=report, comparison=comparison, failing=failing, paths=tuple(paths))
