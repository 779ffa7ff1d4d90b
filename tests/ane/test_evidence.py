"""The rules against what people reported of real devices: every statement has the verdict that is written beside it."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from edgesam_export.ane.evidence import DOCUMENT, accuracy, load_models, load_statements, support_of
from edgesam_export.ane.example import read_example, write_example
from edgesam_export.ane.rules import all_rules, explain
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
    assert statement.counted or statement.note
    assert statement.first in ("", *VERDICTS.get(statement.said, OBJECTIONS))
    if statement.said == "fine":
        assert not statement.rules and not statement.partial
    else:
        assert statement.pattern and not statement.about and not statement.allowed
        assert statement.rules or not statement.counted
    named = {*statement.rules, *statement.partial, *statement.allowed, *statement.about}
    assert named <= {rule.id for rule in all_rules()}


def test_no_statement_is_listed_twice():
    assert max(Counter(statement.id for statement in STATEMENTS).values()) == 1
    assert max(Counter((statement.source, statement.claim) for statement in STATEMENTS).values()) == 1


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement.id)
def test_the_rules_make_of_a_statement_what_is_written_beside_it(statement, outcomes):
    assert outcomes[statement.id].verdict == statement.verdict, outcomes[statement.id].found


def test_the_rules_agree_with_the_evidence_as_far_as_they_should(outcomes):
    # Statements that are not in the file will be made; on those of the file, this much is asked.
    figures = ane_evidence.figures(outcomes.values())
    assert figures.recall_by_pattern >= 0.85 and figures.recall >= 0.85
    assert figures.precision >= 0.92
    assert figures.fine_without_error >= 0.95 * figures.fine
    assert figures.models_close == figures.models == 15


def test_a_rejected_function_keeps_no_operation_where_the_report_says_so(outcomes):
    # refused in one network, but in the plan of another (the control of a detector's tail) it left the ANE alone
    kept = {row.statement.id for row in outcomes.values() if row.whole is False}
    assert kept == {"gather-along-axis"}


def test_every_rule_has_a_report_or_says_that_documents_are_its_only_support():
    supported = {rule.id for rule in all_rules() if support_of(rule.id)}
    assert {"A03", "A07", "A09", "A12", "A15", "A35", "A36", "C01", "N11"} <= supported
    for rule in all_rules():
        text = explain(rule.id).partition("References")[2]
        assert ("reported: " in text) == (rule.id in supported)
        assert (f"support: {DOCUMENT} alone" in text) == (rule.id not in supported)


def test_what_was_only_said_makes_no_error():
    # a rule whose reports are all hearsay is milder than an error, whatever documents say of it
    for rule in all_rules():
        grades = {statement.grade for statement in support_of(rule.id)}
        assert grades != {"S"} or rule.severity != "error", rule.id


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
