"""The command line on real work: what is printed where, which files stand there afterwards, which exit code."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper
from PIL import Image

import edgesam_export
from edgesam_export.cli.app import cli
from edgesam_export.cli.output import steps
from edgesam_export.files import sha256_of
from edgesam_export.mil import load_program
from edgesam_export.parity.metrics import psnr_db

TINY = "edge_sam_tiny"
README = Path(__file__).parents[2] / "README.md"
COMMANDS = sorted(cli.commands)


@pytest.fixture(scope="module")
def two_images(photo, tmp_path_factory) -> tuple[str | Path, ...]:
    """Options that compare on as few images as parity takes."""
    mirrored = tmp_path_factory.mktemp("mirrored") / "mirrored.png"
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(mirrored)
    return ("--image", photo, "--image", mirrored)


# --------------------------------------------------------------------------------------- help


def test_without_a_command_the_help_lists_all_of_them(command):
    code, out, _ = command("--help")
    assert code == 0
    for name in ("models", "coreml", "onnx", "parity", "run", "segment"):
        assert re.search(rf"^  {name} +\w", out, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_explains_itself(command, name):
    code, out, err = command(name, "--help")
    assert (code, err) == (0, "")
    assert cli.commands[name].help and out.startswith("Usage: ")
    for parameter in cli.commands[name].params:
        if parameter.param_type_name == "option" and parameter.name not in ("candidates", "target", "precision"):
            described = parameter.help or parameter.name in ("output", "score", "numerics", "function")
            assert described, parameter.name
    expected = {"--debug"} if name == "explain" else {"--json", "--quiet", "--debug"}  # a page of text, nothing else
    assert expected <= {o for p in cli.commands[name].params for o in p.opts}


def test_the_readme_and_the_command_line_name_the_same_commands():
    named = set(re.findall(r"edgesam-export ([a-z]+)\b", README.read_text(encoding="utf-8")))
    assert named <= set(COMMANDS), f"README names unknown commands: {named - set(COMMANDS)}"
    assert set(COMMANDS) <= named, f"README misses commands: {set(COMMANDS) - named}"


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "edgesam_export.cli", "--version"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and re.search(r"\d+\.\d+\.\d+", done.stdout)


def test_a_file_in_the_folder_is_a_command(tmp_path):
    package = tmp_path / "edgesam_export"
    shutil.copytree(Path(edgesam_export.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "cli" / "greet.py").write_text(
        """import click

import edgesam_export
from edgesam_export.cli.app import cli
from edgesam_export.cli.output import steps


@cli.command()
@click.argument("name")
def greet(name: str) -> None:
    \"""Say hello.\"""
    click.echo(f"hello, {name}")
"""
    )

    def run(*words: str) -> str:
        program = [sys.executable, "-m", "edgesam_export.cli", *words]
        return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert run("greet", "you") == "hello, you\n"
    assert re.search(r"^  greet +Say hello\.$", run("--help"), re.MULTILINE)


@pytest.mark.parametrize(("total", "text", "shown"), [(4, "half-way", "half-way"), (0, "", "working")])
def test_progress_is_shown_on_a_terminal_only(monkeypatch, capsys, total, text, shown):
    with steps(False, "working") as progress:
        progress(2, total, text)
    assert capsys.readouterr().err == ""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    with steps(False, "working") as progress:
        progress(2, total, text)
    assert shown in terminal.getvalue()
    before = terminal.getvalue()
    with steps(True, "working") as progress:
        progress(2, total, text)
    assert terminal.getvalue() == before


# --------------------------------------------------------------------------------------- models


def test_models_prints_a_line_for_each_model(command):
    code, out, err = command("models")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split()[:2] == ["model", "input"]
    assert {"edge_sam", "edge_sam_3x"} <= {line.split()[0] for line in lines[1:]}
    assert "edge_sam_3x.pth" in out and "S-Lab" in out and "fast_sam: not exported" in out


def test_models_as_json_tells_where_to_fetch_them(command):
    code, out, _ = command("models", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)["models"]}
    assert code == 0 and list(entries) == sorted(entries)
    entry = entries["edge_sam_3x"]
    assert entry["url"].startswith("https://") and entry["bytes"] > 1_000_000 and len(entry["sha256"]) == 64
    assert (entry["input_size"], entry["default_score"], entry["family"]) == (1024, "stability", "edge_sam")


# --------------------------------------------------------------------------------------- from a checkpoint


@dataclass(frozen=True)
class Built:
    """One folder that both formats were exported to, and what the commands printed."""

    folder: Path
    coreml: Result
    onnx: Result


@pytest.fixture(scope="module")
def built(own_weights, tmp_path_factory) -> Built:
    """A user's own checkpoint exported by both commands, one after the other; read only."""
    folder = tmp_path_factory.mktemp("built")
    words = [TINY, "--checkpoint", str(own_weights), "--output", str(folder)]
    coreml = CliRunner().invoke(cli, ["coreml", *words, "--no-verify"])
    onnx = CliRunner().invoke(cli, ["onnx", *words, "--mask-input", "--json", "--quiet"])
    return Built(folder, coreml, onnx)


def test_coreml_exports_a_checkpoint(built, own_weights):
    assert built.coreml.exit_code == 0
    assert [line.split()[:2] for line in built.coreml.stdout.splitlines()] == [
        [str(built.folder / f"{TINY}_encoder.mlpackage"), "encoder"],
        [str(built.folder / f"{TINY}_decoder.mlpackage"), "decoder"],
    ]
    assert "licence of the weights" in built.coreml.stderr
    program = load_program(built.folder / f"{TINY}_decoder.mlpackage")
    contract = json.loads(program.metadata["edgesam_export.contract"])
    assert contract["weights"]["source"] == "mine.pth" and contract["weights"]["random_seed"] is None
    assert contract["weights"]["sha256"] == sha256_of(own_weights)


def test_onnx_exports_a_checkpoint_into_the_same_folder_and_passes_its_gates(built):
    document = json.loads(built.onnx.stdout)
    assert (built.onnx.exit_code, built.onnx.stderr) == (0, "")
    assert document["parity"]["passed"] is True
    assert all(Path(path).is_file() for path in document["parity"]["reports"].values())
    for entry in document["artifacts"]:
        assert entry["sha256"] == sha256_of(Path(entry["path"])) and entry["format"] == "onnx"
    record = json.loads((built.folder / "export.json").read_text())["artifacts"]
    assert {Path(name).suffix for name in record} == {".onnx", ".mlpackage"} and len(record) == 4


def test_parity_takes_the_checkpoint_that_was_exported(command, built, own_weights, two_images, tmp_path):
    decoder = built.folder / f"{TINY}_decoder.onnx"
    words = ("parity", decoder, "--checkpoint", own_weights, *two_images, "--output", tmp_path, "--json")
    code, out, _ = command(*words)
    assert code == 0 and json.loads(out)["passed"] is True


def test_segment_takes_a_checkpoint_and_its_files(command, built, own_weights, photo, tmp_path):
    prompt = ("segment", photo, "--point", "150,120", "--json", "--quiet", "--output")
    backends = {
        "torch": ("--model", TINY, "--checkpoint", own_weights),
        "onnx": ("--backend", "onnx", "--artifact", built.folder),
        "coreml": ("--backend", "coreml", "--artifact", built.folder),
    }
    masks = {}
    for name, words in backends.items():
        code, out, err = command(*prompt, tmp_path / name, *words)
        assert (code, err) == (0, ""), name
        result = json.loads(out)
        with Image.open(result["mask"]) as image:
            mask = np.asarray(image)
        assert mask.shape == (240, 320) and set(np.unique(mask)) <= {0, 255}
        masks[name] = mask > 0
        assert result["area_pixels"] == np.count_nonzero(mask)
    for name in ("onnx", "coreml"):
        together = np.count_nonzero(masks[name] & masks["torch"]) / np.count_nonzero(masks[name] | masks["torch"])
        assert together >= 0.98, name


# --------------------------------------------------------------------------------------- random weights


def test_onnx_with_random_weights_replaces_an_older_export_and_says_what_they_are(
    command, export_folder, onnx_pair, tmp_path
):
    folder = tmp_path / "build"
    shutil.copytree(export_folder, folder)
    before = json.loads((folder / "export.json").read_text())["artifacts"]
    arguments = ("onnx", TINY, "--random-weights", 3, "--points", 4, "--precision", "fp16")
    code, out, err = command(*arguments, "--output", folder, "--no-verify", "--json")
    assert code == 0 and "random weights (seed 3)" in err and "masks mean nothing" in err
    entries = {Path(entry["path"]).name: entry for entry in json.loads(out)["artifacts"]}
    after = json.loads((folder / "export.json").read_text())["artifacts"]
    for name in (path.name for path in onnx_pair):
        assert after[name]["sha256"] == entries[name]["sha256"] == sha256_of(folder / name) != before[name]["sha256"]
        assert after[name]["contract"]["weights"]["random_seed"] == 3
    packages = [name for name in before if name.endswith(".mlpackage")]
    assert len(packages) == 2 and all(after[name] == before[name] for name in packages)
    assert {p.name for p in folder.iterdir()} == {*before, "export.json"}


def test_coreml_with_random_weights_prints_json_only_on_stdout(command, tmp_path):
    arguments = ("coreml", TINY, "--random-weights", 3, "--points", 2, "--candidates", 1, "--tensor-input")
    code, out, err = command(*arguments, "--output", tmp_path, "--no-verify", "--json", "--quiet")
    assert (code, err) == (0, "")
    paths = [Path(entry["path"]) for entry in json.loads(out)["artifacts"]]
    assert [path.name for path in paths] == [f"{TINY}_encoder.mlpackage", f"{TINY}_decoder.mlpackage"]
    encoder, decoder = (load_program(path) for path in paths)
    assert encoder.inputs[0].kind == "tensor"
    assert {feature.name: feature.shape for feature in decoder.outputs}["masks"] == (1, 1, 256, 256)


# --------------------------------------------------------------------------------------- parity


def test_parity_of_a_package_writes_four_reports(command, coreml_pair, two_images, tmp_path):
    code, out, err = command("parity", coreml_pair[1], "--numerics", "fp16", *two_images, "--output", tmp_path)
    assert code == 0
    assert "parity" in out.splitlines()[-1]
    html = next(tmp_path.glob("*.html"))
    assert f"report: {html}" in err
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".xml", ".md", ".html"}
    report = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert {row["numerics"] for row in report["rows"]} == {"fp16"}
    assert {row["prompt"] for row in report["rows"]} == {"point", "points", "box", "box+point", "mask"}
    assert report["artifacts"][0]["sha256"] == sha256_of(coreml_pair[1])


def test_a_changed_weight_fails_the_gates_with_exit_code_1(command, onnx_pair, two_images, tmp_path):
    graph = onnx.load(onnx_pair[1])
    largest = max(graph.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    values = numpy_helper.to_array(largest).copy()
    values[values.shape[0] // 2 :] *= -1
    largest.CopyFrom(numpy_helper.from_array(values, largest.name))
    onnx.save(graph, tmp_path / "changed.onnx")
    words = (*two_images, "--output", tmp_path / "report", "--json", "--quiet")
    code, out, err = command("parity", tmp_path / "changed.onnx", *words)
    assert (code, err) == (1, "")
    assert json.loads(out)["passed"] is False
    assert "FAIL" in next((tmp_path / "report").glob("*.md")).read_text()


# --------------------------------------------------------------------------------------- run


@pytest.fixture(scope="module")
def feed(tmp_path_factory) -> dict[str, Path]:
    """One prompt for the decoder, as files."""
    folder = tmp_path_factory.mktemp("feed")
    rng = np.random.default_rng(0)
    labels = np.array([[1, -1, *[-2] * 6]], np.float32)
    arrays = {
        "image_embeddings": rng.standard_normal((1, 128, 64, 64)).astype(np.float16),
        "point_coords": np.full((1, 8, 2), 500, np.float32),
        "point_labels": labels,
        "mask_input": np.zeros((1, 1, 256, 256), np.float16),
        "has_mask_input": np.zeros(1, np.float32),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return {name: folder / f"{name}.npy" for name in arrays}


def as_inputs(feed: dict[str, Path]) -> list[str]:
    return [word for name, path in feed.items() for word in ("--input", f"{name}={path}")]


def test_run_saves_outputs_and_probed_values_and_times(command, coreml_pair, feed, tmp_path):
    program = load_program(coreml_pair[1])
    probed = next(op.outputs[0] for op in program.operations if op.type == "softmax")
    words = ("--probe", probed.name, "--time", 2, "--output", tmp_path, "--json", "--quiet")
    code, out, err = command("run", coreml_pair[1], *as_inputs(feed), *words)
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert len(document["times_ms"]) == 2 and all(time > 0 for time in document["times_ms"])
    values = {value["name"]: value for value in document["values"]}
    assert {name: value["kind"] for name, value in values.items()} == {
        "masks": "output",
        "scores": "output",
        probed.name: "probe",
    }
    expected = program.predict({name: np.load(path) for name, path in feed.items()})
    saved = np.load(values["masks"]["path"])
    assert saved.dtype == np.float16 and np.array_equal(saved, expected["masks"])
    softmax = np.load(values[probed.name]["path"])
    assert softmax.shape == probed.type.shape and 0 <= softmax.min() <= softmax.max() <= 1
    assert values["masks"]["largest"] == float(expected["masks"].max())


def test_run_prints_a_row_for_each_output(command, coreml_pair, feed, tmp_path):
    code, out, _ = command(
        "run", coreml_pair[1], *as_inputs(feed), "--numerics", "fp32", "--time", 1, "--output", tmp_path
    )
    lines = out.splitlines()
    assert code == 0 and lines[0].split()[:3] == ["name", "kind", "shape"]
    assert {line.split()[0] for line in lines[1:3]} == {"masks", "scores"} and "1x4x256x256" in out
    assert re.match(r"time: median [\d.]+ ms", lines[-1])


def test_run_profiles_the_steps_that_run(command, coreml_pair, feed, tmp_path):
    words = (coreml_pair[1], *as_inputs(feed), "--profile", "--time", 1, "--output", tmp_path)
    code, out, err = command("run", *words)
    assert code == 0 and f"wrote {tmp_path / 'profile.html'} and" in err
    kinds = {
        row[0]: row for row in map(str.split, out.splitlines()) if row and row[0] in ("conv", "conv+add", "matmul")
    }
    assert kinds.keys() == {"conv", "conv+add", "matmul"} and int(kinds["conv+add"][1]) > 1
    assert "operations joined by + are computed as one" in out.splitlines()[-1]
    saved = json.loads((tmp_path / "profile.json").read_text())
    assert saved["total_ms"] > sum(step["time_ms"] for step in saved["steps"]) > 0
    page = (tmp_path / "profile.html").read_text()
    assert "By kind of operation" in page and all(step["name"] in page for step in saved["steps"])
    code, out, _ = command("run", *words, "--json", "--quiet")
    assert {kind["kind"] for kind in json.loads(out)["profile"]["kinds"]} >= kinds.keys()


def test_run_takes_an_image(command, coreml_pair, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    words = ("--input", f"image={tmp_path / 'square.png'}", "--output", tmp_path / "out", "--quiet")
    code, _, _ = command("run", coreml_pair[0], *words)
    assert code == 0
    expected = load_program(coreml_pair[0]).predict({"image": pixels})["image_embeddings"]
    found = np.load(tmp_path / "out" / "image_embeddings.npy")
    assert psnr_db(expected.astype(np.float32), found.astype(np.float32)) >= 60


# --------------------------------------------------------------------------------------- segment


def test_segment_writes_mask_overlay_and_logits_that_can_be_given_again(command, onnx_pair, photo, tmp_path):
    files = [word for path in onnx_pair for word in ("--artifact", path)]
    words = ("--point", "150,120", "--background", "10,10", "--box", "80,50,220,200", "--output", tmp_path)
    code, out, err = command("segment", photo, *files, *words)
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert set(lines) == {"mask", "overlay", "logits"}
    assert re.match(r"onnxruntime fp32: mask \d of 4, score ", err)
    for name in ("overlay", "mask"):
        with Image.open(lines[name]) as image:
            assert image.size == (320, 240)
    assert np.load(lines["logits"]).shape == (256, 256)
    again = ("--mask-input", lines["logits"], "--box", "80,50,220,200", "--output", tmp_path / "again", "--json")
    code, out, _ = command("segment", photo, *files, *again)
    assert code == 0 and json.loads(out)["mask"].endswith("photo_mask.png")
