"""The torch types that carry the values of a program: apart from ``types``, since only executing needs torch."""

from __future__ import annotations

import torch

from edgesam_export.mil.types import CARRIER_NAMES

__all__ = ["CARRIERS"]

CARRIERS: dict[str, torch.dtype] = {dtype: getattr(torch, name) for dtype, name in CARRIER_NAMES.items()}
"""MIL element type -> torch dtype of the tensor that carries it."""
