"""Profile official: the tensors of the EdgeSAM authors' files, and what their exported decoder computes."""

from __future__ import annotations

import json

import coremltools
import numpy as np
import pytest
import torch

from edgesam_export.errors import UsageError
from edgesam_export.export.trace import trace_component, trace_model
from edgesam_export.formats.coreml.convert import save_package
from edgesam_export.imaging.geometry import prepare
from edgesam_export.mil.program import load_program
from edgesam_export.modeling.common import stability_score
from edgesam_export.profiles import find_profile
from edgesam_export.rewrites import recommended_rewrites
from edgesam_export.spec import CoreMLConfig, OnnxConfig

RELATIVE = 1e-4
"""Largest difference of FP32 logits, relative to the largest: sums run in another order after the rewrites."""
STABILITY = 2e-4
"""tests/goldens/README.md: one pixel of a small mask that changes sides."""
POINT_SETS = ("one", "one_padded", "box", "box_bg", "sixteen")


def prompt(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """``count`` points with labels of every kind, -1 among them from two points on."""
    random = torch.Generator().manual_seed(seed + count)
    labels = torch.randint(-1, 4, (1, count), generator=random).float()
    labels[0, -1] = -1.0 if count > 1 else 1.0
    return torch.rand(1, count, 2, generator=random) * 1023, labels


def relative(actual: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.abs(actual - expected.numpy()).max() / expected.abs().max())


@pytest.fixture(scope="module")
def decoder(export):
    return export("decoder", profile="official")


@pytest.fixture(scope="module")
def iou_decoder(export):
    return export("decoder", profile="official", score="iou")


@pytest.fixture(scope="module")
def package(model, rewritten, tmp_path_factory):
    config = CoreMLConfig(profile="official")
    component = find_profile("official").decoder(rewritten, config)
    path = tmp_path_factory.mktemp("coreml") / "decoder.mlpackage"
    save_package(
        trace_component(component, model, config, recommended_rewrites("coreml"), format="coreml"), config, path
    )
    return path


@pytest.fixture(scope="module")
def golden(goldens, synthetic, model):
    """Arrays and description of the golden picture, with the embedding that our PyTorch model computes."""
    with np.load(goldens / "edge_sam.extra.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    described = json.loads(bytes(arrays["meta"]))["images"][0]
    picture = synthetic.test_image(described["height"], described["width"], described["variant"])
    return arrays, described["export"], model.encode(torch.from_numpy(prepare(picture, model.info.frame).tensor))


def test_tensors_are_those_of_the_released_files(decoder):
    assert decoder.inputs == [
        ("image_embeddings", "tensor(float)", [1, 256, 64, 64]),
        ("point_coords", "tensor(float)", [1, "points", 2]),
        ("point_labels", "tensor(float)", [1, "points"]),
    ]
    assert decoder.outputs == [("scores", "tensor(float)", [1, 4]), ("masks", "tensor(float)", [1, 4, 256, 256])]


def test_contract_says_what_the_file_does(decoder):
    facts = ("slots", "candidates", "score", "mask_threshold", "mask_input")
    assert [decoder.contract[fact] for fact in facts] == [None, [0, 1, 2, 3], "stability", 0.0, False]
    assert [output["name"] for output in decoder.contract["outputs"]] == ["scores", "masks"]


@pytest.mark.parametrize("count", range(1, 17))
def test_any_number_of_points_decodes_as_pytorch_does(model, embeddings, decoder, count):
    coords, labels = prompt(count)
    logits, _ = model.decode(embeddings, coords, labels)
    scores, masks = decoder(image_embeddings=embeddings, point_coords=coords, point_labels=labels)
    assert relative(masks, logits) < RELATIVE
    assert np.abs(scores - stability_score(logits).numpy()).max() < STABILITY


@pytest.mark.parametrize("name", POINT_SETS)
def test_masks_and_scores_are_those_of_the_authors_exported_decoder(golden, decoder, iou_decoder, name):
    arrays, sets, embedding = golden
    stored = {key: arrays[f"img0/export/{name}/{key}"] for key in ("scores", "stability", "logits", "logits_stats")}
    feed = {
        "image_embeddings": embedding,
        "point_coords": np.asarray(sets[name]["point_coords"], np.float32)[None],
        "point_labels": np.asarray(sets[name]["point_labels"], np.float32)[None],
    }
    (stability, masks), (iou, _) = decoder(**feed), iou_decoder(**feed)
    expected = stored["logits"].astype(np.float32)
    # One float16 step, which is how the golden logits are stored, but at least 2e-3.
    step = np.maximum(np.spacing(np.abs(stored["logits"])).astype(np.float32), 2e-3)
    assert (np.abs(masks[0, :, ::4, ::4] - expected) <= step).all()
    flat = masks[0].reshape(4, -1).astype(np.float64)
    statistics = np.stack([flat.mean(1), flat.std(1, ddof=1)], axis=1)
    assert np.abs(statistics - stored["logits_stats"]).max() <= 1e-5
    assert np.abs(iou[0] - stored["scores"]).max() <= 1e-5
    assert np.abs(stability[0] - stored["stability"]).max() <= STABILITY


def test_encoder_takes_the_normalised_tensor_in_both_formats_and_speaks_fp32(model):
    encode = find_profile("official").encoder
    for config in (OnnxConfig(profile="official", precision="fp16"), CoreMLConfig(profile="official")):
        component = encode(model, config)
        assert [(spec.name, spec.shape, spec.dtype) for spec in component.inputs] == [
            ("image", (1, 3, 1024, 1024), "fp32")
        ]
        assert [(spec.name, spec.dtype) for spec in component.outputs] == [("image_embeddings", "fp32")]
        assert component.module.image_encoder is model.image_encoder
        component.module.image_encoder = torch.nn.Identity()
        image = torch.rand(1, 3, 8, 8) * 4 - 2
        assert torch.equal(component.module(image), image)


def test_fp16_arithmetic_keeps_fp32_tensors_in_onnx(export, model, embeddings):
    half = export("decoder", profile="official", precision="fp16", score="iou")
    assert {kind for _, kind, _ in (*half.inputs, *half.outputs)} == {"tensor(float)"}
    coords, labels = prompt(5)
    logits, iou = model.decode(embeddings, coords, labels)
    scores, masks = half(image_embeddings=embeddings, point_coords=coords, point_labels=labels)
    # FP16 has 11 bits: 5e-4 per operation, a few of them in a row; not exact, or the arithmetic is not FP16.
    assert 1e-5 < relative(masks, logits) < 1e-2
    assert np.abs(scores - iou.numpy()).max() < 1e-2


def test_core_ml_decoder_has_a_free_number_of_points_and_fp32_tensors(package):
    description = coremltools.models.MLModel(str(package), skip_model_load=True).get_spec().description
    assert [feature.name for feature in description.input] == ["image_embeddings", "point_coords", "point_labels"]
    assert [feature.name for feature in description.output] == ["scores", "masks"]
    arrays = {feature.name: feature.type.multiArrayType for feature in (*description.input, *description.output)}
    float32 = coremltools.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    assert {array.dataType for array in arrays.values()} == {float32}
    for name in ("point_coords", "point_labels"):
        free = arrays[name].shapeRange.sizeRanges[1]
        assert (free.lowerBound, free.upperBound) == (1, 16)


@pytest.mark.parametrize("count", [1, 16])
def test_core_ml_decoder_computes_the_masks_of_pytorch(package, model, embeddings, count):
    coords, labels = prompt(count)
    logits, _ = model.decode(embeddings, coords, labels)
    feed = {"image_embeddings": embeddings, "point_coords": coords, "point_labels": labels}
    found = load_program(package).predict({name: value.numpy() for name, value in feed.items()}, numerics="fp16")
    assert list(found) == ["scores", "masks"]
    assert relative(found["masks"], logits) < 1e-2  # FP16
    assert np.abs(found["scores"] - stability_score(logits).numpy()).max() < 2e-3


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (OnnxConfig(profile="official", candidates=3), "4 masks, not 3"),
        (CoreMLConfig(profile="official", candidates=1), "4 masks, not 1"),
        (OnnxConfig(profile="official", mask_input=True), "has no mask_input"),
        (OnnxConfig(profile="official", points=8), "any number of points, not 8"),
        (CoreMLConfig(profile="official", points=4), "any number of points, not 4"),
        (CoreMLConfig(profile="official", target="iOS18", functions=(2,)), "not functions for (2,)"),
        (OnnxConfig(profile="x-anylabeling", candidates=3), "profile 'x-anylabeling' returns 4 masks"),
    ],
)
def test_options_without_a_place_in_the_released_files_are_refused(model, config, line):
    with pytest.raises(UsageError) as error:
        trace_model(model, config, format="coreml" if isinstance(config, CoreMLConfig) else "onnx")
    assert line in str(error.value)
    assert "\n" not in str(error.value)
