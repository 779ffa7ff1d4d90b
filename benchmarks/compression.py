"""What compression costs masks: every uniform scheme, recipes and presets, on models whose weights are here.

Writes ``benchmarks/compression.json`` and the tables and plots of docs/compression.md. Interrupted, it goes on where it
was. Agreement is with the model's own FP32 masks; mIoU is with exact masks of drawn images.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgesam_export.distill.data import open_data
from edgesam_export.families import load_model
from edgesam_export.files import read_json, write_json
from edgesam_export.shrink.images import bundled_images, split_images
from edgesam_export.shrink.search import Goal
from edgesam_export.shrink.shrinking import Images, ShrinkConfig, shrink
from edgesam_export.spec import CoreMLConfig

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "compression.json"
OUT = ROOT / "out" / "compression"
UNIFORM = (
    "linear8",
    "palettize8",
    "palettize6",
    "palettize4",
    "palettize4_g8",
    "palettize4_g16",
    "linear4",
    "palettize3",
    "palettize3_g16",
    "palettize2",
    "palettize2_g16",
)
MIN_IOU = 0.98


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model of the sweep."""

    model: str
    data: str | None
    """As ``shrink --images`` takes it."""
    count: int
    options: dict[str, Any] = field(default_factory=dict)
    """Of ``ShrinkConfig``."""


ROWS = (
    Row(model="edge_sam_tiny", data="scenes:2000:32", count=16),
    # its encoder takes seconds an image
    Row(model="lite_medsam", data=None, count=6, options={"sensitivity_images": 3, "probe_encoder": False, "curve": 2}),
)


def images_of(row: Row) -> Images:
    """Return the images of a model's row."""
    if row.data is None:
        model = load_model(row.model)
        search, held_out = bundled_images(model.info, row.count)
        return Images(name="drawn phantoms", search=search, held_out=held_out)
    search, held_out = split_images(open_data(row.data), row.count)
    return Images(name=row.data, search=search, held_out=held_out)


def measured(row: Row) -> dict[str, Any]:
    """Return the document of a model's search, made now unless it is there."""
    folder = OUT / row.model
    if not (folder / "shrink.json").exists():
        config = ShrinkConfig(
            goal=Goal(min_iou=MIN_IOU), export=CoreMLConfig(target="iOS18"), uniform=UNIFORM, **row.options
        )
        result = shrink(load_model(row.model), images_of(row), folder, config, progress=say)
        print(result.document()["found"], result.passed)
    document: dict[str, Any] = read_json(folder / "shrink.json")
    return document


def say(done: int, total: int, text: str) -> None:
    """Print a step."""
    print(f"{text} {done}/{total}" if total else text, flush=True)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=[row.model for row in ROWS])
    options = parser.parse_args()
    results = read_json(RESULTS) if RESULTS.exists() else {"models": {}}
    for row in ROWS:
        if options.model in (None, row.model):
            results["models"][row.model] = measured(row)
            write_json(RESULTS, results)


if __name__ == "__main__":
    main()
