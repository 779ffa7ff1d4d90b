"""Encoders for other programs, of a model whose image frame (512) is not that of the prompts (1024)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from small_models import small_model

from edgesam_export.errors import UsageError
from edgesam_export.export.trace import build_components
from edgesam_export.families import load_model
from edgesam_export.imaging.masks import iou
from edgesam_export.imaging.reading import open_image
from edgesam_export.modeling.resampling import LongestSide
from edgesam_export.modeling.sam import SamModel
from edgesam_export.predict.predictor import Predictor
from edgesam_export.resources import SAMPLES
from edgesam_export.spec import ImageFrame, ModelInfo, OnnxConfig

SCENE = SAMPLES / "scene.png"
CANVAS = (684, 1024)
"""Height and width of what AnyLabeling and X-AnyLabeling always feed to an encoder of profile sam6."""


@pytest.fixture(scope="module")
def trained() -> SamModel:
    return load_model("edge_sam_tiny")


def opened(folder: Path, part: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder / f"edge_sam_tiny_{part}.onnx", providers=["CPUExecutionProvider"])


def on_canvas(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the image in the top left corner of the hosts' canvas, black beyond, and its scale."""
    scale = min(CANVAS[0] / image.shape[0], CANVAS[1] / image.shape[1])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    canvas = np.zeros((*CANVAS, 3), np.uint8)
    canvas[: size[1], : size[0]] = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return canvas, scale


@pytest.mark.parametrize("size", [(684, 1024), (1024, 512), (512, 400), (340, 256), (2048, 1000)], ids=str)
def test_the_graph_resizes_as_pillow_does(size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    longest = max(size)
    height, width = (max(1, (2 * side * 512 + longest) // (2 * longest)) for side in size)
    expected = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    resized, inside = LongestSide(512)(torch.from_numpy(pixels).permute(2, 0, 1)[None].float())
    found = resized[0].permute(1, 2, 0).numpy()
    difference = np.abs(found[:height, :width] - expected).max()
    assert difference == 0 if size == CANVAS else difference <= 1  # Pillow's shares are integers of 22 bits
    assert not found[height:].any() and not found[:, width:].any()
    assert inside[0, 0, :height, :width].all() and inside.sum() == height * width


@pytest.mark.parametrize(("profile", "layout"), [("sam6", "HWC"), ("x-anylabeling", "NCHW")])
def test_masks_of_a_host_that_feeds_1024_pixels_are_the_predictors(trained, exported, profile, layout):
    folder = exported("edge_sam_tiny", "onnx", random_weights=None, profile=profile)
    encoder, decoder = opened(folder, "encoder"), opened(folder, "decoder")
    image = open_image(SCENE)
    canvas, scale = on_canvas(image)
    box = np.array([[346.0, 305.0], [496.0, 459.0]])
    feed = canvas.astype(np.float32) if layout == "HWC" else canvas.transpose(2, 0, 1)[None]
    (embedding,) = encoder.run(None, {encoder.get_inputs()[0].name: feed})
    inputs = {
        "image_embeddings": embedding,
        "point_coords": (box * scale).astype(np.float32)[None],
        "point_labels": np.array([[2, 3]], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(CANVAS, np.float32),
    }
    outputs = decoder.run(None, {tensor.name: inputs[tensor.name] for tensor in decoder.get_inputs()})
    found = dict(zip((tensor.name for tensor in decoder.get_outputs()), outputs))
    low = found["low_res_masks" if layout == "HWC" else "masks"][0]
    expected = Predictor(trained).set_image(canvas).predict(box=(box * scale).reshape(-1))
    assert [iou(a > 0, b > 0) > 0.99 for a, b in zip(low, expected.logits)] == [True] * 4


def test_contract_says_who_resizes(exported):
    folder = exported("edge_sam_tiny", "onnx", random_weights=None, profile="sam6")
    record = json.loads((folder / "export.json").read_text())["artifacts"]["edge_sam_tiny_encoder.onnx"]["contract"]
    assert (record["resized_by"], record["frame"]["size"]) == ("graph", 512)
    assert "longest side resized to 1024" in record["inputs"][0]["description"]


@pytest.mark.parametrize("profile", ["official", "sam6", "x-anylabeling"])
def test_a_model_of_stretched_images_is_refused(profile):
    model = small_model(ModelInfo(name="small", family="small", embedding_dim=32, frame=ImageFrame(fit="stretch")))
    with pytest.raises(UsageError, match="keep an image's proportions, small takes it stretched") as error:
        build_components(model, OnnxConfig(profile=profile), format="onnx")
    assert "\n" not in str(error.value)
