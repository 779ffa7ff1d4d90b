"""A sample of `make gate-roc` and its record: correct files pass, a file with any fault of conversion fails."""

from __future__ import annotations

import copy
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgesam_export.families import load_model
from edgesam_export.parity import check_parity
from edgesam_export.parity.inputs import default_images, default_prompts
from edgesam_export.runners.torch import TorchRunner

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SAMPLE = (
    "0.1% noise in the image_encoder",
    "mask tokens permuted",
    "labels of foreground and background exchanged",
    "0.001 added to a score",
    "tanh GELU",
)


@pytest.fixture(scope="module")
def faults():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import gate_faults

        yield gate_faults.FAULTS
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def trained():
    return load_model("edge_sam_tiny")


def check(trained, candidates):
    """One prompt of three points, one of them background, on a photograph and noise; the reference is run once."""
    return check_parity(
        trained, candidates, images=default_images()[1:], prompts=lambda size: default_prompts(size)[1:2]
    )


def planted(trained, fault):
    """A copy of the network with a fault, under the fault's name."""
    changed = copy.deepcopy(trained)
    fault.plant(changed)
    runner = TorchRunner(changed, score="iou")
    runner.name = fault.name
    return runner


def test_the_network_passes_and_with_any_fault_it_fails(trained, faults):
    same = TorchRunner(copy.deepcopy(trained), score="iou")
    same.name = "no fault"
    report = check(trained, [same, *(planted(trained, faults[name]) for name in SAMPLE)])
    assert {row.candidate for row in report.failures} == set(SAMPLE)


def test_a_faulty_export_fails(trained, faults, tmp_path):
    from edgesam_export import OnnxConfig, export_onnx

    with ExitStack() as stack:
        for patched in faults["points without their half pixel"].plant(copy.deepcopy(trained)):
            stack.enter_context(patched)
        files = export_onnx(trained, tmp_path, OnnxConfig(points=8))
    report = check(trained, [file for file in files if file.component == "decoder"])
    assert {row.output for row in report.failures} >= {"masks"}


def test_the_record_has_no_false_alarm_and_no_missed_fault_of_conversion():
    record = json.loads((BENCHMARKS / "gate_roc.json").read_text(encoding="utf-8")).values()
    correct = [case for case in record if case["kind"] == "correct"]
    broken = [case for case in record if case["kind"] in ("weights", "graph")]
    assert [case for case in correct if not case["passed"]] == []
    assert [case for case in broken if case["passed"]] == []
    assert len({case["what"] for case in broken}) >= 60


def test_the_record_has_every_format_of_two_weights_and_each_fault_in_each_format():
    record = json.loads((BENCHMARKS / "gate_roc.json").read_text(encoding="utf-8")).values()
    formats = {"coreml", "onnx", "onnx fp16"}
    exported: dict[tuple[str, str], set[str]] = {}
    for case in record:
        if case["kind"] == "correct":
            exported.setdefault((case["model"], case["weights"]), set()).add(case["format"])
    whole = [model for (model, _), found in exported.items() if found == formats]
    assert len({model for model in whole if whole.count(model) >= 2}) >= 6
    for kind in ("weights", "graph"):
        planted = {f: {c["what"] for c in record if (c["kind"], c["format"]) == (kind, f)} for f in formats}
        assert len(set(map(frozenset, planted.values()))) == 1, planted
