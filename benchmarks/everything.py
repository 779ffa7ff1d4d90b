"""Agreement of everything mode with segment-anything's own generator: ``make everything-agreement``.

Both run with the parameters of the bundled model and the default options on drawn scenes. The table goes into
docs/everything.md. Masks are matched one to one, the pair of highest IoU first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from original_sam import one_frame_model, original, sam_of  # noqa: E402

from edgesam_export.artifacts import list_files  # noqa: E402
from edgesam_export.distill.scenes import draw_scene  # noqa: E402
from edgesam_export.formats import find_format  # noqa: E402
from edgesam_export.imaging.masks import iou  # noqa: E402
from edgesam_export.predict.mask_generator import GeneratorConfig, generate_masks  # noqa: E402
from edgesam_export.rendering import markdown_table  # noqa: E402
from edgesam_export.runners import Runner, open_runner  # noqa: E402
from edgesam_export.runners.torch import TorchRunner  # noqa: E402
from edgesam_export.spec import CoreMLConfig, OnnxConfig  # noqa: E402

PAGE = ROOT / "docs" / "everything.md"
BEGIN, END = "<!-- agreement: begin -->", "<!-- agreement: end -->"
FOUND = 0.9
"""IoU from which a mask counts as found again."""


def matches(ours: list[np.ndarray], theirs: list[np.ndarray]) -> list[float]:
    """Return the IoU of each of their masks with the one of ours that it is matched with, 0 without one."""
    table = np.array([[iou(mine, other) for mine in ours] for other in theirs]).reshape(len(theirs), len(ours))
    found = [0.0] * len(theirs)
    for flat in np.argsort(-table, axis=None, kind="stable"):
        row, column = np.unravel_index(flat, table.shape)
        if table[row, column] > 0:
            found[row] = float(table[row, column])
            table[row], table[:, column] = -1, -1
    return found


def runners(model: Any, folder: Path) -> dict[str, Runner]:
    """Return the model as PyTorch, ONNX and Core ML run it, all with the predicted IoU as score."""
    find_format("onnx").export(model, folder / "onnx", OnnxConfig(score="iou"))
    find_format("coreml").export(model, folder / "coreml", CoreMLConfig(score="iou"))
    packages = list_files(folder / "coreml")
    return {
        "PyTorch": TorchRunner(model),
        "ONNX Runtime, FP32": open_runner(list_files(folder / "onnx")),
        "Core ML in the executor, FP32": open_runner(packages, numerics="fp32"),
        "Core ML in the executor, FP16": open_runner(packages, numerics="fp16"),
    }


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--grid", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = one_frame_model()
    images = [draw_scene(seed, 2000).image for seed in range(options.scenes)]
    with original() as segment_anything:
        generator = segment_anything.SamAutomaticMaskGenerator(sam_of(model), options.grid, points_per_batch=8)
        expected = [[record["segmentation"] for record in generator.generate(image)] for image in images]
    headings = ("backend", "masks", "of segment-anything", f"recall at IoU {FOUND}", "mean IoU", "lowest IoU")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, runner in runners(model, Path(folder)).items():
            print(name, file=sys.stderr)
            config = GeneratorConfig(points_per_side=options.grid)
            found = [[mask.runs.mask() for mask in generate_masks(runner, image, config)] for image in images]
            values = np.concatenate([matches(ours, theirs) for ours, theirs in zip(found, expected)])
            total = sum(map(len, expected))
            figures = (f"{np.mean(values >= FOUND):.4f}", f"{values.mean():.5f}", f"{values.min():.5f}")
            rows.append((name, str(sum(map(len, found))), str(total), *figures))
    table = markdown_table(headings, rows, right=range(1, len(headings)))
    print(table)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table.strip()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
