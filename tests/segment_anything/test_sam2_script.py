"""Scripts written for the image part of sam2: its shapes and types, its arithmetic step by step, its names."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_models import trained_model_of_three_maps
from torch.nn.functional import interpolate

import edgesam_export.segment_anything as ours
from edgesam_export.errors import CheckpointError, EdgeSAMExportWarning, RunnerUnavailableError, UsageError
from edgesam_export.families import model_names
from edgesam_export.formats import find_format
from edgesam_export.imaging.masks import iou
from edgesam_export.imaging.reading import open_image
from edgesam_export.predict.mask_generator import single_masks
from edgesam_export.resources import SAMPLES
from edgesam_export.runners import Decoded
from edgesam_export.segment_anything.sam2_models import CONFIGS, REPOSITORIES
from edgesam_export.spec import OnnxConfig

BOX = np.array([346, 305, 496, 399])
BOXES = np.stack([BOX, [60, 20, 300, 240]])
CLICK = {"point_coords": np.array([[420, 380]]), "point_labels": np.array([1])}
PREDICT = ["mask_input", "multimask_output=True", "return_logits=False", "normalize_coords=True"]
SIGNATURES = {
    "SAM2ImagePredictor": ["sam_model", "mask_threshold=0.0", "max_hole_area=0.0", "max_sprinkle_area=0.0", "kwargs"],
    "SAM2ImagePredictor.from_pretrained": ["model_id", "kwargs"],
    "SAM2ImagePredictor.set_image": ["self", "image"],
    "SAM2ImagePredictor.set_image_batch": ["self", "image_list"],
    "SAM2ImagePredictor.predict": ["self", "point_coords", "point_labels", "box", *PREDICT],
    "SAM2ImagePredictor.predict_batch": [
        *("self", "point_coords_batch", "point_labels_batch", "box_batch", "mask_input_batch"),
        *PREDICT[1:],
    ],
    "SAM2ImagePredictor.get_image_embedding": ["self"],
    "SAM2ImagePredictor.reset_predictor": ["self"],
    "SAM2AutomaticMaskGenerator": [
        *("model", "points_per_side=32", "points_per_batch=64", "pred_iou_thresh=0.8", "stability_score_thresh=0.95"),
        *("stability_score_offset=1.0", "mask_threshold=0.0", "box_nms_thresh=0.7", "crop_n_layers=0"),
        *("crop_nms_thresh=0.7", f"crop_overlap_ratio={512 / 1500}", "crop_n_points_downscale_factor=1", "point_grids"),
        *("min_mask_region_area=0", "output_mode=binary_mask", "use_m2m=False", "multimask_output=True", "kwargs"),
    ],
    "SAM2AutomaticMaskGenerator.from_pretrained": ["model_id", "kwargs"],
    "SAM2AutomaticMaskGenerator.generate": ["self", "image"],
    "build_sam2": [
        *("config_file", "ckpt_path", "device", "mode=eval", "hydra_overrides_extra=()", "apply_postprocessing=True"),
        "kwargs",
    ],
    "build_sam2_hf": ["model_id", "kwargs"],
}
"""Arguments of sam2 at 2b90b9f with their defaults other than None; its ``device`` is "cuda", its overrides []."""


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.ascontiguousarray(open_image(SAMPLES / "scene.png")[:400])


@pytest.fixture(scope="module")
def model():
    return trained_model_of_three_maps()


@pytest.fixture(scope="module")
def predictor(model, image):
    predictor = ours.SAM2ImagePredictor(model)
    predictor.set_image(image)
    return predictor


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_and_defaults_are_those_of_sam2(name):
    callable_ = ours
    for part in name.split("."):
        callable_ = getattr(callable_, part)
    parameters = inspect.signature(callable_).parameters.values()
    if inspect.ismethod(getattr(ours, name.split(".")[0], None)):
        parameters = list(parameters)[1:]
    shown = [p.name if p.default in (p.empty, None) else f"{p.name}={p.default}" for p in parameters]
    assert shown == SIGNATURES[name]


@torch.no_grad()
def by_hand(model: Any, image: np.ndarray, points: Any, labels: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, 4, 256, 256) and IoU (B, 4) by the steps of sam2: a square of 1024, coordinates by their own sides."""
    pixels = torch.tensor(image / 255.0, dtype=torch.float32).permute(2, 0, 1)[None]
    square = interpolate(pixels, (1024, 1024), mode="bilinear", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    maps = model.encode((square - mean[:, None, None]) / std[:, None, None])
    height, width = image.shape[:2]
    coords = torch.tensor(points, dtype=torch.float32) * torch.tensor([1024 / width, 1024 / height])
    kinds = torch.tensor(labels, dtype=torch.float32)
    padding = torch.zeros(len(coords), 1, 2), -torch.ones(len(coords), 1)  # always, of boxes too
    logits, scores, _ = model.decode_all(maps, torch.cat([coords, padding[0]], 1), torch.cat([kinds, padding[1]], 1))
    return logits, scores


@pytest.mark.parametrize(
    ("prompt", "points", "labels"),
    [
        (CLICK, [[[420, 380]]], [[1]]),
        ({"box": BOX}, [[[346, 305], [496, 399]]], [[2, 3]]),
        ({"box": BOXES}, [[[346, 305], [496, 399]], [[60, 20], [300, 240]]], [[2, 3], [2, 3]]),
        ({"box": BOX[None], **CLICK}, [[[346, 305], [496, 399], [420, 380]]], [[2, 3, 1]]),
    ],
)
def test_results_are_those_of_the_steps_of_sam2(model, predictor, image, prompt, points, labels):
    logits, scores = by_hand(model, image, points, labels)
    large = interpolate(logits[:, 1:], image.shape[:2], mode="bilinear", align_corners=False)
    expected = [large, scores[:, 1:], logits[:, 1:].clamp(-32, 32)]
    if len(points) == 1:
        expected = [part[0] for part in expected]
    found = predictor.predict(**prompt, return_logits=True)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == np.float32 and mine.shape == theirs.shape
        assert np.abs(mine - theirs.numpy()).max() <= 1e-3 * max(1, theirs.abs().max())
    masks, _, low = predictor.predict(**prompt)
    assert masks.dtype == np.float32 and set(np.unique(masks)) == {0, 1}
    assert np.count_nonzero(masks != (expected[0].numpy() > 0)) <= 8
    assert np.abs(low).max() <= 32


def test_the_single_mask_is_chosen_as_in_transformers():
    sam2 = pytest.importorskip(
        "transformers.models.sam2.modeling_sam2", reason="transformers has no release for Python 3.10"
    )
    decoder = SimpleNamespace(dynamic_multimask_stability_delta=0.05, dynamic_multimask_stability_thresh=0.98)
    decoder._get_stability_scores = lambda logits: sam2.Sam2MaskDecoder._get_stability_scores(decoder, logits)
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(6, 4, 256, 256, generator=random)
    logits[::2, 0] *= 100  # stable
    logits[4, 0] = -1.0  # nothing of it
    scores = torch.rand(6, 4, generator=random)
    scores[5, 1:] = 0.5
    expected = sam2.Sam2MaskDecoder._dynamic_multimask_via_stability(decoder, logits[:, None], scores[:, None])
    runner = SimpleNamespace(candidates=(0, 1, 2, 3), name="four")
    found = single_masks(runner, Decoded(logits.numpy(), scores.numpy()), by_stability=True)
    for mine, theirs in zip(found, expected, strict=True):
        assert np.array_equal(mine, theirs[:, 0].numpy())
    plain, _ = single_masks(runner, Decoded(logits.numpy(), scores.numpy()), by_stability=False)
    assert np.array_equal(plain, logits[:, :1].numpy()) and not np.array_equal(plain, found[0])


def test_files_of_a_profile_without_the_single_mask_say_how_to_export():
    runner = SimpleNamespace(candidates=(1, 2, 3), name="onnx")  # with --candidates 4: profiles sam2, apple-sam2
    decoded = Decoded(np.zeros((1, 3, 256, 256), np.float32), np.zeros((1, 3), np.float32))
    with pytest.raises(UsageError, match="not return the single mask; export with --profile default and --candidates"):
        single_masks(runner, decoded, by_stability=True)


def test_postprocessing_is_what_replaces_a_single_mask(model, predictor, image):
    logits, _ = by_hand(model, image, [[[100, 60]]], [[1]])
    prompt = {"point_coords": [[100, 60]], "point_labels": [1], "multimask_output": False}
    plain = ours.SAM2ImagePredictor(ours.predictor.as_sam(model))
    plain.model.by_stability = False
    plain.images = predictor.images
    _, scores, low = plain.predict(**prompt)
    assert scores.shape == (1,) and np.allclose(low, logits[0, :1].clamp(-32, 32), atol=0.03)
    masks, scores, low = predictor.predict(**prompt)
    assert masks.shape == (1, 400, 512) and scores.shape == (1,) and low.shape == (1, 256, 256)


def test_a_batch_is_each_image_with_its_own_prompts(model, predictor, image):
    images, boxes = [image, image[:300, :280]], [BOXES, np.array([60, 20, 250, 240])]
    expected = [[part.copy() for part in predictor.predict(box=BOXES)]]
    alone = ours.SAM2ImagePredictor(model)
    alone.set_image(images[1])
    expected.append(alone.predict(box=boxes[1]))
    batch = ours.SAM2ImagePredictor(model)
    batch.set_image_batch(images)
    found = batch.predict_batch(box_batch=boxes)
    assert [mask.shape for mask in found[0]] == [(2, 3, 400, 512), (3, 300, 280)]
    for index, one in enumerate(expected):
        assert all(np.allclose(part[index], other, atol=1e-3) for part, other in zip(found, one, strict=True))
    assert batch.get_image_embedding().shape == (2, 128, 64, 64)
    batch.reset_predictor()
    with pytest.raises(UsageError, match="no images yet; call set_image_batch first"):
        batch.predict_batch(box_batch=boxes)


def test_masks_of_an_earlier_prediction_and_shares_of_the_sides(predictor):
    several = predictor.predict(box=BOXES, multimask_output=False)
    refined = predictor.predict(box=BOXES, mask_input=several[2], multimask_output=False)
    for index, box in enumerate(BOXES):
        one = predictor.predict(box=box, mask_input=several[2][index], multimask_output=False)
        assert np.allclose(one[2], refined[2][index], atol=1e-2) and np.allclose(one[1], refined[1][index], atol=1e-3)
    for_all = predictor.predict(box=BOXES, mask_input=several[2][0], multimask_output=False)
    assert np.allclose(for_all[2][0], refined[2][0], atol=1e-2)
    expected = predictor.predict(**CLICK, box=BOX)
    click = {**CLICK, "point_coords": CLICK["point_coords"] / [512, 400]}
    shares = predictor.predict(**click, box=BOX / [512, 400, 512, 400], normalize_coords=False)
    assert np.allclose(shares[2], expected[2], atol=1e-2)
    none = predictor.predict(box=np.zeros((0, 4)), multimask_output=False)
    assert [part.shape for part in none] == [(0, 1, 400, 512), (0, 1), (0, 1, 256, 256)]


def test_exported_files_give_what_the_model_does(model, predictor, image, tmp_path):
    find_format("onnx").export(model, tmp_path, OnnxConfig(mask_input=True))
    sam = ours.build_sam2("sam2.1_hiera_l.yaml", tmp_path)
    files = ours.SAM2ImagePredictor(sam)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):  # as the notebooks of sam2 do
        files.set_image(image)
        for prompt in (CLICK, {"box": BOXES, "multimask_output": False}):
            for mine, theirs in zip(files.predict(**prompt), predictor.predict(**prompt), strict=True):
                assert mine.shape == theirs.shape and np.mean(np.abs(mine - theirs)) < 1e-3
    with pytest.raises(UsageError, match="exported files run on the CPU, not on mps; leave device out"):
        ours.build_sam2("sam2.1_hiera_l.yaml", tmp_path, device=torch.device("mps"))
    with pytest.raises(UsageError, match=r"files of sam2\.1_hiera_large, not edgetam; ask for 'sam2\.1_hiera_large'"):
        ours.build_sam2("configs/edgetam.yaml", tmp_path)


@pytest.mark.parametrize("option", [{}, {"use_m2m": True}, {"multimask_output": False}, {"mask_threshold": 2.0}])
def test_everything_is_the_predictions_of_a_grid(model, predictor, image, option):
    thresholds = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.7, "box_nms_thresh": 1.0}
    records = ours.SAM2AutomaticMaskGenerator(model, points_per_side=2, **thresholds, **option).generate(image)
    threshold, expected = option.get("mask_threshold", 0.0), []
    for x, y in [(128, 100), (384, 100), (128, 300), (384, 300)]:
        click = {"point_coords": [[x, y]], "point_labels": [1], "return_logits": True}
        large, scores, low = predictor.predict(**click, multimask_output=option.get("multimask_output", True))
        if option.get("use_m2m"):
            finer = [predictor.predict(**click, mask_input=one, multimask_output=False) for one in low]
            large, scores = (np.concatenate([one[index] for one in finer]) for index in (0, 1))
        for logits, score in zip(large, scores, strict=True):
            inner, outer = (np.count_nonzero(logits > threshold + offset) for offset in (1, -1))
            if score > 0.5 and inner / max(1, outer) >= 0.7:
                expected.append((score, logits > threshold, [x, y]))
    expected.sort(key=lambda one: -one[0])
    assert len(records) == len(expected) >= 2
    for record, (score, mask, point) in zip(records, expected, strict=True):
        assert record["predicted_iou"] == pytest.approx(score, abs=1e-4) and record["point_coords"] == [point]
        assert record["segmentation"].dtype == bool and iou(record["segmentation"], mask) > 0.999


# ---------------------------------------------------------------------------------------------------- names and errors


def test_configurations_and_repositories_are_those_of_models_that_there_are(monkeypatch):
    assert {*CONFIGS.values(), *REPOSITORIES.values()} <= {*model_names()}
    asked = []
    monkeypatch.setattr(ours.sam2_models, "runner_for", lambda *one: asked.append(one) or SimpleNamespace(model=None))
    monkeypatch.setattr(ours.sam2_models, "SAM2Base", lambda runner, **_: SimpleNamespace(runner=runner, **MOVES))
    for config in ("configs/sam2.1/sam2.1_hiera_b+.yaml", "sam2_hiera_t", "C:\\configs\\edgetam.yaml", "edge_sam_3x"):
        ours.build_sam2(config, "weights.pt", device="cpu")
    ours.build_sam2_hf("facebook/sam2.1-hiera-base-plus", device="cpu", points_per_side=3)
    assert asked == [
        ("sam2.1_hiera_base_plus", "weights.pt"),
        ("sam2_hiera_tiny", "weights.pt"),
        ("edgetam", "weights.pt"),
        ("edge_sam_3x", "weights.pt"),
        ("sam2.1_hiera_base_plus", None),
    ]


MOVES = {"to": lambda device: None}


@pytest.mark.parametrize(
    ("call", "error", "line"),
    [
        (lambda: ours.build_sam2("sam2.1_hiera_x.yaml"), UsageError, "'sam2.1_hiera_x.yaml' is not known; .*hiera_b"),
        (lambda: ours.build_sam2("edge_sam_tiny", mode="train"), UsageError, "'train'; choose eval, training stays"),
        (
            lambda: ours.build_sam2("edge_sam_tiny", hydra_overrides_extra=["++model.image_size=512"]),
            UsageError,
            r"holds '\+\+model.image_size=512'; a configuration is used as it is",
        ),
        (lambda: ours.build_sam2("edgetam", "/no.pt", device="meat"), RunnerUnavailableError, "device 'meat'"),
        (lambda: ours.build_sam2("edgetam", "/no/such/file.pt"), CheckpointError, "/no/such/file.pt"),
        (lambda: ours.SAM2ImagePredictor.from_pretrained("facebook/sam"), UsageError, "'facebook/sam' is not known"),
        (lambda: ours.build_sam2_video_predictor("sam2.1_hiera_t.yaml"), UsageError, "video needs the sam2 package"),
    ],
)
def test_models_that_cannot_be_are_named(call, error, line):
    with pytest.raises(error, match=line):
        call()


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ({}, "no prompt: give at least one point, a box or a mask"),
        ({"point_coords": [[1, 2]]}, "1 points but 0 labels"),
        ({"point_coords": [1, 2], "point_labels": [1]}, r"point_coords has shape \(2,\); give \(N, 2\) or \(B, N, 2\)"),
        ({"box": [1, 2, 3]}, r"box has shape \(3,\); give \(4,\) or \(B, 4\)"),
        ({"box": BOXES, **CLICK}, "point_coords is of 1 prompts, boxes of 2; give one for each prompt"),
        ({"box": BOXES, "mask_input": np.zeros((3, 1, 256, 256)) - 1}, "boxes is of 2 prompts, mask_input of 3"),
        ({"box": BOX, "mask_input": np.zeros((3, 256, 256))}, "has shape .*; give the logits of an earlier"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(predictor, prompt, line):
    with pytest.raises(UsageError, match=line):
        predictor.predict(**prompt)


def test_images_and_batches_that_cannot_be_are_named(model, predictor):
    empty = ours.SAM2ImagePredictor(model)
    for call in (lambda: empty.predict(box=BOX), empty.get_image_embedding):
        with pytest.raises(UsageError, match="no image yet; call set_image first"):
            call()
    with pytest.raises(UsageError, match="image_list holds no images"):
        empty.set_image_batch([])
    with pytest.raises(UsageError, match="call set_image_batch first"):
        predictor.predict_batch(box_batch=[BOX])
    batch = ours.SAM2ImagePredictor(model)
    batch.images, batch.is_batch = predictor.images * 2, True
    with pytest.raises(UsageError, match="box_batch is of 1 images, but 2 are set; give one for each"):
        batch.predict_batch(box_batch=[BOX])
    with pytest.raises(UsageError, match=r"image 1: box has shape \(3,\)"):
        batch.predict_batch(box_batch=[BOX, BOX[:3]])
    with pytest.raises(AttributeError, match="this SAM2Base has no 'sam_mask_decoder'; it is for SAM2ImagePredictor"):
        _ = predictor.model.sam_mask_decoder
    with pytest.warns(EdgeSAMExportWarning, match="max_hole_area is 8, but masks are left as they are"):
        ours.SAM2ImagePredictor(predictor.model, max_hole_area=8)
    with pytest.raises(UsageError, match="mask_threshold is nan; give a finite number"):
        ours.SAM2AutomaticMaskGenerator(predictor.model, mask_threshold=float("nan"))


PROGRAM = """
import sam2
import sam2.build_sam
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.build_sam import build_sam2, build_sam2_hf, build_sam2_video_predictor, build_sam2_video_predictor_hf
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor
"""


def test_programs_that_import_sam2_get_these_names(monkeypatch):
    def imported() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "sam2"]

    for name in imported():
        monkeypatch.delitem(sys.modules, name)
    space: dict[str, Any] = {}
    try:
        for _ in range(2):
            ours.replace_sam2()
        exec(PROGRAM, space)
        sys.modules["sam2"] = ModuleType("sam2")
        with pytest.raises(UsageError, match="sam2 is imported already; call replace_sam2 before"):
            ours.replace_sam2()
    finally:
        for name in imported():
            del sys.modules[name]
    assert space["SAM2ImagePredictor"] is ours.SAM2ImagePredictor and space["build_sam2"] is ours.build_sam2
    assert space["sam2"].build_sam.build_sam2 is ours.build_sam2
