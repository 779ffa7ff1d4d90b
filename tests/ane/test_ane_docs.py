"""The documentation against the code: the table of rules, the findings of our own exports, the plan document."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from edgesam_export.ane.analyzer import analyze
from edgesam_export.ane.compute_plan import PlanDevice
from edgesam_export.ane.rules import all_rules
from edgesam_export.cli.app import cli
from edgesam_export.spec import COMPUTE_UNITS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from ane_docs import DOCS, with_table  # noqa: E402


def own_exports_section() -> str:
    return (
        DOCS.read_text(encoding="utf-8").partition("## The warnings left on our own exports")[2].partition("\n## ")[0]
    )


def test_the_table_of_rules_is_current():
    text = DOCS.read_text(encoding="utf-8")
    assert text == with_table(text), "run make op-table"
    table = text.partition("<!-- rules -->")[2].partition("<!-- /rules -->")[0]
    assert len(re.findall(r"^\| [ANCP]\d\d \|", table, re.MULTILINE)) == len(all_rules())


def test_every_changed_rule_that_the_page_lists_exists_and_every_new_one_is_listed():
    changes = DOCS.read_text(encoding="utf-8").partition("## What the reports changed")[2].partition("\n## ")[0]
    listed = set(re.findall(r"\b[ANCP]\d\d\b", changes))
    assert listed <= {rule.id for rule in all_rules()}
    assert {"A35", "A36", "A37", "A38", "N10", "N11"} <= listed


def test_the_readme_counts_the_rules():
    assert re.findall(r"(\d+) rules", (ROOT / "README.md").read_text(encoding="utf-8")) == [str(len(all_rules()))]


@pytest.fixture(scope="module")
def reports(edge_sam_packages):
    return [analyze(artifact.path) for artifact in edge_sam_packages]


def test_our_exports_have_no_error(reports):
    assert [(f.rule, f.operation) for report in reports for f in report.findings if f.severity == "error"] == []


def test_every_warning_left_on_our_exports_is_explained_and_no_other(reports):
    left = {(f.rule, f.name) for report in reports for f in report.findings if f.severity == "warning"}
    explained = re.findall(r"^### (\w\d\d) (.+)$", own_exports_section(), re.MULTILINE)
    assert set(explained) == left
    assert own_exports_section().count("*What would remove it*") == len(explained)


def test_the_counts_in_the_explanations_are_those_of_the_exports(reports):
    encoder, decoder = reports
    count = [
        {rule: sum(f.rule == rule and f.severity == "warning" for f in r.findings) for rule in ("A25", "A27", "N02")}
        for r in (encoder, decoder)
    ]
    notes = sum(f.rule == "A27" and f.severity == "info" for f in decoder.findings)
    off = [sum(p.placement == "off" for p in report.placements) for report in reports]
    assert count == [{"A25": 0, "A27": 2, "N02": 2}, {"A25": 4, "A27": 0, "N02": 12}] and notes == 32
    assert off == [0, 28] and [segment.on_ane for segment in decoder.segments].count(True) == 1


def test_options_and_fields_that_the_page_names_exist():
    text = DOCS.read_text(encoding="utf-8")
    options = {name for command in cli.commands.values() for p in command.params for name in p.opts}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= options
    assert all(f"`{unit}`" in text for unit in COMPUTE_UNITS)
    assert all(f"`.{field.name}`" in text or f"`device.{field.name}`" in text for field in fields(PlanDevice))


def test_the_page_never_claims_that_something_runs_on_the_ane():
    assert not re.search(r"(runs|will run) on the ANE", DOCS.read_text(encoding="utf-8"))
