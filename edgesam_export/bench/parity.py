"""Parity inside a benchmark: inputs for the device, PyTorch's outputs on them, and the distance of a case's outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesam_export.errors import SchemaError, UsageError, first_line
from edgesam_export.files import sha256_of
from edgesam_export.imaging.geometry import prepare
from edgesam_export.parity.inputs import default_images, default_prompts, pack
from edgesam_export.parity.metrics import cosine, mask_iou, max_abs_error, psnr_db
from edgesam_export.runners import ArtifactRunner
from edgesam_export.spec import Artifact

if TYPE_CHECKING:
    from torch import nn

    from edgesam_export.modeling.sam import SamModel

__all__ = ["FeedRecorder", "case_parity", "compare_outputs", "write_parity_inputs"]

PROMPTS = ("point", "points", "box")
IMAGES = 2
MAX_OUTPUT_BYTES = 64 << 20


class FeedRecorder(ArtifactRunner):
    """Executes nothing: keeps the feeds that a runner of these files would get, in the types of their contracts."""

    name = "feed recorder"
    numerics = "fp32"

    def __init__(self, artifacts: Iterable[Artifact]) -> None:
        super().__init__(list(artifacts))
        self.feeds: dict[str, dict[str, np.ndarray]] = {}

    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Keep the feed; a zero for every output."""
        self.feeds[component] = feed
        return {spec["name"]: np.zeros(1, np.float32) for spec in self.contract_of(component)["outputs"]}


def reference_modules(artifacts: Iterable[Artifact], model: SamModel) -> dict[str, nn.Module]:
    """Return the torch modules of the files' profile with the original FP32 parameters, by component."""
    from edgesam_export.runners.torch import exported_components

    built = exported_components(model, list(artifacts))
    return {name: component.module.eval() for name, (component, _) in built.items()}


def reference_outputs(
    module: nn.Module, contract: Mapping[str, Any], feed: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return PyTorch's outputs on a feed by the contract's names, float32."""
    import torch

    from edgesam_export.runners.torch import as_tensor

    with torch.inference_mode():
        outputs = module(*(as_tensor(feed[spec["name"]], spec) for spec in contract["inputs"]))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return {spec["name"]: value.numpy() for spec, value in zip(contract["outputs"], outputs)}


def write_parity_inputs(
    artifacts: Iterable[Artifact], model: SamModel, folder: Path, expected: Path
) -> list[dict[str, Any]]:
    """Write feeds as .npy below ``folder/inputs`` and PyTorch's outputs below ``expected``; return their entries.

    Two photographs; for each, the encoder, and the decoder with three prompts on PyTorch's embeddings.
    """
    from edgesam_export.runners.torch import TorchRunner

    artifacts = list(artifacts)
    recorder, modules = FeedRecorder(artifacts), reference_modules(artifacts, model)
    source = TorchRunner(model)
    entries = []

    def add(stage: str, name: str) -> None:
        feed = recorder.feeds[stage]
        save_arrays(folder / "inputs" / name, feed)
        save_arrays(expected / name, reference_outputs(modules[stage], recorder.contracts[stage], feed))
        paths = {key: f"inputs/{name}/{key}.npy" for key in sorted(feed)}
        entries.append({"stage": stage, "feed": paths, "outputs_dir": name})

    for number, (_, image) in enumerate(default_images(source.info)[:IMAGES]):
        prepared = prepare(image, recorder.info.frame)
        if "encoder" in modules:
            recorder.encode(prepared)
            add("encoder", f"encoder-{number}")
        if "decoder" not in modules:
            continue
        embedding = source.encode(prepared)
        for prompt in default_prompts(prepared.source_size):
            if prompt.kind not in PROMPTS:
                continue
            try:
                coords, labels = pack(prepared, prompt, recorder.slots, recorder.info.padding_point)
            except UsageError:  # more prompt tokens than this decoder has slots
                continue
            recorder.decode(embedding, coords, labels)
            add("decoder", f"decoder-{number}-{prompt.kind}")
    return entries


def save_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write each array to ``<name>.npy``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def case_parity(case: Mapping[str, Any], out_folder: Path, expected: Path) -> dict[str, Any] | None:
    """Return the parity of one case: for each stage the worst figures over its inputs; None without outputs.

    Raises:
        SchemaError: an output that is missing, is not the file the case describes, or has another shape.
    """
    written: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for entry in case.get("parity_outputs") or ():
        path = out_folder / entry["file"]
        name = PurePosixPath(entry["file"]).parent.name
        written.setdefault((entry["stage"], name), {})[entry["name"]] = read_output(path, entry["sha256"], out_folder)
    if not written:
        return None
    pairs = [
        (stage, {output: read_output(expected / name / f"{output}.npy", None, expected) for output in outputs}, outputs)
        for (stage, name), outputs in sorted(written.items())
    ]
    return compare_outputs(pairs)


def compare_outputs(
    pairs: Iterable[tuple[str, Mapping[str, np.ndarray], Mapping[str, np.ndarray]]],
) -> dict[str, Any]:
    """Return the worst figures of each stage over (stage, PyTorch's outputs, the case's outputs) by name.

    ``psnr_db`` is null where all outputs are equal, ``finite`` false where one is NaN or infinite (its figures are
    left out). ``mask_iou`` compares the mask that PyTorch scores highest.

    Raises:
        SchemaError: outputs of different shapes.
    """
    stages: dict[str, dict[str, Any]] = {}
    for stage, expected, actual in pairs:
        row = stages.setdefault(stage, {"inputs": 0, "finite": True, "max_abs": 0.0, "psnr_db": None, "cosine": 1.0})
        row["inputs"] += 1
        for name, right in actual.items():
            left = expected[name]
            if left.shape != right.shape:
                raise SchemaError(f"{stage} output '{name}': found shape {right.shape}, expected {left.shape}")
            if not np.isfinite(right).all():
                row["finite"] = False
                continue
            row["max_abs"] = max(row["max_abs"], max_abs_error(left, right))
            row["cosine"] = min(row["cosine"], cosine(left, right))
            level = psnr_db(left, right)
            if math.isfinite(level):
                row["psnr_db"] = level if row["psnr_db"] is None else min(row["psnr_db"], level)
        overlap = best_mask_iou(expected, actual)
        if overlap is not None:
            row["mask_iou"] = min(row.get("mask_iou", 1.0), overlap)
    return stages


def best_mask_iou(expected: Mapping[str, np.ndarray], actual: Mapping[str, np.ndarray]) -> float | None:
    """Return the IoU of the mask that PyTorch scores highest; None without masks or where one is not finite."""
    masks = [name for name, array in expected.items() if array.ndim == 4 and name in actual and "mask" in name]
    if not masks or not np.isfinite(actual[masks[0]]).all():
        return None
    scores = next((array for array in expected.values() if array.ndim == 2), None)
    best = 0 if scores is None else int(np.argmax(scores[0]))
    return mask_iou(expected[masks[0]][0, best], actual[masks[0]][0, best])


def read_output(path: Path, digest: str | None, root: Path) -> np.ndarray:
    """Return an array from a .npy file inside ``root``, checked against its digest."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise SchemaError(f"{path}: lies outside '{root}'")
    if not path.is_file():
        raise SchemaError(f"{path}: missing; the run reports that it wrote this output")
    if path.stat().st_size > MAX_OUTPUT_BYTES:
        raise SchemaError(f"{path}: found {path.stat().st_size} bytes, expected at most {MAX_OUTPUT_BYTES}")
    if digest is not None and sha256_of(path) != digest:
        raise SchemaError(f"{path}: found another SHA-256 than the result names, expected {digest}; copied in part")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SchemaError(f"{path}: is no .npy file of numbers ({first_line(error)})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise SchemaError(f"{path}: found no array of numbers")
    return array.astype(np.float32)
