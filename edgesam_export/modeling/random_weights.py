"""Stand-in parameters: deterministic, the same on every machine, good enough to compare two programs of one network.

The value of a parameter depends on the seed, its key and its shape, and on nothing else; in a stack of more than 32
blocks on their number too (``residual_gains``). So two implementations that agree on key names get the same network
without exchanging a file.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Provenance

__all__ = ["fill_random", "random_parameter", "residual_gains"]

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
RESIDUAL_OUTPUT = re.compile(r"(?P<stack>.+\.blocks)\.(?P<block>\d+)\.(?:attn\.proj|mlp\.layers\.1)\.weight")
"""Last layers of Hiera's residual branches: two for each block."""
DEEP_STACK = 32
"""Up to this many blocks nothing is scaled, so that recorded values of such networks stay what they are."""


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


def residual_gains(keys: Iterable[str]) -> dict[str, float]:
    """Return the factor of the last layer of each residual branch, by key; of stacks of more than 32 blocks only.

    Without it the sum of N branches grows like the square root of N, which no trained network does: a noise image gave
    the embedding of ``sam2.1_hiera_large`` (48 blocks) an RMS of 8.4, and products of attention 3.5e4, beyond the
    2^15 at which the Neural Engine is reported to saturate. Scaled, the RMS is 1.8.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", 2.3: 1 / sqrt(N).
    """
    outputs = [match for match in map(RESIDUAL_OUTPUT.fullmatch, keys) if match]
    gains: dict[str, float] = {}
    for stack in {match["stack"] for match in outputs}:
        branches = [match for match in outputs if match["stack"] == stack]
        if len({match["block"] for match in branches}) > DEEP_STACK:
            gains.update((match.string, len(branches) ** -0.5) for match in branches)
    return gains


def fill_random(model: nn.Module, seed: int) -> None:
    """Overwrite every parameter and buffer of ``model`` by its stand-in; a ``SamModel``'s provenance records it.

    Raises:
        UsageError: the seed is negative.
    """
    if seed < 0:
        raise UsageError(f"seed of random weights is {seed}; pass 0 or more")
    parameters = model.state_dict(keep_vars=True)
    gains = residual_gains(parameters)
    with torch.no_grad():
        for key, value in parameters.items():
            value.copy_(torch.from_numpy(random_parameter(key, tuple(value.shape), seed)))
            if key in gains:
                value.mul_(gains[key])
    if isinstance(model, SamModel):
        model.provenance = Provenance(source="random-weights", random_seed=seed, licence="none: random weights")
