"""One script against segment-anything 1.0 and against our module of its names: the same results."""

from __future__ import annotations

import copy
import io
import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from original_sam import one_frame_model, original, sam_of
from pycocotools import mask as coco
from small_models import SMALL_MAPS, small_model

import edgesam_export.segment_anything as ours
from edgesam_export.errors import EdgeSAMExportWarning
from edgesam_export.families import load_model
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


def script_of_parts(sam: Any, transform: Any, image: np.ndarray) -> dict[str, tuple[torch.Tensor, ...]]:
    """What a program does that goes without the predictor, as those that evaluate fine-tuned weights do."""
    resized = torch.as_tensor(transform.apply_image(image)).permute(2, 0, 1)[None].float()
    box = transform.apply_boxes_torch(torch.as_tensor(BOX[None]), image.shape[:2])
    points = transform.apply_coords_torch(torch.tensor([[[420.0, 380.0]], [[60.0, 20.0]]]), image.shape[:2])
    embedding = sam.image_encoder(sam.preprocess(resized))
    results, earlier = {}, torch.full((1, 1, 256, 256), -3.0)
    prompts = {
        "box": (None, box[:, None], None),
        "points": ((points, torch.tensor([[1], [0]])), None, None),
        "all": ((points[:1], torch.tensor([[1]])), box, earlier),
        "mask": (None, None, earlier),
    }
    for name, (clicks, boxes, masks) in prompts.items():
        sparse, dense = sam.prompt_encoder(points=clicks, boxes=boxes, masks=masks)
        results[f"{name} encoded"] = sparse, dense
        logits, scores = sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=name == "points",
        )
        large = sam.postprocess_masks(logits, resized.shape[-2:], image.shape[:2])
        results[name] = logits, scores, large
    return results


def test_a_script_gets_the_same_from_the_parts(model, image):
    with original() as segment_anything, torch.no_grad():
        transform = segment_anything.utils.transforms.ResizeLongestSide(512)
        expected = script_of_parts(sam_of(model), transform, image)
    found = script_of_parts(ours.predictor.as_sam(model), ours.ResizeLongestSide(512), image)
    assert found.keys() == expected.keys()
    for name in expected:
        for mine, theirs in zip(found[name], expected[name], strict=True):
            assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype), name
            if mine.numel():
                assert (mine - theirs).abs().max() <= 1e-3 * max(1, theirs.abs().max()), name


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
        ({"mask_input": np.zeros((1, 64, 64))}, r"mask_input has shape \(1, 1, 64, 64\); expected \(B, 1, 256, 256\)"),
        ({"mask_input": np.zeros((3, 256, 256))}, r"has shape \(1, 3, 256, 256\); .* give the logits of an earlier"),
        ({"box": np.array([[1, 2, 3, 4], [1, 2, 3, 4]])}, "2 boxes, but predict takes one; .*apply_boxes_torch"),
        ({"box": [1, 2, 3]}, r"box has shape \(3,\); give four numbers"),
        ({"box": []}, "no prompt: give at least"),
        ({"point_coords": [], "point_labels": []}, "no prompt: give at least"),
        ({"point_coords": [1, 2], "point_labels": [1]}, r"point_coords has shape \(2,\); give \(N, 2\)"),
        ({"point_coords": "a dog"}, "point_coords 'a dog' are not numbers"),
        ({"point_coords": [[1, 2], [3]], "point_labels": [1, 1]}, "not equally many in each row"),
        ({"point_coords": [[1, 2]], "point_labels": ["fg"]}, "point_labels .* are not numbers"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(predictor, prompt, line):
    with pytest.raises(ours.predictor.UsageError, match=line):
        predictor.predict(**prompt)


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({"boxes": torch.ones(4)}, r"boxes has shape \(4,\); expected \(B, 4\)"),
        ({"point_coords": torch.ones(5, 2)}, r"point_coords has shape \(5, 2\); expected \(B, N, 2\)"),
        (
            {"point_coords": torch.ones(1, 1, 2), "point_labels": torch.ones(1, 1), "boxes": torch.ones(3, 4)},
            "point_coords is of 1 prompts, boxes of 3; give one for each prompt",
        ),
    ],
)
def test_prompts_that_cannot_be_are_refused(predictor, parts, line):
    with pytest.raises(ours.predictor.UsageError, match=line):
        predictor.predict_torch(**{"point_coords": None, "point_labels": None, **parts})


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ({"box": BOX[[2, 3, 0, 1]]}, r"box 0 \(496, 399, 346, 305\) is reversed or empty; .* not with width"),
        ({"box": [346, 305, 150, 94]}, "is reversed or empty"),
        ({"box": [0.2, 0.3, 0.6, 0.8]}, "pixels, not shares of width and height"),
        ({"box": [600, 10, 700, 90]}, r"box 0 \(600, 10, 700, 90\) is outside the image of 512x400 pixels"),
        ({"point_coords": [[0.5, 0.4]], "point_labels": [1]}, "pixels, not shares of width and height"),
        (
            {"point_coords": [[9, 9], [9, 500]], "point_labels": [1, 0]},
            r"point \(9, 500\) is outside the image of 512x",
        ),
        ({"box": BOX, "mask_input": np.ones((1, 256, 256), bool)}, "none negative; it is read as logits"),
    ],
)
def test_a_prompt_that_is_perhaps_meant_otherwise_is_warned_of_and_used(predictor, prompt, line):
    with pytest.warns(EdgeSAMExportWarning, match=line):
        masks, _, _ = predictor.predict(**prompt)
    assert masks.shape == (3, 400, 512)


def test_usual_prompts_are_not_warned_of(predictor):
    with warnings.catch_warnings():
        warnings.simplefilter("error", EdgeSAMExportWarning)
        predictor.predict(box=[-3, -2, 514, 403])  # a detector's, a little beyond the edges
        predictor.predict([[512, 400], [1, 1]], [1, 0])


def test_lists_tensors_and_missing_leading_sides_are_what_arrays_are(predictor):
    logits = np.full((256, 256), -3.0)
    prompt = {"point_coords": [[420, 380]], "point_labels": [1]}
    expected = predictor.predict(np.array([[420, 380]]), np.array([1]), mask_input=logits[None])
    tensors = {name: torch.tensor(values) for name, values in prompt.items()}
    for found in (
        predictor.predict(**prompt, mask_input=logits),
        predictor.predict(**tensors, box=[], mask_input=torch.tensor(logits)[None, None].bfloat16()),
    ):
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    moved = [predictor.transform.apply_coords(np.array([[[420, 380]]]), (400, 512)), np.array([[1]])]
    masks, _, _ = predictor.predict_torch(*moved, mask_input=logits[None, None])
    assert np.array_equal(masks[0].numpy(), expected[0])


def test_no_boxes_give_no_masks(predictor):
    masks, scores, logits = predictor.predict_torch(None, None, boxes=torch.zeros(0, 4), multimask_output=False)
    assert (masks.shape, masks.dtype) == ((0, 1, 400, 512), torch.bool)
    assert scores.shape == (0, 1) and logits.shape == (0, 1, 256, 256)


def test_an_embedding_is_kept_and_takes_the_place_of_set_image(predictor, model, tmp_path):
    names = ("original_size", "input_size", "features", "is_image_set")
    expected = predictor.predict(box=BOX)
    torch.save({name: getattr(predictor, name) for name in names}, tmp_path / "kept.pt")
    other = ours.SamPredictor(model)
    for name, value in torch.load(tmp_path / "kept.pt").items():
        setattr(other, name, value)
    found = other.predict(box=BOX)
    assert all(np.array_equal(one, two) for one, two in zip(found, expected, strict=True))
    other.features = torch.zeros(1, 256, 64, 64)
    with pytest.raises(ours.predictor.UsageError, match=r"features have shape .*256, 64, 64.*; those of edge_sam_tiny"):
        other.predict(box=BOX)
    other.reset_image()
    assert other.features is None and not other.is_image_set


def test_several_maps_are_kept_by_their_names():
    predictor = ours.SamPredictor(small_model(SMALL_MAPS))
    predictor.set_image(np.zeros((40, 50, 3), np.uint8))
    assert list(predictor.features) == ["image_embeddings", "feats_s0", "feats_s1"]
    kept, sizes = predictor.features, (predictor.original_size, predictor.is_image_set)
    expected = predictor.predict(box=[4, 5, 30, 35])
    predictor.reset_image()
    (predictor.original_size, predictor.is_image_set), predictor.features = sizes, kept
    assert np.array_equal(predictor.predict(box=[4, 5, 30, 35])[2], expected[2])


PROGRAM = """
import segment_anything
from segment_anything import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
from segment_anything.automatic_mask_generator import SamAutomaticMaskGenerator as generator
from segment_anything.build_sam import build_sam_vit_b
from segment_anything.modeling import Sam
from segment_anything.predictor import SamPredictor as predictor
from segment_anything.utils.transforms import ResizeLongestSide
import segment_anything.utils.transforms as transforms
"""


def test_programs_that_import_the_original_get_these_names(monkeypatch):
    def imported() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "segment_anything"]

    for name in imported():
        monkeypatch.delitem(sys.modules, name)
    space: dict[str, Any] = {}
    try:
        for _ in range(2):
            ours.replace_segment_anything()
        exec(PROGRAM, space)
        sys.modules["segment_anything"] = ModuleType("segment_anything")
        with pytest.raises(ours.predictor.UsageError, match="segment_anything is imported already; call replace_seg"):
            ours.replace_segment_anything()
    finally:
        for name in imported():
            del sys.modules[name]
    assert space["SamPredictor"] is space["predictor"] is ours.SamPredictor and space["Sam"] is ours.Sam
    assert space["generator"] is space["segment_anything"].SamAutomaticMaskGenerator is ours.SamAutomaticMaskGenerator
    assert space["ResizeLongestSide"] is space["transforms"].ResizeLongestSide is ours.ResizeLongestSide


def test_a_model_can_be_copied(model):
    # programs keep one for each worker; looking an attribute up must not ask the unfinished copy for its runner
    sam = ours.predictor.as_sam(model)
    for one in (copy.copy(sam), copy.deepcopy(sam)):
        assert one.runner.info.name == sam.runner.info.name and one.image_encoder.img_size == sam.image_encoder.img_size


def test_devices_and_parts_that_there_are_not_are_named(model, folder):
    sam = ours.predictor.as_sam(model)
    assert sam.cpu() is sam.float() is sam.train(False) is sam.eval() is sam.to(torch.float32) and not sam.training
    assert sum(part.numel() for part in sam.parameters()) == sum(part.numel() for part in model.parameters())
    unavailable = ours.predictor.RunnerUnavailableError
    for device in ("meat", "cuda:99"):
        with pytest.raises(unavailable, match=f"device '{device}': .*; 'cpu' is always there"):
            sam.to(device)
    with pytest.raises(ours.predictor.UsageError, match=r"computes in float32, not in torch\.float16"):
        sam.half()
    with pytest.raises(ours.predictor.UsageError, match="train with 'edgesam-export distill'"):
        sam.train()
    with pytest.raises(AttributeError, match="this Sam has no 'no_mask_embed'; it is for SamPredictor"):
        _ = sam.no_mask_embed
    files = ours.predictor.as_sam(folder)
    for name in ("parameters", "mask_decoder"):
        with pytest.raises(AttributeError, match=f"no '{name}': exported files are run as a whole; it is for SamPred"):
            getattr(files, name)
    with pytest.raises(ours.predictor.UsageError, match="exported files are not run in parts; use SamPredictor"):
        files.image_encoder(torch.zeros(1, 3, 512, 512))
    with pytest.raises(ours.predictor.UsageError, match=r"image is \(1, 3, 64, 64\); edge_sam_tiny takes \(B, 3, 512"):
        sam.image_encoder(torch.zeros(1, 3, 64, 64))


def test_models_and_checkpoints_that_cannot_be_are_named(folder):
    error = ours.predictor.UsageError
    with pytest.raises(error, match="unknown model 'EdgeSAM': it is called edge_sam"):
        ours.sam_model_registry["EdgeSAM"]
    with pytest.raises(error, match="vit_x"):
        ours.sam_model_registry["vit_x"]
    assert ours.sam_model_registry.get("vit_x") is None and "vit_x" not in ours.sam_model_registry
    for wrong in (io.BytesIO(b""), 3):
        with pytest.raises(error, match=f"checkpoint is {type(wrong).__name__}; give a path"):
            ours.sam_model_registry["edge_sam_tiny"](checkpoint=wrong)
    assert ours.sam_model_registry["edge_sam_tiny"](sorted(folder.glob("*.onnx"))).runner.name.startswith("onnx")


def test_images_of_a_transform_that_knows_one_frame_are_resized():
    sam = ours.predictor.as_sam(load_model("edge_sam_tiny"))  # its image has 512 pixels, prompts have 1024
    image = open_image(SAMPLES / "scene.png")[:400]
    transform = ours.ResizeLongestSide(sam.image_encoder.img_size)
    resized = torch.as_tensor(transform.apply_image(image)).permute(2, 0, 1)
    boxes = transform.apply_boxes_torch(torch.as_tensor(BOX[None]), image.shape[:2])
    (found,) = sam([{"image": resized, "boxes": boxes, "original_size": image.shape[:2]}], multimask_output=False)
    predictor = ours.SamPredictor(sam)
    predictor.set_image(image)
    assert iou(found["masks"][0, 0].numpy(), predictor.predict(box=BOX, multimask_output=False)[0][0]) > 0.98
    with pytest.warns(EdgeSAMExportWarning, match=r"values from 0\.02\d* to 1; they are read as 0 to 255"):
        predictor.set_torch_image(resized[None] / 255, image.shape[:2])


def test_what_is_asked_of_files_that_cannot_is_said(predictor, model, folder, image, tmp_path):
    error = ours.predictor.UsageError
    empty = ours.SamPredictor(model)
    for call in (lambda: empty.predict(box=BOX), empty.get_image_embedding):
        with pytest.raises(error, match="no image yet; call set_image first"):
            call()
    with pytest.raises(error, match=r"files of edge_sam_tiny, not sam_vit_b; ask for 'edge_sam_tiny'"):
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
    with pytest.raises(
        ours.predictor.UsageError, match=r"does not return the three masks .* --profile default and --candidates 4 or 3"
    ):
        single.predict(box=BOX)
