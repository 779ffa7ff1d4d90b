"""Encoder and decoder of every family in one run: PyTorch and ONNX Runtime on this CPU, PyTorch on CUDA too.

Stand-in weights, inputs of the model's own size, one prompt of one point. EdgeSAM runs beside every other model in
turns, so that the drift of the machine hits both alike; a ratio is that of one round. What the papers claim stands
beside it, with their conditions: no ratio here was measured on a phone or on their hardware.
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
    parser.add_argument("--show", action="store_true", help="only print the tables of the kept record")
    parser.add_argument("--add", action="store_true", help="keep what the record has of other models")
    parser.add_argument("--files", type=Path, help="folder for the exports; those in it are taken as they are")
    parser.add_argument("--prepare", action="store_true", help="only write the exports to --files, measure later")
    options = parser.parse_args()
    if options.show:
        show_record(json.loads(TARGET.read_text(encoding="utf-8")))
        return
    torch.set_num_threads(options.threads)
    names = [BASE, *sorted({*(options.models or model_names())} - {BASE})]
    if options.prepare:
        for name in names:
            calls_of(name, options.files, options.threads)
        return
    record: dict[str, Any] = {"machine": machine(options.threads), "date": time.strftime("%Y-%m-%d"), "models": {}}
    if not options.skip_cpu:
        record["models"] = measure_cpu(names, options)
    if torch.cuda.is_available():
        record["cuda"] = measure_cuda(names)
    if options.add:
        record = with_added(json.loads(TARGET.read_text(encoding="utf-8")), record)
    show_record(record)
    TARGET.write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    print(f"\nwrote {TARGET}")


def measure_cpu(names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Times in ms by model, runtime and part; EdgeSAM runs beside every other model, in turns."""
    times: dict[str, Any] = {
        name: {runtime: {"encoder": [], "decoder": []} for runtime in ("pytorch", "onnxruntime")} for name in names
    }
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or Path(folder)
        base = calls_of(BASE, files, options.threads)
        for name in names:
            calls = base if name == BASE else calls_of(name, files, options.threads)
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
            for file in Path(folder).glob(f"{name}_*"):  # not those in --files
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
    from edgesam_export.profiles import embedding_names

    model = load_model(name, random_weights=0)
    slots = model.info.slots or 2
    paths = {part: folder / f"{name}_{part}.onnx" for part in ("encoder", "decoder")}
    if not all(path.is_file() for path in paths.values()):
        export_onnx(model, folder, OnnxConfig(points=slots))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Two thread pools run in turns: one that spins while the other works would take its core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = {part: onnxruntime.InferenceSession(str(path), options) for part, path in paths.items()}
    random = np.random.default_rng(0)
    size = model.info.frame.size
    image = random.standard_normal((1, 3, size, size)).astype(np.float32)
    shapes = zip(embedding_names(len(model.info.embedding_shapes)), model.info.embedding_shapes)
    maps = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes}
    coords = np.full((1, slots, 2), 500, np.float32)
    labels = np.array([[1, *[-1] * (slots - 1)]], np.float32)
    feed = {**maps, "point_coords": coords, "point_labels": labels}
    embedding = tuple(map(torch.from_numpy, maps.values()))
    prompt = [torch.from_numpy(value) for value in (coords, labels)]

    @torch.inference_mode()
    def torch_encoder() -> None:
        model.encode(torch.from_numpy(image))

    @torch.inference_mode()
    def torch_decoder() -> None:
        model.decode(embedding, *prompt)

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
    """Encoder times in ms per image, FP16, batches of 1 and 16, by device events."""
    import torch

    from edgesam_export import load_model

    found: dict[str, dict[str, list[float]]] = {"1": {}, "16": {}}
    for name in names:
        model = load_model(name, random_weights=0)
        encoder, size = model.image_encoder.half().cuda(), model.info.frame.size
        for batch in (1, 16):
            image = torch.randn(batch, 3, size, size, dtype=torch.half, device="cuda")
            found[str(batch)][name] = [value / batch for value in device_events(encoder, image, rounds)]
        del model, encoder
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


def show_record(record: dict[str, Any]) -> None:
    """Print every table of a record, and the claims."""
    models = record["models"]
    later = (f"{name} {date}" for name, date in record.get("added", {}).items())
    print(", ".join([record["machine"], record["date"], *later]))
    for part in ("encoder", "decoder") if models else ():
        for runtime in ("pytorch", "onnxruntime"):
            times = {name: models[name][runtime][part] for name in models}
            show(f"{part}, {runtime}, FP32", times, paired_ratios(times))
    for key, times in record.get("cuda", {}).get("encoder", {}).items():
        base = statistics.median(times[BASE])
        ratios = {name: [value / base for value in values] for name, values in times.items()}
        show(f"encoder, PyTorch FP16, {record['cuda']['device']}, batch {key}", times, ratios)
    if models:
        print_claims(models)


def beside(times: dict[str, list[float]]) -> dict[str, list[float]]:
    """EdgeSAM's samples by the model that they were taken beside, its own rounds under its own name.

    They are kept in this order, its own and then each other model's by name: the order in which a run goes.
    """
    base, others = times[BASE], [name for name in sorted(times) if name != BASE]
    end = len(base) - sum(len(times[name]) for name in others)
    found = {BASE: base[:end]}
    for name in others:
        found[name] = base[end : end + len(times[name])]
        end += len(times[name])
    return found


def paired_ratios(times: dict[str, list[float]]) -> dict[str, list[float]]:
    """Ratio to EdgeSAM in every round."""
    ratios = {BASE: [1.0] * len(times[BASE])}
    for name, own in beside(times).items():
        if name != BASE:
            ratios[name] = [value / reference for value, reference in zip(times[name], own, strict=True)]
    return ratios


def with_added(kept: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The kept record with the models of another; each keeps the rounds of EdgeSAM that were beside it."""
    if kept["machine"] != record["machine"]:
        raise SystemExit(f"the record is of another machine ({kept['machine']}, here {record['machine']}); measure all")
    old, new = kept["models"], record["models"]
    models = {**old, **{name: times for name, times in new.items() if name != BASE}}
    models[BASE] = {
        runtime: {
            part: in_order(*(beside({name: times[runtime][part] for name, times in run.items()}) for run in (old, new)))
            for part in parts
        }
        for runtime, parts in old[BASE].items()
    }
    added = {**kept.get("added", {}), **{name: record["date"] for name in new if name != BASE}}
    return {**kept, **({"cuda": record["cuda"]} if "cuda" in record else {}), "models": models, "added": added}


def in_order(old: dict[str, list[float]], new: dict[str, list[float]]) -> list[float]:
    """EdgeSAM's samples of both runs as a record keeps them, see ``beside``; its own rounds are the old ones."""
    joined = {**new, **old, **{name: values for name, values in new.items() if name != BASE}}
    return [value for name in (BASE, *sorted(joined.keys() - {BASE})) for value in joined[name]]


def show(title: str, times: dict[str, list[float]], ratios: dict[str, list[float]]) -> None:
    """Print min, median and max of each model in milliseconds, and of its ratio to EdgeSAM."""
    print(f"\n{title}\n{'':24}{'n':>4}{'min ms':>10}{'median':>10}{'max':>10}{'ratio':>10}{'median':>8}{'max':>8}")
    for name, values in sorted(times.items(), key=lambda item: statistics.median(item[1])):
        milliseconds = "".join(f"{pick(values):>10.1f}" for pick in (min, statistics.median, max))
        low, middle, high = (pick(ratios[name]) for pick in (min, statistics.median, max))
        print(f"{name:24}{len(values):>4}{milliseconds}{low:>10.2f}{middle:>8.2f}{high:>8.2f}")


def print_claims(models: dict[str, Any]) -> None:
    """Print the papers' claims beside encoder plus decoder of this run: the median of its rounds, and their range."""
    print("\nwhat the papers claim, and encoder plus decoder in ONNX Runtime here")

    def both(name: str) -> list[float]:
        return [sum(pair) for pair in zip(*models[name]["onnxruntime"].values())]

    ratios = paired_ratios({name: both(name) for name in models})
    for name, claim, condition in CLAIMS:
        if name in models:
            values = ratios[name]
            here = f"{statistics.median(values):.1f} times EdgeSAM ({min(values):.1f} to {max(values):.1f})"
            if "sam_vit_h" in models:
                here += f", ViT-H {statistics.median(ratios['sam_vit_h']) / statistics.median(values):.1f} times this"
            print(f"  {name:24}{claim} ({condition}); here {here}")


if __name__ == "__main__":
    main()
