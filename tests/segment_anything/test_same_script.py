"""One script against segment-anything 1.0 and against our module of its names: the same results."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from original_sam import one_frame_model, original, sam_of
from pycocotools import mask as coco

import edgesam_export.segment_anything as ours
from edgesam_export.formats import find_format
from edgesam_export.imaging.masks import iou
from edgesam_export.imaging.reading import open_image
from edgesam_export.resources import SAMPLES
from edgesam_export.spec import OnnxConfig

BOX = np.array([346, 305, 496, 399])
GENERATOR = {"points_per_side": 2, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.7, "points_per_batch": 3}


def script(segment_anything: ModuleType, sam: Any, image: np.ndarray) -> dict[str, Any]:
    """What a program does with the package: the calls of its notebooks."""
    sam.to(device="cpu")
    predictor = segment_anything.SamPredictor(sam)
    results: dict[str, Any] = {}
    predictor.set_image(image)
    results["embedding"] = predictor.get_image_embedding().numpy()
    point = {"point_coords": np.array([[420, 380]]), "point_labels": np.array([1])}
    results["point"] = predictor.predict(**point, multimask_output=True)
    results["logits"] = predictor.predict(**point, multimask_output=False, return_logits=True)
    _, scores, low = results["point"]
    mask = low[np.argmax(scores), :, :][None]
    more = {"point_coords": np.array([[420, 380], [450, 330]]), "point_labels": np.array([1, 0])}
    results["mask"] = predictor.predict(**more, mask_input=mask, multimask_output=False)
    results["box"] = predictor.predict(box=BOX, multimask_output=False)
    results["box and point"] = predictor.predict(**more, box=BOX)
    results["mask alone"] = predictor.predict(mask_input=mask)
    boxes = torch.tensor(np.stack([BOX, [60, 20, 300, 240]]))
    moved = predictor.transform.apply_boxes_torch(boxes, image.shape[:2])
    results["boxes"] = [
        part.numpy() for part in predictor.predict_torch(None, None, boxes=moved, multimask_output=False)
    ]
    predictor.set_image(image[..., ::-1], image_format="BGR")
    results["from BGR"] = predictor.predict(box=BOX)
    assert predictor.is_image_set and predictor.original_size == image.shape[:2]
    results["coordinates"] = predictor.transform.apply_coords(np.array([[10.0, 20.0]]), image.shape[:2])
    resized = torch.as_tensor(predictor.transform.apply_image(image)).permute(2, 0, 1).contiguous()
    batch = [{"image": resized, "boxes": moved, "original_size": image.shape[:2]}]
    results["batch"] = [part.numpy() for part in sam(batch, multimask_output=False)[0].values()]
    for mode in ("binary_mask", "uncompressed_rle", "coco_rle"):
        generator = segment_anything.SamAutomaticMaskGenerator(sam, **GENERATOR, output_mode=mode)
        if mode == "binary_mask":
            results["everything"] = generator.generate(image)
    return results


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.ascontiguousarray(open_image(SAMPLES / "scene.png")[:400])


@pytest.fixture(scope="module")
def model():
    return one_frame_model()


@pytest.fixture(scope="module")
def expected(model, image) -> dict[str, Any]:
    with original() as segment_anything:
        return script(segment_anything, sam_of(model), image)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_frame")
    find_format("onnx").export(model, folder, OnnxConfig(score="iou", mask_input=True))
    return folder


@pytest.mark.parametrize("source", ["model", "files"])
def test_a_script_gets_the_same_from_both(request, model, image, expected, source):
    sam = ours.predictor.as_sam(model)
    if source == "files":
        sam = ours.sam_model_registry["edge_sam_tiny"](checkpoint=request.getfixturevalue("folder"))
    found = script(ours, sam, image)
    assert found.keys() == expected.keys()
    for key in ("embedding", "coordinates"):
        assert found[key].shape == expected[key].shape and np.allclose(found[key], expected[key], atol=1e-3)
    for key in ("point", "logits", "mask", "box", "box and point", "mask alone", "boxes", "from BGR", "batch"):
        for mine, theirs in zip(found[key], expected[key], strict=True):
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype), key
            if mine.dtype == bool:
                assert np.count_nonzero(mine != theirs) <= 4, key
            else:
                assert np.abs(mine - theirs).max() <= 1e-3 * max(1, np.abs(theirs).max()), key
    same_records(found["everything"], expected["everything"])


def same_records(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected) >= 3
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        assert iou(mine["segmentation"], theirs["segmentation"]) > 0.9999
        assert mine["segmentation"].dtype == bool and type(mine["area"]) is int
        for key in ("bbox", "crop_box", "point_coords", "predicted_iou", "stability_score"):
            assert np.allclose(mine[key], theirs[key], atol=1e-3), key
        assert abs(mine["area"] - theirs["area"]) <= 2


def test_the_forms_of_a_segmentation_are_one_mask(model, image):
    generator = ours.SamAutomaticMaskGenerator(model, **GENERATOR, output_mode="coco_rle")
    record = generator.generate(image)[0]
    runs = coco.decode(record["segmentation"]).astype(bool)
    height, width = image.shape[:2]
    assert runs.shape == (height, width) and runs.sum() == record["area"]
    x, y, wide, high = record["bbox"]
    assert coco.toBbox(record["segmentation"]).tolist() == [x, y, wide + 1, high + 1]


def test_the_names_of_the_package_are_there_with_its_arguments():
    import inspect

    with original() as segment_anything:
        for name in ("SamPredictor", "SamAutomaticMaskGenerator"):
            theirs, mine = getattr(segment_anything, name), getattr(ours, name)
            methods = [method for method in vars(theirs) if not method.startswith("_") or method == "__init__"]
            for method in methods:
                if method == "postprocess_small_regions":  # a step of ``generate``
                    continue
                if not callable(getattr(theirs, method)):
                    assert hasattr(mine, method)
                    continue
                one, other = (inspect.signature(getattr(kind, method)).parameters for kind in (theirs, mine))
                shown = [[(p.name, p.default) for p in parameters.values()] for parameters in (one, other)]
                assert shown[0] == shown[1], (name, method)
        public = {name for name in vars(segment_anything) if not name.startswith("_")}
        modules = {name for name in public if isinstance(getattr(segment_anything, name), ModuleType)}
        assert public - modules <= set(ours.__all__)
        assert set(segment_anything.sam_model_registry) <= set(ours.sam_model_registry)


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.fixture(scope="module")
def predictor(model, image):
    predictor = ours.SamPredictor(model)
    predictor.set_image(image)
    return predictor


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ({}, "no prompt: give at least one point, a box or a mask"),
        ({"point_coords": np.array([[1, 2]])}, "1 points but 0 labels; give one label for each point"),
        ({"point_coords": np.array([[1, 2]]), "point_labels": np.array([7])}, "point_labels holds 7; labels are"),
        ({"point_coords": np.array([[1, np.nan]]), "point_labels": np.array([1])}, "point_coords holds NaN"),
        (
            {"box": np.array([[1, 2, 3, 4], [1, 2, 3, 4]]), "mask_input": np.zeros((1, 256, 256))},
            r"expected \(2, 1, 256",
        ),
        ({"mask_input": np.zeros((1, 64, 64))}, r"mask_input has shape \(1, 1, 64, 64\); expected \(1, 1, 256, 256\)"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(predictor, prompt, line):
    with pytest.raises(ours.predictor.UsageError, match=line):
        predictor.predict(**prompt)


def test_what_is_asked_of_files_that_cannot_is_said(predictor, model, folder, image, tmp_path):
    error = ours.predictor.UsageError
    empty = ours.SamPredictor(model)
    for call in (lambda: empty.predict(box=BOX), empty.get_image_embedding):
        with pytest.raises(error, match="no image yet; call set_image first"):
            call()
    with pytest.raises(
        error, match=r"files of edge_sam_tiny, not sam_vit_b; use sam_model_registry\['edge_sam_tiny'\]"
    ):
        ours.sam_model_registry["vit_b"](checkpoint=folder)
    with pytest.raises(error, match=r"runs on the CPU, not on cuda; leave \.to"):
        ours.predictor.as_sam(folder).to("cuda")
    with pytest.raises(error, match="image_format is 'HSV'; choose RGB or BGR"):
        predictor.set_image(image, "HSV")
    with pytest.raises(error, match=r"resized image is \(400, 400, 3\); of \(400, 512\) it must be \(400, 512, 3\)"):
        ours.SamPredictor(model).set_torch_image(torch.zeros(1, 3, 400, 400), (400, 512))
    with pytest.raises(error, match="output_mode is 'png'; choose one of: binary_mask"):
        ours.SamAutomaticMaskGenerator(model, output_mode="png")
    with pytest.raises(error, match=r"holds no \..* give exported files or their folder"):
        ours.sam_model_registry["vit_b"](checkpoint=tmp_path)


def test_a_decoder_that_lacks_the_masks_says_how_to_export(model, image, tmp_path):
    find_format("onnx").export(model, tmp_path, OnnxConfig(candidates=1))
    single = ours.SamPredictor(tmp_path)
    single.set_image(image)
    masks, _, _ = single.predict(box=BOX, multimask_output=False)
    assert masks.shape == (1, *image.shape[:2])
    with pytest.raises(ours.predictor.UsageError, match=r"does not return the three masks .* --candidates 4 or 3"):
        single.predict(box=BOX)
