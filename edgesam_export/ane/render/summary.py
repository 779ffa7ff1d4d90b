"""The counts and words of an ANE report that every format shows; no markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edgesam_export.ane.report import AneReport, Finding

__all__ = ["LEVELS", "placement_counts", "plural", "severity_counts", "summary_line"]

LEVELS = ("info", "warning", "error")
PLURALS = {"error": "errors", "warning": "warnings", "info": "notes"}


def severity_counts(findings: Sequence[Finding]) -> dict[str, int]:
    found = Counter(finding.severity for finding in findings)
    return {level: found[level] for level in LEVELS}  # type: ignore[index]


def placement_counts(report: AneReport) -> dict[str, int]:
    """Count operations by placement."""
    found = Counter(placement.placement for placement in report.placements)
    return {"expected": found["expected"], "at-risk": found["at-risk"], "off": found["off"]}


def summary_line(report: AneReport) -> str:
    """One line: whether anything known stands in the way, and the counts."""
    counts, placed = severity_counts(report.findings), placement_counts(report)
    verdict = f"{placed['off']} of {len(report.placements)} operations expected off the ANE"
    if not placed["off"]:
        verdict = f"no known blocker for {' '.join(report.families)}"
    if not report.placements:
        verdict = "no operations"
    risk = f", {placed['at-risk']} at risk" if placed["at-risk"] else ""
    found = ", ".join(plural(counts[level], level) for level in reversed(LEVELS))
    return f"{verdict}{risk}; {plural(len(report.segments), 'segment')}; {found}"


def plural(number: int, word: str) -> str:
    return f"{number} {PLURALS.get(word, word + 's') if number != 1 else {'info': 'note'}.get(word, word)}"
