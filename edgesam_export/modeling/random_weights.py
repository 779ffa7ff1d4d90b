"""Stand-in parameters: deterministic, the same on every machine, good enough to compare two programs of one network.

The value of a parameter depends on the seed, its key and its shape, and on nothing else. So two implementations that
agree on key names get the same network without exchanging a file.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import nn

from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Provenance

__all__ = ["fill_random", "random_parameter"]

TOKEN_TABLES = frozenset(
    {
        "iou_token",
        "mask_tokens",
        "point_embeddings",
        "not_a_point_embed",
        "no_mask_embed",
        "invalid_points",
        "bbox_top_left_embeddings",
        "bbox_bottom_right_embeddings",
    }
)
"""Modules whose matrix is a table of learned token vectors."""
PIXEL_CONSTANTS = {"pixel_mean": (123.675, 116.28, 103.53), "pixel_std": (58.395, 57.12, 57.375)}
NORMAL_SCALES = {
    "positional_encoding_gaussian_matrix": 1.0,
    "attention_biases": 0.1,
    "running_mean": 0.03,
    "pos_embed": 0.02,
    "rel_pos_h": 0.02,
    "rel_pos_w": 0.02,
}
"""Standard deviation by the last part of the key."""


def random_parameter(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return the stand-in value of one entry of a state dict: float32, but int64 zeros for ``num_batches_tracked``."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    *modules, last = key.split(".")
    if last == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if last in PIXEL_CONSTANTS:
        return np.asarray(PIXEL_CONSTANTS[last], dtype=np.float32).reshape(shape)
    if last == "running_var":
        # Above 1, so that a deep residual stack stays within float16.
        value = rng.uniform(1.5, 2.5, shape)
    elif last in NORMAL_SCALES:
        value = NORMAL_SCALES[last] * rng.standard_normal(shape)
    elif len(shape) == 2 and TOKEN_TABLES.intersection([*modules, last]):
        value = 0.5 * rng.standard_normal(shape)
    elif last in ("bias", "beta"):
        value = 0.03 * rng.standard_normal(shape)
    elif len(shape) <= 1:
        value = rng.uniform(0.5, 1.5, shape)
    else:
        value = rng.standard_normal(shape) * math.sqrt(1.0 / math.prod(shape[1:]))
    return np.asarray(value, dtype=np.float32)


def fill_random(model: nn.Module, seed: int) -> None:
    """Overwrite every parameter and buffer of ``model`` by its stand-in; a ``SamModel``'s provenance records it.

    Raises:
        UsageError: the seed is negative.
    """
    if seed < 0:
        raise UsageError(f"seed of random weights is {seed}; pass 0 or more")
    with torch.no_grad():
        for key, value in model.state_dict(keep_vars=True).items():
            value.copy_(torch.from_numpy(random_parameter(key, tuple(value.shape), seed)))
    if isinstance(model, SamModel):
        model.provenance = Provenance(source="random-weights", random_seed=seed, licence="none: random weights")
