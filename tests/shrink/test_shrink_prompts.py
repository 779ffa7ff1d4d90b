"""Prompts that are made of masks, and of images without any."""

from __future__ import annotations

import numpy as np
import pytest

from edgesam_export.families import load_model, model_info
from edgesam_export.imaging.masks import bounding_box, iou
from edgesam_export.predict.predictor import Predictor
from edgesam_export.shrink.images import BundledImage, bundled_images, split_images
from edgesam_export.shrink.prompts import inner_point, make_case, objects_of, prompt_of, trained_kinds

RING = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 1, 0, 0, 1, 1, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    bool,
)


def test_the_inner_point_is_the_deepest_along_its_row_and_its_column():
    x, y = inner_point(RING)
    assert RING[y, x]
    solid = np.zeros((7, 9), bool)
    solid[1:6, 2:9] = True  # touches the right edge of the image, which is a border too
    assert inner_point(solid) == (4, 3)  # three pixels from every border; the first of those that are


@pytest.mark.parametrize("kind", ["point", "points", "box+point", "mask"])
def test_points_lie_in_the_object_and_negative_ones_outside_it(kind):
    rng = np.random.default_rng(0)
    for _ in range(20):
        prompt = prompt_of(kind, RING, (1, 1, 6, 5), rng)
        assert len(prompt["points"]) == (3 if kind == "points" else 1)
        assert all(RING[y, x] == bool(label) for (x, y), label in zip(prompt["points"], prompt["labels"]))
        assert ("box" in prompt) == (kind == "box+point")


def test_a_box_needs_no_mask_and_points_do():
    rng = np.random.default_rng(0)
    assert prompt_of("box", None, (0, 0, 4, 4), rng) == {"box": (0, 0, 4, 4)}
    assert prompt_of("point", None, (0, 0, 4, 4), rng) is None


def test_the_kinds_are_those_of_the_training_that_the_export_takes():
    assert trained_kinds(model_info("lite_medsam"), mask_input=True) == ("box",)
    kinds = trained_kinds(model_info("edge_sam_tiny"), mask_input=False)
    assert kinds == ("point", "points", "box", "box+point")
    assert trained_kinds(model_info("edge_sam_tiny"), mask_input=True) == (*kinds, "mask")


def test_for_a_model_of_boxes_alone_boxes_are_drawn_where_there_are_no_masks():
    image = BundledImage(name="grey", image=np.zeros((40, 60, 3), np.uint8), masks=np.zeros((0, 40, 60), bool))
    found = list(objects_of(image, None, ("box",), np.random.default_rng(1)))
    assert found and all(mask is None and not true for mask, _, true in found)
    for _, (x0, y0, x1, y1), _ in found:
        assert 0 <= x0 < x1 <= 60 and 0 <= y0 < y1 <= 40 and 12 <= x1 - x0 <= 42


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(load_model("edge_sam_tiny"))


def test_a_case_holds_what_the_predictor_shows(predictor):
    pixels = np.full((200, 260, 3), 90, np.uint8)
    pixels[60:150, 80:190] = 220
    image = BundledImage(name="square", image=pixels, masks=(pixels[..., 0] > 100)[None])
    case = make_case(image, predictor, ("point", "box", "mask"), 3)
    predictor.set_image(pixels)
    assert [asked.kind for asked in case.asked] == ["point", "box", "mask"]
    for asked in case.asked:
        assert asked.mask.shape == pixels.shape[:2] and np.array_equal(asked.truth, image.masks[0])
        assert (asked.packed.mask is not None) == (asked.kind == "mask")
        if asked.kind == "box":
            shown = predictor.predict(box=bounding_box(image.masks[0]))
            assert np.array_equal(asked.mask, shown.masks[0]) and iou(asked.mask, asked.truth) > 0.9


def test_bundled_images_are_the_same_every_time_and_held_out_ones_come_from_other_files():
    info = model_info("edge_sam_tiny")
    first, second = bundled_images(info, 3), bundled_images(info, 3)
    assert all(np.array_equal(one.image, other.image) for one, other in zip(first[0], second[0]))
    names = [{image.name.split()[0] for image in images} for images in first]
    assert not names[0] & names[1]


def test_a_medical_model_gets_drawn_phantoms_with_their_masks():
    search, held_out = bundled_images(model_info("lite_medsam"), 2)
    for image in (*search, *held_out):
        assert image.masks.shape[1:] == image.image.shape[:2] and 2 <= len(image.masks) <= 4
        assert not (image.masks.sum(axis=0) > 1).any()
    assert len({image.image.tobytes() for image in (*search, *held_out)}) == 4


def test_every_other_image_is_held_out():
    assert split_images(list("abcdefg"), 3) == (["a", "c", "e"], ["b", "d", "f"])
    with pytest.raises(Exception, match="3 images: half of them are held out, give at least 4"):
        split_images(list("abc"), 3)
