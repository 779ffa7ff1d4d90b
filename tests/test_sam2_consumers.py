"""Programs that run SAM 2's files, on ours: each finds the object of a drawn scene, with PyTorch's mask.

The weights are the bundled ones behind SAM 2's interface; Apple's packages are run by AnyLabeling's code for them, with
our executor in the place of Core ML. transformers.js is a library of JavaScript: its calls are made here in its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import coremltools
import numpy as np
import onnxruntime
import pytest
import small_models
from export_cache import cached_folder, sources_folder
from other_programs import importable, module_of_a_package, require

from edgesam_export.distill.scenes import draw_scene
from edgesam_export.formats import find_format
from edgesam_export.imaging.geometry import prepare
from edgesam_export.imaging.masks import bounding_box, iou, masks_to_source
from edgesam_export.mil.program import load_program
from edgesam_export.modeling.sam import SamModel
from edgesam_export.predict.predictor import Predictor

OPENCV = "opencv-python-headless"
KINDS = pytest.mark.parametrize("kind", ["rectangle", "point"])


@pytest.fixture(scope="module")
def model() -> SamModel:
    return small_models.trained_model_of_three_maps()


@pytest.fixture(scope="module")
def files(model: SamModel) -> Callable[[str], Path]:
    """``files(profile)`` -> folder of an export, made once for all workers; read only."""

    def folder(profile: str) -> Path:
        format = find_format("coreml" if profile == "apple-sam2" else "onnx")

        def make(folder: Path) -> None:
            format.export(model, folder, format.config(profile=profile))

        source = hashlib.sha256(Path(small_models.__file__).read_bytes()).hexdigest()
        return cached_folder(sources_folder(), f"trained model of three maps {source}, {profile}", make)

    return folder


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A square image, for which stretching keeps the proportions, and the exact mask of its largest object."""
    drawn = draw_scene(7, 3)
    return drawn.image, max(drawn.masks, key=np.count_nonzero)


@pytest.fixture(scope="module")
def marks(scene) -> dict[str, list[dict[str, Any]]]:
    """The object as these programs describe a prompt: by its box, and by a click in its middle."""
    x0, y0, x1, y1 = (float(value) for value in bounding_box(scene[1]))
    inside = np.argwhere(scene[1])
    y, x = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()]
    return {
        "rectangle": [{"type": "rectangle", "data": [x0, y0, x1, y1]}],
        "point": [{"type": "point", "data": [float(x), float(y)], "label": 1}],
    }


@pytest.fixture(scope="module")
def expected(model, scene, marks) -> dict[str, np.ndarray]:
    """The mask of the best of tokens 1 to 3, by PyTorch."""
    predictor = Predictor(model).set_image(scene[0])
    prompts = {"rectangle": {"box": marks["rectangle"][0]["data"]}, "point": {"points": [marks["point"][0]["data"]]}}
    found = {kind: predictor.predict(**prompt) for kind, prompt in prompts.items()}
    return {kind: masks.masks[1 + masks.scores[1:].argmax()] for kind, masks in found.items()}


def check(found: np.ndarray, kind: str, scene, expected) -> None:
    """The mask is the object, and PyTorch's but for what resizing an image in 8 bits moves at its border."""
    mask = np.asarray(found).reshape(scene[1].shape) > 0
    assert iou(mask, scene[1]) > 0.8
    assert iou(mask, expected[kind]) > 0.985


def onnx_files(folder: Path) -> tuple[str, str]:
    """Return the paths of encoder and decoder."""
    encoder, decoder = (next(folder.glob(f"*_{part}.onnx")) for part in ("encoder", "decoder"))
    return str(encoder), str(decoder)


@KINDS
def test_samexporter_finds_the_object(files, scene, marks, expected, kind):
    with importable(require(OPENCV, "samexporter")):
        from samexporter.sam2_onnx import SegmentAnything2ONNX

        program = SegmentAnything2ONNX(*onnx_files(files("sam2")), providers="cpu")
        embedding = program.encode(np.ascontiguousarray(scene[0][..., ::-1]))  # BGR, as OpenCV reads files
        masks = program.predict_masks(embedding, marks[kind])
    check(masks, kind, scene, expected)


@pytest.fixture(scope="module")
def program_of() -> Iterator[Callable[..., ModuleType]]:
    """``program_of(distribution, module)`` -> a module of an annotation program, without the windows it imports."""
    folders = require(OPENCV, "anylabeling", "x-anylabeling-cvhub")

    def module(distribution: str, name: str) -> ModuleType:
        folder = next(folder for folder in folders if folder.endswith(f"/{distribution}"))
        return module_of_a_package(folder, f"anylabeling.services.auto_labeling.{name}")

    with importable(folders[:1]):
        yield module


@KINDS
def test_anylabeling_finds_the_object(program_of, files, scene, marks, expected, kind):
    program = program_of("anylabeling", "sam2_onnx").SegmentAnything2ONNX(*onnx_files(files("sam2")))
    embedding = program.encode(np.ascontiguousarray(scene[0][..., ::-1]))
    check(program.predict_masks(embedding, marks[kind]), kind, scene, expected)


@pytest.fixture(scope="module")
def x_anylabeling(program_of, files, scene) -> tuple[Any, Any]:
    """X-AnyLabeling's model and what it made of the scene."""
    program = program_of("x-anylabeling-cvhub", "__base__.sam2")
    segmenter = program.SegmentAnything2ONNX(*onnx_files(files("x-anylabeling-sam2")), "cpu")
    return segmenter, segmenter.encode(scene[0])


@KINDS
def test_x_anylabeling_finds_the_object(x_anylabeling, scene, marks, expected, kind):
    program, embedding = x_anylabeling
    check(program.predict_masks(embedding, marks[kind]), kind, scene, expected)


def test_x_anylabeling_decodes_a_batch_of_points_as_one_after_the_other(x_anylabeling):
    program, embedding = x_anylabeling
    points = np.array([[100.0, 80.0], [256.0, 300.0], [400.0, 100.0]], np.float32)
    logits, scores = program.predict_masks_batch(embedding, points, points_per_batch=64)
    alone = [program.predict_masks_batch(embedding, point[None], points_per_batch=1) for point in points]
    assert logits.shape == (3, 3, 256, 256) and scores.shape == (3, 3)
    assert np.allclose(logits, np.concatenate([one[0] for one in alone]), atol=1e-3)
    assert np.abs(logits[0] - logits[1]).max() > 1


class StandInForCoreML:
    """``coremltools.models.MLModel`` on this machine: images and arrays are converted as Core ML does."""

    def __init__(self, path: str) -> None:
        self.program = load_program(Path(path))

    def predict(self, values: dict[str, Any]) -> dict[str, np.ndarray]:
        kinds = {feature.name: feature.kind for feature in self.program.inputs}
        feed = {
            name: np.asarray(value, np.uint8) if kinds[name] == "image" else np.asarray(value, np.float32)
            for name, value in values.items()
        }
        outputs = self.program.predict(feed, numerics="fp16")
        return {name: np.asarray(value, np.float32) for name, value in outputs.items()}


@pytest.fixture(scope="module")
def apples_program(program_of, files) -> Any:
    """AnyLabeling's code for the packages of Apple, whose names of the large model it has."""
    folder = files("apple-sam2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coremltools.models, "MLModel", StandInForCoreML)
        return program_of("anylabeling", "sam2_coreml").SegmentAnything2CoreML(str(folder))


@pytest.fixture(scope="module")
def apples_embedding(apples_program, scene) -> dict[str, np.ndarray]:
    return apples_program.encode(np.ascontiguousarray(scene[0][..., ::-1]))


@KINDS
def test_anylabelings_code_for_apples_packages_finds_the_object(
    apples_program, apples_embedding, scene, marks, expected, kind
):
    """It passes one point, or two corners, and fills nothing up."""
    check(apples_program.predict_masks(apples_embedding, marks[kind]) > 0, kind, scene, expected)


class TransformersJs:
    """The calls of transformers.js 3.8: ``constructSessions``, ``Sam2Model.forward``, ``post_process_masks``."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        suffix = {"fp32": "", "fp16": "_fp16"}[self.config["transformers.js_config"]["dtype"]]
        names = ("vision_encoder", "prompt_encoder_mask_decoder")
        paths = [folder / "onnx" / f"{name}{suffix}.onnx" for name in names]
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in paths
        )
        self.processor = json.loads((folder / "preprocessor_config.json").read_text())

    def encode(self, model: SamModel, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return the maps by name; the image is prepared with the processor's own mean and deviation."""
        assert self.processor["size"] == {"height": model.info.frame.size, "width": model.info.frame.size}
        mean, std = (np.array(self.processor[name], np.float32) for name in ("image_mean", "image_std"))
        pixels = prepare(image, model.info.frame).pixels * np.float32(self.processor["rescale_factor"])
        names = [output.name for output in self.encoder.get_outputs()]
        feed = {"pixel_values": ((pixels - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)}
        return dict(zip(names, self.encoder.run(None, feed)))

    def decode(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name; of boxes alone, points and labels without a point are made."""
        count = self.config["vision_config"]["num_feature_levels"]
        assert all(f"image_embeddings.{index}" in inputs for index in range(count))
        if "input_points" in inputs:
            images = len(inputs["input_points"])
            made = {"input_boxes": np.zeros((images, 0, 4), np.float32)}
        else:
            images, boxes, _ = inputs["input_boxes"].shape
            made = {
                "input_labels": np.full((images, boxes, 0), -1, np.int64),
                "input_points": np.zeros((images, 1, 0, 2), np.float32),
            }
        names = [tensor.name for tensor in self.decoder.get_inputs()]
        inputs = {**made, **inputs}
        outputs = [output.name for output in self.decoder.get_outputs()]
        return dict(zip(outputs, self.decoder.run(None, {name: inputs[name] for name in names})))


@pytest.fixture(scope="module")
def transformers_js(model, files, scene) -> tuple[TransformersJs, dict[str, np.ndarray]]:
    program = TransformersJs(files("transformers-js"))
    return program, program.encode(model, scene[0])


@KINDS
def test_the_calls_of_transformers_js_find_the_object(transformers_js, scene, marks, expected, kind):
    program, maps = transformers_js
    assert program.config["model_type"] == "sam2"
    scale = 1024 / scene[0].shape[0]
    data = np.array(marks[kind][0]["data"], np.float32) * scale
    prompt = (
        {"input_boxes": data.reshape(1, 1, 4)}
        if kind == "rectangle"
        else {"input_points": data.reshape(1, 1, 1, 2), "input_labels": np.ones((1, 1, 1), np.int64)}
    )
    outputs = program.decode({**maps, **prompt})
    assert outputs["pred_masks"].shape == (1, 1, 3, 256, 256) and outputs["object_score_logits"].shape == (1, 1, 1)
    best = outputs["pred_masks"][0, 0, outputs["iou_scores"][0, 0].argmax()]
    frame = prepare(scene[0], small_models.load_model("edge_sam_tiny").info.frame)
    check(masks_to_source(best[None], frame)[0], kind, scene, expected)


def test_transformers_js_may_ask_for_several_boxes_and_for_a_box_with_points(transformers_js):
    program, maps = transformers_js
    boxes = np.array([[100, 120, 400, 420], [500, 300, 900, 800], [10, 600, 300, 1000]], np.float32)
    together = program.decode({**maps, "input_boxes": boxes[None]})["pred_masks"]
    assert together.shape == (1, 3, 3, 256, 256)
    for index, box in enumerate(boxes):
        alone = program.decode({**maps, "input_boxes": box.reshape(1, 1, 4)})["pred_masks"]
        assert np.allclose(together[:, index], alone[:, 0], atol=1e-3)
    # a box and a point; the same as three points of which two are corners; -10 is the library's own filling
    point = {"input_points": np.full((1, 1, 1, 2), 250.0, np.float32), "input_labels": np.ones((1, 1, 1), np.int64)}
    mixed = program.decode({**maps, **point, "input_boxes": boxes[:1].reshape(1, 1, 4)})["pred_masks"]
    corners = np.concatenate([boxes[0].reshape(2, 2), [[250.0, 250.0], [999.0, 1.0]]]).astype(np.float32)
    labels = np.array([[[2, 3, 1, -10]]], np.int64)
    spelled = program.decode({**maps, "input_points": corners[None, None], "input_labels": labels})["pred_masks"]
    assert np.allclose(mixed, spelled, atol=1e-3)
