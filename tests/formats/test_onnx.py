"""ONNX files as they were saved: validity, shapes, types, contract, and what they compute in ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_models import small_model

from edgesam_export.errors import ConversionError, UsageError
from edgesam_export.export.contract import CONTRACT_KEY
from edgesam_export.export.trace import build_components, trace_component
from edgesam_export.formats.onnx import convert as onnx_format
from edgesam_export.formats.onnx import export_onnx
from edgesam_export.formats.onnx.convert import save_onnx
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.spec import OnnxConfig

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


@pytest.fixture(scope="module")
def convert(edge_sam, tmp_path_factory) -> Callable[..., Path]:
    """``convert(part, **config)`` -> the saved file of one component."""

    def converted(part: str, **options) -> Path:
        config = OnnxConfig(**options)
        components, names = build_components(edge_sam, config, format="onnx")
        component = next(one for one in components if one.name == part)
        path = tmp_path_factory.mktemp(part) / f"{part}.onnx"
        save_onnx(trace_component(component, edge_sam, config, names, format="onnx"), config, path)
        return path

    return converted


@pytest.fixture(scope="module")
def half_decoder(convert) -> Path:
    """FP16, eight slots, newest opset but one."""
    return convert("decoder", precision="fp16", points=8, opset=19)


def features(values) -> dict[str, tuple]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def kinds(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def run(path: Path, **feed) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feed)


def prompt(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    coords = rng.uniform(0, 1023, (1, count, 2)).astype(np.float32)
    return {"point_coords": coords, "point_labels": (np.arange(count)[None] % 2).astype(np.float32)}


def test_files_are_valid_and_declare_every_shape(edge_sam_graphs, half_decoder):
    for path in (*(artifact.path for artifact in edge_sam_graphs), half_decoder):
        graph = onnx.load(path)
        onnx.checker.check_model(graph, full_check=True)
        typed = {v.name for v in (*graph.graph.value_info, *graph.graph.output) if v.type.tensor_type.HasField("shape")}
        assert {name for node in graph.graph.node for name in node.output} <= typed


def test_inputs_and_outputs_are_those_promised(edge_sam_graphs):
    encoder, decoder = (onnx.load(artifact.path).graph for artifact in edge_sam_graphs)
    assert features(encoder.input) == {"image": (FLOAT, [1, 3, 1024, 1024])}
    assert features(encoder.output) == {"image_embeddings": (FLOAT, [1, 256, 64, 64])}
    assert features(decoder.input) == {
        "image_embeddings": (FLOAT, [1, 256, 64, 64]),
        "point_coords": (FLOAT, [1, "points", 2]),
        "point_labels": (FLOAT, [1, "points"]),
        "mask_input": (FLOAT, [1, 1, 256, 256]),
        "has_mask_input": (FLOAT, [1]),
    }
    assert features(decoder.output) == {"masks": (FLOAT, [1, 4, 256, 256]), "scores": (FLOAT, [1, 4])}


def test_no_shape_is_computed_even_with_a_free_number_of_points(edge_sam_graphs):
    for artifact in edge_sam_graphs:
        assert not {"Shape", "Gather", "GatherND", "Where", "Tile", "Expand", "If", "Loop"} & set(kinds(artifact.path))


def test_encoder_is_folded(edge_sam_graphs):
    found = kinds(edge_sam_graphs[0].path)
    assert 0 < found.count("Conv") <= 107
    assert not {"BatchNormalization", "Resize", "Upsample", "Pow"} & set(found)


@pytest.mark.parametrize("count", [1, 2, 5, 16, 40])
def test_any_number_of_points_gives_what_pytorch_gives(edge_sam, edge_sam_graphs, count):
    embeddings = np.random.default_rng(4).standard_normal((1, 256, 64, 64)).astype(np.float32)
    feed = prompt(count)
    rest = {"mask_input": np.zeros((1, 1, 256, 256), np.float32), "has_mask_input": np.zeros(1, np.float32)}
    masks, _ = run(edge_sam_graphs[1].path, image_embeddings=embeddings, **feed, **rest)
    expected, _ = edge_sam.decode(*(torch.from_numpy(array) for array in (embeddings, *feed.values())))
    assert psnr_db(expected.numpy(), masks) >= 80


def test_fp16_is_fp32_only_in_the_prompt_the_ratio_and_the_norms(half_decoder):
    graph = onnx.load(half_decoder).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    exact = [
        node for node in graph.node if types.get(node.output[0]) == FLOAT and node.op_type not in ("Cast", "Constant")
    ]
    outside = [
        n.name
        for n in exact
        if not ("/prompt/" in n.name or "/ratio/" in n.name or "norm" in n.name or "/output_upscaling/1/" in n.name)
    ]
    assert not outside
    assert {"Sin", "Cos"} <= {node.op_type for node in exact}
    assert not {"Conv", "ConvTranspose", "MatMul", "Softmax"} & {n.op_type for n in exact if "/prompt/" not in n.name}
    heavy = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose", "Softmax")]
    assert heavy and all(types[node.output[0]] == HALF for node in heavy)


def test_fp16_keeps_prompts_and_scores_in_fp32(half_decoder):
    graph = onnx.load(half_decoder).graph
    assert features(graph.input) == {
        "image_embeddings": (HALF, [1, 256, 64, 64]),
        "point_coords": (FLOAT, [1, 8, 2]),
        "point_labels": (FLOAT, [1, 8]),
    }
    assert features(graph.output) == {"masks": (HALF, [1, 4, 256, 256]), "scores": (FLOAT, [1, 4])}


def test_fp16_with_slots_is_close_to_pytorch(edge_sam, half_decoder):
    embeddings = np.random.default_rng(4).standard_normal((1, 256, 64, 64)).astype(np.float16)
    given, feed = prompt(3), prompt(8)
    feed["point_coords"][:, :3], feed["point_labels"] = given["point_coords"], np.full((1, 8), -2, np.float32)
    feed["point_labels"][:, :3] = given["point_labels"]
    masks, scores = run(half_decoder, image_embeddings=embeddings, **feed)
    reference = (torch.from_numpy(array) for array in (embeddings.astype(np.float32), *given.values()))
    expected, _ = edge_sam.decode(*reference)
    assert psnr_db(expected.numpy(), masks.astype(np.float32)) >= 40
    inner, outer = ((masks > bound).sum((2, 3)) for bound in (1.0, -1.0))
    assert np.abs(inner / outer - scores).max() <= 1e-5


@pytest.mark.parametrize("opset", [17, 19])
def test_the_opset_is_the_one_asked_for(edge_sam_graphs, half_decoder, opset):
    path = edge_sam_graphs[1].path if opset == 17 else half_decoder
    assert [entry.version for entry in onnx.load(path).opset_import if entry.domain == ""] == [opset]


@pytest.mark.parametrize("opset", [16, 21])
def test_other_opsets_are_refused(opset):
    with pytest.raises(UsageError, match=f"opset is {opset}; 17 to 20 are supported"):
        OnnxConfig(opset=opset)


def test_a_file_carries_its_contract(edge_sam_graphs):
    for artifact in edge_sam_graphs:
        graph = onnx.load(artifact.path)
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        contract = json.loads(metadata[CONTRACT_KEY])
        assert contract == json.loads(json.dumps(artifact.contract))
        assert contract["component"] == artifact.component and contract["precision"] == "fp32"
        assert contract["weights"]["random_seed"] == 11
        assert metadata["licence"] == "none: random weights"
        assert "RANDOM WEIGHTS (seed 11)" in graph.doc_string and graph.producer_name == "edgesam-export"
        values = (*graph.graph.input, *graph.graph.output)
        stated = {entry["name"]: entry["description"] for entry in (*contract["inputs"], *contract["outputs"])}
        assert {value.name: value.doc_string for value in values} == stated and all(stated.values())


def test_what_the_exporter_says_becomes_one_line_and_nothing_stays(tmp_path, monkeypatch):
    def refuse(component, config, folder):
        raise RuntimeError("no such operator\nsecond line")

    monkeypatch.setattr(onnx_format, "convert", refuse)
    with pytest.raises(ConversionError, match=r"could not convert encoder to ONNX: no such operator$"):
        export_onnx(small_model(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_any_rewrite_the_decoder_takes_any_number_of_points(edge_sam, convert) -> None:
    session = onnxruntime.InferenceSession(str(convert("decoder", rewrites=())))
    random = np.random.default_rng(3)
    for count in (1, 6):
        feed = {
            "image_embeddings": random.standard_normal((1, 256, 64, 64)).astype(np.float32),
            "point_coords": random.uniform(0, 1024, (1, count, 2)).astype(np.float32),
            "point_labels": np.ones((1, count), np.float32),
        }
        with torch.inference_mode():
            logits, _ = edge_sam.decode(*(torch.from_numpy(array) for array in feed.values()))
        masks, _ = session.run(["masks", "scores"], feed)
        assert np.abs(masks - logits.numpy()).max() <= 1e-4 * float(logits.abs().max())
