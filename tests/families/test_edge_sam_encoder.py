"""Pieces of the EdgeSAM encoder; the network as a whole is in test_edge_sam_goldens.py."""

from __future__ import annotations

import pytest
import torch

from edgesam_export.families import load_model
from edgesam_export.families.edge_sam import ConvBN, EdgeSamEncoder, RepVGGDW, Residual, SqueezeExcite, Upsample2x
from edgesam_export.modeling.random_weights import fill_random


def upsampled_row(mode: str, row: list[float]) -> list[float]:
    picture = torch.tensor(row, dtype=torch.float32).reshape(1, 1, 1, -1).expand(1, 1, len(row), -1)
    return Upsample2x(mode, channels=1)(picture)[0, 0, 0].tolist()


def test_bicubic_upsampling_has_the_weights_of_keys_with_a_three_quarters():
    # Keys' kernel with a = -0.75 at distances 0.25, 0.75, 1.25 and 1.75 from a lone 1.
    near, far, beyond, last = 0.87890625, 0.26171875, -0.10546875, -0.03515625
    expected = [0, 0, last, beyond, far, near, near, far, beyond, last, 0, 0]
    assert upsampled_row("bicubic", [0, 0, 0, 1, 0, 0, 0])[1:13] == pytest.approx(expected, abs=1e-7)


def test_bilinear_upsampling_mixes_two_neighbours_three_to_one():
    assert upsampled_row("bilinear", [0, 1, 0]) == pytest.approx([0, 0.25, 0.75, 0.75, 0.25, 0])


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_upsampling_repeats_the_edge(mode):
    assert upsampled_row(mode, [3, 3, 3, 3, 0, 0, 0, 0])[:3] == pytest.approx([3, 3, 3])


def test_bilinear_neck_gives_another_embedding_than_the_bicubic_one():
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    bicubic = load_model("edge_sam", random_weights=3).encode(image)
    bilinear = load_model("edge_sam", random_weights=3, upsample="bilinear").encode(image)
    assert bicubic.shape == bilinear.shape == (1, 256, 8, 8)
    assert (bicubic - bilinear).abs().max() > 0.01


@pytest.mark.parametrize(("channels", "reduced"), [(48, 16), (96, 24), (192, 48), (384, 96)])
def test_squeeze_excite_is_a_quarter_wide_in_steps_of_eight(channels, reduced):
    assert SqueezeExcite(channels).fc1.out_channels == reduced


def test_squeeze_excite_gate_with_zero_weights_halves_its_input():
    gate = SqueezeExcite(8)
    for parameter in gate.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 8, 3, 3)
    assert torch.equal(gate(x), x / 2)


def test_rep_vgg_adds_both_branches_and_its_input():
    block = RepVGGDW(2).eval()
    for branch, weight in ((block.conv, 10.0), (block.conv1, 100.0)):
        torch.nn.init.zeros_(branch.c.weight)
        branch.c.weight.data[:, :, branch.c.kernel_size[0] // 2, branch.c.kernel_size[1] // 2] = weight
    assert torch.allclose(block(torch.ones(1, 2, 3, 3)), torch.full((1, 2, 3, 3), 111.0), rtol=1e-4)


@pytest.mark.parametrize("build", [lambda: ConvBN(4, 6, 3, stride=2), lambda: RepVGGDW(4)], ids=["ConvBN", "RepVGGDW"])
def test_folded_branch_is_one_convolution_with_the_same_output(build):
    block = build()
    fill_random(block, 0)
    block.eval().requires_grad_(False)
    before = {key: value.clone() for key, value in block.state_dict().items()}
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    folded = block.folded()
    assert type(folded) is torch.nn.Conv2d
    assert torch.allclose(folded(x), block(x), atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in block.state_dict().items())


def test_only_the_bicubic_neck_calls_for_a_bicubic_rewrite():
    for mode, expected in (("bicubic", [True]), ("bilinear", [False])):
        modules = EdgeSamEncoder(mode).modules()
        assert [m.is_bicubic_2x for m in modules if isinstance(m, Upsample2x)] == expected


def test_residual_adds_its_input():
    assert torch.equal(Residual(torch.nn.Identity())(torch.ones(1, 1, 2, 2)), torch.full((1, 1, 2, 2), 2.0))


def test_every_batch_norm_has_epsilon_1e_5(encoder):
    norms = [m.bn for m in encoder.modules() if isinstance(m, ConvBN)]
    assert norms and {norm.eps for norm in norms} == {1e-5}


@pytest.fixture(scope="module")
def encoder():
    return load_model("edge_sam", random_weights=0).image_encoder
