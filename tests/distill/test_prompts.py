"""Prompts of a training step."""

from __future__ import annotations

import pytest
import torch

from edgesam_export.distill.prompts import box_corners, disagreement_points, initial_prompts, random_pixels
from edgesam_export.modeling.prompt_encoder import PromptEncoder

SIDE, FRAME = 64, 1024


def generator(seed: int = 0) -> torch.Generator:
    made = torch.Generator()
    made.manual_seed(seed)
    return made


def rectangle(left: int, top: int, right: int, bottom: int) -> torch.Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def pixels_of(coords: torch.Tensor) -> torch.Tensor:
    """Prompt frame back to pixels of the mask."""
    return torch.floor((coords + 0.5) * SIDE / FRAME).long()


def test_random_pixels_lie_in_the_region_and_reach_all_of_it():
    region = torch.zeros(1, 8, 8, dtype=torch.bool)
    region[0, 2, 5] = region[0, 6, 1] = region[0, 7, 7] = True
    drawn = random_pixels(region.expand(300, 8, 8), generator()).long()
    counts = {tuple(pixel): int((drawn == torch.tensor(pixel)).all(1).sum()) for pixel in ((5, 2), (1, 6), (7, 7))}
    assert sum(counts.values()) == 300
    assert all(60 < count < 140 for count in counts.values())  # 100 each; 5 standard deviations are 41


def test_box_corners_are_the_outermost_pixels():
    masks = torch.stack([rectangle(3, 10, 20, 40), rectangle(0, 63, 63, 63), torch.zeros(SIDE, SIDE).bool()])
    assert box_corners(masks).long().tolist() == [[[3, 10], [20, 40]], [[0, 63], [63, 63]], [[0, 0], [63, 63]]]


def test_first_prompts_are_boxes_and_points_with_equal_odds():
    masks = rectangle(10, 20, 40, 50).expand(400, SIDE, SIDE)
    coords, labels = initial_prompts(masks, FRAME, generator(), 0.1)
    boxes = (labels == torch.tensor([2, 3])).all(1)
    points = (labels == torch.tensor([1, -1])).all(1)
    assert bool((boxes | points).all()) and 150 < int(boxes.sum()) < 250
    x, y = pixels_of(coords[points][:, 0]).unbind(1)
    assert bool(masks[0][y, x].all())
    exact = torch.tensor([[10.5, 20.5], [40.5, 50.5]]) * FRAME / SIDE - 0.5
    off = (coords[boxes] - exact).abs()
    assert float(off.max()) <= 20.0 and float(off.mean()) > 5.0  # jittered, never by more than the limit
    coords, again = initial_prompts(masks, FRAME, generator(), box_noise=0.0)
    assert torch.equal(again, labels) and torch.allclose(coords[boxes], exact.expand(int(boxes.sum()), 2, 2))


def test_a_point_keeps_the_centre_of_its_pixel():
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[0, 30, 12] = True
    for seed in range(20):
        coords, labels = initial_prompts(mask, FRAME, generator(seed), 0.1)
        if labels[0, 0] == 1:
            assert coords[0, 0].tolist() == [12.5 * 16 - 0.5, 30.5 * 16 - 0.5]
            return
    pytest.fail("20 seeds and not one point")


@pytest.mark.parametrize(
    ("predicted", "label", "where"),
    [
        (rectangle(10, 10, 20, 30), 1, rectangle(21, 10, 30, 30)),  # too small: missed on the right
        (rectangle(10, 10, 50, 30), 0, rectangle(31, 10, 50, 30)),  # too large: negative outside
        (rectangle(10, 10, 30, 30), 1, rectangle(10, 10, 30, 30)),  # right: a point of the mask
    ],
)
def test_new_points_lie_where_masks_disagree(predicted, label, where):
    wanted = rectangle(10, 10, 30, 30)
    coords, labels = disagreement_points(
        predicted.expand(50, SIDE, SIDE), wanted.expand(50, SIDE, SIDE), 2, FRAME, generator()
    )
    assert coords.shape == (50, 2, 2) and labels.tolist() == [[label, label]] * 50
    x, y = pixels_of(coords).flatten(0, 1).unbind(1)
    assert bool(where[y, x].all())


def test_prompts_depend_on_the_generator_alone():
    masks = torch.stack([rectangle(1, 1, 30, 30), rectangle(20, 5, 60, 50)])
    first, again, other = (initial_prompts(masks, FRAME, generator(seed), 0.1)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_mixed_precision_leaves_coordinates_alone():
    """BF16 has 8 bits: rounded coordinates would be off by up to 2 pixels of 1024, angles by a tenth of a turn."""
    encoder = PromptEncoder(16)
    coords, labels = torch.tensor([[[1001.0, 3.0]]]), torch.tensor([[1]])
    exact = encoder.encode_points(coords, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(encoder.encode_points(coords, labels), exact)
        assert torch.equal(encoder.dense_pe(), encoder.dense_pe().float())
