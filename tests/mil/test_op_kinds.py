"""The table of op kinds: every name is a MIL op, and every reader of names uses ops that exist."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

import edgesam_export.ane.rules as rules_package
from edgesam_export.ane.example import read_example
from edgesam_export.ane.graph import COUNTERS
from edgesam_export.ane.rules import all_rules, compression, operations, resizing, types
from edgesam_export.mil.chapters import CHAPTERS
from edgesam_export.mil.op_kinds import OP_KINDS, Trait, is_decompression, is_parameter, ops_with

# tests/conformance compares the chapters with the installed coremltools.
MIL_OPS = {op for ops in CHAPTERS.values() for op in ops.split()}
RULES_FOLDER = Path(rules_package.__file__).parent


def test_every_operation_of_the_table_is_a_mil_op():
    assert set(OP_KINDS) <= MIL_OPS


def test_every_operation_has_a_trait_and_every_trait_an_operation():
    assert all(OP_KINDS.values())
    assert {trait for traits in OP_KINDS.values() for trait in traits} == set(get_args(Trait))


@pytest.mark.parametrize("trait", get_args(Trait))
def test_operations_are_found_by_trait(trait):
    assert ops_with(trait) == {op for op in MIL_OPS if trait in OP_KINDS.get(op, ())}


def test_kinds_follow_from_each_other():
    assert ops_with("convolution") < ops_with("accumulator") < ops_with("product")
    assert ops_with("pool") < ops_with("reduction") and ops_with("slice") < ops_with("layout")
    assert not ops_with("layout") & (ops_with("product") | ops_with("reduction") | ops_with("activation"))


def test_every_reduction_of_the_specification_is_one():
    assert set(CHAPTERS["reduction"].split()) | set(CHAPTERS["pool"].split()) <= ops_with("reduction")
    assert set(CHAPTERS["activation"].split()) - ops_with("activation") == {"softmax"}


def test_multiply_adds_are_counted_for_every_product():
    assert set(COUNTERS) == ops_with("product")


def test_parameters_are_constants_and_decompressed_weights():
    assert {op for op in MIL_OPS if is_parameter(op)} == {"const", *CHAPTERS["constexpr_ops"].split()}
    assert {op for op in MIL_OPS if is_decompression(op)} == set(CHAPTERS["constexpr_ops"].split())


def names_that_rules_ask_for() -> set[str]:
    """Return the literal op names in calls of ``graph.of`` and beside ``.type``, in every module of rules."""
    names: set[str] = set()
    for path in RULES_FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "of":
                names |= {a.value for a in node.args if isinstance(a, ast.Constant)}
            elif isinstance(node, ast.Compare) and getattr(node.left, "attr", "") == "type":
                names |= {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
    return names


def test_rules_ask_for_mil_ops_only():
    tables = (
        *(operations.UNSUPPORTED, compression.NEEDS, compression.WEIGHTED, resizing.RESIZES, resizing.UPSAMPLES),
        *(resizing.FACTORS, types.COVERED_BY_OTHER_RULES),
    )
    asked = names_that_rules_ask_for()
    assert {"softmax", "gather", "reduce_max"} <= asked
    assert (asked | {name for table in tables for name in table}) <= MIL_OPS


def test_examples_of_rules_are_made_of_mil_ops():
    programs = [text for rule in all_rules() for text in (*rule.flags, *rule.passes)]
    graphs = [read_example(text)[0] for text in programs]
    assert {node.type for graph in graphs for node in graph.nodes + graph.decompressions} <= MIL_OPS
