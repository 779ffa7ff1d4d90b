"""How long an export takes, how much memory it needs, and what folding the encoder is worth in ONNX Runtime.

Bars: both parts to both formats, verification off, under 30 s on two cores and under 4 GB; the folded ONNX encoder at
most 0.65 times the time of the unfolded one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from measuring import interleaved_ms, machine, print_ratios, run_child

EXPORT = """
import sys, time
start = time.perf_counter()
from edgesam_export import CoreMLConfig, OnnxConfig, export_coreml, export_onnx, load_model
import torch
torch.set_num_threads(int(sys.argv[2]))
model = load_model("edge_sam_3x", random_weights=0)
loaded = time.perf_counter()
export_coreml(model, sys.argv[1], CoreMLConfig())
coreml = time.perf_counter()
export_onnx(model, sys.argv[1], OnnxConfig())
end = time.perf_counter()
marks = {"import_and_load_s": loaded - start, "coreml_s": coreml - loaded, "onnx_s": end - coreml}
result = {**marks, "total_s": end - start}
"""


def main() -> None:
    """Run both measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--exports", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    print(machine(arguments.threads))
    with tempfile.TemporaryDirectory() as folder:
        print("\nexport of encoder and decoder to Core ML and ONNX, verification off (bars: 30 s, 4096 MB)")
        print(f"{'run':>4}{'load s':>9}{'coreml s':>10}{'onnx s':>9}{'total s':>9}{'peak MB':>9}")
        for number in range(arguments.exports):
            r = run_child(EXPORT, f"{folder}/{number}", str(arguments.threads))
            times = f"{r['import_and_load_s']:>9.1f}{r['coreml_s']:>10.1f}{r['onnx_s']:>9.1f}{r['total_s']:>9.1f}"
            print(f"{number + 1:>4}{times}{r['peak_mb']:>9.0f}")
        compare_folding(Path(folder), arguments)


def compare_folding(folder: Path, arguments: argparse.Namespace) -> None:
    """Time the ONNX encoder with and without rewrites, in turns."""
    import onnxruntime

    from edgesam_export import OnnxConfig, export_onnx, load_model

    model = load_model("edge_sam_3x", random_weights=0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    image = np.random.default_rng(0).standard_normal((1, 3, 1024, 1024)).astype(np.float32)
    candidates = {}
    for name, rewrites in (("without rewrites", ()), ("recommended rewrites", None)):
        encoder = export_onnx(model, folder / name, OnnxConfig(rewrites=rewrites))[0]
        session = onnxruntime.InferenceSession(str(encoder.path), options)
        candidates[name] = lambda session=session: session.run(None, {"image": image})
    times = interleaved_ms(candidates, arguments.rounds)
    print_ratios("ONNX encoder in ONNX Runtime (bar: 0.65)", times, "without rewrites")


if __name__ == "__main__":
    main()
