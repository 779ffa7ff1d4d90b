"""Fold batch norms and re-parameterisable branches into single convolutions."""

from __future__ import annotations

from torch import nn

from edgesam_export.modeling.sam import SamModel
from edgesam_export.rewrites import register_rewrite, replace_modules

__all__ = ["fold_branches"]


# 1e-5: folding moves the batch norm's division into the weights; 4e-6 was seen on the RepViT of EdgeSAM.
@register_rewrite(tolerance=1e-5)
def fold_branches(model: SamModel) -> None:
    """Fold batch norms and parallel depthwise branches into one convolution each.

    A module takes part by having a method ``folded() -> nn.Module``, which its family writes.
    Source: Ding et al. 2021 (RepVGG, arXiv 2101.03697), §3.3; Wang et al. 2023 (RepViT, arXiv 2307.09283), §3.2.
    """

    def build(module: nn.Module) -> nn.Module | None:
        folded = getattr(module, "folded", None)
        return folded() if folded is not None else None

    replace_modules(model, build)
