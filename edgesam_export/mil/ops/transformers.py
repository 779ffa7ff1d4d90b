"""Fused attention.

Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (transformers).
"""

from __future__ import annotations

import torch
from torch import Tensor

from edgesam_export.mil.ops import register_op

__all__ = ["scaled_dot_product_attention"]


@register_op(opset="iOS18")
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """softmax(query . key / sqrt(E) + mask) . value; a boolean mask says who takes part. Source: iOS18."""
    return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask)
