"""The table of models in the README is what benchmarks/model_table.py writes from the kept figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from edgesam_export.catalogue import PUBLISHED_NAMES, catalogue
from edgesam_export.families import NOT_EXPORTED, model_names

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model_table():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import model_table
    finally:
        sys.path.pop(0)
    return model_table


def test_readme_has_the_table_of_the_kept_figures(model_table):
    figures = json.loads(model_table.FIGURES.read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    inside = text.partition(model_table.BEGIN)[2].partition(model_table.END)[0]
    assert inside.strip() == model_table.table(figures)
    assert set(figures) <= set(model_names())


def test_a_model_without_parity_or_host_figures_says_so(model_table):
    part = {"multiply_adds": 2e9, "coreml_bytes": 3_000_000, "errors": 0, "warnings": 1}
    figures = {"mobile_sam": {"parameters": 10_130_092, "encoder": part, "decoder": part}}
    figures["sam_vit_b"] = figures["mobile_sam"] | {
        "parity": {"passed": False, "failed": ["sign_agreement decoder fp16"]}
    }
    head, _, mobile, vit = model_table.table(figures).splitlines()
    assert head.startswith("| model | input | parameters |")
    assert "| `mobile_sam` | 1024 | 10.1 M | 2.0 + 2.0 | 3.0 + 3.0 MB | 0 E 1 W, 0 E 1 W | not judged |" in mobile
    assert "fails: sign_agreement decoder fp16" in vit


def test_every_model_has_a_name_among_the_published_figures():
    assert set(PUBLISHED_NAMES) == {*model_names(), *NOT_EXPORTED}
    entries = {entry["name"]: entry for entry in catalogue()}
    assert entries["edge_sam"]["published"] and entries["fast_sam"]["not_exported"]
    phone = [row for row in entries["edge_sam"]["published"] if row["device"] == "iPhone 14" and row["part"] == "total"]
    assert any(row["value"] == 38.7 and row["unit"] == "fps" for row in phone)  # README of the EdgeSAM authors
