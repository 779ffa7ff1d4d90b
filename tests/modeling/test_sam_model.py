"""SamModel.decode: prompts it accepts, prompts it refuses, and what an empty slot means."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from edgesam_export.errors import UsageError
from edgesam_export.families import load_model
from edgesam_export.modeling.sam import SamModel

# Float32 noise of logits, see tests/goldens/README.md.
NOISE = 1e-4


@pytest.fixture(scope="module")
def model() -> SamModel:
    return load_model("edge_sam", random_weights=5)


@pytest.fixture(scope="module")
def embedding() -> torch.Tensor:
    return torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1))


def prompt(*points: tuple[float, float, int]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.tensor(points, dtype=torch.float32).reshape(1, -1, 3)
    return rows[..., :2], rows[..., 2]


def assert_same(first, second, tolerance: float = 0.0) -> None:
    for a, b in zip(first, second):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance


def test_model_is_in_evaluation_mode_and_needs_no_gradients(model, embedding):
    assert not any(module.training for module in model.modules())
    logits, iou = model.decode(embedding, *prompt((10, 20, 1)))
    assert not logits.requires_grad and not iou.requires_grad
    assert (logits.shape, iou.shape) == ((1, 4, 256, 256), (1, 4))


def test_empty_slots_are_as_if_they_were_not_passed(model, embedding):
    without = model.decode(embedding, *prompt((10, 20, 1), (300, 40, 0), (0, 0, -1)))
    slotted = prompt((10, 20, 1), (7, 7, -2), (300, 40, 0), (0, 0, -1), (math.nan, 0, -2))
    assert_same(model.decode(embedding, *slotted), without)


def test_padding_point_does_take_part(model, embedding):
    without, _ = model.decode(embedding, *prompt((10, 20, 1)))
    padded, _ = model.decode(embedding, *prompt((10, 20, 1), (0, 0, -1)))
    assert (without - padded).abs().max() > 0.01


def test_prompts_of_unequal_length_in_one_batch_equal_each_alone(model, embedding):
    short, long = prompt((10, 20, 1)), prompt((500, 600, 2), (900, 1000, 3), (700, 700, 0))
    filled = prompt((10, 20, 1), (math.nan, 5, -2), (1, 1, -2))
    coords, labels = (torch.cat(pair) for pair in zip(filled, long))
    logits, iou = model.decode(embedding, coords, labels)
    for row, alone in enumerate((short, long)):
        assert_same((logits[row : row + 1], iou[row : row + 1]), model.decode(embedding, *alone), NOISE)


@pytest.mark.parametrize("label", [-3, 4, 0.5, math.nan])
def test_unknown_label_is_refused_by_value(model, embedding, label):
    with pytest.raises(UsageError, match=f"point_labels holds {label:g}"):
        model.decode(embedding, *prompt((10, 20, 1), (1, 2, label)))


@pytest.mark.parametrize("points", [(), ((0, 0, -2), (0, 0, -2))])
def test_prompt_without_a_point_needs_a_mask(model, embedding, points):
    with pytest.raises(UsageError, match="neither a point nor a mask"):
        model.decode(embedding, *prompt(*points))
    mask = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(2))
    logits, _ = model.decode(embedding, *prompt(*points), mask)
    assert torch.isfinite(logits).all()


def test_mask_prompt_changes_the_answer(model, embedding):
    points = prompt((10, 20, 1))
    logits, _ = model.decode(embedding, *points)
    again, _ = model.decode(embedding, *points, logits[:, :1])
    assert (again - logits).abs().max() > 0.01


@pytest.mark.parametrize(
    ("coords", "labels", "mask", "message"),
    [
        ((1, 2), (1, 2), None, "point_coords"),
        ((1, 2, 2), (1, 3), None, "point_coords"),
        ((2, 1, 2), (2, 1), (1, 1, 256, 256), "mask_input"),
        ((1, 1, 2), (1, 1), (1, 256, 256), "mask_input"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(model, embedding, coords, labels, mask, message):
    mask_input = None if mask is None else torch.zeros(mask)
    with pytest.raises(UsageError, match=message):
        model.decode(embedding, torch.zeros(coords), torch.ones(labels), mask_input)


def test_embeddings_of_another_batch_are_refused(model, embedding):
    with pytest.raises(UsageError, match="3 image embeddings"):
        model.decode(embedding.expand(3, -1, -1, -1), torch.zeros(2, 1, 2), torch.ones(2, 1))


def test_inputs_are_left_as_they_were(model, embedding):
    coords, labels = prompt((10, 20, 1), (3, 4, -2))
    given = [tensor.clone() for tensor in (embedding, coords, labels)]
    model.decode(embedding, coords, labels)
    assert all(torch.equal(a, b) for a, b in zip(given, (embedding, coords, labels)))


def test_deep_copy_computes_the_same_and_shares_nothing(model, embedding):
    twin = copy.deepcopy(model)
    points = prompt((10, 20, 1))
    expected = model.decode(embedding, *points)
    assert_same(twin.decode(embedding, *points), expected)
    assert (twin.info, twin.provenance) == (model.info, model.provenance)
    twin.mask_decoder.mask_tokens.weight.zero_()
    assert_same(model.decode(embedding, *points), expected)
