"""An ANE report beside Core ML's compute plan: where each rule was right, where not, and what no rule explains."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesam_export.ane.compute_plan import Actual, ComputePlan, PlanDevice, PlanOperation
from edgesam_export.ane.render.json import to_json as report_json
from edgesam_export.ane.render.text import to_text as report_text
from edgesam_export.ane.report import AneReport, OpPlacement, Placement
from edgesam_export.errors import UsageError
from edgesam_export.files import write_json
from edgesam_export.hardware import pick_target

__all__ = [
    "Agreement",
    "ComparedOperation",
    "PlanComparison",
    "RuleScore",
    "compare_plan",
    "render",
    "to_document",
    "to_text",
    "write_comparison",
]

# 1: first form
SCHEMA_VERSION = 1
UNITS_WITH_ANE = ("all", "cpu_and_ne")
ROWS_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class ComparedOperation:
    """One operation, predicted and planned."""

    operation: str
    op_type: str
    location: str
    predicted: Placement
    rules: tuple[str, ...]
    actual: Actual
    preferred: str | None
    supported: tuple[str, ...]
    cost: float | None

    @property
    def agrees(self) -> bool | None:
        """Whether prediction and plan say the same; None where either is undecided (``at-risk``, ``unknown``)."""
        if self.predicted == "at-risk" or self.actual == "unknown":
            return None
        return (self.predicted == "expected") == (self.actual == "ane")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many operations of one prediction ended up where."""

    predicted: Placement
    ane: int
    capable: int
    off: int
    unknown: int


@dataclass(frozen=True, kw_only=True)
class RuleScore:
    """How often one rule was right about operations it calls ``off`` or ``at-risk``."""

    rule: str
    says: Placement
    hits: int
    """Planned elsewhere than on the ANE."""
    capable: int
    """Those of the hits that the ANE could have taken: another reason than the rule's may be at work."""
    false_alarms: int
    """Planned on the ANE."""
    unknown: int


@dataclass(frozen=True, kw_only=True)
class PlanComparison:
    """A report against a plan."""

    file: str
    function: str
    artifact_sha256: str | None
    tool_version: str
    target: str
    families: tuple[str, ...]
    plan_target: str | None
    device: PlanDevice
    compute_units: str
    operations: tuple[ComparedOperation, ...]
    """Every operation that both have, in program order."""
    agreement: tuple[Agreement, ...]
    rules: tuple[RuleScore, ...]
    not_in_plan: tuple[str, ...]
    not_in_report: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def misses(self) -> tuple[ComparedOperation, ...]:
        """Operations planned off the ANE that no rule explains."""
        return tuple(o for o in self.operations if o.predicted == "expected" and o.actual in ("off", "capable"))

    @property
    def decided(self) -> tuple[ComparedOperation, ...]:
        """Operations that both sides are decided about."""
        return tuple(o for o in self.operations if o.agrees is not None)

    @property
    def ane_cost_share(self) -> float | None:
        """Share of Core ML's cost weights on the ANE; None when the plan has no weights."""
        weights = [(o.cost, o.actual == "ane") for o in self.operations if o.cost is not None]
        total = sum(cost for cost, _ in weights)
        return sum(cost for cost, on_ane in weights if on_ane) / total if total else None


# ----------------------------------------------------------------------------------------------------------- comparing
def compare_plan(report: AneReport, plan: ComputePlan) -> PlanComparison:
    """Return where a report and a plan of the same program agree, operation by operation and rule by rule.

    Raises:
        UsageError: the plan is of another program or function, or was made without the ANE.
    """
    check_pair(report, plan)
    pairs, missing, extra = match(report.placements, plan.operations)
    if not pairs:
        raise UsageError(
            f"the plan of '{plan.file}' has none of the {len(report.placements)} operations of '{report.file}'; "
            "dump it from this package"
        )
    operations = tuple(compared(placement, planned) for placement, planned in pairs)
    return PlanComparison(
        file=report.file,
        function=report.function,
        artifact_sha256=report.artifact_sha256,
        tool_version=report.tool_version,
        target=report.target,
        families=report.families,
        plan_target=plan.target,
        device=plan.device,
        compute_units=plan.compute_units,
        operations=operations,
        agreement=tuple(count_actual(operations, says) for says in ("expected", "at-risk", "off")),
        rules=tuple(score_rules(operations)),
        not_in_plan=missing,
        not_in_report=extra,
    )


def check_pair(report: AneReport, plan: ComputePlan) -> None:
    """Refuse a plan that says nothing about the report."""
    if plan.compute_units not in UNITS_WITH_ANE:
        raise UsageError(f"the plan was made for {plan.compute_units}, without the ANE; make one for all or cpu_and_ne")
    if plan.function != report.function:
        raise UsageError(
            f"the plan is of function '{plan.function}', the report of '{report.function}'; use --function"
        )
    ours, theirs = report.artifact_sha256, plan.artifact_sha256
    if ours and theirs and ours.lower() != theirs.lower():
        raise UsageError(
            f"the plan is of a file with sha256 {theirs[:12]}, '{report.file}' has {ours[:12]}; dump it again"
        )


def match(
    placements: Sequence[OpPlacement], planned: Sequence[PlanOperation]
) -> tuple[list[tuple[OpPlacement, PlanOperation]], tuple[str, ...], tuple[str, ...]]:
    """Pair operations of the same name and type; names that occur twice pair in order."""
    waiting: dict[tuple[str, str], deque[PlanOperation]] = defaultdict(deque)
    for operation in planned:
        waiting[operation.name, operation.op_type].append(operation)
    pairs, missing = [], []
    for placement in placements:
        candidates = waiting[placement.operation, placement.op_type]
        if candidates:
            pairs.append((placement, candidates.popleft()))
        else:
            missing.append(placement.operation)
    return pairs, tuple(missing), tuple(o.name for left in waiting.values() for o in left)


def compared(placement: OpPlacement, planned: PlanOperation) -> ComparedOperation:
    return ComparedOperation(
        operation=placement.operation,
        op_type=placement.op_type,
        location=placement.location,
        predicted=placement.placement,
        rules=placement.rules,
        actual=planned.actual,
        preferred=planned.preferred,
        supported=planned.supported,
        cost=planned.cost,
    )


def count_actual(operations: Sequence[ComparedOperation], says: Placement) -> Agreement:
    found = Counter(operation.actual for operation in operations if operation.predicted == says)
    return Agreement(
        predicted=says, ane=found["ane"], capable=found["capable"], off=found["off"], unknown=found["unknown"]
    )


def score_rules(operations: Sequence[ComparedOperation]) -> Iterator[RuleScore]:
    found: dict[tuple[str, Placement], Counter[Actual]] = defaultdict(Counter)
    for operation in operations:
        for rule in operation.rules:
            found[rule, operation.predicted][operation.actual] += 1
    for (rule, says), actual in sorted(found.items()):
        yield RuleScore(
            rule=rule,
            says=says,
            hits=actual["off"] + actual["capable"],
            capable=actual["capable"],
            false_alarms=actual["ane"],
            unknown=actual["unknown"],
        )


# ----------------------------------------------------------------------------------------------------------- rendering
def to_document(comparison: PlanComparison) -> dict[str, Any]:
    """Return a comparison as JSON data, with what follows from it."""
    return json.loads(json.dumps(asdict(comparison))) | {
        "kind": "plan_comparison",
        "misses": [operation.operation for operation in comparison.misses],
        "agreeing": sum(bool(operation.agrees) for operation in comparison.decided),
        "decided": len(comparison.decided),
        "ane_cost_share": comparison.ane_cost_share,
    }


def render(report: AneReport, comparison: PlanComparison | None, *, as_json: bool) -> str:
    """Return report and comparison for stdout: text, or one JSON document with the key ``plan_comparison``."""
    if comparison is None:
        return report_json(report) if as_json else report_text(report)
    if not as_json:
        return f"{report_text(report)}\n{to_text(comparison)}"
    document = json.loads(report_json(report)) | {"plan_comparison": to_document(comparison)}
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_comparison(comparison: PlanComparison, folder: str | Path) -> Path:
    """Write a comparison as ``<package>_ane_plan.json``, beside the report; return the path.

    Raises:
        UsageError: the folder cannot be written to.
    """
    path = Path(folder) / f"{Path(comparison.file).stem}_ane_plan.json"
    write_json(path, to_document(comparison))
    return path


def to_text(comparison: PlanComparison) -> str:
    """Return a comparison for a terminal; the summary is the last line."""
    blocks = [heading_lines(comparison), agreement_lines(comparison), rule_lines(comparison), miss_lines(comparison)]
    blocks.append(iter([summary_line(comparison)]))
    return "\n\n".join(text for text in ("\n".join(block) for block in blocks) if text) + "\n"


def heading_lines(comparison: PlanComparison) -> Iterator[str]:
    yield f"compute plan: {comparison.device}, units {comparison.compute_units}; Core ML's anticipation, not measured"
    if comparison.plan_target is None:
        yield "the plan names no chip that is known here: compare with a report for its family"
    elif pick_target(comparison.plan_target).families != comparison.families:
        yield f"the report is for {comparison.target}: analyse with --target '{comparison.plan_target}' to be fair"
    for names, where in ((comparison.not_in_plan, "plan"), (comparison.not_in_report, "report")):
        if names:
            more = ", ..." if len(names) > 3 else ""
            yield f"{len(names)} operations are not in the {where}: {', '.join(names[:3])}{more}"


def agreement_lines(comparison: PlanComparison) -> Iterator[str]:
    yield f"{'predicted':10}{'on ANE':>8}{'ANE could':>11}{'ANE cannot':>12}{'unknown':>9}"
    for row in comparison.agreement:
        yield f"{row.predicted:10}{row.ane:>8}{row.capable:>11}{row.off:>12}{row.unknown:>9}"


def rule_lines(comparison: PlanComparison) -> Iterator[str]:
    if comparison.rules:
        yield f"{'rule':6}{'says':10}{'hits':>6}{'ANE could':>11}{'false alarms':>14}{'unknown':>9}"
    for row in comparison.rules:
        yield f"{row.rule:6}{row.says:10}{row.hits:>6}{row.capable:>11}{row.false_alarms:>14}{row.unknown:>9}"


def miss_lines(comparison: PlanComparison) -> Iterator[str]:
    groups: dict[tuple[str, str], list[ComparedOperation]] = defaultdict(list)
    for operation in comparison.misses:
        groups[operation.actual, operation.op_type].append(operation)
    if groups:
        yield "planned off the ANE, explained by no rule:"
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] != "off", -len(item[1]), item[0]))
    for (actual, op_type), members in ordered[:ROWS_SHOWN]:
        why = "the ANE cannot" if actual == "off" else f"{members[0].preferred} preferred"
        yield f"  {len(members):>4}  {op_type:18} {why}, first '{members[0].operation}'"
    if len(ordered) > ROWS_SHOWN:
        yield f"  and {len(ordered) - ROWS_SHOWN} more kinds"


def summary_line(comparison: PlanComparison) -> str:
    agreeing = sum(bool(operation.agrees) for operation in comparison.decided)
    alarms = sum(row.ane for row in comparison.agreement if row.predicted == "off")
    share = comparison.ane_cost_share
    cost = "" if share is None else f"; {share:.0%} of the plan's cost on the ANE"
    return (
        f"plan agrees on {agreeing} of {len(comparison.decided)} decided operations; "
        f"{alarms} false alarms, {len(comparison.misses)} misses{cost}"
    )
