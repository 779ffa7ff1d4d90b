"""Every rule against its own examples: the flagged program gives this rule at this operation and nothing else."""

from __future__ import annotations

import pytest

from edgesam_export.ane.analyzer import check_graph
from edgesam_export.ane.example import read_example
from edgesam_export.ane.rules import Rule, all_rules
from edgesam_export.hardware import load_hardware

TINY = "P03"
"""Examples are tiny on purpose, so the rule about tiny programs is left out of all but its own."""
CASES = {
    kind: [pytest.param(r, text, id=f"{r.id}-{i}") for r in all_rules() for i, text in enumerate(getattr(r, kind))]
    for kind in ("flags", "passes")
}


def found_in(text: str, checked: Rule) -> set[tuple[str, str | None]]:
    graph, _ = read_example(text)
    families = checked.families or tuple(load_hardware().families)
    hits = check_graph(graph, families)
    return {
        (hit_rule.id, hit.operation.label if hit.operation else None)
        for hit_rule, hit in hits
        if TINY in (checked.id,) or hit_rule.id != TINY
    }


@pytest.mark.parametrize(("checked", "text"), CASES["flags"])
def test_the_flagged_example_gives_this_finding_only(checked, text):
    _, operations = read_example(text)
    assert operations, "no line is marked"
    assert found_in(text, checked) == {(checked.id, operation) for operation in operations}


@pytest.mark.parametrize(("checked", "text"), CASES["passes"])
def test_the_passing_example_gives_no_finding(checked, text):
    assert found_in(text, checked) == set()
