"""ONNX files in FP16 in exact arithmetic: the file is the network's, weight by weight and node by node."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgesam_export import OnnxConfig, export_onnx
from edgesam_export.artifacts import list_files
from edgesam_export.families import load_model
from edgesam_export.formats.onnx import convert
from edgesam_export.formats.onnx.external_data import tensors
from edgesam_export.modeling import wrappers
from edgesam_export.parity import check_parity
from edgesam_export.parity.inputs import default_prompts, open_candidates
from edgesam_export.runners import open_runner
from edgesam_export.runners.onnx_exact import round_weights, widen

IMAGES = [
    (f"noise {height}x{width}", np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8))
    for height, width in ((60, 100), (120, 90))
]
NETWORK, FILE = "network as exported, onnx", "onnxruntime fp32"


@pytest.fixture(scope="module")
def trained():
    return load_model("edge_sam_tiny")


@pytest.fixture(scope="module")
def half(exported):
    """FP16 files of the trained weights."""
    return exported("edge_sam_tiny", "onnx", random_weights=None, precision="fp16")


def check(model, files, prompts=1):
    """Compare in exact arithmetic alone, one prompt of three points unless there are to be more."""
    return check_parity(
        model,
        open_runner(files, numerics="widened"),
        images=IMAGES,
        prompts=lambda size: default_prompts(size)[1:][:prompts],
    )


def failing(report):
    """Names of the candidates and components that fail."""
    return {(row.candidate, row.component) for row in report.failures}


def edited(folder, tmp_path, component, change):
    """Return copies of the files of ``folder``; ``change`` edits the graph of one."""
    copied = Path(shutil.copytree(folder, tmp_path / "edited"))
    path = next(copied.glob(f"*_{component}.onnx"))
    graph = onnx.load(path)
    change(graph)
    onnx.save(graph, path)
    return copied


def largest_weight(graph):
    """The initializer of the most values."""
    return max(graph.graph.initializer, key=lambda tensor: np.prod(tensor.dims))


@pytest.mark.parametrize("options", [{"profile": "sam6"}, {"profile": "x-anylabeling"}])
def test_a_correct_file_is_the_network_whatever_its_tensors(model, exported, options):
    files = exported("edge_sam_tiny", "onnx", precision="fp16", **options)
    report = check(model, files)
    assert report.passed, report.failures
    assert {row.candidate for row in report.rows} == {NETWORK, FILE}


def test_every_kind_of_prompt_of_trained_weights_is_the_same_to_the_last_bits(trained, half):
    report = check(trained, half, prompts=3)
    assert report.passed, report.failures
    assert all(row.metrics.get("psnr_db", np.inf) > 130 for row in report.rows if row.candidate == FILE)


def test_a_weight_that_half_precision_hides_is_found(trained, half, tmp_path):
    def change(graph):
        weight = largest_weight(graph)
        values = onnx.numpy_helper.to_array(weight).copy()
        values[0] *= np.float16(1.01)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    files = edited(half, tmp_path, "encoder", change) / "edge_sam_tiny_encoder.onnx"
    options = {"images": IMAGES, "prompts": lambda size: default_prompts(size)[1:2]}
    as_typed = check_parity(trained, open_runner(files), **options)
    assert as_typed.passed, "half precision alone cannot tell it"
    assert failing(check(trained, files)) == {(FILE, "encoder")}


def test_a_fault_of_the_conversion_to_fp16_is_found(trained, tmp_path, monkeypatch):
    tidy = convert.tidy_casts

    def lossy(graph):
        tidy(graph)
        node = next(node for node in reversed(graph.graph.node) if node.op_type == "Add")
        node.op_type = "Sub"

    monkeypatch.setattr(convert, "tidy_casts", lossy)
    files = export_onnx(trained, tmp_path, OnnxConfig(precision="fp16"))
    assert {candidate for candidate, _ in failing(check(trained, files))} == {FILE}


def test_a_fault_of_the_conversion_to_onnx_is_found(trained, half, monkeypatch):
    forward = wrappers.DecoderForExport.forward

    def moved(self, *inputs):
        logits, scores = forward(self, *inputs)
        return logits * 0.99, scores

    monkeypatch.setattr(wrappers.DecoderForExport, "forward", moved)
    assert (NETWORK, "decoder") in failing(check(trained, half))


def test_one_component_alone_and_weights_outside_the_graph(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "EXTERNAL_BYTES", 0)
    files = export_onnx(trained, tmp_path, OnnxConfig(precision="fp16"))
    assert list(tmp_path.glob("*.onnx.data"))
    report = check(trained, [file for file in files if file.component == "decoder"])
    assert report.passed and {row.component for row in report.rows} == {"decoder"}


def test_exact_arithmetic_is_asked_of_files_in_fp16_and_can_be_left_out(exported, half):
    single = exported("edge_sam_tiny", "onnx")

    def opened(folder, *numerics):
        return [runner.name for runner in open_candidates(list_files(folder), numerics)]

    assert opened(half, "fp32", "fp16") == [FILE, "onnxruntime fp16"]
    assert opened(half, "fp16", "ane") == ["onnxruntime fp16"]
    assert opened(single, "fp32", "fp16") == ["onnxruntime fp32"]


def graph_of(*values):
    """A graph of one addition, one constant and one resizing whose weights are ``values``."""
    helper, half = onnx.helper, onnx.TensorProto.FLOAT
    names = ("added", "kept", "scales")
    initializers = [onnx.numpy_helper.from_array(np.float32([value]), name) for name, value in zip(names, values)]
    constant = onnx.numpy_helper.from_array(np.float32([values[0]]), "value")
    nodes = [
        helper.make_node("Add", ["x", "added"], ["a"], name="/a/Add"),
        helper.make_node("Add", ["a", "kept"], ["b"], name="/exact/Add"),
        helper.make_node("Resize", ["b", "", "scales"], ["c"], name="/c/Resize"),
        helper.make_node("Constant", [], ["d"], name="/d/Constant", value=constant),
    ]
    inputs = [helper.make_tensor_value_info("x", half, [1])]
    outputs = [helper.make_tensor_value_info("c", half, [1])]
    return helper.make_model(helper.make_graph(nodes, "graph", inputs, outputs, initializers))


@pytest.mark.parametrize(
    ("value", "stored"), [(1 / 3, 0.333251953125), (1e9, 65504), (-1e9, -65504), (1e-9, 2**-24), (0, 0)]
)
def test_weights_are_rounded_where_a_file_stores_fp16(value, stored):
    graph = graph_of(value, value, value)
    round_weights(graph, {"/exact/Add"})
    added, kept, scales = (onnx.numpy_helper.to_array(tensor).item() for tensor in graph.graph.initializer)
    assert (added, kept, scales) == (np.float32(stored), np.float32(value), np.float32(value))
    assert onnx.numpy_helper.to_array(graph.graph.node[3].attribute[0].t).item() == np.float32(stored)


def test_widening_leaves_no_fp16_and_changes_no_value(half):
    path = next(half.glob("*_decoder.onnx"))
    graph, wide = onnx.load(path), onnx.load(path)
    widen(wide)
    half_type = onnx.TensorProto.FLOAT16
    assert not any(tensor.data_type == half_type for tensor in tensors(wide))
    assert any(tensor.data_type == half_type for tensor in tensors(graph))
    for before, after in zip(tensors(graph), tensors(wide)):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(before), onnx.numpy_helper.to_array(after))
    inferred = onnx.shape_inference.infer_shapes(wide, check_type=True, strict_mode=True)
    assert not [v.name for v in inferred.graph.value_info if v.type.tensor_type.elem_type == half_type]
