"""Linear attention whose every intermediate value stays small, for FP16."""

from __future__ import annotations

import torch
from torch import nn

from edgesam_export.modeling.sam import SamModel
from edgesam_export.rewrites import register_rewrite, replace_modules

__all__ = ["NestedMeansAttention", "linear_attention_as_means"]

FLOOR = 2.0**-13
"""Least divisor, a normal FP16 number; divisors that matter have been brought to about 1 before."""


class NestedMeansAttention(nn.Module):
    """ReLU linear attention as a weighted mean of weighted means, so that nothing grows with the number of cells.

    sum_n (q . k_n) v_n / sum_n (q . k_n) is, over the channels d of a head, the mean of u_d = sum_n k_nd v_n / sum_n
    k_nd with weights q_d * mean_n(k_nd).  Neither mean is larger than the largest value.  The ratio does not depend on
    the size of q and k, so each head's are first brought to about 1: then no sum of weights passes d * cells.  Within
    u_d keys have the mean cells**-0.5, which leaves the product as far from 2^15, where the Neural Engine is reported
    to saturate, as its terms from 2^-14, below which it is reported to flush to zero.
    Divisors have a floor, not an epsilon: zeros everywhere give 0, and values above the floor are exact.
    """

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.root = cells**0.5

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Attend: q, k, v (B, heads, d, cells) -> (B, heads, d, cells)."""
        q, k = torch.relu(q), torch.relu(k)
        q = q / q.mean(3, keepdim=True).mean(2, keepdim=True).clamp_min(FLOOR)
        k = k / k.mean(3, keepdim=True).amax(2, keepdim=True).clamp_min(FLOOR)
        share = k.mean(3, keepdim=True)  # (B, heads, d, 1), at most 1
        keys = k / (self.root * share.clamp_min(FLOOR))
        means = (v @ keys.transpose(2, 3)) * (1.0 / self.root)  # (B, heads, d of v, d of k)
        weights = q * share  # (B, heads, d of k, cells)
        weights = weights / weights.sum(2, keepdim=True).clamp_min(FLOOR)
        return means @ weights


# 1e-5: a channel whose share is below the floor counts for less; 2e-6 was seen on EfficientViT-SAM-L0.
@register_rewrite(tolerance=1e-5)
def linear_attention_as_means(model: SamModel) -> None:
    """Write ReLU linear attention as nested weighted means, which neither overflow nor vanish in FP16."""

    def build(module: nn.Module) -> nn.Module | None:
        if not getattr(module, "is_relu_linear_attention", False):
            return None
        assert isinstance(module.cells, int)
        return NestedMeansAttention(module.cells)

    replace_modules(model.image_encoder, build)
