"""Encoder and decoder of every family in one run: PyTorch and ONNX Runtime on this CPU, PyTorch on CUDA too.

Stand-in weights, inputs of the model's own size, one prompt of one point. Every round runs each model once, so that the
drift of the machine hits all alike; ratios are to EdgeSAM in the same run. What the papers claim stands beside it, with
their conditions: no ratio here was measured on a phone or on their hardware.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import machine

BASE = "edge_sam"
TARGET = Path(__file__).parent / "families.json"
LARGE = 150_000_000
"""Models with more parameters run fewer rounds: one pass of ViT-H takes half a minute on two cores."""
CLAIMS = (
    ("sam_vit_h", "37 times slower", "EdgeSAM paper: encoder and one-prompt decoder, NVIDIA 2080 Ti"),
    ("mobile_sam", "over 7 times slower", "EdgeSAM paper: iPhone 14, Core ML, Xcode report"),
    ("efficientvit_sam_l0", "48.9 times faster than ViT-H", "EfficientViT-SAM paper: A100, TensorRT FP16, batch 16"),
)


def main() -> None:
    """Measure, print the tables, keep the samples."""
    import torch

    from edgesam_export.families import model_names

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="models to measure beside EdgeSAM (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large-rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip-cpu", action="store_true", help="CUDA only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = list(dict.fromkeys([BASE, *(options.models or model_names())]))
    print(machine(options.threads))
    record: dict[str, Any] = {"machine": machine(options.threads), "date": time.strftime("%Y-%m-%d"), "models": {}}
    if not options.skip_cpu:
        record["models"] = measure_cpu(names, options)
        for part in ("encoder", "decoder"):
            for runtime in ("pytorch", "onnxruntime"):
                show(f"{part}, {runtime}, FP32", {n: record["models"][n][runtime][part] for n in names})
    if torch.cuda.is_available():
        record["cuda"] = measure_cuda(names)
        for key, times in record["cuda"]["encoder"].items():
            show(f"encoder, PyTorch FP16, {record['cuda']['device']}, batch {key}", times)
    print_claims(record["models"])
    TARGET.write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    print(f"\nwrote {TARGET}")


def measure_cpu(names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Times in ms by model, runtime and part; EdgeSAM runs beside every other model, in turns."""
    times: dict[str, Any] = {
        name: {runtime: {"encoder": [], "decoder": []} for runtime in ("pytorch", "onnxruntime")} for name in names
    }
    with tempfile.TemporaryDirectory() as folder:
        base = calls_of(BASE, Path(folder), options.threads)
        for name in names:
            calls = base if name == BASE else calls_of(name, Path(folder), options.threads)
            rounds = options.large_rounds if calls["parameters"] > LARGE else options.rounds
            for number in range(rounds + 1):
                for key, owner in ((BASE, base), (name, calls))[name == BASE :]:
                    for runtime, part in owner["calls"]:
                        start = time.perf_counter_ns()
                        owner["calls"][runtime, part]()
                        if number:
                            times[key][runtime][part].append((time.perf_counter_ns() - start) / 1e6)
            del calls
            gc.collect()
            for file in Path(folder).glob(f"{name}_*"):
                if name != BASE:
                    file.unlink()
            print(f"  {name} done", flush=True)
    return times


def calls_of(name: str, folder: Path, threads: int) -> dict[str, Any]:
    """Functions that run one model's parts once in each runtime."""
    import numpy as np
    import onnxruntime
    import torch

    from edgesam_export import OnnxConfig, export_onnx, load_model

    model = load_model(name, random_weights=0)
    slots = model.info.slots or 2
    files = export_onnx(model, folder, OnnxConfig(points=slots))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Two thread pools run in turns: one that spins while the other works would take its core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = {file.component: onnxruntime.InferenceSession(str(file.path), options) for file in files}
    random = np.random.default_rng(0)
    size = model.info.frame.size
    image = random.standard_normal((1, 3, size, size)).astype(np.float32)
    embedding = random.standard_normal(model.info.embedding_shape).astype(np.float32)
    coords = np.full((1, slots, 2), 500, np.float32)
    labels = np.array([[1, *[-1] * (slots - 1)]], np.float32)
    feed = {"image_embeddings": embedding, "point_coords": coords, "point_labels": labels}
    tensors = [torch.from_numpy(value) for value in feed.values()]

    @torch.inference_mode()
    def torch_encoder() -> None:
        model.encode(torch.from_numpy(image))

    @torch.inference_mode()
    def torch_decoder() -> None:
        model.decode(*tensors)

    return {
        "parameters": sum(value.numel() for value in model.parameters()),
        "calls": {
            ("pytorch", "encoder"): torch_encoder,
            ("pytorch", "decoder"): torch_decoder,
            ("onnxruntime", "encoder"): lambda: sessions["encoder"].run(None, {"image": image}),
            ("onnxruntime", "decoder"): lambda: sessions["decoder"].run(None, feed),
        },
    }


def measure_cuda(names: list[str], rounds: int = 20) -> dict[str, Any]:
    """Encoder times in ms per picture, FP16, batches of 1 and 16, by device events."""
    import torch

    from edgesam_export import load_model

    found: dict[str, dict[str, list[float]]] = {"1": {}, "16": {}}
    for name in names:
        encoder = load_model(name, random_weights=0).image_encoder.half().cuda()
        size = load_model(name, random_weights=0).info.frame.size
        for batch in (1, 16):
            image = torch.randn(batch, 3, size, size, dtype=torch.half, device="cuda")
            found[str(batch)][name] = [value / batch for value in device_events(encoder, image, rounds)]
        del encoder
        torch.cuda.empty_cache()
    return {"device": torch.cuda.get_device_name(), "encoder": found}


def device_events(encoder: Any, image: Any, rounds: int) -> list[float]:
    """Milliseconds of each call, measured on the device."""
    import torch

    times = []
    with torch.inference_mode():
        for number in range(rounds + 5):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            encoder(image)
            end.record()
            torch.cuda.synchronize()
            if number >= 5:
                times.append(start.elapsed_time(end))
    return times


def show(title: str, times: dict[str, list[float]]) -> None:
    """Print min, median and max of each model and the ratio of its median to EdgeSAM's."""
    base = statistics.median(times[BASE])
    print(f"\n{title}\n{'':24}{'n':>4}{'min ms':>10}{'median':>10}{'max':>10}{'ratio':>8}")
    for name, values in sorted(times.items(), key=lambda item: statistics.median(item[1])):
        middle = statistics.median(values)
        row = f"{min(values):>10.1f}{middle:>10.1f}{max(values):>10.1f}{middle / base:>8.2f}"
        print(f"{name:24}{len(values):>4}{row}")


def print_claims(models: dict[str, Any]) -> None:
    """Print the papers' claims beside encoder plus decoder of this run."""
    print("\nwhat the papers claim, and encoder plus decoder in ONNX Runtime here")

    def both(name: str) -> float:
        return sum(statistics.median(models[name]["onnxruntime"][part]) for part in ("encoder", "decoder"))

    for name, claim, condition in CLAIMS:
        if name in models:
            here = f"{both(name) / both(BASE):.1f} times EdgeSAM"
            if "sam_vit_h" in models:
                here += f", ViT-H {both('sam_vit_h') / both(name):.1f} times this"
            print(f"  {name:24}{claim} ({condition}); here {here}")


if __name__ == "__main__":
    main()
