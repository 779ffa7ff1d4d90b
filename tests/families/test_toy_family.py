"""Adding a family is adding a file: the example of CONTRIBUTING.md, dropped into the folder, works in every command."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesam_export import families
from edgesam_export.bench import request
from edgesam_export.cli.app import cli
from edgesam_export.coreai.availability import why_unavailable
from edgesam_export.serve.backends import find_backends
from edgesam_export.shrink import prompts, search, sensitivity, shrinking
from edgesam_export.spec import NUMERICS

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
NAME, SEED = "toy_sam", 3
MODULE = f"{families.__name__}.{NAME}"
WEIGHTS = ("--random-weights", SEED)
EXPORTING = {"models", "coreml", "onnx", "parity", "analyze", "bench"}
COVERED = EXPORTING | {"coreai", "run", "segment", "everything", "serve", "eval", "distill", "shrink"}
NOT_ABOUT_A_MODEL = {"explain", "compare"}


def example() -> str:
    """Return the source text between the two marks of CONTRIBUTING.md."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    marked = re.findall(r"<!-- toy_sam\.py -->\n```python\n(.*?)```\n<!-- end of toy_sam\.py -->", text, re.DOTALL)
    assert len(marked) == 1, "CONTRIBUTING.md must hold the example once, between its marks"
    return marked[0]


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example as a file in one more folder of ``families``; every trace of it is gone afterwards."""
    folder = tmp_path_factory.mktemp("families")
    path = folder / f"{NAME}.py"
    path.write_text(example(), encoding="utf-8")
    families.__path__.append(str(folder))
    yield path
    families.__path__.remove(str(folder))
    families.FAMILIES.entries.pop(NAME, None)
    sys.modules.pop(MODULE, None)
    families.__dict__.pop(NAME, None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both formats are exported to."""
    return tmp_path_factory.mktemp("toy")


@pytest.fixture
def exported(command: Callable[..., tuple[int, str, str]], folder: Path) -> Path:
    """The folder with all four files in it; exported by the first test that asks."""
    for name in ("coreml", "onnx"):
        if not list(folder.glob(f"*.{'mlpackage' if name == 'coreml' else 'onnx'}")):
            code, _, err = command(name, NAME, *WEIGHTS, "--no-verify", "--quiet", "--output", folder)
            assert (code, err) == (0, "")
    return folder


def test_every_command_about_a_model_is_covered_here():
    assert set(cli.commands) == COVERED | NOT_ABOUT_A_MODEL


def test_models_lists_it(command):
    code, out, _ = command("models", "--json")
    entry = next(entry for entry in json.loads(out)["models"] if entry["name"] == NAME)
    assert code == 0 and (entry["family"], entry["input_size"], entry["checkpoint"]) == (NAME, 1024, None)


def test_coreml_and_onnx_write_its_four_files(exported):
    names = {path.name for path in exported.iterdir()}
    parts = {f"{NAME}_{part}{suffix}" for part in ("encoder", "decoder") for suffix in (".mlpackage", ".onnx")}
    assert names == {*parts, "export.json"}
    record = json.loads((exported / "export.json").read_text())["artifacts"]
    assert {record[name]["contract"]["family"] for name in parts} == {NAME}


@pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
def test_coreai_writes_its_two_assets(command, tmp_path):
    code, _, err = command("coreai", NAME, *WEIGHTS, "--no-verify", "--quiet", "--output", tmp_path)
    assert (code, err) == (0, "")
    assert {p.name for p in tmp_path.glob("*.aimodel")} == {f"{NAME}_{part}.aimodel" for part in ("encoder", "decoder")}


def test_parity_passes_for_both_formats(command, exported, photo, tmp_path):
    turned = tmp_path / "turned.png"
    with Image.open(photo) as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(turned)
    pictures = ("--image", photo, "--image", turned)
    code, out, _ = command("parity", exported, *pictures, "--numerics", "fp16", "--output", tmp_path, "--json")
    report = json.loads(Path(json.loads(out)["reports"]["json"]).read_text())
    assert code == 0 and report["passed"] and report["model"] == NAME
    assert {file["file"] for file in report["artifacts"]} == {p.name for p in exported.iterdir() if p.suffix != ".json"}


def test_analyze_finds_nothing_that_keeps_its_encoder_off_the_neural_engine(command, exported, tmp_path):
    package = exported / f"{NAME}_encoder.mlpackage"
    code, out, _ = command("analyze", package, "--fail-on", "error", "--output", tmp_path, "--json", "--quiet")
    assert code == 0
    assert json.loads(out)["placement_counts"]["off"] == 0


def test_run_computes_the_three_convolutions(command, exported, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    package, given = exported / f"{NAME}_encoder.mlpackage", f"image={tmp_path / 'square.png'}"
    code, _, _ = command("run", package, "--input", given, "--numerics", "fp32", "--output", tmp_path, "--quiet")
    found = np.load(tmp_path / "image_embeddings.npy").astype(np.float64)
    assert code == 0 and found.shape == (1, 256, 64, 64)
    # Strides equal kernels: the embedding at (y, x) depends on one patch of 16 x 16 pixels only.
    weights = {key: value.double().numpy() for key, value in random_encoder().items()}
    info = families.model_info(NAME)
    patch = (pixels[32:48, 160:176].astype(np.float64) - info.frame.mean) / info.frame.std
    value = patch.transpose(2, 0, 1)
    for name, kernel in (("patches", 4), ("reduce", 2), ("embed", 2)):
        side = value.shape[1] // kernel
        cells = value.reshape(-1, side, kernel, side, kernel)
        value = np.einsum("iykxl,oikl->oyx", cells, weights[f"{name}.weight"]) + weights[f"{name}.bias"][:, None, None]
        value = value if name == "embed" else np.maximum(value, 0)
    assert np.abs(found[0, :, 2, 10] - value[:, 0, 0]).max() < 5e-3 * np.abs(value).max()


def random_encoder() -> dict:
    """Return the parameters of the encoder that was exported."""
    return families.load_model(NAME, random_weights=SEED).image_encoder.state_dict()


@pytest.mark.parametrize("backend", ["torch", "onnx", "coreml"])
def test_segment_writes_a_mask_with_every_backend(command, exported, photo, tmp_path, backend):
    source = ("--model", NAME, *WEIGHTS) if backend == "torch" else ("--artifact", exported)
    words = (photo, "--point", "150,125", "--backend", backend, *source, "--output", tmp_path, "--json")
    code, out, _ = command("segment", *words)
    assert code == 0
    with Image.open(json.loads(out)["mask"]) as mask:
        assert mask.size == (320, 240)


def test_everything_finds_masks_of_an_image(command, exported, photo, tmp_path):
    words = ("--backend", "onnx", "--grid", "1", "--min-score", "0", "--min-stability", "0", "--json", "--quiet")
    code, out, err = command("everything", photo, "--artifact", exported, *words, "--output", tmp_path)
    assert code == 0, err
    assert Path(json.loads(out)["masks"]).is_file()


def test_serve_offers_its_files(exported):
    found = find_backends([exported])
    assert {backend.id for backend in found} >= {f"{NAME}/onnx", *(f"{NAME}/coreml/{mode}" for mode in NUMERICS)}
    assert all(backend.open().info.name == NAME for backend in found if backend.id == f"{NAME}/onnx")


def test_bench_measures_it_on_this_machine(command, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(request, "QUICK_SCHEDULE", replace(request.QUICK_SCHEDULE, warmup_iterations=0))
    folders = ("--records", tmp_path / "records", "--runs", tmp_path / "runs")
    words = ("--host", "--no-swift", "--no-parity", "--quick", "--iterations", 1, *folders, "--json", "--quiet")
    code, out, err = command("bench", exported, *words)
    assert code == 0, err
    record = json.loads(out)
    assert {entry["model"] for entry in record["models"]} == {NAME}


def test_eval_finds_the_files_as_good_as_the_model(command, exported):
    words = ("--data", "scenes:3:1", "--prompts", "box", "--objects", 2, "--json", "--quiet")
    found = []
    for source in ((NAME, *WEIGHTS), (exported,)):
        code, out, err = command("eval", *source, *words)
        assert code == 0, err
        found += [subject["results"]["box"]["miou"] for subject in json.loads(out)["subjects"].values()]
    assert len(found) == 3 and max(found) - min(found) < 0.005  # PyTorch, Core ML, ONNX


def test_shrink_finds_its_smallest_packages(command, tmp_path, monkeypatch):
    monkeypatch.setattr(shrinking, "trained_kinds", lambda info, mask_input: ("box",))
    monkeypatch.setattr(prompts, "PROMPTS", 1)
    monkeypatch.setattr(sensitivity, "PROJECTIONS", 1)
    monkeypatch.setattr(search, "measure_kernels", lambda *_: {})
    words = ("--max-mb", 8, "--images", "scenes:3:4", "--scheme", "palettize4", "--no-comparison", "--no-verify")
    code, out, err = command("shrink", NAME, *WEIGHTS, *words, "--json", "--quiet", "--output", tmp_path)
    assert code == 0, err
    document = json.loads(out)
    found = next(point for point in document["points"] if point["name"] == "found")
    assert document["passed"] and found["bytes"] <= 8e6 < document["points"][0]["bytes"]
    names = {"recipe.toml", "shrink.json", "shrink.png", f"{NAME}_encoder.mlpackage", f"{NAME}_decoder.mlpackage"}
    assert names <= {path.name for path in tmp_path.iterdir()} and not list(tmp_path.glob("*state*"))


def test_distill_trains_it(command, tmp_path):
    words = ("--schedule", "64:2:2", "--objects", 1, "--rounds", 1, "--workers", 0, "--output", tmp_path, "--json")
    code, out, err = command("distill", NAME, *words)
    assert code == 0, err
    model = families.load_model(NAME, json.loads(out)["weights"])
    assert model.provenance.random_seed is None


def test_without_the_file_it_is_unknown(command, toy):
    families.__path__.remove(str(toy.parent))
    entry = families.FAMILIES.entries.pop(NAME, None)
    try:
        code, _, err = command("coreml", NAME, *WEIGHTS)
        assert code == 2 and f"unknown model '{NAME}'" in err
    finally:
        families.__path__.append(str(toy.parent))
        if entry:
            families.FAMILIES.entries[NAME] = entry
