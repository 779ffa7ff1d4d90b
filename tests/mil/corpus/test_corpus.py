"""Packages that coremltools made of other projects' models: executed as PyTorch computes, analysed, run from a shell.

``make corpus`` checks every entry; here are those that convert quickly, one of each kind.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conversion import converted
from corpus_models import LABELS

from edgesam_export import analyze, load_program
from edgesam_export.ane.render import write_ane_reports
from edgesam_export.parity.metrics import psnr_db

SAMPLE = ("mobilenet_v3_classifier", "bert", "stateful_decoder", "unet_block", "lstm")
FP32_DB, FOLDED_DB, FP16_DB = 80.0, 60.0, 30.0
"""Least agreement with PyTorch: of FP32 arithmetic; the same where the conversion folded batch normalisation and then
rounded the weights to FP16, an error of 2 ** -12 each; and of FP16 arithmetic, a plain sanity check."""
FOLDED = {"mobilenet_v3_classifier"}


def least_db(name: str, numerics: str) -> float:
    """Return the agreement with PyTorch that an entry is held to."""
    if numerics == "fp16":
        return FP16_DB
    return FOLDED_DB if name in FOLDED else FP32_DB


def check_run(name: str, numerics: str) -> None:
    """Check every output of every call against PyTorch; state goes from call to call."""
    entry = converted(name)
    program = load_program(entry.package)
    state = program.make_state() if program.states else None
    for call in entry.calls:
        outputs = program.predict(call.feed, numerics=numerics, state=state)
        for output, expected in call.expected.items():
            actual = classified(outputs, expected) if output == "probabilities" else outputs[output]
            assert np.std(expected) > 0.01 * np.abs(expected).max() or output == "probabilities", "says nothing"
            assert psnr_db(expected, actual) >= least_db(name, numerics), f"{name}: {output} with {numerics}"


def classified(outputs: dict[str, object], expected: np.ndarray) -> np.ndarray:
    """Return the probabilities of a classifier in the order of its classes; its label is the likeliest."""
    label, probabilities = outputs["classLabel"], outputs["classLabel_probs"]
    assert label == LABELS[int(expected.argmax())]
    return np.array([[probabilities[name] for name in LABELS]], np.float32)


def check_analysis(name: str, folder: Path) -> None:
    """Check that a package gets a whole report, and that it can be written in every format."""
    package = converted(name).package
    program, report = load_program(package), analyze(package)
    executed = [op for op in program.operations if op.type != "const" and not op.type.startswith("constexpr")]
    assert len(report.placements) == report.totals.operations == len(executed)
    assert report.totals.parameters > 0 and all(cost.time_ms > 0 for cost in report.costs)
    assert all(path.stat().st_size for path in write_ane_reports(report, folder))


@pytest.mark.parametrize("name", SAMPLE)
def test_it_runs_as_pytorch_does(name: str) -> None:
    check_run(name, "fp32")


@pytest.mark.parametrize("name", SAMPLE)
def test_it_runs_in_half_precision(name: str) -> None:
    check_run(name, "fp16")


@pytest.mark.parametrize("name", SAMPLE)
def test_it_is_analysed(name: str, tmp_path: Path) -> None:
    check_analysis(name, tmp_path)
