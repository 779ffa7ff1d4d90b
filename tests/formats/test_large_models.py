"""Models beyond a format's limits: ONNX weights in a file of their own, a Core ML encoder in two packages."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from edgesam_export.ane.analyzer import analyze
from edgesam_export.artifacts import pick_components, pick_pair
from edgesam_export.errors import ConversionError, EdgeSAMExportWarning, SchemaError, UsageError
from edgesam_export.export.contract import CONTRACT_KEY
from edgesam_export.export.trace import trace_each
from edgesam_export.files import sha256_of
from edgesam_export.formats import make_artifacts, warn_of_leftovers
from edgesam_export.formats.coreml import convert as coreml
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.formats.onnx import convert as onnx_format
from edgesam_export.formats.onnx import export_onnx
from edgesam_export.imaging.geometry import prepare
from edgesam_export.imaging.reading import open_image
from edgesam_export.mil import load_program
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity import check_parity
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.runners import coreml as coreml_runner
from edgesam_export.runners import open_artifact, open_runner
from edgesam_export.runners.torch import StoredWeightsRunner, fresh_program
from edgesam_export.spec import CoreMLConfig, ModelInfo, OnnxConfig, Provenance


class ToyBlock(nn.Module):
    """A residual block: within it two tensors are alive, between blocks one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Conv2d(width, 2 * width, 1)
        self.down = nn.Conv2d(2 * width, width, 1)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(x)))


@pytest.fixture(scope="module")
def toy() -> SamModel:
    """A whole network whose encoder has half of its weights before the middle of a residual block."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = nn.Sequential(
            nn.Conv2d(3, 64, 16, stride=16), *(ToyBlock(64) for _ in range(3)), nn.Conv2d(64, 256, 1)
        )
        return SamModel(
            info=ModelInfo(name="toy", family="toy", default_score="iou"),
            image_encoder=encoder,
            prompt_encoder=PromptEncoder(prompt_size=1024),
            mask_decoder=MaskDecoder(),
            provenance=Provenance(source="random-weights", random_seed=1),
        )


@pytest.fixture(scope="module")
def prepared(toy, photo):
    return prepare(open_image(photo), toy.info.frame)


# ------------------------------------------------------------------------------------------------------------- ONNX


@pytest.fixture(scope="module")
def external(toy, tmp_path_factory) -> list:
    """The toy in ONNX with the threshold between its encoder and its decoder, into a folder that has stale data."""
    folder = tmp_path_factory.mktemp("external")
    (folder / "toy_encoder.onnx").write_text("old graph")
    (folder / "toy_encoder.onnx.data").write_text("old weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_format, "EXTERNAL_BYTES", 1_000_000)
        return export_onnx(toy, folder, OnnxConfig())


def test_large_weights_lie_beside_the_graph_and_small_files_stay_single(external):
    encoder, decoder = external
    folder = encoder.path.parent
    found = {path.name for path in folder.iterdir()}
    assert found == {"toy_encoder.onnx", "toy_decoder.onnx", "toy_decoder.onnx.data", "export.json"}
    assert decoder.path.stat().st_size < 1_000_000 < (folder / "toy_decoder.onnx.data").stat().st_size


def test_a_graph_with_its_weights_outside_computes_what_pytorch_computes(toy, external, prepared):
    embeddings = toy.encode(torch.from_numpy(prepared.tensor)).numpy()
    prompt = np.array([[[300.0, 400.0]]], np.float32), np.ones((1, 1), np.float32)
    runner = open_runner(external)
    assert psnr_db(embeddings, runner.encode(prepared)["image_embeddings"]) > 80
    found, expected = (
        runner.decode({"image_embeddings": embeddings}, *prompt),
        toy.decode(*map(torch.from_numpy, (embeddings, *prompt))),
    )
    assert all(psnr_db(right.numpy(), left) > 80 for left, right in zip(found, expected))


def test_the_contract_and_the_digest_cover_graph_and_weights(external):
    path = external[1].path
    opened = open_artifact(path)
    assert opened.contract["component"] == "decoder" and opened.sha256 == external[1].sha256
    record = json.loads((path.parent / "export.json").read_text())["artifacts"][path.name]
    digest = hashlib.sha256()
    for file in (path, path.with_name("toy_decoder.onnx.data")):
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    assert record["sha256"] == opened.sha256 == digest.hexdigest()


def test_a_changed_weight_changes_the_digest(external, tmp_path):
    path = Path(shutil.copy(external[1].path, tmp_path))
    data = Path(shutil.copy(external[1].path.with_name("toy_decoder.onnx.data"), tmp_path))
    assert sha256_of(path) == external[1].sha256
    raw = bytearray(data.read_bytes())
    raw[5000] ^= 1
    data.write_bytes(raw)
    assert sha256_of(path) != external[1].sha256


def test_half_precision_is_the_same_wherever_the_weights_lie(toy, tmp_path, monkeypatch):
    config = OnnxConfig(precision="fp16")
    encoder = next(trace_each(toy, config, format="onnx"))
    paths = [tmp_path / name / "encoder.onnx" for name in ("inside", "outside")]
    for path, limit in zip(paths, (onnx_format.EXTERNAL_BYTES, 1000)):
        path.parent.mkdir()
        monkeypatch.setattr(onnx_format, "EXTERNAL_BYTES", limit)
        onnx_format.save_onnx(encoder, config, path)
    assert (tmp_path / "outside" / "encoder.onnx.data").is_file()
    loaded = [onnx.load(path) for path in paths]
    weights = [{t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer} for graph in loaded]
    assert weights[0].keys() == weights[1].keys() and len(weights[0]) > 10
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert [n.op_type for n in loaded[0].graph.node] == [n.op_type for n in loaded[1].graph.node]


def test_weights_that_the_exporter_left_in_files_are_gathered(external, tmp_path):
    """What torch's exporter does beyond 2 GB: a file for each tensor, here made by hand."""
    graph = onnx.load(external[1].path)
    before = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    for number, tensor in enumerate(graph.graph.initializer):
        if len(tensor.raw_data) > 1024:
            (tmp_path / f"tensor{number}").write_bytes(tensor.raw_data)
            onnx.external_data_helper.set_external_data(tensor, f"tensor{number}")
            tensor.ClearField("raw_data")
    assert onnx_format.weight_bytes(graph, tmp_path) > 1_000_000
    onnx_format.move_weights_out(graph, tmp_path, tmp_path / "g.onnx.data")
    onnx.save(graph, tmp_path / "g.onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"g.onnx", "g.onnx.data"}
    after = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "g.onnx").graph.initializer}
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("place", ["/etc/passwd", "../secret", "sub/toy.data", "other.data", ""])
@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph"])
def test_weights_from_elsewhere_are_refused_before_anything_opens_them(tmp_path, monkeypatch, place, where):
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], b"abcd", raw=True)
    onnx.external_data_helper.set_external_data(tensor, place)
    tensor.ClearField("raw_data")
    value = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    constant = onnx.helper.make_node("Constant", [], ["y"], value=tensor)
    graph = onnx.helper.make_graph([node], "g", [], [value], [tensor])
    if where != "initializer":
        graph = onnx.helper.make_graph([constant], "g", [], [value])
    if where == "subgraph":
        condition = onnx.helper.make_tensor("c", onnx.TensorProto.BOOL, [], [True])
        branch = onnx.helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
        graph = onnx.helper.make_graph([branch], "g", [], [value], [condition])
    path = tmp_path / "hostile.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_, **__: pytest.fail("opened"))
    for opening in (open_artifact, onnx_session):
        with pytest.raises(
            UsageError, match=r"hostile\.onnx' wants weights from .*only 'hostile\.onnx\.data'"
        ) as caught:
            opening(path)
        assert "\n" not in str(caught.value)


def onnx_session(path: Path):
    from edgesam_export.runners.onnxruntime import open_session

    return open_session(path)


def test_missing_or_linked_weights_are_refused(external, tmp_path):
    path = Path(shutil.copy(external[1].path, tmp_path))
    with pytest.raises(UsageError, match="no file beside it; copy both"):
        open_artifact(path)
    (tmp_path / "toy_decoder.onnx.data").symlink_to(external[1].path.with_name("toy_decoder.onnx.data"))
    with pytest.raises(UsageError, match="no file beside it; copy both"):
        open_artifact(path)


# ---------------------------------------------------------------------------------------------------------- Core ML


def encoder_alone(*arguments, **options):
    """``trace_each`` without the decoder, whose conversion takes most of the time."""
    yield next(trace_each(*arguments, **options))


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory) -> list:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coreml, "trace_each", encoder_alone)
        return export_coreml(toy, tmp_path_factory.mktemp("whole"), CoreMLConfig())


@pytest.fixture(scope="module")
def split(toy, tmp_path_factory) -> list:
    return export_coreml(toy, tmp_path_factory.mktemp("split"), CoreMLConfig(split_encoder=True))


def test_an_encoder_is_written_in_two_parts_of_about_half_the_weights(whole, split):
    folder = split[0].path.parent
    names = ["toy_encoder_part1.mlpackage", "toy_encoder_part2.mlpackage", "toy_decoder.mlpackage"]
    assert [artifact.path.name for artifact in split] == names
    assert {path.name for path in folder.iterdir()} == {*names, "export.json"}
    sizes = [weights_of(artifact.path) for artifact in (whole[0], *split[:2])]
    assert all(0.3 * sizes[0] < size < 0.7 * sizes[0] for size in sizes[1:])
    assert sum(sizes[1:]) < 1.05 * sizes[0]


def test_files_that_an_earlier_export_left_are_named(whole, split, tmp_path):
    folder = shutil.copytree(split[0].path.parent, tmp_path / "build")
    shutil.copytree(whole[0].path, folder / whole[0].path.name)
    left = "toy_encoder_part1.mlpackage, toy_encoder_part2.mlpackage of an earlier export"
    with pytest.warns(EdgeSAMExportWarning, match=f"'{folder}' still has {left}"):
        recorded_again(folder, whole[0].contract)
    with pytest.warns(EdgeSAMExportWarning, match=r"toy_decoder.*part1.*part2"):
        recorded_again(folder, {**whole[0].contract, "profile": "apple-sam2"})


def recorded_again(folder: Path, contract: dict) -> None:
    component = SimpleNamespace(name="encoder", file_stem=None, contract=contract)
    make_artifacts(folder, [component], format="coreml", suffix=".mlpackage", modules={})


def test_files_that_may_share_a_folder_are_not_named(split):
    folder = split[0].path.parent
    recorded = {file.path.name: {"format": file.format, "contract": file.contract} for file in split}
    contract = {key: value for key, value in split[0].contract.items() if key != "part"}
    whole = replace(split[0], path=folder / "other_encoder.mlpackage", contract=contract)
    warn_of_leftovers(folder, split, recorded)  # the same again
    warn_of_leftovers(folder, [replace(whole, format="onnx")], recorded)
    warn_of_leftovers(folder, [replace(whole, model="other")], recorded)
    gone = {name.replace("toy", "gone"): entry for name, entry in recorded.items()}
    warn_of_leftovers(
        folder, [whole], gone | {"damaged.mlpackage": None, "../x.mlpackage": recorded[split[0].path.name]}
    )


def weights_of(package: Path) -> int:
    return (package / "Data/com.apple.CoreML/weights/weight.bin").stat().st_size


def test_one_fp16_tensor_crosses_between_blocks_and_each_part_says_its_tensors(split):
    first, second = (artifact.contract for artifact in split[:2])
    assert (first["part"], second["part"]) == ([1, 2], [2, 2])
    assert first["component"] == second["component"] == "encoder"
    assert [tensor["name"] for tensor in first["inputs"]] == ["image"]
    assert [tensor["name"] for tensor in second["outputs"]] == ["image_embeddings"]
    (crossing,) = second["inputs"]
    assert first["outputs"] == [crossing]
    assert (crossing["shape"], crossing["dtype"]) == (
        [1, 64, 64, 64],
        "fp16",
    )  # inside a block it would be 128 channels more
    for artifact in split[:2]:
        program = load_program(artifact.path)
        assert json.loads(program.metadata[CONTRACT_KEY]) == json.loads(json.dumps(artifact.contract))
        told = [(spec.name, spec.dtype) for spec in (*program.inputs, *program.outputs) if spec.kind == "tensor"]
        stated = [(t["name"], t["dtype"]) for side in ("inputs", "outputs") for t in artifact.contract[side]]
        assert told == [pair for pair in stated if pair[1] != "image"]
    assert load_program(split[0].path).inputs[0].kind == "image"


@pytest.mark.parametrize("numerics", ["fp32", "fp16", "ane"])
def test_two_parts_compute_what_the_whole_computes(whole, split, prepared, numerics):
    expected = open_runner(whole, numerics=numerics).encode(prepared)["image_embeddings"]
    assert np.array_equal(open_runner(split, numerics=numerics).encode(prepared)["image_embeddings"], expected)


def test_segment_finds_the_same_mask_with_two_parts(whole, split, command, photo, tmp_path):
    found = {}
    for name, files in (("whole", [whole[0].path, split[2].path]), ("split", [split[0].path.parent])):
        words = [word for file in files for word in ("--artifact", file)]
        point = ("--point", "150,125", "--backend", "coreml")
        code, out, err = command("segment", photo, *point, *words, "--output", tmp_path / name, "--json", "--quiet")
        assert (code, err) == (0, "")
        document = json.loads(out)
        found[name] = document["scores"], *(Path(document[key]).read_bytes() for key in ("mask", "logits"))
    assert found["split"] == found["whole"]


def test_run_takes_the_parts_one_after_the_other(whole, split, command, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "square.png")
    (crossing,) = split[0].contract["outputs"]

    def run(package: Path, given: str, name: str) -> Path:
        code, _, err = command("run", package, "--input", given, "--output", tmp_path / name, "--quiet")
        assert (code, err) == (0, "")
        return tmp_path / name

    picture = f"image={tmp_path / 'square.png'}"
    between = run(split[0].path, picture, "first") / f"{crossing['name']}.npy"
    assert np.load(between).dtype == np.float16
    last = run(split[1].path, f"{crossing['name']}={between}", "second") / "image_embeddings.npy"
    expected = run(whole[0].path, picture, "whole") / "image_embeddings.npy"
    assert np.array_equal(np.load(last), np.load(expected))


class CoreMLStandIn:
    """``coremltools.models.MLModel`` as far as the runner goes: pictures as Pillow's, arrays by name."""

    def __init__(self, path: str, compute_units: object) -> None:
        self.program = load_program(Path(path))
        self.units = compute_units

    def predict(self, values: dict) -> dict:
        for spec in self.program.inputs:
            assert isinstance(values[spec.name], Image.Image if spec.kind == "image" else np.ndarray)
        assert set(values) == {spec.name for spec in self.program.inputs}
        return self.program.predict({name: np.asarray(value) for name, value in values.items()})


def test_core_ml_itself_would_run_the_parts_one_after_the_other(whole, split, prepared, monkeypatch):
    monkeypatch.setattr("coremltools.models.MLModel", CoreMLStandIn)
    monkeypatch.setattr(coreml_runner, "sys", SimpleNamespace(platform="darwin"))
    runner = open_runner(split, numerics="native:cpu_only")
    assert [model.program.inputs[0].kind for model in runner.models["encoder"]] == ["image", "tensor"]
    assert {str(model.units) for models in runner.models.values() for model in models} == {"ComputeUnit.CPU_ONLY"}
    assert np.array_equal(
        *(one.encode(prepared)["image_embeddings"] for one in (runner, open_runner(whole, numerics="fp16")))
    )


def test_core_ml_reads_both_parts(split):
    """coremltools' own reader of programs resolves every weight and checks every type."""
    from coremltools.converters.mil.frontend.milproto.load import load
    from coremltools.models.utils import load_spec

    for artifact in split[:2]:
        spec = load_spec(str(artifact.path))
        folder = artifact.path / "Data/com.apple.CoreML/weights"
        program = load(spec, spec.specificationVersion, str(folder))
        assert "main" in program.functions


def test_parity_judges_an_encoder_in_two_parts(toy, split):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), np.uint8)
    parts = [artifact.path for artifact in split[:2]]
    options = {"images": list(pictures), "prompts": lambda size: (), "numerics": ("fp32", "fp16")}
    report = check_parity(toy, parts, **options)
    assert report.passed
    embeddings = [row for row in report.rows if row.output == "image_embeddings"]
    assert [row.candidate for row in embeddings] == [
        name for name in ("network as exported", "executor fp32", "executor fp16") for _ in range(2)
    ]
    assert {digest.file for digest in report.artifacts} == {path.name for path in parts}
    operations = {row.operation for row in report.ranges if row.component == "encoder"}
    ours = [{o.name for op in load_program(a.path).operations for o in op.outputs} for a in split[:2]]
    assert operations & (ours[0] - ours[1]) and operations & (ours[1] - ours[0])


def test_the_stored_weights_and_a_fresh_export_know_parts(toy, split, prepared):
    runner = StoredWeightsRunner(toy, split)
    exact = open_runner(split, numerics="fp32")
    assert (
        psnr_db(
            *(found["image_embeddings"] for found in (runner.encode_pixels(prepared.pixels), exact.encode(prepared)))
        )
        > 80
    )
    with fresh_program(toy, split[1]) as (program, _):
        assert [spec.name for spec in program.inputs] == [t["name"] for t in split[1].contract["inputs"]]


def test_analysis_takes_each_part(split):
    reports = [analyze(load_program(artifact.path)) for artifact in split[:2]]
    kinds = [Counter(placed.op_type for placed in report.placements) for report in reports]
    assert all(kind["conv"] >= 3 for kind in kinds)
    both = kinds[0] + kinds[1]
    assert (both["conv"], both["relu"], both["add"]) == (8, 3, 3)  # three blocks of two, one before, one after
    stored = [report.totals.weight_bytes for report in reports]
    assert stored == [pytest.approx(weights_of(artifact.path), rel=0.05) for artifact in split[:2]]


def test_a_lone_doubled_or_foreign_part_is_refused_in_one_line(whole, split, tmp_path):
    first, second, decoder = (artifact.path for artifact in split)
    copied = tmp_path / "again.mlpackage"
    shutil.copytree(first, copied)
    for files, reason in (
        ([first, decoder], r"part1\.mlpackage' is part 1 of 2 of the encoder; give part 2 as well"),
        ([second], "is part 2 of 2 of the encoder; give part 1 as well"),
        ([first, copied], "several encoders .*give one, or its parts 1 and 2"),
        ([first, second, copied], "several encoders"),
        ([whole[0].path, first], "several encoders"),
    ):
        with pytest.raises(UsageError, match=reason) as caught:
            open_runner(files)
        assert "\n" not in str(caught.value)


def test_parts_of_two_exports_and_a_strange_part_are_refused(split):
    first, second, _ = map(open_artifact, split)
    other = replace(second, contract={**second.contract, "weights": {"sha256": "0" * 64}})
    with pytest.raises(UsageError, match="parts of different exports"):
        pick_components([first, other])
    for part in ([3, 2], "1", [1], {}):
        with pytest.raises(SchemaError, match=r"known are \[1, 2\] and \[2, 2\]"):
            pick_components([replace(first, contract={**first.contract, "part": part}), second])
    with pytest.raises(UsageError, match="only whole packages are measured"):
        pick_pair([first, second])


def test_more_weights_than_a_phone_loads_are_told(whole, toy, tmp_path, monkeypatch, command):
    assert "warnings" not in whole[0].contract
    assert 0 <= whole[0].contract["weight_bytes"] - weights_of(whole[0].path) < 1
    hardware = coreml.load_hardware()
    limits = {**hardware.limits, "max_package_bytes": replace(hardware.limits["max_package_bytes"], value=50_000)}
    monkeypatch.setattr(coreml, "trace_each", encoder_alone)
    monkeypatch.setattr(coreml, "load_hardware", lambda: replace(hardware, limits=limits))
    monkeypatch.setattr("edgesam_export.families.load_model", lambda *_, **__: toy)
    code, out, err = command("coreml", "toy", "--no-verify", "--output", tmp_path)
    assert code == 0 and "C01" not in out
    lines = [line for line in err.splitlines() if "C01" in line]
    assert len(lines) == 1 and lines[0].startswith(
        "warning: toy_encoder.mlpackage: C01: 0.00 GB of weights in one package"
    )
    record = json.loads((tmp_path / "export.json").read_text())["artifacts"]
    assert "C01" in record["toy_encoder.mlpackage"]["contract"]["warnings"][0]


def test_a_program_that_cannot_be_cut_is_refused(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(coreml, "trace_each", encoder_alone)
    encoder = nn.Sequential(nn.Conv2d(3, 256, 16, stride=16))
    small = SamModel(
        info=toy.info,
        image_encoder=encoder,
        prompt_encoder=toy.prompt_encoder,
        mask_decoder=toy.mask_decoder,
        provenance=toy.provenance,
    )
    with pytest.raises(ConversionError, match="cannot be cut near half its weights"):
        export_coreml(small, tmp_path, CoreMLConfig(split_encoder=True))
    assert list(tmp_path.iterdir()) == []
