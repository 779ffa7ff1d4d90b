"""An ANE report beside Core ML's compute plan: hits and false alarms of each rule, misses that none explains."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from edgesam_export.ane.compute_plan import Actual, ComputePlan, PlanDevice, PlanOperation
from edgesam_export.ane.report import AneReport, OpPlacement, Placement
from edgesam_export.errors import UsageError
from edgesam_export.spec import UNITS_WITH_ANE

__all__ = ["Agreement", "ComparedOperation", "PlanComparison", "RuleScore", "compare_plan"]

# 1: first form
SCHEMA_VERSION = 1


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
        """Return whether prediction and plan agree; None where either is undecided (``at-risk``, ``unknown``)."""
        if self.predicted == "at-risk" or self.actual == "unknown":
            return None
        return (self.predicted == "expected") == (self.actual == "ane")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Number of operations with one prediction, by their actual placement."""

    predicted: Placement
    ane: int
    capable: int
    off: int
    unknown: int


@dataclass(frozen=True, kw_only=True)
class RuleScore:
    """How often one rule was right about operations it calls ``off``, ``at-risk`` or ``rejected``."""

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


def compare_plan(report: AneReport, plan: ComputePlan) -> PlanComparison:
    """Return the comparison of a report and a plan of the same program, operation by operation and rule by rule.

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
        agreement=tuple(count_actual(operations, says) for says in get_args(Placement)),
        rules=tuple(score_rules(operations)),
        not_in_plan=missing,
        not_in_report=extra,
    )


def check_pair(report: AneReport, plan: ComputePlan) -> None:
    """Refuse a plan of another program, or without the ANE."""
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
    actual = Counter(operation.actual for operation in operations if operation.predicted == says)
    return Agreement(
        predicted=says, ane=actual["ane"], capable=actual["capable"], off=actual["off"], unknown=actual["unknown"]
    )


def score_rules(operations: Sequence[ComparedOperation]) -> Iterator[RuleScore]:
    counts: dict[tuple[str, Placement], Counter[Actual]] = defaultdict(Counter)
    for operation in operations:
        for rule in operation.rules:
            counts[rule, operation.predicted][operation.actual] += 1
    for (rule, says), actual in sorted(counts.items()):
        yield RuleScore(
            rule=rule,
            says=says,
            hits=actual["off"] + actual["capable"],
            capable=actual["capable"],
            false_alarms=actual["ane"],
            unknown=actual["unknown"],
        )
