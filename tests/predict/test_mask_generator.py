"""All masks of an image: those of segment-anything's own generator with the same parameters; its parts by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from original_sam import best_first, one_frame_model, original, sam_of
from small_models import SMALL_MAPS, small_model

from edgesam_export.errors import EdgeSAMExportWarning, UsageError
from edgesam_export.formats import find_format
from edgesam_export.imaging import source_masks
from edgesam_export.imaging.masks import iou
from edgesam_export.imaging.reading import open_image
from edgesam_export.imaging.source_masks import source_strips
from edgesam_export.predict.crops import Crop, crops_of, is_cut_off, point_grid, suppressed
from edgesam_export.predict.mask_generator import GeneratorConfig, generate_masks
from edgesam_export.resources import SAMPLES
from edgesam_export.runners import Decoded, Runner, open_runner
from edgesam_export.runners.torch import TorchRunner
from edgesam_export.spec import ModelInfo, OnnxConfig

OPTIONS = {
    "points_per_side": 4,
    "crop_n_layers": 1,
    "crop_n_points_downscale_factor": 2,
    "pred_iou_thresh": 0.6,
    "stability_score_thresh": 0.8,
    "min_mask_region_area": 60,
}
"""Of every filter something passes and something does not."""


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Most of the bundled scene, wider than high."""
    return np.ascontiguousarray(open_image(SAMPLES / "scene.png")[:400])


@pytest.fixture(scope="module")
def model():
    return one_frame_model()


@pytest.fixture(scope="module")
def theirs(model, image) -> list[dict]:
    """What segment-anything 1.0 returns."""
    with original() as segment_anything:
        return segment_anything.SamAutomaticMaskGenerator(sam_of(model), **OPTIONS).generate(image)


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_frame")
    return find_format("onnx").export(model, folder, OnnxConfig(score="iou"))


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_the_masks_are_those_of_segment_anything(request, model, image, theirs, backend):
    runner = TorchRunner(model) if backend == "torch" else open_runner(request.getfixturevalue("files"))
    seen: list[tuple[int, int, str]] = []
    masks = generate_masks(runner, image, GeneratorConfig(**OPTIONS), lambda *step: seen.append(step))
    assert len(masks) == len(theirs) >= 10
    for mask, expected in zip(masks, theirs, strict=True):  # in the same order
        assert iou(mask.runs.mask(), expected["segmentation"]) > 0.9999
        assert mask.point == pytest.approx(tuple(expected["point_coords"][0]))
        assert mask.predicted_iou == pytest.approx(expected["predicted_iou"], abs=1e-4)
        assert mask.stability_score == pytest.approx(expected["stability_score"], abs=1e-4)
        x0, y0, x1, y1 = mask.crop_box
        assert [x0, y0, x1 - x0, y1 - y0] == expected["crop_box"]
    assert {mask.crop_box for mask in masks} > {(0, 0, 512, 400)}  # some of crops, some of the whole
    assert seen[0] == (0, 32, "encoding, crop 1 of 5") and seen[-1] == (32, 32, "masks, crop 5 of 5")


# ------------------------------------------------------------------------------------------------- without a network


class Discs(Runner):
    """Answers a point with discs of three radii around it; the score says which."""

    name = "discs"
    info = ModelInfo(name="discs", family="discs")

    def __init__(self, candidates=(0, 1, 2, 3), scores=(0.5, 0.95, 0.9, 0.5), slope=1.0) -> None:
        self.candidates, self.scores, self.slope = candidates, scores, slope
        self.encoded: list = []

    def encode(self, prepared):
        self.encoded.append(prepared)
        return {"image_embeddings": np.zeros((1, 256, 64, 64), np.float32)}

    def decode_all(self, embedding, point_coords, point_labels, mask_input=None):
        assert point_labels.tolist() == [[1, -1]]
        y, x = np.mgrid[0:256, 0:256] * 4 + 2
        distance = np.hypot(x - point_coords[0, 0, 0], y - point_coords[0, 0, 1])
        logits = np.stack([self.slope * (30 * token - distance) for token in self.candidates])
        return Decoded(logits[None].astype(np.float32), np.array([self.scores], np.float32))


PICTURE = np.zeros((300, 400, 3), np.uint8)
SOFT = {"stability_score_thresh": 0.5, "box_nms_thresh": 1.0}


def test_only_good_candidates_of_an_ambiguous_prompt_pass():
    masks = generate_masks(Discs(), PICTURE, GeneratorConfig(points_per_side=2, **SOFT))
    # radii 30 and 60 of 1024 in a picture of 400: token 0 and the worst are left out, the best come first
    areas = [mask.runs.area for mask in masks]
    assert len(masks) == 8 and areas[:4] == pytest.approx([np.pi * (30 / 2.56) ** 2] * 4, rel=0.03)
    assert areas[4:] == pytest.approx([np.pi * (60 / 2.56) ** 2] * 4, rel=0.03)
    assert [mask.point for mask in masks[:4]] == [(100, 75), (300, 75), (100, 225), (300, 225)]
    few = generate_masks(Discs(slope=0.05), PICTURE, GeneratorConfig(points_per_side=2, stability_score_thresh=0.5))
    assert not few  # the border moves by 20 pixels of 1024 with the threshold


def test_a_decoder_of_one_mask_is_used_with_a_warning():
    runner = Discs(candidates=(0,), scores=(0.9,))
    with pytest.warns(EdgeSAMExportWarning, match="discs: the decoder returns one mask for each point; --candidates"):
        masks = generate_masks(runner, PICTURE, GeneratorConfig(points_per_side=1, **SOFT))
    assert masks == []  # token 0 is a disc of no radius here: empty masks are no masks


def test_weights_that_know_no_points_are_named():
    runner = Discs()
    runner.info = ModelInfo(name="boxes", family="discs", trained_prompts=("box",))
    with pytest.warns(EdgeSAMExportWarning, match="weights of boxes were trained on prompts of kind box, not point"):
        generate_masks(runner, PICTURE, GeneratorConfig(points_per_side=1))


def test_scores_that_are_no_numbers_are_an_error_and_single_ones_are_left_out():
    nan = np.nan
    with pytest.raises(UsageError, match="discs: all scores are NaN; check the files"):
        generate_masks(Discs(scores=(nan,) * 4), PICTURE, GeneratorConfig(points_per_side=1))
    options = {**SOFT, "pred_iou_thresh": 0.0}
    masks = generate_masks(Discs(scores=(nan, nan, 0.0, nan)), PICTURE, GeneratorConfig(points_per_side=1, **options))
    assert [mask.predicted_iou for mask in masks] == [0.0]


def test_one_map_at_a_time_of_a_large_image(monkeypatch):
    """Sixteen megapixels, 3 masks: what exists at once is a strip, and runs."""
    image = np.broadcast_to(np.uint8(0), (4_000, 4_000, 3))
    largest = []

    def strips(*arguments, **options):
        for x, y, columns in source_strips(*arguments, **options):
            largest.append(columns.nbytes)
            yield x, y, columns

    monkeypatch.setattr(source_masks, "source_strips", strips)
    masks = generate_masks(Discs(scores=(0, 1, 1, 1)), image, GeneratorConfig(points_per_side=1, **SOFT))
    assert [mask.runs.bounds[2] - mask.runs.bounds[0] for mask in masks] == pytest.approx([234, 469, 703], abs=4)
    assert max(largest) < 16e6 and max(mask.runs.starts.nbytes for mask in masks) < 1e6


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"points_per_side": 0}, "points_per_side is 0: no point in layer 0"),
        ({"points_per_side": None}, "give either points_per_side or point_grids"),
        ({"point_grids": [point_grid(2)]}, "give either points_per_side or point_grids"),
        ({"points_per_side": 4, "crop_n_layers": 3, "crop_n_points_downscale_factor": 2}, "no point in layer 3"),
        ({"pred_iou_thresh": "0.9"}, "pred_iou_thresh is '0.9'; give a number"),
        ({"pred_iou_thresh": 1.5}, "pred_iou_thresh is 1.5; choose 0 to 1"),
        ({"stability_score_thresh": np.nan}, "stability_score_thresh is nan; choose 0 to 1"),
        ({"stability_score_offset": -1}, "stability_score_offset is -1; choose 0 or more"),
        ({"crop_n_layers": -1}, "crop_n_layers is -1; choose 0 or more"),
        ({"crop_overlap_ratio": 1}, "crop_overlap_ratio is 1; choose 0 to below 1"),
        ({"points_per_batch": 0}, "points_per_batch is 0; choose 1 or more"),
        ({"points_per_side": None, "point_grids": [point_grid(2)], "crop_n_layers": 1}, "1 point_grids for 1 layers"),
        ({"points_per_side": None, "point_grids": [np.ones((2, 3))]}, r"point_grids\[0\] has shape \(2, 3\)"),
        ({"points_per_side": None, "point_grids": [[[0.5, 1.5]]]}, r"points x, y from 0 to 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options, line):
    with pytest.raises(UsageError, match=line):
        GeneratorConfig(**options)


# ------------------------------------------------------------------------------------------------------ crops, boxes


def test_a_grid_is_the_centres_of_its_cells():
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_crops_overlap_and_cover_the_image():
    crops = crops_of((300, 500), 2, 512 / 1500)
    assert [crop.layer for crop in crops] == [0, *[1] * 4, *[2] * 16] and crops[0].box == (0, 0, 500, 300)
    # 102 pixels shared: (500 + 102) / 2 = 301 wide, (300 + 102) / 2 = 201 high
    assert [crop.box for crop in crops[1:5]] == [
        (0, 0, 301, 201),
        (0, 99, 301, 300),
        (199, 0, 500, 201),
        (199, 99, 500, 300),
    ]
    with pytest.raises(UsageError, match="image of 2x1 pixels is too small for 2 layers of crops; use fewer"):
        crops_of((1, 2), 2, 0.3)


def test_a_mask_is_cut_off_at_the_edge_of_a_crop_but_not_of_the_image():
    crop = Crop(box=(200, 0, 500, 200), layer=1)
    size = (400, 500)
    assert not is_cut_off((230, 5, 499, 150), crop, size)  # at two edges that are the image's
    assert is_cut_off((220, 50, 300, 150), crop, size) and not is_cut_off((221, 50, 300, 150), crop, size)
    assert is_cut_off((300, 50, 400, 180), crop, size) and not is_cut_off((300, 50, 400, 179), crop, size)


BOX = st.tuples(*[st.integers(0, 8)] * 4).map(lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[::2]), max(b[1::2])))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(BOX, st.integers(0, 3)), max_size=12), st.sampled_from([0, 0.3, 0.5, 1]))
def test_suppression_is_the_definition_pair_by_pair(found, threshold):
    boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in found], np.float32)
    expected = best_first(torch.from_numpy(boxes), torch.from_numpy(scores), torch.zeros(len(boxes)), threshold)
    assert suppressed(boxes, scores, threshold).tolist() == expected.tolist()


@pytest.mark.parametrize("masked", [False, True])
def test_prompts_decoded_at_once_are_those_decoded_one_by_one(masked):
    runner = TorchRunner(small_model(SMALL_MAPS))
    noise = np.random.default_rng(2)
    embedding = {
        name: noise.normal(size=shape).astype(np.float32)
        for name, shape in zip(runner.embedding_names, runner.info.embedding_shapes, strict=True)
    }
    coords, labels = noise.uniform(0, 1024, (3, 2, 2)).astype(np.float32), np.array([[1, -1]] * 3, np.float32)
    mask = noise.normal(size=(3, 1, 256, 256)).astype(np.float32) if masked else None
    together = runner.decode_many(embedding, coords, labels, mask)
    single = Runner.decode_many(runner, embedding, coords, labels, mask)
    assert together.masks.shape == (3, 4, 256, 256) and together.scores.shape == (3, 4)
    assert together.object_score.shape == (3, 1)
    for one, other in zip(together, single, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max()
    with pytest.raises(UsageError, match="no prompt: give at least one"):
        Runner.decode_many(runner, embedding, coords[:0], labels[:0])
