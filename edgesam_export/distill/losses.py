"""Losses of the student: embeddings, masks and predicted IoU.

Source: Zhou et al. 2023 (EdgeSAM), https://arxiv.org/abs/2312.06660, sections 3.2 and 3.3; Milletari et al. 2016
(V-Net), https://arxiv.org/abs/1606.04797, for the Dice loss.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "binary_cross_entropy",
    "channel_loss",
    "correlation_loss",
    "dice_loss",
    "embedding_loss",
    "mask_iou",
    "mask_terms",
]

CORRELATED_CELLS = 256
"""Cells of a side-by-side comparison; all 4096 would need 16 million similarities for each image."""


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two embeddings of one shape."""
    return F.mse_loss(student, teacher)


def channel_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Kullback-Leibler divergence of each channel's softmax over the cells: where a channel looks, not how loudly.

    Shapes:
        (B, C, H, W) both; returns one number
    Source: Shu et al. 2021, "Channel-wise Knowledge Distillation for Dense Prediction",
    https://arxiv.org/abs/2011.13256
    """
    log_student = F.log_softmax(student.flatten(2) / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.flatten(2) / temperature, dim=-1)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
    return divergence.mean() * temperature**2


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosine similarities between cells, after pooling to at most 16 x 16 cells.

    Shapes:
        (B, C, H, W) both; returns one number
    """
    side = round(CORRELATED_CELLS**0.5)
    maps = []
    for value in (student, teacher):
        pooled = F.adaptive_avg_pool2d(value, (min(side, value.shape[-2]), min(side, value.shape[-1])))
        unit = F.normalize(pooled.flatten(2), dim=1)
        maps.append(unit.transpose(1, 2) @ unit)
    first, second = maps
    return F.mse_loss(first, second)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the pixels of each mask: (..., H, W) -> (...)."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus twice the overlap over the sum of both areas: (..., H, W) -> (...)."""
    share = torch.sigmoid(logits)
    overlap = (share * target).sum(dim=(-2, -1))
    return 1 - (2 * overlap + 1) / (share.sum(dim=(-2, -1)) + target.sum(dim=(-2, -1)) + 1)


def mask_terms(logits: Tensor, right: Tensor, coverage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cross entropy, Dice loss and IoU of every mask, (..., H, W) -> (...); ``right`` bool, ``coverage`` 0..1.

    One function, because compiled as one it reads the logits once.
    """
    iou = mask_iou(logits.detach(), right)
    return binary_cross_entropy(logits, coverage), dice_loss(logits, coverage), iou


def mask_iou(logits: Tensor, expected: Tensor) -> Tensor:
    """Intersection over union of ``logits > 0`` and a boolean mask, (..., H, W) -> (...); two empty masks have 1."""
    mask = logits > 0
    union = (mask | expected).sum(dim=(-2, -1))
    return torch.where(union == 0, 1.0, (mask & expected).sum(dim=(-2, -1)) / union.clamp(min=1))
