"""Opening exported files and running them: which files fit together, what they say of themselves, what they compute."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from edgesam_export.artifacts import config_of, list_files, pick_pair
from edgesam_export.errors import (
    EdgeSAMExportError,
    EdgeSAMExportWarning,
    RunnerUnavailableError,
    SchemaError,
    UsageError,
)
from edgesam_export.imaging.geometry import prepare
from edgesam_export.imaging.reading import open_image
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.predict.predictor import Predictor
from edgesam_export.runners import fill_slots, open_artifact, open_runner, runner_of
from edgesam_export.runners.torch import StoredWeightsRunner, round_weights


@pytest.fixture(scope="module")
def prepared(model, photo):
    return prepare(open_image(photo), model.info.frame)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """An ONNX file that somebody else made."""
    tensor = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", tensor[:1], tensor[1:])
    path = tmp_path_factory.mktemp("foreign") / "foreign.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("kind", ["coreml_files", "onnx_files"])
def test_a_file_tells_its_own_contract(request, kind):
    for made in request.getfixturevalue(kind):
        opened = open_artifact(made.path)
        contract = {key: value for key, value in opened.contract.items() if key != "modules"}
        assert contract == json.loads(json.dumps(made.contract))
        assert replace(opened, contract={}) == replace(made, contract={})


def test_the_module_map_is_used_for_the_very_file_only(coreml_files, tmp_path):
    decoder = coreml_files[1]
    assert "prompt" in set(open_artifact(decoder.path).contract["modules"].values())
    shutil.copytree(decoder.path, tmp_path / decoder.path.name)
    record = json.loads((decoder.path.parent / "export.json").read_text())
    record["artifacts"][decoder.path.name]["sha256"] = "0" * 64
    (tmp_path / "export.json").write_text(json.dumps(record))
    assert open_artifact(tmp_path / decoder.path.name).contract["modules"] == {}


def test_a_strange_export_record_is_no_obstacle(onnx_files, tmp_path):
    path = Path(shutil.copy(onnx_files[1].path, tmp_path))
    for text in ("[]", '{"artifacts": []}', f'{{"artifacts": {{"{path.name}": 3}}}}'):
        (tmp_path / "export.json").write_text(text)
        assert open_artifact(path).contract["modules"] == {}


def test_a_foreign_onnx_file_is_refused(foreign):
    with pytest.raises(UsageError, match=r"foreign\.onnx' carries no contract of edgesam-export"):
        open_artifact(foreign)


def test_a_file_that_is_no_onnx_is_refused_in_one_line(tmp_path):
    (tmp_path / "bad.onnx").write_text("hello")
    with pytest.raises(UsageError, match=r"cannot load '.*bad\.onnx' as ONNX") as caught:
        open_artifact(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


def test_an_empty_package_is_refused_in_one_line(tmp_path):
    (tmp_path / "bad.mlpackage").mkdir()
    with pytest.raises(EdgeSAMExportError, match=r"bad\.mlpackage.*Manifest") as caught:
        open_artifact(tmp_path / "bad.mlpackage")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.onnx", "photo.png", "none.mlpackage"])
def test_what_is_no_exported_file_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="is no exported file; give an existing"):
        open_artifact(tmp_path / name)


def test_files_of_a_folder_are_found_and_an_empty_folder_refused(onnx_files, export_folder, tmp_path):
    assert {f.name for f in list_files(export_folder)} >= {a.path.name for a in onnx_files}
    with pytest.raises(UsageError, match=r"holds no \.aimodel and no \.mlpackage and no \.onnx"):
        list_files(tmp_path)
    (tmp_path / "net.mlmodelc").mkdir()
    with pytest.raises(UsageError, match=r"is a compiled model; give the \.mlpackage"):
        list_files(tmp_path / "net.mlmodelc")
    with pytest.raises(UsageError, match="cannot run a int"):
        list_files(3)


def test_files_that_do_not_belong_together_are_refused(coreml_files, onnx_files):
    with pytest.raises(UsageError, match=r"several formats \(coreml, onnx\)"):
        pick_pair([coreml_files[0], onnx_files[1]])
    with pytest.raises(UsageError, match=r"several models \(edge_sam, edge_sam_tiny\)"):
        pick_pair([onnx_files[0], replace(onnx_files[1], model="edge_sam")])
    with pytest.raises(UsageError, match="several decoders"):
        pick_pair([onnx_files[1], onnx_files[1]])
    assert pick_pair([onnx_files[1], onnx_files[0]]) == onnx_files
    with pytest.raises(UsageError, match="no exported file to run"):
        open_runner([])


def test_files_of_different_weights_are_warned_of(onnx_files):
    # a decoder that stayed behind in a folder: everything fits, and the masks are wrong
    encoder, decoder = onnx_files
    weights = {**decoder.contract["weights"], "random_seed": None, "sha256": "ab" * 32, "source": "mine.pth"}
    other = replace(decoder, contract={**decoder.contract, "weights": weights})
    with pytest.warns(EdgeSAMExportWarning, match=r"decoder.onnx' from mine\.pth \(sha256 abababababab\)"):
        assert pick_pair([encoder, other]) == [encoder, other]
    random = replace(decoder, contract={**decoder.contract, "weights": {**weights, "random_seed": 3}})
    with pytest.warns(EdgeSAMExportWarning, match=r"decoder.onnx' from random weights \(seed 3\)"):
        runner_of([encoder, random])


def test_the_runner_fits_its_source(model, edge_sam, edge_sam_packages, onnx_files):
    assert open_runner(model).name == "torch"
    assert open_runner(onnx_files).name == "onnxruntime fp32"
    runner = open_runner(edge_sam_packages, numerics="ane")
    assert (runner.name, runner.numerics, runner.slots, runner.takes_image) == ("executor ane", "ane", 8, True)
    assert runner.accepts_mask_input and runner.candidates == (0, 1, 2, 3) and runner.score_kind == "stability"
    assert runner.info.frame == edge_sam.info.frame


def test_unknown_numerics_are_refused(coreml_files):
    with pytest.raises(UsageError, match="numerics is 'fp8'; choose one of: fp32, fp16, ane"):
        open_runner(coreml_files, numerics="fp8")


@pytest.mark.skipif(sys.platform == "darwin", reason="says what happens on a machine without Core ML")
def test_native_core_ml_elsewhere_is_said_to_need_a_mac(coreml_files):
    with pytest.raises(RunnerUnavailableError, match=r"needs macOS .*; use numerics fp32, fp16 or ane") as caught:
        open_runner(coreml_files, numerics="native:all")
    assert caught.value.exit_code == 3
    with pytest.raises(UsageError, match="compute units 'tpu'"):
        open_runner(coreml_files, numerics="native:tpu")


def test_onnx_computes_what_pytorch_computes(model, onnx_files, prepared):
    reference, candidate = open_runner(model), open_runner(onnx_files)
    embedding = reference.encode(prepared)
    (array,) = embedding.values()
    assert psnr_db(array, candidate.encode(prepared)["image_embeddings"]) >= 80
    coords = np.array([[[300, 200], [0, 0]]], np.float32)
    labels = np.array([[1, -1]], np.float32)
    mask = np.random.default_rng(1).normal(0, 8, (1, 1, 256, 256)).astype(np.float32)
    for prompt in ((coords, labels), (coords, labels, mask)):
        for expected, found in zip(reference.decode(embedding, *prompt), candidate.decode(embedding, *prompt)):
            assert found.shape == expected.shape and found.dtype == np.float32
            assert psnr_db(expected, found) >= 80


def test_pytorch_computes_in_fp32_inside_a_programs_autocast(model, prepared):
    runner = open_runner(model)
    prompt = np.array([[[400.0, 300.0]]]), np.array([[1.0]])
    expected = runner.decode(runner.encode(prepared), *prompt)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = runner.decode(runner.encode(prepared), *prompt)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32 and np.array_equal(one, other)


def test_half_an_export_says_what_is_missing(onnx_files, prepared):
    encoder, decoder = (open_runner(artifact) for artifact in onnx_files)
    with pytest.raises(UsageError, match=r"no decoder among the files \(edge_sam_tiny_encoder\.onnx\)"):
        encoder.decode(
            {"image_embeddings": np.zeros((1, 128, 64, 64), np.float32)}, np.zeros((1, 1, 2)), np.ones((1, 1))
        )
    with pytest.raises(UsageError, match="no encoder among the files"):
        decoder.encode(prepared)


def test_slots_are_filled_with_empty_ones():
    coords, labels = fill_slots(np.ones((1, 2, 2)), np.array([[1, -1]]), 4)
    assert labels.tolist() == [[1, -1, -2, -2]] and coords[0].tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]
    coords, labels = fill_slots(np.ones((1, 2, 2)), np.array([[1, -1]]), None)
    assert labels.tolist() == [[1, -1]]
    with pytest.raises(UsageError, match="needs 2 slots, this decoder has 1; export with --points 2"):
        fill_slots(np.ones((1, 2, 2)), np.array([[1, -1]]), 1)


def test_the_options_of_an_export_come_back_from_its_contract(onnx_files):
    assert config_of(open_artifact(onnx_files[1].path)).mask_input is True
    broken = replace(onnx_files[1], contract={"export": {"opsets": 17}})
    with pytest.raises(SchemaError, match="contract holds no usable export options"):
        config_of(broken)
    with pytest.raises(SchemaError, match="contract holds no usable export options"):
        config_of(replace(onnx_files[1], contract={}))


def test_stored_weights_are_the_rounded_ones(model, coreml_files):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    runner = StoredWeightsRunner(model, coreml_files)
    encoder = runner.modules["encoder"]
    convolutions = [m for m in encoder.modules() if type(m).__name__ == "Conv2d"]
    assert convolutions and all((m.weight == m.weight.half().float()).all() for m in convolutions)
    kept = runner.modules["decoder"].prompt.angles.weight  # stays FP32 in the file
    assert (kept != kept.half().float()).any()
    assert all((value == before[key]).all() for key, value in model.state_dict().items())


def test_the_predictor_runs_on_files(onnx_files, photo):
    found = Predictor(onnx_files).set_image(photo).predict(points=[(150, 120)], labels=[1])
    assert found.masks.shape == (4, 240, 320) and found.masks.dtype == bool


def test_rounding_leaves_integers_alone_and_never_writes_into_shared_tensors():
    module = torch.nn.Linear(2, 1, bias=False)
    module.register_buffer("index", torch.tensor([2049, 70_001]))  # neither is an FP16 number
    module.register_buffer("table", torch.tensor([1 / 3]))
    module.weight.data = torch.tensor([[1 / 3, 1.0]])
    before, index = module.weight, module.index
    round_weights(module, ())
    assert module.index is index and module.index.dtype == torch.int64 and module.index.tolist() == [2049, 70_001]
    third = 1365 / 4096  # the nearest number of 11 significant bits
    assert module.table.tolist() == [third] and module.weight.tolist() == [[third, 1.0]]
    assert module.weight is not before and before[0, 0].item() != third
    assert "weight" in dict(module.named_parameters()) and list(module.state_dict()) == ["weight", "index", "table"]
