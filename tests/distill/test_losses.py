"""Losses, against numbers from their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from edgesam_export.distill import losses


def test_cross_entropy_of_each_mask():
    logits = torch.tensor([[[0.0, 2.0]], [[-1.0, 3.0]]])
    target = torch.tensor([[[1.0, 0.25]], [[0.0, 1.0]]])

    def entropy(x: float, t: float) -> float:
        p = 1 / (1 + math.exp(-x))
        return -t * math.log(p) - (1 - t) * math.log(1 - p)

    expected = [(entropy(0, 1) + entropy(2, 0.25)) / 2, (entropy(-1, 0) + entropy(3, 1)) / 2]
    assert losses.binary_cross_entropy(logits, target).tolist() == pytest.approx(expected, rel=1e-6)


def test_dice_is_0_for_the_right_mask_and_near_1_for_the_wrong_one():
    target = torch.zeros(1, 8, 8)
    target[0, :4] = 1
    sure = (target * 2 - 1) * 50
    assert float(losses.dice_loss(sure, target)) == pytest.approx(0, abs=1e-6)
    assert float(losses.dice_loss(-sure, target)) == pytest.approx(1 - 1 / 65, abs=1e-6)  # no overlap, areas 32 + 32
    undecided = float(losses.dice_loss(torch.zeros(1, 8, 8), target))
    assert undecided == pytest.approx(1 - (2 * 16 + 1) / (32 + 32 + 1), rel=1e-6)


def test_iou_counts_pixels():
    logits = torch.tensor([[[1.0, 1.0, -1.0, -1.0]], [[-1.0, -1.0, -1.0, -1.0]]])
    wanted = torch.tensor([[[True, False, True, False]], [[False, False, False, False]]])
    assert losses.mask_iou(logits, wanted).tolist() == pytest.approx([1 / 3, 1.0])


@pytest.mark.parametrize("loss", [losses.embedding_loss, losses.channel_loss, losses.correlation_loss])
def test_embedding_losses_are_0_only_for_equal_embeddings(loss):
    torch.manual_seed(0)
    one, other = torch.randn(2, 8, 16, 16), torch.randn(2, 8, 16, 16)
    assert float(loss(one, one)) == pytest.approx(0, abs=1e-6)
    assert float(loss(one, other)) > 1e-3


def test_channel_and_correlation_terms_do_not_see_what_they_should_not():
    torch.manual_seed(0)
    one = torch.randn(1, 8, 16, 16)
    # A softmax over cells does not see a shift of the channel, a cosine not the length of a cell's vector.
    assert float(losses.channel_loss(one + 3, one)) == pytest.approx(0, abs=1e-5)
    assert float(losses.correlation_loss(one * 5, one)) == pytest.approx(0, abs=1e-6)


def test_channel_term_is_the_divergence_by_hand():
    student, teacher = torch.tensor([0.0, 4.0]), torch.tensor([0.0, 0.0])  # temperature 4: softmax of (0, 1), (0, 0)
    p = torch.tensor([0.5, 0.5])
    q = torch.softmax(torch.tensor([0.0, 1.0]), 0)
    expected = 16 * float((p * (p / q).log()).sum())
    found = losses.channel_loss(student.reshape(1, 1, 1, 2), teacher.reshape(1, 1, 1, 2))
    assert float(found) == pytest.approx(expected)
