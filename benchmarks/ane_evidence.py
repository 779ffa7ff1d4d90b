"""The rules against what people reported: builds the program of each statement, prints recall, precision, agreement.

``python benchmarks/ane_evidence.py`` prints every statement with its verdict, then the figures. A statement that the
rules are right about is a *hit* when its finding says off, at risk, rejected or numerically wrong; a *half* when it is
a note, about speed, or there for another reason. What was seen to be fine gives an *alarm* on an error about placement,
size or pieces, or on an operation at risk or off that the report does not confirm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from architectures import ARCHITECTURES

from edgesam_export.ane.analyzer import analyze_graph
from edgesam_export.ane.evidence import Statement, WholeModel, load_models, load_statements
from edgesam_export.ane.example import read_example
from edgesam_export.ane.graph import GraphView
from edgesam_export.ane.report import AneReport, Finding
from edgesam_export.ane.rules import all_rules
from edgesam_export.rendering import text_table

TWINS = Path(__file__).with_name("twins")
CLOSE = 0.1
"""Share of operations by which a whole model may differ and still agree."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the rules make of one statement."""

    statement: Statement
    verdict: str
    found: tuple[str, ...]
    """Rule and severity of each kind of finding."""
    errors: tuple[str, ...]
    """Rules with an error that the report does not confirm."""
    whole: bool | None
    """Of a rejection that was found: whether no operation is left expected on the ANE."""


def text_of(twin: str) -> str:
    return (TWINS / f"{twin}.txt").read_text(encoding="utf-8")


@cache
def report_on(twin: str, program: str, target: str) -> AneReport:
    graph: GraphView = ARCHITECTURES[twin]() if twin in ARCHITECTURES else read_example(program or text_of(twin))[0]
    return analyze_graph(graph, target=target, file=twin or "statement")


def verdict_on(statement: Statement) -> Outcome:
    """Return the verdict on one statement."""
    report = report_on(statement.twin, statement.program, statement.target)
    found = tuple(dict.fromkeys(f"{f.rule} {f.severity}" for f in report.findings))
    errors = {f.rule for f in report.findings if f.severity == "error"} - set(statement.allowed)
    verdict = of_fine(statement, report) if statement.said == "fine" else of_objection(statement, report)
    left = any(row.placement == "expected" for row in report.placements)
    whole = not left if statement.said == "rejected" and verdict == "hit" else None
    return Outcome(statement=statement, verdict=verdict, found=found, errors=tuple(sorted(errors)), whole=whole)


def of_objection(statement: Statement, report: AneReport) -> str:
    named = [f for f in report.findings if f.rule in statement.rules and is_about(f, statement, report)]
    if any(is_strong(finding) for finding in named):
        return "hit"
    partial = [f for f in report.findings if f.rule in statement.partial]
    return "half" if named or partial else "miss"


def is_about(finding: Finding, statement: Statement, report: AneReport) -> bool:
    """Return whether a finding names an operation of the statement, or covers it."""
    if not statement.operations or finding.operation in statement.operations:
        return True
    covered = {row.operation for row in report.placements if finding.rule in row.rules}
    return bool(covered & set(statement.operations))


@cache
def concerns() -> Mapping[str, str]:
    return {rule.id: rule.concerns for rule in all_rules()}


def is_strong(finding: Finding) -> bool:
    if finding.severity == "info":
        return False
    # A33 is about speed, but says that the square overflows
    return concerns()[finding.rule] in ("placement", "numerics", "size") or finding.rule == "A33"


def of_fine(statement: Statement, report: AneReport) -> str:
    errors = [f for f in report.findings if f.severity == "error" and f.rule not in statement.allowed]
    heavy = [f for f in errors if concerns()[f.rule] in ("placement", "size") or f.rule == "P02"]
    doubted = [r for r in report.placements if r.placement != "expected" and not set(r.rules) & set(statement.allowed)]
    return "alarm" if heavy or doubted else "quiet"


def share_of(model: WholeModel) -> float:
    """Return the share of a twin's operations that are not expected off the ANE for certain."""
    rows = report_on(model.twin, "", model.target).placements
    return sum(row.placement == "expected" for row in rows) / len(rows)


# -------------------------------------------------------------------------------------------------------------- figures
@dataclass(frozen=True, kw_only=True)
class Figures:
    """The counts behind the summary."""

    hits: int
    halves: int
    misses: int
    patterns_hit: int
    patterns: int
    alarms: int
    fine: int
    fine_without_error: int
    small: int
    small_found: int
    models: int
    models_close: int
    later: int
    """Reports of trouble that came after the rules; the other figures hold what the rules were revised with too."""
    later_hits: int
    later_alarms: int

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.halves + self.misses)

    @property
    def recall_by_pattern(self) -> float:
        return self.patterns_hit / self.patterns

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.alarms)


def outcomes() -> list[Outcome]:
    return [verdict_on(statement) for statement in load_statements()]


def figures(rows: Iterable[Outcome]) -> Figures:
    """Return the counts over the statements that count."""
    rows = [row for row in rows if row.statement.counted]
    wrong = [row for row in rows if row.statement.said in ("off", "rejected", "wrong")]
    fine = [row for row in rows if row.statement.said == "fine"]
    small = [row for row in rows if row.statement.said == "small"]
    patterns: dict[str, list[str]] = {}
    for row in wrong:
        patterns.setdefault(row.statement.pattern, []).append(row.verdict)
    models = load_models()
    return Figures(
        hits=sum(row.verdict == "hit" for row in wrong),
        halves=sum(row.verdict == "half" for row in wrong),
        misses=sum(row.verdict == "miss" for row in wrong),
        patterns_hit=sum(set(verdicts) == {"hit"} for verdicts in patterns.values()),
        patterns=len(patterns),
        alarms=sum(row.verdict == "alarm" for row in fine),
        fine=len(fine),
        fine_without_error=sum(not row.errors for row in fine),
        small=len(small),
        small_found=sum(row.verdict != "miss" for row in small),
        models=len(models),
        models_close=sum(abs(share_of(model) - model.share) <= CLOSE for model in models),
        later=sum(bool(row.statement.first) for row in wrong),
        later_hits=sum(row.statement.first == "hit" for row in wrong),
        later_alarms=sum(row.statement.first == "alarm" for row in fine),
    )


def summary(f: Figures) -> str:
    """Return the figures in a line, as every report shows them."""
    wrong = f.hits + f.halves + f.misses
    return (
        f"{f.hits} of {wrong} reports of trouble found ({f.patterns_hit} of {f.patterns} distinct causes), "
        f"{f.alarms} false alarms on {f.fine} of none, {f.models_close} of {f.models} whole models within 10 %; "
        f"at first sight, {f.later_hits} of {f.later} later reports of trouble found and {f.later_alarms} false alarms"
    )


def cells_of(row: Outcome) -> tuple[str, ...]:
    verdict = row.verdict if row.statement.counted else f"({row.verdict})"
    return row.statement.id, row.statement.said, row.statement.target, verdict, ", ".join(row.found)


def main() -> None:
    rows = outcomes()
    print(text_table(("statement", "said", "target", "verdict", "findings"), [cells_of(row) for row in rows]))
    print()
    shares = [(m.name, f"{m.share:.0%}", f"{share_of(m):.0%}", m.seen) for m in load_models()]
    print(text_table(("model", "public", "rules", "seen"), shares, right={1, 2}))
    f = figures(rows)
    whole = [row.whole for row in rows if row.whole is not None and row.statement.counted]
    print(f"\nrecall {f.recall:.0%}, by distinct pattern {f.recall_by_pattern:.0%} ({f.halves} halves)")
    print(f"precision of alarms {f.precision:.0%}; fine without any error {f.fine_without_error} of {f.fine}")
    print(
        f"too small: {f.small_found} of {f.small}; rejections that leave nothing expected: {sum(whole)} of {len(whole)}"
    )
    print(summary(f))


if __name__ == "__main__":
    main()
