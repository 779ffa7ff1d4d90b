"""Profile default: the ONNX decoder against PyTorch, with fixed and free slots and every option."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgesam_export.modeling.common import stability_score
from edgesam_export.profiles import find_profile
from edgesam_export.spec import OnnxConfig

RELATIVE = 1e-4
"""Largest difference of FP32 logits, relative to the largest: sums run in another order after the rewrites."""
STABILITY = 2e-4
SLOTS = 16
TOKENS = {4: slice(0, 4), 3: slice(1, 4), 1: slice(0, 1)}


def prompt(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(count)
    labels = torch.randint(-1, 4, (1, count), generator=random).float()
    return torch.rand(1, count, 2, generator=random) * 1023, labels


def scattered(coords: torch.Tensor, labels: torch.Tensor, slots: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same prompt in ``slots`` slots, empty ones (label -2, coordinates of anything) in between."""
    count = labels.shape[1]
    places = torch.randperm(slots, generator=torch.Generator().manual_seed(count))[:count].sort().values
    wide, kinds = torch.full((1, slots, 2), 555.5), torch.full((1, slots), -2.0)
    wide[:, places], kinds[:, places] = coords, labels
    return wide, kinds


def relative(actual: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.abs(actual - expected.numpy()).max() / expected.abs().max())


@pytest.fixture(scope="module")
def fixed(export):
    return export("decoder", points=SLOTS)


@pytest.fixture(scope="module")
def free(export):
    return export("decoder", mask_input=True, candidates=3, score="iou")


@pytest.mark.parametrize("count", range(1, SLOTS + 1))
def test_empty_slots_take_no_part_wherever_they_are(fixed, model, embeddings, count):
    coords, labels = prompt(count)
    logits, _ = model.decode(embeddings, coords, labels)
    wide, kinds = scattered(coords, labels, SLOTS)
    masks, scores = fixed(image_embeddings=embeddings, point_coords=wide, point_labels=kinds)
    assert relative(masks, logits) < RELATIVE
    assert np.abs(scores - stability_score(logits).numpy()).max() < STABILITY


def test_coordinates_of_empty_slots_change_no_bit(fixed, embeddings):
    wide, kinds = scattered(*prompt(3), SLOTS)
    moved = torch.where(kinds[..., None] == -2, torch.tensor(12.25), wide)
    feed = {"image_embeddings": embeddings, "point_labels": kinds}
    for one, other in zip(fixed(point_coords=wide, **feed), fixed(point_coords=moved, **feed)):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(("count", "flag"), [(1, 1.0), (6, 1.0), (2, 0.0)])
def test_three_candidates_with_mask_prompt_and_iou(free, model, embeddings, count, flag):
    coords, labels = prompt(count)
    mask = 4 * torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(3))
    logits, iou = model.decode(embeddings, coords, labels, mask if flag else None)
    masks, scores = free(
        image_embeddings=embeddings,
        point_coords=coords,
        point_labels=labels,
        mask_input=mask,
        has_mask_input=np.array([flag], np.float32),
    )
    assert masks.shape == (1, 3, 256, 256)
    assert relative(masks, logits[:, TOKENS[3]]) < RELATIVE
    assert np.abs(scores - iou[:, TOKENS[3]].numpy()).max() < 1e-4


@pytest.mark.parametrize(("candidates", "score"), [(1, "iou"), (1, "stability"), (3, "stability"), (4, "iou")])
def test_candidates_and_score_choose_what_is_returned(rewritten, model, embeddings, candidates, score):

    config = OnnxConfig(candidates=candidates, score=score, points=4)
    component = find_profile("default").decoder(rewritten, config)
    coords, labels = prompt(3)
    logits, iou = model.decode(embeddings, coords, labels)
    masks, scores = component.module(embeddings, *scattered(coords, labels, 4))
    expected = iou if score == "iou" else stability_score(logits)
    assert relative(masks.numpy(), logits[:, TOKENS[candidates]]) < RELATIVE
    assert relative(scores.numpy(), expected[:, TOKENS[candidates]]) < STABILITY
    assert component.details["candidates"] == list(range(4))[TOKENS[candidates]]
    assert component.details["score"] == score


def test_contract_says_what_the_files_do(fixed, free):
    facts = ("slots", "candidates", "score", "mask_threshold", "mask_input")
    assert [fixed.contract[fact] for fact in facts] == [SLOTS, [0, 1, 2, 3], "stability", 0.0, False]
    assert [free.contract[fact] for fact in facts] == [None, [1, 2, 3], "iou", 0.0, True]


@pytest.mark.parametrize("mask_input", [False, True])
def test_fp16_stays_within_its_gates(export, model, embeddings, mask_input):
    half = export("decoder", precision="fp16", points=8, score="iou", mask_input=mask_input)
    kinds_of = {name: kind for name, kind, _ in (*half.inputs, *half.outputs)}
    assert kinds_of["image_embeddings"] == kinds_of["masks"] == "tensor(float16)"
    assert kinds_of["point_coords"] == kinds_of["point_labels"] == kinds_of["scores"] == "tensor(float)"
    coords, labels = prompt(5)
    mask = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(3)) if mask_input else None
    extra = {"mask_input": mask.half(), "has_mask_input": np.ones(1, np.float32)} if mask_input else {}
    logits, iou = model.decode(embeddings, coords, labels, mask)
    wide, kinds = scattered(coords, labels, 8)
    masks, scores = half(image_embeddings=embeddings.half(), point_coords=wide, point_labels=kinds, **extra)
    # FP16 has 11 bits: 5e-4 per operation, a few of them in a row.
    assert relative(masks.astype(np.float32), logits) < 1e-2
    assert ((masks > 0) == (logits.numpy() > 0)).mean() > 0.998
    assert np.abs(scores - iou.numpy()).max() < 1e-2
