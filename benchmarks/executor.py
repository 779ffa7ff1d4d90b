"""The executor against ONNX Runtime on exports of the same weights, in one run; ``BARS`` are printed beside the ratios.

ONNX Runtime runs two files: the recommended one, whose rewrites it likes best, and one with the rewrites of the Core ML
package. The first ratio is the stricter and counts other multiply-adds; the second compares one graph with itself.

With ``--busy`` two processes that never wait run beside both, as on a shared CI runner; only times are measured then.
Threads wait as they would in the command line: spinning on idle cores, sleeping beside other work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from measuring import interleaved_ms, machine, print_ratios, run_child

from edgesam_export.cli.threads import sleep_when_busy
from edgesam_export.spec import NUMERICS

if TYPE_CHECKING:
    import onnxruntime

BARS = {
    "encoder": {"executor fp32": 1.0, "executor fp16": 1.2, "executor ane": 1.6},
    "decoder": {"executor fp32": 1.0, "executor fp16": 1.1},
}
"""Times of ONNX Runtime's on idle cores."""
BUSY_BAR = 2.0
SPINNERS = 2
RECOMMENDED, SAME_GRAPH = "ONNX Runtime fp32", "ONNX Runtime fp32, graph of Core ML"

MEMORY = """
import sys
import numpy as np
if sys.argv[1] == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(sys.argv[3])
    session = onnxruntime.InferenceSession(sys.argv[2], options)
    for _ in range(3):
        session.run(None, {"image": np.zeros((1, 3, 1024, 1024), np.float32)})
else:
    import torch
    torch.set_num_threads(int(sys.argv[3]))
    from edgesam_export import load_program
    program = load_program(sys.argv[2])
    for _ in range(3):
        program.predict({"image": np.zeros((1024, 1024, 3), np.uint8)}, numerics=sys.argv[1])
result = {}
"""
IMPORTS = """
import sys
if sys.argv[1] == "onnxruntime":
    import onnxruntime, numpy
else:
    import torch, numpy
    import edgesam_export.mil
result = {}
"""
LOAD = """
import sys, time
import edgesam_export.mil as mil
start = time.perf_counter()
program = mil.load_program(sys.argv[1])
first = time.perf_counter() - start
result = {"load_s": first}
"""


def main() -> None:
    """Export once, then measure time, memory and loading, beside other processes or alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--busy", action="store_true", help="with two spinning processes beside")
    parser.add_argument("--component", choices=BARS, help="times of this one alone; default: both, memory and loading")
    arguments = parser.parse_args()
    with spinning(SPINNERS if arguments.busy else 0):
        sleep_when_busy()  # before torch is loaded
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Export, and measure what the arguments ask for."""
    import torch

    from edgesam_export import CoreMLConfig, OnnxConfig, export_coreml, export_onnx, load_model
    from edgesam_export.rewrites import recommended_rewrites

    torch.set_num_threads(arguments.threads)
    print(machine(arguments.threads))
    model = load_model("edge_sam_3x", random_weights=0)
    with tempfile.TemporaryDirectory() as folder:
        coreml = export_coreml(model, folder, CoreMLConfig())
        onnx = export_onnx(model, folder, OnnxConfig())
        same = export_onnx(model, f"{folder}/same", OnnxConfig(rewrites=recommended_rewrites("coreml")))
        for part, package, *files in zip(BARS, coreml, onnx, same):
            if arguments.component in (None, part):
                compare_times(part, str(package.path), [str(file.path) for file in files], arguments)
        if arguments.busy or arguments.component:
            return
        compare_memory(str(coreml[0].path), str(onnx[0].path), arguments.threads)
        loads = [run_child(LOAD, str(artifact.path))["load_s"] for artifact in coreml]
        print(f"\nloading a package (bar: 1 s): encoder {loads[0]:.2f} s, decoder {loads[1]:.2f} s")


def compare_times(part: str, package: str, files: list[str], arguments: argparse.Namespace) -> None:
    """Time one component in ONNX Runtime, its recommended file and that of the same graph, and under each numerics."""
    from edgesam_export import load_program

    program = load_program(package)
    feed, ours = feeds(part)
    candidates: dict[str, Callable[[], object]] = {}
    for name, file in zip((RECOMMENDED, SAME_GRAPH), files):
        session = open_session(file, arguments.threads)
        candidates[name] = lambda session=session: session.run(None, feed)
    for numerics in NUMERICS:
        candidates[f"executor {numerics}"] = lambda numerics=numerics: program.predict(ours, numerics=numerics)
    for call in candidates.values():
        call()
    times = interleaved_ms(candidates, arguments.rounds, warm_up=1)
    bars = dict.fromkeys(list(candidates)[2:], BUSY_BAR) if arguments.busy else BARS[part]
    beside = f", {SPINNERS} spinning processes beside" if arguments.busy else ""
    print_ratios(f"{part}{beside}, against the recommended ONNX file", times, RECOMMENDED, bars)
    print_ratios(f"{part}{beside}, against the same graph", times, SAME_GRAPH, bars)


def open_session(file: str, threads: int) -> onnxruntime.InferenceSession:
    """Return a session whose threads sleep while they wait."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Both thread pools are used in turns: one that spins while the other works would take its core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options)


def feeds(part: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return random inputs of a component for ONNX Runtime and for the executor."""
    random = np.random.default_rng(0)
    if part == "encoder":
        image = random.standard_normal((1, 3, 1024, 1024)).astype(np.float32)
        return {"image": image}, {"image": random.integers(0, 256, (1024, 1024, 3), np.uint8)}
    feed = {
        "image_embeddings": random.standard_normal((1, 256, 64, 64)).astype(np.float32),
        "point_coords": random.uniform(0, 1024, (1, 8, 2)).astype(np.float32),
        "point_labels": np.ones((1, 8), np.float32),
    }
    return feed, {**feed, "image_embeddings": feed["image_embeddings"].astype(np.float16)}


@contextmanager
def spinning(count: int) -> Iterator[None]:
    """Keep some processes busy while the block runs."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def compare_memory(package: str, file: str, threads: int) -> None:
    """Peak memory of a process that runs the encoder three times, with what its imports alone take beside it."""
    print("\npeak memory of a process that runs the encoder (bar: 2.0)")
    print(f"{'':34}{'peak MB':>10}{'imports':>9}{'net MB':>9}{'ratio':>8}")
    base = None
    for kind, path in (("onnxruntime", file), ("fp32", package), ("fp16", package)):
        peak = run_child(MEMORY, kind, path, str(threads))["peak_mb"]
        imports = run_child(IMPORTS, kind)["peak_mb"]
        base = base or peak
        print(f"{kind:34}{peak:>10.0f}{imports:>9.0f}{peak - imports:>9.0f}{peak / base:>8.2f}")


if __name__ == "__main__":
    main()
