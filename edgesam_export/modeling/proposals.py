"""Region proposals for point prompts: a small detector on the image embedding, and the merging of its proposals.

A point does not tell the size of the meant object. EdgeSAM's "granularity prior" is a light region proposal network,
trained on boxes of one granularity with the encoder frozen; at inference the boxes near the point become a box prompt.

From the paper (Zhou, Li, Loy, Dai 2023, https://arxiv.org/abs/2312.06660) and its code: an EfficientDet-like head with
one class on frozen features; a pyramid of five levels, 64 channels and three repeats, three separable convolutions in
each branch, nine anchors of base scales 2^0, 2^(1/3), 2^(2/3) and ratios 1, 1/2, 2, the smallest 32 pixels wide; no
suppression of overlaps; of the boxes above a score of 0.1 that contain the point, the five with the nearest centres are
merged by confidence.

Choices of this project, since no weights were released: the pyramid starts from the image embedding (stride 16) rather
than from three stages of the backbone, so that encoder and decoder stay those of EdgeSAM; the five levels have strides
16 to 256 with anchors of the same 32 to 813 pixels. Every anchor is returned: a fixed shape without a sort, which
rounding could turn over.

EfficientDet: Tan, Pang, Le 2020, https://arxiv.org/abs/1911.09070.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgesam_export.spec import EVERY_FORMAT

__all__ = ["AnchorBoxes", "ProposalHead", "WeightedPyramid", "anchor_grid", "merge_proposals"]

STRIDES = (16, 32, 64, 128, 256)
ANCHOR_SCALES = tuple(2.0 * 2.0 ** (step / 3) for step in range(3))
"""Side of a square anchor over the stride of its level."""
ANCHOR_RATIOS = (1.0, 0.5, 2.0)
"""Height over width."""
ANCHORS = len(ANCHOR_SCALES) * len(ANCHOR_RATIOS)
WIDTH, REPEATS, DEPTH = 64, 3, 3
NORM_EPS = 1e-3
LARGEST_GROWTH = math.log(1000 / 16)
"""Limit of a log size correction, as in two-stage detectors: the exponential stays finite."""

NEAREST, MIN_SCORE = 5, 0.1


def anchor_grid(side: int) -> Tensor:
    """Return centre x, centre y, width and height of every anchor of a square frame of ``side`` pixels.

    Order: level, then ratio, scale, row, column. Shapes: (4, K), K = 9 * (cells of all levels)
    """
    levels = []
    for stride in STRIDES:
        cells = (torch.arange(side // stride, dtype=torch.float32) + 0.5) * stride
        shapes = [
            (stride * scale / math.sqrt(ratio), stride * scale * math.sqrt(ratio))
            for ratio in ANCHOR_RATIOS
            for scale in ANCHOR_SCALES
        ]
        y, x = torch.meshgrid(cells, cells, indexing="ij")
        for width, height in shapes:
            levels.append(torch.stack([x, y, torch.full_like(x, width), torch.full_like(x, height)]).flatten(1))
    return torch.cat(levels, dim=1)


class SeparableConv(nn.Module):
    """Depthwise 3x3, then 1x1 with bias."""

    def __init__(self, outputs: int = WIDTH) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, kernel_size=3, padding=1, groups=WIDTH, bias=False)
        self.pointwise = nn.Conv2d(WIDTH, outputs, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class Fusion(nn.Module):
    """Weighted mean of maps of one size, weights learned and not negative; then SiLU, separable convolution, norm.

    Source: EfficientDet, section 3.3, "fast normalized fusion".
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.conv = SeparableConv()
        self.norm = nn.BatchNorm2d(WIDTH, eps=NORM_EPS)

    def forward(self, *maps: Tensor) -> Tensor:
        return self.norm(self.conv(F.silu(weighted_sum(self.shares(), maps))))

    def shares(self) -> Tensor:
        """Return the share of each map; the sum is a little below 1."""
        weights = torch.relu(self.weights)
        return weights / (weights.sum() + 1e-4)

    def folded(self) -> FixedFusion:
        """Return an equal fusion with its weights as plain numbers."""
        return FixedFusion(self.shares().tolist(), self.conv, self.norm)


class FixedFusion(nn.Module):
    """A fusion whose weights are constants."""

    def __init__(self, shares: list[float], conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.shares = shares
        self.conv = conv
        self.norm = norm

    def forward(self, *maps: Tensor) -> Tensor:
        return self.norm(self.conv(F.silu(weighted_sum(self.shares, maps))))


def weighted_sum(weights: Iterable[Tensor | float], maps: Sequence[Tensor]) -> Tensor:
    """Return the sum of maps of one size, each multiplied by its weight."""
    first, *others = (weight * one for weight, one in zip(weights, maps))
    for other in others:
        first = first + other
    return first


def halved(x: Tensor) -> Tensor:
    """Return the largest value around every second pixel: (B, C, H, W) -> (B, C, H/2, W/2)."""
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def doubled(x: Tensor) -> Tensor:
    """Return every pixel twice along both sides."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


class WeightedPyramid(nn.Module):
    """One repeat of EfficientDet's pyramid: from coarse to fine, then back, every level fused with its input."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(Fusion(2) for _ in STRIDES[:-1])
        self.up = nn.ModuleList(Fusion(2 if stride == STRIDES[-1] else 3) for stride in STRIDES[1:])

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the levels, finest first, with the shapes they came in."""
        last = len(levels) - 1
        inner = list(levels)
        for index in reversed(range(last)):
            inner[index] = self.down[index](levels[index], doubled(inner[index + 1]))
        outer = [inner[0]]
        for index in range(1, last + 1):
            below = halved(outer[-1])
            inputs = (levels[index], below) if index == last else (levels[index], inner[index], below)
            outer.append(self.up[index - 1](*inputs))
        return outer


class Branch(nn.Module):
    """Separable convolutions that all levels share, each level with its own norms, then ``outputs`` channels."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(SeparableConv() for _ in range(DEPTH))
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(WIDTH, eps=NORM_EPS) for _ in range(DEPTH)) for _ in STRIDES
        )
        self.predict = SeparableConv(outputs)

    def forward(self, x: Tensor, level: int) -> Tensor:
        norms = self.norms[level]
        assert isinstance(norms, nn.ModuleList)
        for conv, norm in zip(self.convs, norms):
            x = F.silu(norm(conv(x)))
        return self.predict(x)


class AnchorBoxes(nn.Module):
    """Corrections of the anchors to boxes in pixels, in FP32: FP16 has steps of half a pixel above 512."""

    fp32_formats = (EVERY_FORMAT,)
    anchors: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = float(side)
        self.register_buffer("anchors", anchor_grid(side)[None], persistent=False)

    def forward(self, corrections: Tensor) -> Tensor:
        """Return x0, y0, x1, y1 within the frame.

        Corrections are the shift of the centre over the anchor's size, and the logarithm of the growth.
        Shapes: corrections (1, 4, K); returns (1, K, 4)
        """
        centre, size = self.anchors[:, :2], self.anchors[:, 2:]
        centre = centre + corrections[:, :2] * size
        half = 0.5 * size * torch.exp(corrections[:, 2:].clamp(-LARGEST_GROWTH, LARGEST_GROWTH))
        boxes = torch.cat([centre - half, centre + half], dim=1).clamp(0.0, self.side)
        return boxes.transpose(1, 2)


class ProposalHead(nn.Module):
    """Boxes that may hold an object, one for every anchor, from an image embedding."""

    def __init__(self, side: int = 1024) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(256, WIDTH, kernel_size=1)
        self.norm = nn.BatchNorm2d(WIDTH, eps=NORM_EPS)
        self.pyramid = nn.ModuleList(WeightedPyramid() for _ in range(REPEATS))
        self.objectness = Branch(ANCHORS)
        self.correction = Branch(4 * ANCHORS)
        self.boxes = AnchorBoxes(side)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes x0, y0, x1, y1 in pixels of the prompt frame, and their confidence, 0..1.

        Shapes: embedding (1, 256, S/16, S/16); returns (1, K, 4) and (1, K); S = 1024: K = 49104
        """
        levels = [self.norm(self.lateral(embedding))]
        while len(levels) < len(STRIDES):
            levels.append(halved(levels[-1]))
        for repeat in self.pyramid:
            levels = repeat(levels)
        # Channels are (coordinate, ratio, scale): flattened, they are in the order of the anchors.
        scores = torch.cat([self.objectness(x, level).flatten(1) for level, x in enumerate(levels)], dim=1)
        corrections = [self.correction(x, level).reshape(1, 4, -1) for level, x in enumerate(levels)]
        return self.boxes(torch.cat(corrections, dim=2)), torch.sigmoid(scores)


def merge_proposals(
    boxes: np.ndarray, scores: np.ndarray, point: np.ndarray, *, nearest: int = NEAREST, min_score: float = MIN_SCORE
) -> np.ndarray | None:
    """Return the box that proposals suggest for a point, None when no box above ``min_score`` contains it.

    Of the boxes around the point, the ``nearest`` by the distance of their centres are averaged, weighted by score; so
    the result contains the point too. (The evaluation code of EdgeSAM keeps only the best of them.)

    Shapes: boxes (K, 4) x0, y0, x1, y1; scores (K,); point (2,); returns float64 (4,)
    """
    boxes, scores, point = (np.asarray(array, np.float64) for array in (boxes, scores, point))
    inside = (boxes[:, :2] < point).all(axis=1) & (point < boxes[:, 2:]).all(axis=1)
    kept = np.flatnonzero(inside & (scores > min_score))
    if not kept.size:
        return None
    distance = np.linalg.norm((boxes[kept, :2] + boxes[kept, 2:]) / 2 - point, axis=1)
    kept = kept[np.argsort(distance, kind="stable")[:nearest]]
    return np.average(boxes[kept], axis=0, weights=scores[kept])
