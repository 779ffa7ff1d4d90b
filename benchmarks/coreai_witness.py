"""Apple's interpreter as a witness for our executor: a Core ML package in ours, its Core AI twin in Apple's, both FP32.

Both files come from the same model and get the same image and prompts, the decoders the same embedding, of PyTorch.
What they share is PyTorch's modules and rewrites; converter, file, reader and every operation's arithmetic are
different. The last figure is a Core AI file in both executors.

Figures of each model go to coreai_witness.json when they are there, so an interrupted run goes on; the table is written
into docs/coreai_execution.md. Weights are stand-ins where none are bundled. Timings are of a machine that did other
things too.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from edgesam_export import CoreMLConfig, export_coreml, load_model
from edgesam_export.artifacts import pick_components
from edgesam_export.files import read_json, write_json, write_text
from edgesam_export.formats.coreai import export_coreai
from edgesam_export.imaging.geometry import prepare
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity.inputs import default_images, default_prompts, pack
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.runners import Embedding, Runner, open_runner
from edgesam_export.runners.torch import TorchRunner
from edgesam_export.spec import Artifact, CoreAIConfig

MODELS = ("edge_sam_tiny", "edge_sam", "mobile_sam", "efficientvit_sam_l0", "efficient_sam_vitt", "lite_medsam")
MODELS += ("edgetam", "sam2.1_hiera_tiny", "sam_vit_b")
BUNDLED = ("edge_sam_tiny",)
SEED = 0
RECORD = Path(__file__).with_name("coreai_witness.json")
PAGE = Path(__file__).parents[1] / "docs" / "coreai_execution.md"
BEGIN, END = "<!-- witness: begin, written by make coreai-witness -->", "<!-- witness: end -->"
COLUMNS = {
    "torch_coreml": "PyTorch and Core ML in ours",
    "torch_apple": "PyTorch and Core AI in Apple's",
    "coreml_apple": "Core ML in ours and Core AI in Apple's",
    "coreai_both": "Core AI in both",
}
"""Pair of results -> its column: the lower figure of all prompts and masks, in dB."""


def main() -> None:
    """Measure the models that have no figures, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    arguments = parser.parse_args()
    record: dict[str, Any] = read_json(RECORD) if RECORD.is_file() else {}
    for name in arguments.models:
        if name not in record:
            record[name] = measure(name)
            write_json(RECORD, record)
        print(json.dumps({name: record[name]}), flush=True)
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    write_text(PAGE, f"{before}{BEGIN}\n{table(record)}\n{END}{after}")


def measure(name: str) -> dict[str, Any]:
    """Return the figures of one model."""
    model = load_model(name, random_weights=None if name in BUNDLED else SEED)
    with tempfile.TemporaryDirectory() as folder:
        packages = export_coreml(model, Path(folder), CoreMLConfig(precision="fp32"))
        assets = export_coreai(model, Path(folder), CoreAIConfig(precision="fp32"))
        runners = {
            "torch": TorchRunner(model, score="iou"),
            "coreml": open_pair(packages, "fp32"),
            "coreai": open_pair(assets, "fp32"),
            "apple": open_pair(assets, "apple"),
        }
        found, seconds = results(model, runners)
        for runner in runners.values():
            runner.release()
    pairs = {key: tuple(key.split("_")) if key != "coreai_both" else ("coreai", "apple") for key in COLUMNS}
    return {
        "weights": "its own" if name in BUNDLED else f"random, seed {SEED}",
        "encoder_seconds": {runner: round(value, 1) for runner, value in seconds.items()},
        **{
            key: {part: round(min(agreement(found[left][part], found[right][part])), 1) for part in found[left]}
            for key, (left, right) in pairs.items()
        },
    }


def open_pair(artifacts: list[Artifact], numerics: str) -> Runner:
    """Return a runner of encoder and decoder."""
    return open_runner(pick_components([one for one in artifacts if one.component != "proposals"]), numerics=numerics)


def results(model: SamModel, runners: dict[str, Runner]) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Return each runner's maps and logits, and the seconds of its encoder; all decoders get PyTorch's embedding."""
    _, image = default_images(model.info)[0]
    prepared = prepare(image, model.info.frame)
    kinds = model.info.trained_prompts
    prompts = [p for p in default_prompts(image.shape[:2]) if p.kind != "mask" and (not kinds or p.kind in kinds)]
    embedding: Embedding = {}
    found: dict[str, dict[str, Any]] = {}
    seconds = {}
    for runner_name, runner in runners.items():
        started = time.monotonic()
        maps = runner.encode_pixels(prepared.pixels)
        seconds[runner_name] = time.monotonic() - started
        embedding = embedding or maps
        packed = [pack(prepared, prompt, runner.slots, model.info.padding_point) for prompt in prompts]
        logits = [mask for feed in packed for mask in runner.decode(embedding, *feed)[0][0]]
        found[runner_name] = {"encoder": list(maps.values()), "decoder": logits}
    return found, seconds


def agreement(left: list[Any], right: list[Any]) -> list[float]:
    """Return the PSNR of each array of two lists, 200 dB for equal ones."""
    values = [psnr_db(*arrays) for arrays in zip(left, right, strict=True)]
    return [min(value, 200.0) if not math.isnan(value) else -math.inf for value in values]


def table(record: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = [f"| model | weights | {' | '.join(COLUMNS.values())} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    for name, figures in record.items():
        cells = [f"{figures[key]['encoder']:.0f}, {figures[key]['decoder']:.0f}" for key in COLUMNS]
        lines.append(f"| `{name}` | {figures['weights']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
