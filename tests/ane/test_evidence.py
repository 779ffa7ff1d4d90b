"""The rules against what people reported of real devices: every statement has the verdict that is written beside it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from edgesam_export.ane.evidence import accuracy, load_models, load_statements
from edgesam_export.ane.example import read_example, write_example
from edgesam_export.hardware import pick_target

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import ane_evidence  # noqa: E402
from architectures import ARCHITECTURES  # noqa: E402

STATEMENTS = load_statements()
VERDICTS = {"fine": {"quiet", "alarm"}}
OBJECTIONS = {"hit", "half", "miss"}


@pytest.fixture(scope="module")
def outcomes():
    return {row.statement.id: row for row in ane_evidence.outcomes()}


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.id)
def test_a_statement_says_what_was_seen_where_and_by_whom(statement):
    assert statement.said in ("off", "rejected", "wrong", "small", "slow", "fine")
    assert len(statement.claim) > 10 and len(statement.source) > 5 and statement.grade in "PRS"
    assert pick_target(statement.target).families
    assert bool(statement.program) != bool(statement.twin)
    assert statement.verdict in VERDICTS.get(statement.said, OBJECTIONS)
    assert bool(statement.rules and statement.pattern) == (statement.said != "fine")
    assert statement.counted or statement.note


def test_no_statement_is_listed_twice():
    assert max(Counter(statement.id for statement in STATEMENTS).values()) == 1
    assert max(Counter((statement.source, statement.claim) for statement in STATEMENTS).values()) == 1


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.id)
def test_the_rules_make_of_a_statement_what_is_written_beside_it(statement, outcomes):
    assert outcomes[statement.id].verdict == statement.verdict, outcomes[statement.id].found


def test_the_figures_in_the_reports_are_those_of_the_evidence(outcomes):
    assert accuracy() == ane_evidence.summary(ane_evidence.figures(outcomes.values()))


def test_every_twin_is_used_and_reads_back_as_it_was_written():
    used = {entry.twin for entry in (*STATEMENTS, *load_models()) if entry.twin} - set(ARCHITECTURES)
    assert used == {path.stem for path in ane_evidence.TWINS.iterdir()}
    for twin in sorted(used):
        graph, _ = read_example(ane_evidence.text_of(twin))
        assert len(graph.nodes) > 1 and graph.outputs
        again, _ = read_example(write_example(graph))
        assert [(n.type, n.outputs[0].shape if n.outputs else None) for n in again.nodes] == [
            (n.type, n.outputs[0].shape if n.outputs else None) for n in graph.nodes
        ]


def test_a_twin_is_what_the_converter_writes(tmp_path):
    import ane_twins

    from edgesam_export.ane.view import view_program
    from edgesam_export.mil import load_program

    path = tmp_path / "twin.mlpackage"
    ane_twins.convert(ane_twins.TWINS["relative_shift"], path)
    assert write_example(view_program(load_program(path))) == ane_evidence.text_of("relative_shift")
