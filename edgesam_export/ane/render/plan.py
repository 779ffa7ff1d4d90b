"""A comparison with Core ML's compute plan, as JSON data and for the terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgesam_export.ane.plan_comparison import ComparedOperation, PlanComparison
from edgesam_export.files import write_json
from edgesam_export.hardware import pick_target
from edgesam_export.rendering import text_table

__all__ = ["to_document", "to_text", "write_comparison"]

AGREEMENT_HEADINGS = ("predicted", "on ANE", "ANE could", "ANE cannot", "unknown")
RULE_HEADINGS = ("rule", "says", "hits", "ANE could", "false alarms", "unknown")
ROWS_SHOWN = 12
"""Kinds of operation off the ANE that are listed; the JSON has all."""


def write_comparison(comparison: PlanComparison, folder: str | Path) -> Path:
    """Write a comparison as ``<package>_ane_plan.json``, beside the report; return the path.

    Raises:
        UsageError: the folder cannot be written to.
    """
    path = Path(folder) / f"{Path(comparison.file).stem}_ane_plan.json"
    write_json(path, to_document(comparison))
    return path


def to_document(comparison: PlanComparison) -> dict[str, Any]:
    """Return every field of a comparison, and what follows from them, as JSON data."""
    return asdict(comparison) | {
        "kind": "plan_comparison",
        "misses": [operation.operation for operation in comparison.misses],
        "agreeing": sum(bool(operation.agrees) for operation in comparison.decided),
        "decided": len(comparison.decided),
        "ane_cost_share": comparison.ane_cost_share,
    }


def to_text(comparison: PlanComparison) -> str:
    """Return a comparison for a terminal; the summary is the last line."""
    blocks = [
        heading_lines(comparison),
        agreement_lines(comparison),
        rule_lines(comparison),
        miss_lines(comparison),
        [summary_line(comparison)],
    ]
    return "\n\n".join(text for text in ("\n".join(block) for block in blocks) if text) + "\n"


def heading_lines(comparison: PlanComparison) -> Iterator[str]:
    yield f"compute plan: {comparison.device}, units {comparison.compute_units}; Core ML's anticipation, not measured"
    if comparison.plan_target is None:
        yield "the plan names no known chip: compare with a report for its family"
    elif pick_target(comparison.plan_target).families != comparison.families:
        yield f"the report is for {comparison.target}: analyse with --target '{comparison.plan_target}' to be fair"
    for names, side in ((comparison.not_in_plan, "plan"), (comparison.not_in_report, "report")):
        if names:
            more = ", ..." if len(names) > 3 else ""
            yield f"{len(names)} operations are not in the {side}: {', '.join(names[:3])}{more}"


def agreement_lines(comparison: PlanComparison) -> Iterator[str]:
    rows = [(row.predicted, *map(str, (row.ane, row.capable, row.off, row.unknown))) for row in comparison.agreement]
    yield text_table(AGREEMENT_HEADINGS, rows, right={1, 2, 3, 4})


def rule_lines(comparison: PlanComparison) -> Iterator[str]:
    rows = [
        (row.rule, row.says, *map(str, (row.hits, row.capable, row.false_alarms, row.unknown)))
        for row in comparison.rules
    ]
    if rows:
        yield text_table(RULE_HEADINGS, rows, right={2, 3, 4, 5})


def miss_lines(comparison: PlanComparison) -> Iterator[str]:
    groups: dict[tuple[str, str], list[ComparedOperation]] = defaultdict(list)
    for operation in comparison.misses:
        groups[operation.actual, operation.op_type].append(operation)
    if groups:
        yield "planned off the ANE, explained by no rule:"
    ordered = sorted(groups.items(), key=lambda item: (item[0][0] != "off", -len(item[1]), item[0]))
    for (actual, op_type), members in ordered[:ROWS_SHOWN]:
        reason = "the ANE cannot" if actual == "off" else f"{members[0].preferred} preferred"
        yield f"  {len(members):>4}  {op_type:18} {reason}, first '{members[0].operation}'"
    if len(ordered) > ROWS_SHOWN:
        yield f"  and {len(ordered) - ROWS_SHOWN} more kinds"


def summary_line(comparison: PlanComparison) -> str:
    agreeing = sum(bool(operation.agrees) for operation in comparison.decided)
    alarms = sum(row.ane for row in comparison.agreement if row.predicted in ("off", "rejected"))
    share = comparison.ane_cost_share
    cost = "" if share is None else f"; {share:.0%} of the plan's cost on the ANE"
    return (
        f"plan agrees on {agreeing} of {len(comparison.decided)} decided operations; "
        f"{alarms} false alarms, {len(comparison.misses)} misses{cost}"
    )
