"""One mask of four by the rule of SAM 2's image predictor, inside an exported graph.

Mask token 0 is the answer to a prompt that means one object. Where it is not stable, the best of tokens 1 to 3 by
predicted IoU replaces it.
Source: ``MaskDecoder._dynamic_multimask_via_stability`` of facebookresearch/sam2; its offset and threshold are those
that ``build_sam2`` sets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from edgesam_export.spec import EVERY_FORMAT, STABLE_OFFSET, STABLE_SHARE

__all__ = ["SingleMask", "choose_single_masks"]


class Choice(nn.Module):
    """Which of four masks is returned, as weights 0 and 1; in FP32, since a count of 65536 pixels is more than FP16."""

    fp32_formats = (EVERY_FORMAT,)
    earlier: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("earlier", torch.triu(torch.ones(3, 3), diagonal=1))

    def forward(self, inner: torch.Tensor, outer: torch.Tensor, iou: torch.Tensor) -> torch.Tensor:
        """Return weights (1, 4), one of them 1, from row profiles (1, 256) of token 0 and predicted IoU (1, 4).

        A mask without a logit above the lower bound counts as stable, and of equal scores the first is the best.
        """
        spare = inner.mean(-1, keepdim=True) - STABLE_SHARE * outer.mean(-1, keepdim=True)
        stable = (spare >= 0).to(inner.dtype)
        others = iou[:, 1:]
        best = (others >= others.amax(1, keepdim=True)).to(inner.dtype)
        first = best * torch.relu(1.0 - best @ self.earlier)
        return torch.cat([stable, (1.0 - stable) * first], dim=1)


class SingleMask(nn.Module):
    """The one mask, and its predicted IoU. No index is computed: a gather keeps a graph off the Neural Engine."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = Choice()

    def forward(self, logits: torch.Tensor, iou: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (1, 1, 256, 256) and predicted IoU (1, 1) from (1, 4, 256, 256) and (1, 4)."""
        first = logits[:, 0]
        # The share of one row of 256 pixels is a multiple of 1/256, exact in FP16.
        inner = (first > STABLE_OFFSET).to(logits.dtype).mean(-1)
        outer = (first > -STABLE_OFFSET).to(logits.dtype).mean(-1)
        weights = self.choice(inner, outer, iou)
        # Three products with 0 and one with 1: the sum is the mask itself, to the last bit.
        chosen = (logits * weights[:, :, None, None]).sum(1, keepdim=True)
        return chosen, (iou * weights).sum(1, keepdim=True)


def choose_single_masks(logits: np.ndarray, iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``SingleMask`` does for each of B prompts. Shapes: (B, 4, 256, 256), (B, 4); returns B times one"""
    with torch.inference_mode():
        chosen, scores = SingleMask()(torch.from_numpy(logits), torch.from_numpy(iou))
    return chosen.numpy(), scores.numpy()
