"""The error rate of the parity gates: correct exports that fail, and exports with a planted fault that pass.

Correct files of every family, with random and with trained weights, in both formats and under all numerics; every fault
of benchmarks/gate_faults.py on small models; compressed weights; and, for the curve, the network with weights and
results of fewer and fewer bits. Each case is written to benchmarks/gate_roc.json as soon as it is done, and a later run
does what is missing. ``--page`` writes the tables and the curve of docs/parity.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from gate_faults import ENCODER, FAULTS, NotHere
from gate_page import write_page

RECORD = Path(__file__).parent / "gate_roc.json"
TRAINED = ("edge_sam_tiny", "lite_medsam")
FAMILIES = (
    "edge_sam_tiny",
    "lite_medsam",
    "edge_sam",
    "edge_sam_3x",
    "edge_sam_rpn",
    "mobile_sam",
    "edgetam",
    "sam2.1_hiera_tiny",
    "efficientvit_sam_l0",
    "efficient_sam_vitt",
    "sam_vit_b",
)
SEEDS = (0, 1)
FORMATS = ("onnx", "onnx fp16", "coreml")
LARGE = ("sam_vit_b", "sam2.1_hiera_tiny", "efficient_sam_vitt")
COMPRESSIONS = ("palettize8", "linear8", "palettize6", "palettize4", "linear4")
WEIGHT_BITS = (9, 8, 7, 6, 5, 4, 3)
RESULT_BITS = (11, 10, 9, 8, 7, 6, 5, 4)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One export that is checked."""

    model: str
    weights: str
    """``trained``, or the seed of random weights."""
    format: str
    kind: str
    """correct, weights, graph, precision, compression; weight bits and result bits are points of the curve."""
    what: str = ""

    @property
    def key(self) -> str:
        return ", ".join(filter(None, (self.model, self.weights, self.format, self.kind, self.what)))


def cases() -> Iterator[Case]:
    """Every case, those first that cost least."""
    for model in TRAINED:
        for format in FORMATS:
            yield Case(model=model, weights="trained", format=format, kind="correct")
    yield from doses()
    for model in TRAINED:
        for format in ("onnx", "coreml"):
            for fault in FAULTS.values():
                if fault.kind != "precision" or format == "coreml":
                    yield Case(model=model, weights="trained", format=format, kind=fault.kind, what=fault.name)
    for fault in FAULTS.values():
        if fault.kind != "precision":
            yield Case(model=TRAINED[0], weights="trained", format="onnx fp16", kind=fault.kind, what=fault.name)
    for seed in SEEDS:
        yield from correct(seed)


def correct(seed: int) -> Iterator[Case]:
    """Correct files with random weights."""
    for model in FAMILIES:
        for format in FORMATS:
            yield Case(model=model, weights=f"seed {seed}", format=format, kind="correct")


def doses() -> Iterator[Case]:
    """Compressed files, and the points of the curve."""
    for model in TRAINED:
        for scheme in COMPRESSIONS:
            yield Case(model=model, weights="trained", format="coreml", kind="compression", what=scheme)
        for bits in WEIGHT_BITS:
            yield Case(model=model, weights="trained", format="torch", kind="weight bits", what=f"{bits:02d}")
        for bits in RESULT_BITS:
            yield Case(model=model, weights="trained", format="torch", kind="result bits", what=f"{bits:02d}")


# --------------------------------------------------------------------------------------------------------- one case


def load(case: Case) -> Any:
    """The model of a case."""
    from edgesam_export.families import load_model

    if case.weights != "trained":
        return load_model(case.model, random_weights=int(case.weights.split()[1]))
    return load_model(case.model)


def export(model: Any, case: Case, folder: Path) -> list[Any]:
    """Export a case's model as its format has it; a faulty ONNX decoder has fixed slots, so that empty ones exist."""
    from edgesam_export import CoreMLConfig, OnnxConfig, export_coreml, export_onnx

    slots, mask = model.info.slots, hasattr(model.prompt_encoder, "mask_downscaling")
    if case.format.startswith("onnx"):
        points = slots if case.kind == "correct" else slots or 8
        precision = "fp16" if case.format == "onnx fp16" else "fp32"
        return export_onnx(model, folder, OnnxConfig(points=points, mask_input=mask, precision=precision))
    scheme = case.what if case.kind == "compression" else None
    target = "iOS18" if scheme == "linear4" else "iOS17"
    return export_coreml(
        model, folder, CoreMLConfig(points=slots or 8, mask_input=mask, compress=scheme, target=target)
    )


def candidate_of(case: Case, model: Any, folder: Path) -> Any:
    """What is checked in a case: exported files, or the network with fewer bits.

    Where a fault is in one component, only that is exported: the other is the correct file's. A fault of conversion is
    looked for in exact arithmetic alone.
    """
    from edgesam_export.runners import open_runner

    changed = copy.deepcopy(model)
    if case.format == "torch":
        return fewer_bits(changed, case)
    with ExitStack() as stack:
        if case.what in FAULTS:
            fault = FAULTS[case.what]
            for patched in fault.plant(changed):
                stack.enter_context(patched)
            part = changed_component(model, changed) if case.kind == "weights" else fault.part
            if part:
                stack.enter_context(only_component(part))
        files = export(changed, case, folder)
    return open_runner(files, numerics="widened") if exact_alone(case) and case.format == "onnx fp16" else files


def exact_alone(case: Case) -> bool:
    """Whether a case asks only if the file is the network."""
    return case.kind in ("weights", "graph")


def changed_component(model: Any, changed: Any) -> str:
    """The component whose weights differ between two models."""
    before, after = model.state_dict(), changed.state_dict()
    names = [name for name in before if not before[name].equal(after[name])]
    inside = {name.startswith(ENCODER) for name in names}
    assert len(inside) == 1, names
    return "encoder" if inside.pop() else "decoder"


def only_component(name: str) -> Any:
    """A patch that exports one component alone."""
    from edgesam_export.export import trace

    build = trace.build_components

    def built(*arguments: Any, **options: Any) -> Any:
        components, rewrites = build(*arguments, **options)
        return tuple(component for component in components if component.name == name), rewrites

    return patch.object(trace, "build_components", built)


def fewer_bits(model: Any, case: Case) -> Any:
    """A runner of the network whose weights or results have fewer bits, gated like one of half precision."""
    import torch

    from edgesam_export.parity import half_precision

    bits = int(case.what)
    if case.kind == "result bits":
        runner = half_precision.HalfPrecisionRunner(model, score="iou", bits=bits)
    else:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    scale = parameter.abs().amax(tuple(range(1, parameter.ndim)), keepdim=True) / (2 ** (bits - 1) - 1)
                    parameter.copy_((parameter / scale.clamp_min(1e-12)).round() * scale)
        runner = half_precision.TorchRunner(model, score="iou")
    runner.numerics, runner.name = "fp16", f"{case.kind} {bits}"
    return runner


def judge(case: Case) -> dict[str, Any]:
    """Check one case; its record."""
    with ExitStack() as stack:
        stack.enter_context(patch("edgesam_export.parity.check.Diagnosis", NoDiagnosis))
        if case.kind == "weights":
            stack.enter_context(patch("edgesam_export.parity.check.comparisons", remembered(case)))
        record = checked(case)
    return record if record["passed"] or case.kind != "correct" else checked(case)


class NoDiagnosis:
    """Looks for no cause: only whether a file passes is asked, and a cause takes longer to find than the check."""

    def __init__(self, *_: Any) -> None:
        pass

    def diagnose(self, *_: Any) -> Any:
        from edgesam_export.parity.report import CheckResult

        return CheckResult()


REFERENCES: dict[tuple[str, ...], Any] = {}
"""References of files with wrong weights: model, images, prompts and options are those of many cases in a row."""


def remembered(case: Case) -> Any:
    """``comparisons`` with a memory, and without the network as exported, which no fault of a file changes.

    What a reference computes depends on the candidate's format and components alone: the fault is in the candidate.
    """
    from edgesam_export.parity.counterparts import Comparison, comparisons

    def found(candidates: Sequence[Any], original: Any) -> list[Comparison]:
        return [with_memory(one) for one in comparisons(candidates, original) if one.candidate in candidates]

    def with_memory(one: Comparison) -> Comparison:
        parts = sorted(file.component for file in one.candidate.artifacts)
        key = (case.model, case.format, one.candidate.name, *parts)
        if key not in REFERENCES:
            REFERENCES[key] = one.reference()
        return Comparison(candidate=one.candidate, reference=lambda: REFERENCES[key])

    return found


def checked(case: Case) -> dict[str, Any]:
    """The record of one case."""
    from edgesam_export.parity import check_parity
    from edgesam_export.parity.inputs import default_images, default_prompts

    model = load(case)
    numerics: Sequence[str] = ("fp32", "fp16", "ane")
    if exact_alone(case):
        numerics = ("fp32",)
    images = default_images(model.info)
    if case.kind != "correct" or case.model in LARGE or case.weights == f"seed {SEEDS[-1]}":
        images = images[:1] + images[-1:]
    # A fault of conversion in a kind of prompt that the model was not trained on is a fault of the file all the same.
    prompts = default_prompts if exact_alone(case) else None
    with tempfile.TemporaryDirectory() as folder:
        files = candidate_of(case, model, Path(folder))
        report = check_parity(model, files, images=images, prompts=prompts, numerics=numerics)
    return {**asdict(case), **summary(report), "images": len(images)}


def summary(report: Any) -> dict[str, Any]:
    """What a record keeps of a report: results by candidate, failed gates, and what became of the masks."""
    from edgesam_export.parity.render.summary import bound, component_of, gate_lines, measured

    lines = gate_lines(report)
    end = [row for row in report.rows if row.output == "masks" and row.embeddings == "own" and row.metrics]
    half = [row for row in end if row.numerics == "fp16"]
    return {
        "passed": report.passed,
        "outputs": len(report.rows),
        "failed_outputs": len(report.failures),
        "candidates": {
            name: all(row.passed for row in report.rows if row.candidate == name)
            for name in dict.fromkeys(row.candidate for row in report.rows)
        },
        "failed": [
            {
                "candidate": line.candidate,
                "component": component_of(line),
                "metric": line.gate.metric,
                "at": line.location,
                "worst": measured(line.gate.metric, line.worst.value),
                "gate": bound(line.gate),
            }
            for line in lines
            if not line.passed
        ],
        "worst": {
            f"{line.candidate}: {component_of(line)}: {line.gate.output}: {line.gate.metric}": plain(line.worst.value)
            for line in lines
        },
        "problems": sum(bool(row.problem) for row in report.rows),
        "why": list(dict.fromkeys([*map(str, report.divergences), *(item.text for item in report.explanations)]))[:4],
        "best_mask_iou": plain(min((row.metrics["best_mask_iou"] for row in half), default=1.0)),
        "mask_iou": plain(min((row.metrics["mask_iou"] for row in half), default=1.0)),
        "visible_change": plain(max((row.metrics["visible_change"] for row in half), default=0.0)),
        "noise_ratio": plain(max((row.metrics.get("noise_ratio", 0.0) for row in half), default=0.0)),
        "sign_margin": plain(max((row.metrics.get("sign_margin", 0.0) for row in report.failures), default=0.0)),
    }


def plain(value: float) -> float | str:
    """A number that JSON can hold, or its name."""
    import math

    return round(float(value), 7) if math.isfinite(value) else str(value)


# -------------------------------------------------------------------------------------------------------------- main


def main() -> None:
    """Judge the cases that the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose key holds this text")
    parser.add_argument("--again", action="store_true", help="judge them again")
    parser.add_argument("--minutes", type=float, default=600.0, help="start no case after this time")
    parser.add_argument("--page", action="store_true", help="only write tables and curve of docs/parity.md")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    start = time.monotonic()
    for case in () if options.page else cases():
        if options.only not in case.key or (case.key in record and not options.again):
            continue
        if time.monotonic() - start > options.minutes * 60:
            break
        try:
            record[case.key] = judge(case)
        except NotHere:
            continue
        print(
            f"{time.monotonic() - start:6.0f} s  {'pass' if record[case.key]['passed'] else 'FAIL'}  {case.key}",
            flush=True,
        )
        RECORD.write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    write_page(record)


if __name__ == "__main__":
    main()
