"""Programs of others run on our files: their own installed code loads them and finds the object of a drawn scene.

segment-anything 1.0 (Apache-2.0), samexporter (MIT), AnyLabeling and X-AnyLabeling (GPL-3.0; executed, nothing copied).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from other_programs import importable, module_of_a_package, require, segment_anything_and

from edgesam_export.distill.scenes import draw_scene
from edgesam_export.imaging.masks import bounding_box, iou

SIDE = 1024
"""Longest side that these programs resize an image to."""
CANVAS = (684, 1024)
"""Height and width of what AnyLabeling and X-AnyLabeling feed to an encoder of profile sam6."""
OPENCV = "opencv-python-headless"


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """An image wider than high, RGB, and the exact mask of its largest object."""
    drawn = draw_scene(7, 3)
    image, masks = drawn.image[:384], drawn.masks[:, :384]
    return image, max(masks, key=np.count_nonzero)


@pytest.fixture(scope="module")
def marks(scene: tuple[np.ndarray, np.ndarray]) -> dict[str, list[dict[str, Any]]]:
    """The object as these programs describe a prompt: by its box, and by a click well inside."""
    _, mask = scene
    box = bounding_box(mask)
    inner = mask.copy()
    for _ in range(200):  # what is left last when the mask is eroded is farthest from its border
        smaller = inner[1:-1, 1:-1] & inner[2:, 1:-1] & inner[:-2, 1:-1] & inner[1:-1, 2:] & inner[1:-1, :-2]
        if not smaller.any():
            break
        inner = np.pad(smaller, 1)
    y, x = np.argwhere(inner)[0]
    return {
        "rectangle": [{"type": "rectangle", "data": [float(value) for value in box]}],
        "point": [{"type": "point", "data": [float(x), float(y)], "label": 1}],
    }


@pytest.fixture(scope="module")
def sam6(exported: Callable[..., Path]) -> tuple[str, str]:
    """Encoder and decoder of profile sam6 that return one mask: what these programs show."""
    folder = exported("edge_sam_tiny", "onnx", random_weights=None, profile="sam6", candidates=1)
    return str(folder / "edge_sam_tiny_encoder.onnx"), str(folder / "edge_sam_tiny_decoder.onnx")


def found(masks: np.ndarray, scene: tuple[np.ndarray, np.ndarray]) -> float:
    """Return the IoU of the first mask with the object."""
    return iou(np.asarray(masks).reshape(-1, *np.shape(masks)[-2:])[0] > 0, scene[1])


KINDS = pytest.mark.parametrize("kind", ["rectangle", "point"])


@KINDS
def test_samexporter_finds_the_object(sam6, scene, marks, kind):
    with importable(require(OPENCV, "samexporter")):
        from samexporter.sam_onnx import SegmentAnythingONNX

        program = SegmentAnythingONNX(*sam6, providers="cpu")
        embedding = program.encode(np.ascontiguousarray(scene[0][..., ::-1]))  # BGR, as OpenCV reads files
        masks = program.predict_masks(embedding, marks[kind])
    assert masks.shape == (1, 1, *scene[1].shape) and found(masks, scene) > 0.85


@pytest.fixture(scope="module")
def anylabeling() -> Iterator[Callable[[str], ModuleType]]:
    """``anylabeling(module)`` -> a module of AnyLabeling, without the windows that its packages import."""
    opencv, program = require(OPENCV, "anylabeling")
    with importable([opencv, program]):
        yield lambda name: module_of_a_package(program, f"anylabeling.services.auto_labeling.{name}")


@KINDS
def test_anylabeling_finds_the_object(anylabeling, sam6, scene, marks, kind):
    program = anylabeling("sam_onnx").SegmentAnythingONNX(*sam6)
    masks = program.predict_masks(program.encode(scene[0]), marks[kind])
    assert masks.shape == (1, 1, *scene[1].shape) and found(masks, scene) > 0.85


@pytest.fixture(scope="module")
def x_anylabeling() -> Iterator[Callable[[str], ModuleType]]:
    """``x_anylabeling(module)`` -> a module of X-AnyLabeling, without the windows that its packages import."""
    opencv, program = require(OPENCV, "x-anylabeling-cvhub")
    with importable([opencv, program]):
        yield lambda name: module_of_a_package(program, f"anylabeling.services.auto_labeling.{name}")


@KINDS
def test_x_anylabelings_segment_anything_finds_the_object(x_anylabeling, sam6, scene, marks, kind):
    engine = x_anylabeling("engines.build_onnx_engine").OnnxBaseModel
    program = x_anylabeling("__base__.sam").SegmentAnythingONNX(*map(engine, sam6), SIDE, CANVAS)
    masks = program.predict_masks(program.encode(scene[0]), marks[kind])
    assert masks.shape == (1, 1, *scene[1].shape) and found(masks, scene) > 0.85


@KINDS
def test_x_anylabelings_edge_sam_finds_the_object(x_anylabeling, exported, scene, marks, kind):
    folder = exported("edge_sam_tiny", "onnx", random_weights=None, profile="x-anylabeling")
    files = (str(folder / f"edge_sam_tiny_{part}.onnx") for part in ("encoder", "decoder"))
    program = x_anylabeling("__base__.sam").EdgeSAMONNX(*files, SIDE)
    masks = program.predict_masks(program.encode(scene[0]), marks[kind])
    assert masks.shape == scene[1].shape and found(masks, scene) > 0.85


def test_segment_anythings_own_frame_and_postprocessing_give_the_decoders_masks(exported, scene, marks):
    """A program that embeds an image itself and runs the decoder as segment-anything's notebook does."""
    folder = exported("edge_sam_tiny", "onnx", random_weights=None, profile="sam6")
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / f"edge_sam_tiny_{part}.onnx", providers=["CPUExecutionProvider"])
        for part in ("encoder", "decoder")
    )
    image, size = scene[0], scene[1].shape
    with segment_anything_and():
        from segment_anything.modeling import Sam
        from segment_anything.utils.transforms import ResizeLongestSide

        frame = ResizeLongestSide(SIDE)
        resized = frame.apply_image(image)
        corners = frame.apply_coords(np.array(marks["rectangle"][0]["data"]).reshape(2, 2), size)
        (embedding,) = encoder.run(None, {"input_image": resized.astype(np.float32)})
        feed = {
            "image_embeddings": embedding,
            "point_coords": corners[None].astype(np.float32),
            "point_labels": np.array([[2, 3]], np.float32),
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(size, np.float32),
        }
        masks, scores, low = decoder.run(None, feed)
        network = SimpleNamespace(image_encoder=SimpleNamespace(img_size=SIDE))
        expected = Sam.postprocess_masks(network, torch.from_numpy(low), resized.shape[:2], size).numpy()
    assert masks.shape == expected.shape == (1, 4, *size)
    assert np.abs(masks - expected).max() <= 1e-5 * np.abs(expected).max()
    assert found(masks[:, scores[0].argmax()], scene) > 0.85
