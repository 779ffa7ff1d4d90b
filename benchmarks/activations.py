"""What activations in 8 bits cost masks: packages of FP16, of 8-bit weights, and of both, on images they never saw.

Writes ``benchmarks/activations.json`` and the table of docs/activations.md. Agreement is with the model's own FP32
masks, as in ``benchmarks/compression.py``; the executor computes as the files are typed, in FP16.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.distill.data import open_data
from edgesam_export.families import load_model
from edgesam_export.files import read_json, write_json
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.modeling.sam import SamModel
from edgesam_export.predict.predictor import Predictor
from edgesam_export.runners import open_runner
from edgesam_export.shrink.images import bundled_images, split_images
from edgesam_export.shrink.packages import bytes_of
from edgesam_export.shrink.prompts import make_case, trained_kinds
from edgesam_export.shrink.simulation import agreement_of
from edgesam_export.spec import Artifact, CoreMLConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "activations.json"
PAGE = ROOT / "docs" / "activations.md"
OUT = ROOT / "out" / "activations"
DATA = {"edge_sam_tiny": ("scenes:2000:32", 8), "lite_medsam": (None, 3)}
"""Images, as ``shrink --images`` takes them, and how many to calibrate on and as many to measure on."""
VARIANTS: dict[str, dict[str, Any]] = {
    "FP16": {},
    "W8": {"compress": "linear8"},
    "W8A8, encoder": {"compress": "linear8", "activations": "int8"},
    "W8A8, encoder, every layer": {"compress": "linear8", "activations": "int8", "activations_db": 0},
    "W8A8, both": {"compress": "linear8", "activations": "int8", "activations_in": "both"},
    "W8A8, both, every layer": {
        "compress": "linear8", "activations": "int8", "activations_in": "both", "activations_db": 0,
    },
}  # fmt: skip
HEADINGS = (
    "weights, activations", "MB", "8-bit layers", "their work", "embedding", "agreement", "box", "point",
    "mIoU box", "mIoU point",
)  # fmt: skip


def images_of(model: SamModel) -> tuple[list[Any], list[Any]]:
    """Return the images to calibrate on, and others to measure on."""
    data, count = DATA[model.info.name]
    if data is None:
        return bundled_images(model.info, count)
    search, held_out = split_images(open_data(data), count)
    return search[:count], held_out[:count]


def measured(model: SamModel, name: str, calibration: Sequence[Any], examples: Sequence[Any]) -> dict[str, Any]:
    """Return the figures of one variant."""
    config = CoreMLConfig(**VARIANTS[name])
    folder = OUT / model.info.name / re.sub(r"\W+", "_", name)
    images = {"calibration": [example.image for example in calibration]} if config.activations else {}
    files = export_coreml(model, folder, config, **images)
    runner, reference = open_runner(files), Predictor(runner=open_runner(model))
    cases, noise = [], []
    kinds = trained_kinds(model.info, mask_input=False)
    for number, example in enumerate(examples):
        case = make_case(example, reference, kinds, number)
        if case is not None:
            embeddings = (reference.current[1], runner.encode(case.prepared))
            exact, actual = (next(iter(maps.values())) for maps in embeddings)
            noise.append(float(np.square(exact - actual, dtype=np.float64).sum() / np.square(exact).sum()))
            cases.append(case)
    return {
        "bytes": bytes_of(files),
        "components": dict(component_entries(files)),
        "embedding_db": float(-10 * np.log10(np.mean(noise))),
        "agreement": agreement_of(runner, cases).document(),
    }


def component_entries(files: Sequence[Artifact]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield how much of each component computes with 8-bit activations."""
    for file in files:
        entry = file.contract.get("activations")
        if entry is not None:
            yield (
                file.component,
                {
                    "layers": len(entry["layers"]),
                    "kept_fp16": len(entry["kept_fp16"]),
                    "work_share": entry["work_share"],
                    "signal_to_noise_db": entry["signal_to_noise_db"],
                },
            )


def table(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the page's table."""
    for model, rows in results.items():
        yield from ("", f"`{model}`:", "", f"| {' | '.join(HEADINGS)} |", "| --- |" + " ---: |" * (len(HEADINGS) - 1))
        for name in (name for name in VARIANTS if name in rows):
            row = rows[name]
            parts = [row["components"][part] for part in ("encoder", "decoder") if part in row["components"]]
            agreement = row["agreement"]
            kinds = [agreement["kinds"].get(kind) for kind in ("box", "point")]
            cells = (
                name,
                f"{row['bytes'] / 1e6:.2f}",
                " + ".join(str(part["layers"]) for part in parts) or "-",
                " + ".join(f"{part['work_share']:.0%}" for part in parts) or "-",
                f"{row['embedding_db']:.1f} dB",
                f"{agreement['mean']:.4f} ± {agreement['standard_error']:.4f}",
                *(f"{kind['mean']:.4f}" if kind else "-" for kind in kinds),
                *(f"{kind['truth_mean']:.4f}" if kind and "truth_mean" in kind else "-" for kind in kinds),
            )
            yield f"| {' | '.join(cells)} |"


def write_page(results: dict[str, Any]) -> None:
    """Replace the table of the page."""
    begin, end = ("<!-- figures: begin, written by make activations -->", "<!-- figures: end -->")
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    lines = "\n".join(table(results))
    PAGE.write_text(f"{before}{begin}{lines}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    """Measure what is not measured yet, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=list(DATA))
    options = parser.parse_args()
    results: dict[str, Any] = read_json(RESULTS) if RESULTS.exists() else {}
    for name in DATA:
        if options.model in (None, name):
            model = load_model(name)
            calibration, examples = images_of(model)
            rows = results.setdefault(name, {})
            for variant in VARIANTS:
                if variant not in rows:
                    rows[variant] = measured(model, variant, calibration, examples)
                    print(name, variant, rows[variant]["embedding_db"], rows[variant]["agreement"]["mean"], flush=True)
                    write_json(RESULTS, results)
    if PAGE.exists():
        write_page(results)


if __name__ == "__main__":
    main()
