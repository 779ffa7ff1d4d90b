"""The table of docs/models.md is what benchmarks/model_table.py writes from the kept figures."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from edgesam_export.catalogue import PUBLISHED_NAMES, catalogue
from edgesam_export.families import NOT_EXPORTED, model_names

ROOT = Path(__file__).parents[1]
PART = {"multiply_adds": 2e9, "coreml_bytes": 3_000_000, "errors": 0, "warnings": 1}


@pytest.fixture(scope="module")
def model_table():
    return benchmark("model_table")


def benchmark(name: str):
    """Import a script of benchmarks/."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


def test_the_page_has_the_table_of_the_kept_figures(model_table):
    figures = json.loads(model_table.FIGURES.read_text(encoding="utf-8"))
    text = model_table.PAGE.read_text(encoding="utf-8")
    inside = text.partition(model_table.BEGIN)[2].partition(model_table.END)[0]
    assert inside.strip() == model_table.table(figures)
    assert set(figures) <= set(model_names())


def test_a_model_without_parity_or_host_figures_says_so(model_table, monkeypatch, tmp_path):
    monkeypatch.setattr(model_table, "GATE_RECORD", tmp_path / "none.json")
    figures = {"mobile_sam": {"parameters": 10_130_092, "encoder": PART, "decoder": PART}}
    row = model_table.table(figures).splitlines()[2]
    assert "| `mobile_sam` | 1024 | 10.1 M | 2.0 + 2.0 | 3.0 + 3.0 MB | 0 E 1 W, 0 E 1 W | not checked |" in row


def test_a_failed_gate_is_told_with_its_worst_value_and_why(model_table):
    metrics = model_table.gate_metrics()
    passed = {"passed": True, "outputs": 63, "failed_outputs": 0, "failed": [], "why": [], "sign_margin": 0.0}
    passed["gates"] = metrics
    gate = {"candidate": "executor fp16", "component": "decoder", "metric": "sign_agreement", "at": "cat.jpg box"}
    failed = passed | {
        "passed": False,
        "failed_outputs": 2,
        "failed": [
            gate | {"worst": "0.99888", "gate": ">= 0.999"},
            gate | {"worst": "0.99844", "gate": ">= 0.999", "candidate": "executor ane"},
            gate | {"worst": "38.5 dB", "gate": ">= 40 dB", "metric": "psnr_db"},
        ],
        "why": ["rounding alone"],
        "sign_margin": 0.0102,
    }
    common = {"parameters": 10_130_092, "encoder": PART, "decoder": PART}
    lines = model_table.table(
        {
            "mobile_sam": common | {"parity": {"coreml": passed, "onnx": passed}},
            "sam_vit_b": common | {"parity": {"coreml": failed, "onnx": passed}},
        }
    ).splitlines()
    assert lines[0].startswith("| model | input | parameters |")
    assert "| all gates |" in lines[2] and "| Core ML: 2 of 63 fail |" in lines[3]
    stale = model_table.table({"sam_vit_h": common | {"parity": {"coreml": passed | {"gates": ["mask_iou"]}}}})
    assert "| not checked |" in stale, "a verdict by other gates is none"
    assert lines[-1] == (
        "* `sam_vit_b`, Core ML: sign_agreement 0.99844 (gate >= 0.999) under executor fp16, executor ane;"
        " psnr_db 38.5 dB (gate >= 40 dB) under executor fp16."
        " Why: rounding alone; signs differ only below 1.0% of the rms logit."
    )


def test_published_figures_have_numbered_sources_below_the_table(model_table):
    lines = model_table.table({"edge_sam": {"parameters": 9_600_000, "encoder": PART, "decoder": PART}}).splitlines()
    assert "14 ms encoder, iPhone 14 [1]; 38.7 FPS, iPhone 14 [2]; 11.7 ms, Mac mini (M4) [3]" in lines[2]
    assert lines[-1].startswith(
        "Published figures, none of them measured here: [1] EdgeSAM paper, arXiv 2312.06660 v3;"
    )


def test_every_model_has_a_name_among_the_published_figures():
    assert set(PUBLISHED_NAMES) == {*model_names(), *NOT_EXPORTED}
    entries = {entry["name"]: entry for entry in catalogue()}
    assert entries["edge_sam"]["published"] and entries["fast_sam"]["not_exported"]
    phone = [row for row in entries["edge_sam"]["published"] if row["device"] == "iPhone 14" and row["part"] == "total"]
    assert any(row["value"] == 38.7 and row["unit"] == "fps" for row in phone)  # README of the EdgeSAM authors


def test_a_ratio_is_that_of_one_round():
    """EdgeSAM's list holds its own round first, then those beside each other model."""
    times = {"edge_sam": [9.0, 1.0, 2.0, 4.0], "mobile_sam": [3.0, 8.0], "sam_vit_b": [40.0]}
    found = benchmark("families").paired_ratios(times)
    assert found == {"edge_sam": [1.0] * 4, "mobile_sam": [3.0, 4.0], "sam_vit_b": [10.0]}
    assert benchmark("families").paired_ratios(dict(reversed(times.items()))) == found


def test_models_are_added_to_a_record_with_the_rounds_beside_them():
    """Ratios of the models that were there stay, and one that is measured again has new ones."""
    families = benchmark("families")

    def record(date: str, **times: list[float]) -> dict:
        models = {name: {"onnxruntime": {"encoder": values}} for name, values in times.items()}
        return {"machine": "mine", "date": date, "models": models}

    kept = record("2026-11-21", edge_sam=[9.0, 1.0, 2.0, 4.0], mobile_sam=[3.0, 8.0], sam_vit_b=[40.0])
    new = record("2026-11-27", edge_sam=[7.0, 5.0, 8.0, 9.0], edgetam=[10.0, 12.0], sam_vit_b=[90.0])
    added = families.with_added(kept, new)
    times = {name: value["onnxruntime"]["encoder"] for name, value in added["models"].items()}
    assert times["edge_sam"] == [9.0, 5.0, 8.0, 1.0, 2.0, 9.0]
    ratios = families.paired_ratios(times)
    assert ratios["mobile_sam"] == [3.0, 4.0] and ratios["edgetam"] == [2.0, 1.5] and ratios["sam_vit_b"] == [10.0]
    assert added["added"] == {"edgetam": "2026-11-27", "sam_vit_b": "2026-11-27"} and added["date"] == "2026-11-21"
    with pytest.raises(SystemExit, match="of another machine"):
        families.with_added({**kept, "machine": "yours"}, new)
