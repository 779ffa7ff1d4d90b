"""Stand-in parameters: fixed for all time, because exported test files are compared across machines."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from torch import nn

from edgesam_export.errors import UsageError
from edgesam_export.families import build_model
from edgesam_export.modeling.random_weights import fill_random, random_parameter, residual_gains


def crc_of(state_dict: dict[str, torch.Tensor]) -> int:
    """Same number as ``state_dict_crc32`` of tests/goldens/synthetic_weights.py."""
    crc = 0
    for key in sorted(state_dict):
        array = state_dict[key].numpy()
        crc = zlib.crc32(
            np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes(), zlib.crc32(key.encode(), crc)
        )
    return crc


def test_edge_sam_is_filled_with_the_values_of_the_golden_rule():
    model = build_model("edge_sam")
    fill_random(model, 11)
    # Computed with synthetic_weights.py from the manifest, without this package.
    assert crc_of(model.state_dict()) == 1123040984


def test_filling_twice_gives_the_same_and_another_seed_another_network():
    first, second = (build_model("edge_sam") for _ in range(2))
    fill_random(first, 1)
    fill_random(second, 1)
    assert crc_of(first.state_dict()) == crc_of(second.state_dict())
    fill_random(second, 2)
    assert crc_of(first.state_dict()) != crc_of(second.state_dict())


@pytest.mark.parametrize(
    ("key", "shape", "low", "high"),
    [("a.bn.running_var", (500,), 1.5, 2.5), ("a.bn.weight", (500,), 0.5, 1.5), ("a.fc.bias", (500,), -0.2, 0.2)],
)
def test_range_follows_from_the_kind_of_parameter(key, shape, low, high):
    value = random_parameter(key, shape, 0)
    assert value.dtype == np.float32
    assert low <= value.min() < value.max() <= high


def test_matrices_keep_the_variance_of_what_they_multiply():
    value = random_parameter("a.weight", (64, 32, 3, 3), 0)
    assert value.std() == pytest.approx((32 * 9) ** -0.5, rel=0.02)


def residual_stack(count: int) -> nn.Module:
    """A trunk of blocks with the names of Hiera's."""
    blocks = [
        nn.ModuleDict(
            {
                "attn": nn.ModuleDict({"qkv": nn.Linear(4, 12), "proj": nn.Linear(4, 4)}),
                "mlp": nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 4)])}),
            }
        )
        for _ in range(count)
    ]
    return nn.ModuleDict({"trunk": nn.ModuleDict({"blocks": nn.ModuleList(blocks)})})


@pytest.mark.parametrize(("count", "gain"), [(32, 1.0), (50, 0.1)])
def test_residual_branches_of_a_deep_stack_are_scaled_by_their_number(count, gain):
    """1 / sqrt(2 * 50) is 0.1; 32 blocks, SAM ViT-H's number, keep the golden rule."""
    model = residual_stack(count)
    fill_random(model, 3)
    for key, value in model.state_dict().items():
        last = key.endswith(("attn.proj.weight", "mlp.layers.1.weight"))
        expected = random_parameter(key, tuple(value.shape), 3) * (gain if last else 1.0)
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["sam2.1_hiera_base_plus", "sam2.1_hiera_large", "sam_vit_h", "edgetam"])
def test_hiera_large_alone_is_scaled(name):
    with torch.device("meta"):
        gains = residual_gains(build_model(name).state_dict())
    assert len(gains) == (96 if name == "sam2.1_hiera_large" else 0)  # two branches of 48 blocks
    assert set(gains.values()) <= {96**-0.5}


def test_every_buffer_is_filled_too():
    module = nn.Sequential(nn.BatchNorm2d(8))
    module[0].num_batches_tracked.fill_(5)
    fill_random(module, 0)
    assert module[0].num_batches_tracked.item() == 0
    assert module[0].running_var.min() >= 1.5


def test_negative_seed_is_refused():
    with pytest.raises(UsageError, match="-1"):
        fill_random(nn.Linear(1, 1), -1)
