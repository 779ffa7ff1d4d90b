"""Packages with random weights and what Python's predictor makes of them, for the Swift tests.

Run by ``Fixtures.swift`` (or by hand) and quick when nothing changed: the stamp is a hash of the sources that shape the
files.  Everything lies in ``out/swift-fixtures`` under the repository's root:

    edge_sam_3x_{encoder,decoder}.mlpackage   recommended export with 8 slots and mask prompt
    tensor/...                                encoder that takes an fp16 tensor; decoder with 3 slots, and 2 in its
                                              function points_2, no mask prompt
    official/...                              profile of the released files: everything fp32, number of points free
    maps/small_maps_{encoder,decoder}...      a small model with three maps, and frame and prompts as EdgeTAM has them
    queries/small_maps_{encoder,decoder}...   the same with a decoder of three prompts at once, which scores objects
    edgetam/edgetam_{encoder,decoder}...      the recommended export of a family with three maps; so for each model that
                                              is named on the command line
    broken/*.mlpackage                        tiny programs whose contract is missing, damaged or of another kind
    pictures/<name>.npy                       uint8 (h, w, 3) RGB
    expected[_tensor|_official|_maps|_queries|_<model>]/<picture>_<prompt>_{scores,logits,bits}.npy
                                              float32 (M,); float32 (M, 256, 256); uint8 (M, bytes), packed bits
    fixtures.json                             pairs of packages with their prompts, best masks
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import export_cache
import numpy as np
from export_cache import ROOT, RUNNING, digest_of_sources, exported, locked, staged

FOLDER = ROOT / "out" / "swift-fixtures"
MODEL, SEED, SLOTS, QUERIES = "edge_sam_3x", export_cache.SEED, 8, 3
FAMILIES = ("edgetam",)
"""Families with more than one map; SAM 2.1 tiny takes minutes, so it is made for who asks (``make swift-sam2``)."""
Prompt = dict[str, Any]


def pattern(height: int, width: int, seed: int) -> np.ndarray:
    """Return a picture drawn with integers only: two gradients, a disc, noise; uint8 (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).integers(0, 48, (height, width, 3))
    base = np.stack([x * 160 // width, y * 160 // height, (x + y) * 160 // (width + height)], axis=-1)
    radius = min(height, width) // 4
    inside = (x - width // 2) ** 2 + (y - height // 3) ** 2 < radius * radius
    base[inside] = (200, 60, 40)
    return (base + noise).astype(np.uint8)


def pictures() -> dict[str, np.ndarray]:
    """Return the three pictures by name: a landscape photo, a portrait beyond the frame, a small square."""
    from edgesam_export.imaging.reading import open_image
    from edgesam_export.resources import SAMPLES

    return {
        "landscape": open_image(SAMPLES / "cat.jpg"),
        "portrait": pattern(1090, 613, 3),
        "small": pattern(97, 97, 4),
    }


def prompts(height: int, width: int) -> dict[str, Prompt]:
    """Return the prompts of one picture in source pixels; ``mask_of`` names the prediction whose best logits prompt."""
    middle = [width * 0.5, height / 3]
    box = [width * 0.2, height * 0.125, width * 0.8, height * 0.625]
    return {
        "point": {"points": [middle], "labels": [1]},
        "points": {"points": [middle, [width * 0.25, height * 0.75], [0, 0]], "labels": [1, 0, 0]},
        "box": {"box": box},
        "box_point": {"points": [middle], "labels": [1], "box": box},
        "mask": {"mask_of": "point"},
        "mask_point": {"points": [middle], "labels": [1], "mask_of": "box"},
    }


def write_expected(
    folder: Path, files: list[Path], shown: dict[str, np.ndarray], names: list[str]
) -> list[dict[str, Any]]:
    """Run Python's predictor on ``files``, write what it gives, and return the rows for ``fixtures.json``."""
    from edgesam_export.predict.predictor import Predictor

    folder.mkdir()
    predictor = Predictor(files)
    rows = []
    for name, picture in shown.items():
        predictor.set_image(picture)
        logits: dict[str, np.ndarray] = {}
        for kind, prompt in prompts(*picture.shape[:2]).items():
            if kind not in names:
                continue
            given = {key: value for key, value in prompt.items() if key != "mask_of"}
            if "mask_of" in prompt:
                given["mask_input"] = logits[prompt["mask_of"]]
            found = predictor.predict(**given)
            logits[kind] = found.logits[found.best_index]
            packed = np.packbits(found.masks.reshape(len(found.masks), -1), axis=1)
            for part, array in (("scores", found.scores), ("logits", found.logits), ("bits", packed)):
                np.save(folder / f"{name}_{kind}_{part}.npy", array)
            row = {"picture": name, "name": kind, "best": found.best_index, **prompt}
            rows.append(row if found.object_score is None else {**row, "object_score": found.object_score})
    return rows


def write_packages(folder: Path) -> dict[str, list[Path]]:
    """Write every pair of packages; return their paths by folder name, "" for the recommended pair."""
    from small_models import SMALL_MAPS, small_model

    from edgesam_export.families import model_info
    from edgesam_export.formats.coreml import export_coreml
    from edgesam_export.spec import CoreMLConfig

    options: dict[str, dict[str, Any]] = {
        "": {"points": SLOTS, "mask_input": True},
        "tensor": {"tensor_input": True, "points": 3, "functions": (2,), "target": "iOS18"},
        "official": {"profile": "official", "precision": "fp32"},
    }
    for name, config in options.items():
        shutil.copytree(exported(MODEL, "coreml", random_weights=SEED, **config), folder / name, dirs_exist_ok=True)
    parts = [f"{MODEL}_{part}.mlpackage" for part in ("encoder", "decoder")]
    info = replace(SMALL_MAPS, frame=model_info("edgetam").frame, padding_point=model_info("edgetam").padding_point)
    small = {"maps": CoreMLConfig(points=SLOTS, mask_input=True)}
    small["queries"] = replace(small["maps"], queries=QUERIES, object_score=True)
    exports = {name: export_coreml(small_model(info), folder / name, config) for name, config in small.items()}
    paths = {name: [file.path for file in files] for name, files in exports.items()}
    return {name: [folder / name / part for part in parts] for name in options} | paths


def write_broken(folder: Path, decoder: Path) -> None:
    """Write tiny programs whose contract is missing, damaged or of another kind than the predictor takes."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb

    from edgesam_export.export.contract import CONTRACT_KEY
    from edgesam_export.export.quiet import quiet
    from edgesam_export.runners import open_artifact

    @mb.program(input_specs=[mb.TensorSpec(shape=(1, 2))], opset_version=ct.target.iOS16)
    def twice(x: Any) -> Any:
        return mb.mul(x=x, y=2.0, name="doubled")

    contract = {key: value for key, value in open_artifact(decoder).contract.items() if key != "modules"}
    texts = {
        "no_contract": None,
        "not_json": "{",
        "newer_schema": json.dumps({**contract, "schema_version": 99}),
        "other_profile": json.dumps({**contract, "profile": "sam6"}),
        "other_model": json.dumps({**contract, "model": "mobile_sam"}),
        "other_frame": json.dumps({**contract, "frame": {**contract["frame"], "prompt_size": 512}}),
        "encoder_part1": json.dumps({**contract, "component": "encoder", "part": [1, 2]}),
        "proposals": json.dumps({**contract, "component": "proposals", "candidates": []}),
        "hostile_slots": json.dumps({**contract, "slots": 4_000_000_000}),
        "hostile_queries": json.dumps({**contract, "queries": 4_000_000_000}),
    }
    with quiet():
        package = ct.convert(twice, minimum_deployment_target=ct.target.iOS16, skip_model_load=True)
    for name, text in texts.items():
        package.user_defined_metadata.pop(CONTRACT_KEY, None)
        if text is not None:
            package.user_defined_metadata[CONTRACT_KEY] = text
        package.save(str(folder / f"{name}.mlpackage"))


def write_families(folder: Path, models: list[str], shown: dict[str, np.ndarray]) -> dict[str, list[dict[str, Any]]]:
    """Write the recommended export of each model and what Python makes of a portrait; return its rows by model."""
    rows = {}
    for model in models:
        shutil.copytree(exported(model, "coreml"), folder / model)
        pair = [folder / model / f"{model}_{part}.mlpackage" for part in ("encoder", "decoder")]
        rows[model] = write_expected(folder / f"expected_{model}", pair, shown, ["point", "box"])
    return rows


def build(folder: Path, models: list[str]) -> None:
    """Write every fixture into an empty folder."""
    import torch

    torch.set_num_threads(1)
    for name in ("pictures", "broken"):
        (folder / name).mkdir()
    shown = pictures()
    for name, picture in shown.items():
        np.save(folder / "pictures" / f"{name}.npy", picture)
    pairs = write_packages(folder)
    small = {"small": shown["small"]}
    stretched = {name: shown[name] for name in ("small", "portrait")}  # one grows, one shrinks on both axes
    every = list(prompts(1, 1))
    index = {
        "model": MODEL,
        "slots": SLOTS,
        "prompts": write_expected(folder / "expected", pairs[""], shown, every),
        "tensor_prompts": write_expected(folder / "expected_tensor", pairs["tensor"], small, ["point", "box"]),
        "official_prompts": write_expected(folder / "expected_official", pairs["official"], small, ["points", "box"]),
        "maps_prompts": write_expected(folder / "expected_maps", pairs["maps"], stretched, every),
        "queries_prompts": write_expected(folder / "expected_queries", pairs["queries"], small, every),
        "family_prompts": write_families(folder, models, {"portrait": shown["portrait"]}),
    }
    write_broken(folder / "broken", pairs[""][1])
    (folder / "fixtures.json").write_text(json.dumps(index, indent=1, sort_keys=True))


def main(more: list[str]) -> None:
    """Build the fixtures, those of the families ``more`` too, unless they are there; print the folder."""
    scripts = (Path(__file__), Path(export_cache.__file__), Path(__file__).with_name("small_models.py"))
    models = sorted({*FAMILIES, *more})
    with locked(FOLDER.with_suffix(".lock")):  # several test processes may ask at once
        expected, mark = digest_of_sources(RUNNING, scripts), FOLDER / "stamp"
        digest, *there = mark.read_text().split() if mark.is_file() else ("",)
        if digest != expected or not set(models) <= set(there):
            with staged(FOLDER) as staging:
                build(staging, models)
                (staging / "stamp").write_text("\n".join([expected, *models]))
    sys.stdout.write(f"{FOLDER}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
