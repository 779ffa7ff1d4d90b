"""The predictor: one embedding for each image, prompts in source pixels, masks at source size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from edgesam_export.errors import EdgeSAMExportWarning, UsageError
from edgesam_export.predict.predictor import Predictor
from edgesam_export.runners import Decoded, Runner
from edgesam_export.spec import ModelInfo


@dataclass
class FakeRunner(Runner):
    """Embeds nothing, decodes to constant masks, and remembers what it was given."""

    slots: int | None = 6
    accepts_mask_input: bool = False
    info: ModelInfo = field(default_factory=lambda: ModelInfo(name="fake", family="fake"))
    encoded: list = field(default_factory=list)
    decoded: list = field(default_factory=list)
    fails: bool = False

    def encode(self, prepared):
        if self.fails:
            raise UsageError("encoder failed")
        self.encoded.append(prepared)
        return {"image_embeddings": np.full((1, 256, 64, 64), len(self.encoded), np.float32)}

    def decode_all(self, embedding, point_coords, point_labels, mask_input=None):
        self.decoded.append((embedding, point_coords, point_labels, mask_input))
        logits = np.stack([np.full((256, 256), value, np.float32) for value in (-1, 1, 0)])
        return Decoded(logits[None], np.array([[0.2, 0.7, np.nan]], np.float32))


PICTURE = np.full((20, 30, 3), 77, np.uint8)


def test_predictor_returns_masks_at_source_size_and_the_best_one():
    runner = FakeRunner()
    masks = Predictor(runner=runner).set_image(PICTURE).predict(points=[(15, 10)], labels=[1])
    assert masks.masks.shape == (3, 20, 30) and masks.masks.dtype == bool
    assert [mask.mean() for mask in masks.masks] == [0, 1, 0]  # a logit of exactly 0 is outside
    assert masks.logits.shape == (3, 256, 256) and masks.scores.shape == (3,)
    assert masks.best_index == 1 and masks.best.all()
    _, coords, labels, mask = runner.decoded[0]
    np.testing.assert_allclose(coords[0, 0], [512, 10 * 683 / 20], rtol=1e-6)
    np.testing.assert_array_equal(labels, [[1, -1, -2, -2, -2, -2]])
    assert mask is None


def test_predictor_encodes_once_for_each_picture():
    runner = FakeRunner()
    predictor = Predictor(runner=runner).set_image(PICTURE)
    predictor.predict(box=(0, 0, 30, 20))
    predictor.predict(points=[(1, 1)])
    predictor.set_image(PICTURE).predict(points=[(1, 1)])
    assert len(runner.encoded) == 2
    assert [float(call[0]["image_embeddings"].flat[0]) for call in runner.decoded] == [1, 1, 2]


def test_predictor_takes_arrays_pillow_images_and_paths(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "grey.png")
    runner = FakeRunner()
    for image in (PICTURE, Image.fromarray(PICTURE), tmp_path / "grey.png", str(tmp_path / "grey.png")):
        Predictor(runner=runner).set_image(image)
    assert all((entry.pixels == runner.encoded[0].pixels).all() for entry in runner.encoded)


def test_predict_before_set_image_is_refused():
    with pytest.raises(UsageError, match="set_image"):
        Predictor(runner=FakeRunner()).predict(points=[(1, 1)])


@pytest.mark.parametrize("bad", ["picture", "encoder"])
def test_a_picture_that_fails_does_not_leave_the_one_before_it(bad):
    runner = FakeRunner()
    predictor = Predictor(runner=runner).set_image(PICTURE)
    runner.fails = bad == "encoder"
    with pytest.raises(UsageError):
        predictor.set_image(PICTURE[..., :2] if bad == "picture" else PICTURE)
    with pytest.raises(UsageError, match="set_image"):
        predictor.predict(points=[(1, 1)])


@pytest.mark.parametrize("shape", [(256, 256), (1, 256, 256), (1, 1, 256, 256)])
def test_mask_prompt_reaches_the_decoder(shape):
    runner = FakeRunner(accepts_mask_input=True)
    Predictor(runner=runner).set_image(PICTURE).predict(mask_input=np.full(shape, -3.0))
    _, _, labels, mask = runner.decoded[0]
    assert mask.shape == (1, 1, 256, 256) and mask.dtype == np.float32 and (mask == -3).all()
    np.testing.assert_array_equal(labels, [[-1, -2, -2, -2, -2, -2]])


@pytest.mark.parametrize(
    "accepts, mask, said",
    [
        (False, np.zeros((256, 256)), "--mask-input"),
        (True, np.zeros((4, 256, 256)), r"\(4, 256, 256\).*one of them, logits\[best_index\]"),
        (True, np.zeros((512, 512)), r"\(512, 512\).*256x256 values"),
        (True, np.full((256, 256), np.nan), "NaN"),
        (True, "mask.png", "not numbers"),
    ],
)
def test_bad_mask_prompt_is_refused(accepts, mask, said):
    predictor = Predictor(runner=FakeRunner(accepts_mask_input=accepts)).set_image(PICTURE)
    with pytest.raises(UsageError, match=said):
        predictor.predict(points=[(1, 1)], mask_input=mask)


@pytest.mark.parametrize("top", [1, 255])
def test_a_mask_of_zeros_and_ones_in_place_of_logits_is_warned_of(top):
    mask = np.zeros((256, 256), np.uint8)
    mask[100:150] = top
    predictor = Predictor(runner=FakeRunner(accepts_mask_input=True)).set_image(PICTURE)
    with pytest.warns(EdgeSAMExportWarning, match=f"values from 0 to {top}, none negative; it is read as logits"):
        predictor.predict(mask_input=mask)


@pytest.mark.parametrize("prompt", [{"points": [(0.5, 0.25)]}, {"box": (0.1, 0.1, 0.9, 0.8)}, {"box": (0, 0, 1, 1)}])
def test_shares_of_the_sides_in_place_of_pixels_are_warned_of(prompt):
    predictor = Predictor(runner=FakeRunner()).set_image(PICTURE)
    with pytest.warns(EdgeSAMExportWarning, match="all within one pixel of the image of 30x20; coordinates are pixels"):
        predictor.predict(**prompt)


def test_several_boxes_are_refused_with_the_way_out():
    predictor = Predictor(runner=FakeRunner()).set_image(PICTURE)
    with pytest.raises(UsageError, match="2 boxes; a prompt has one; give each to predict_many"):
        predictor.predict(box=[(1, 1, 9, 9), (2, 2, 8, 8)])
    predictor.predict(box=[(1, 1, 9, 9)])


def test_a_corner_with_width_and_height_is_named():
    predictor = Predictor(runner=FakeRunner()).set_image(PICTURE)
    with pytest.raises(UsageError, match="not a corner with width and height"):
        predictor.predict(box=(20, 12, 5, 5))


def test_predictor_reads_grey_and_other_types_as_the_same_image():
    runner = FakeRunner()
    image = PICTURE.copy()
    image[5] = 255
    for array in (image, image[..., 0], image / np.float32(255), image.astype(np.uint16) * 257):
        Predictor(runner=runner).set_image(array)
    assert all((entry.pixels == runner.encoded[0].pixels).all() for entry in runner.encoded)
