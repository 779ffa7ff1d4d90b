"""Our ONNX files against those that the installed samexporter makes of the same weights, in ONNX Runtime on this CPU.

Bars: encoders of SAM ViT-B and MobileSAM and the decoder at most 0.95 times the peer's time, and ViT-B exported to ONNX
within 30 s. Both sides take images as they are and the same prompt, a point and SAM's padding point; candidates run in
turns. An image is 1024 x 768, as is the size that the masks are scaled to.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from measuring import interleaved_ms, machine, print_ratios

from edgesam_export import OnnxConfig, export_onnx, load_model

MODELS = {"mobile_sam": "mobile", "sam_vit_b": "vit_b"}
"""Our names, and samexporter's."""
WIDTH, HEIGHT = 1024, 768
PARTS = ("encoder", "decoder")


def theirs(name: str, folder: Path) -> dict[str, Path]:
    """Return the files that samexporter exports, by component."""
    import torch

    weights, paths = folder / "weights.pt", {part: folder / f"{part}.onnx" for part in PARTS}
    torch.save(load_model(name, random_weights=11).state_dict(), weights)
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from other_programs import segment_anything_and

    with segment_anything_and("samexporter"), redirect_stdout(sys.stderr):
        from samexporter import export_decoder, export_encoder

        shared = {"model_type": MODELS[name], "checkpoint": str(weights), "opset": 18}
        start = time.perf_counter()
        export_encoder.run_export(**shared, output=str(paths["encoder"]), use_preprocess=True)
        export_decoder.run_export(**shared, output=str(paths["decoder"]), return_single_mask=False)
        print_seconds("samexporter", name, start)
    return paths


def ours(name: str, folder: Path) -> dict[str, Path]:
    """Return our files for the same six inputs, by component."""
    model = load_model(name, random_weights=11)
    start = time.perf_counter()
    artifacts = export_onnx(model, folder, OnnxConfig(profile="sam6"))
    print_seconds("edgesam-export", name, start)
    return {artifact.component: artifact.path for artifact in artifacts}


def print_seconds(program: str, name: str, start: float) -> None:
    """Print how long an export took."""
    print(f"{name} exported by {program} in {time.perf_counter() - start:.1f} s", file=sys.__stdout__)


def call(path: Path, threads: int) -> Callable[[], Any]:
    """Return a call of a file with the inputs of its contract."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options)
    random = np.random.default_rng(0)
    values = {
        "input_image": random.random((HEIGHT, WIDTH, 3)) * 255,
        "image_embeddings": random.standard_normal((1, 256, 64, 64)),
        "point_coords": [[[400, 300], [0, 0]]],
        "point_labels": [[1, -1]],
        "mask_input": np.zeros((1, 1, 256, 256)),
        "has_mask_input": [0],
        "orig_im_size": [HEIGHT, WIDTH],
    }
    feed = {tensor.name: np.asarray(values[tensor.name], np.float32) for tensor in session.get_inputs()}
    return lambda: session.run(None, feed)


def main() -> None:
    """Export with both, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    print(machine(arguments.threads))
    for name in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            files = {"samexporter": theirs(name, Path(folder)), "edgesam-export": ours(name, Path(folder) / "ours")}
            for part in PARTS:
                calls = {program: call(paths[part], arguments.threads) for program, paths in files.items()}
                rounds = arguments.rounds * (4 if part == "decoder" else 1)
                bars = {"edgesam-export": 0.95}
                print_ratios(f"{name} {part}", interleaved_ms(calls, rounds), "samexporter", bars)


if __name__ == "__main__":
    main()
