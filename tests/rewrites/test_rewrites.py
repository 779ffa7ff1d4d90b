"""Every rewrite keeps the output to its tolerance, leaves its input alone, and does not care about order."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from edgesam_export.errors import UsageError
from edgesam_export.families import load_model
from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.modeling.mask_decoder import MaskProduct
from edgesam_export.rewrites import apply_rewrites, recommended_rewrites, replace_modules
from edgesam_export.rewrites import load_all as all_rewrites
from edgesam_export.rewrites.bicubic import BicubicMatmul, BicubicPhases, bicubic_inputs, bicubic_matrix, bicubic_scale
from edgesam_export.rewrites.layer_norm import ChannelLayerNorm
from edgesam_export.rewrites.mask_product import COLUMNS, RowMaskProduct
from edgesam_export.runners.torch import round_weights

NAMES = list(all_rewrites())
COORDS = torch.tensor([[[100.0, 200.0], [700.5, 301.0], [900.0, 1000.0]]])
LABELS = torch.tensor([[1.0, 0.0, -1.0]])
ELSEWHERE = {
    "edge_sam_tiny": {"linear_attention_as_means", "blocks_channels_last"},
    "lite_medsam": {"linear_attention_as_means", "bicubic_as_matmul", "bicubic_as_phases"},
}
"""Two small models with every kind of module between them, and the rewrites that find nothing to do in each."""


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference over the largest magnitude; NaN stays NaN."""
    found, expected = found.detach().double(), expected.double()
    return float((found - expected).abs().max() / expected.abs().max())


def encode(model) -> torch.Tensor:
    """The embedding of noise."""
    side = model.info.frame.size
    return model.encode(random(1, 3, side, side, seed=1))


def decode(model) -> tuple[torch.Tensor, ...]:
    """Everything a decoder returns, for points and for a mask prompt."""
    embeddings, mask = random(1, model.info.embedding_dim, 64, 64, seed=2), random(1, 1, 256, 256, seed=3, scale=8.0)
    return *model.decode(embeddings, COORDS, LABELS), *model.decode(embeddings, COORDS, LABELS, mask)


def differences(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> list[float]:
    return [relative(*pair) for pair in zip(found, expected, strict=True)]


@pytest.fixture(scope="module")
def model():
    """Its branches, norms and upsampling are what most rewrites are about."""
    return load_model("edge_sam_tiny", random_weights=11)


@pytest.fixture(scope="module", params=[(name, seed) for name in ELSEWHERE for seed in (11, 5)], ids=str)
def original(request):
    """A model, its embedding and what it decodes, for two sets of weights of each."""
    name, seed = request.param
    model = load_model(name, random_weights=seed)
    return model, encode(model), decode(model)


def test_every_format_has_rewrites_of_its_own():
    assert {"fold_branches", "layer_norm_2d", "bicubic_as_matmul"} <= set(recommended_rewrites("coreml")) <= set(NAMES)
    assert {"fold_branches", "token_side_transformer"} <= set(recommended_rewrites("onnx")) <= set(NAMES)
    assert recommended_rewrites("coreml") == recommended_rewrites("coreai") != recommended_rewrites("onnx")
    assert recommended_rewrites("abacus") == ("bicubic_as_matmul", "fold_branches", "linear_attention_as_means")


@pytest.mark.parametrize("name", NAMES)
def test_a_rewrite_keeps_the_output_to_its_tolerance(original, name):
    model, embedding, decoded = original
    rewrite = all_rewrites()[name]
    assert 0 < rewrite.tolerance <= 1e-4
    rewritten = apply_rewrites(model, (name,))
    changed_encoder = repr(rewritten.image_encoder) != repr(model.image_encoder)
    changed = repr(rewritten) != repr(model)
    assert changed != (name in ELSEWHERE[model.info.name]), f"{name} changes {'this model' if changed else 'nothing'}"
    if changed_encoder:
        assert relative(encode(rewritten), embedding) <= rewrite.tolerance
    decoders = [(one.prompt_encoder, one.mask_decoder) for one in (model, rewritten)]
    if repr(decoders[0]) != repr(decoders[1]):
        assert max(differences(decode(rewritten), decoded)) <= rewrite.tolerance


@pytest.mark.parametrize("format", ["coreml", "onnx"])
def test_all_recommended_rewrites_together_stay_within_1e_4(original, format):
    model, embedding, decoded = original
    rewritten = apply_rewrites(model, recommended_rewrites(format))
    assert relative(encode(rewritten), embedding) <= 1e-4
    assert max(differences(decode(rewritten), decoded)) <= 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_rewrite_leaves_the_given_model_alone(original, name):
    model = original[0]
    before, shown = {key: value.clone() for key, value in model.state_dict().items()}, repr(model)
    rewritten = apply_rewrites(model, (name,))
    round_weights(rewritten, ())  # parameters are shared, so rounding replaces them
    after = model.state_dict()
    assert shown == repr(model) and list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("format", ["coreml", "onnx"])
def test_the_order_of_rewrites_does_not_matter(original, format):
    model, names = original[0], recommended_rewrites(format)
    one, other = apply_rewrites(model, names), apply_rewrites(model, names[::-1])
    assert repr(one) == repr(other)
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}
    assert max(differences(decode(one), decode(other))) <= 1e-6
    assert relative(encode(one), encode(other)) <= 1e-5


def test_an_unknown_rewrite_is_refused_with_the_known_names(model):
    with pytest.raises(UsageError, match=r"unknown rewrite 'fold_everything'; choose one of: .*fold_branches"):
        apply_rewrites(model, ("fold_everything",))


def test_no_rewrites_give_an_equal_copy(model):
    copy = apply_rewrites(model, ())
    assert copy is not model and repr(copy) == repr(model)


def test_folding_leaves_no_batch_norm_and_one_convolution_for_each_branch(edge_sam):
    encoder = apply_rewrites(edge_sam, ("fold_branches",)).image_encoder
    kinds = [type(module) for module in encoder.modules()]
    assert torch.nn.BatchNorm2d in [type(module) for module in edge_sam.image_encoder.modules()]
    assert torch.nn.BatchNorm2d not in kinds
    assert kinds.count(torch.nn.Conv2d) <= 107


@pytest.mark.parametrize("size", [(5, 7), (1, 3), (32, 32)])
@pytest.mark.parametrize("kind", ["matmul", "phases"])
def test_bicubic_equals_torch_on_odd_content(size, kind):
    x = random(2, 3, *size, seed=4, scale=50.0)
    x[0, 0, 0, 0], x[0, 1, -1, -1] = 1000.0, -1000.0  # at the edges, where samples are repeated
    double = (2 * size[0], 2 * size[1])
    module = BicubicMatmul(size, double) if kind == "matmul" else BicubicPhases(3)
    expected = interpolate(x.double(), scale_factor=2, mode="bicubic", align_corners=False)
    assert relative(module(x), expected) <= 1e-6


def test_bicubic_rows_sum_to_one():
    assert torch.allclose(bicubic_matrix(7, 14).sum(1), torch.ones(14), atol=1e-6)


def norms(weight: torch.Tensor, bias: torch.Tensor) -> tuple[ChannelLayerNorm, LayerNorm2d]:
    plain = LayerNorm2d(len(weight)).requires_grad_(False)
    plain.weight.copy_(weight)
    plain.bias.copy_(bias)
    return ChannelLayerNorm(weight, bias, plain.eps), plain


def test_channel_norm_equals_torchs_layer_norm():
    weight, bias, x = random(16, seed=1).abs() + 0.5, random(16, seed=2), random(1, 16, 9, 5, seed=3, scale=300.0)
    norm, _ = norms(weight, bias)
    rows = x.permute(0, 2, 3, 1)  # (1, C, H, W) -> (1, H, W, C)
    expected = torch.nn.functional.layer_norm(rows.double(), (16,), weight.double(), bias.double(), norm.eps)
    assert norm.scale_last
    assert relative(norm(x), expected.permute(0, 3, 1, 2)) <= 1e-5


@pytest.mark.parametrize("smallest", [0.0, 1e-7, -1e-5])
def test_channel_norm_with_a_weight_near_zero_falls_back_and_stays_exact(smallest):
    weight, bias, x = random(16, seed=1).abs() + 0.5, random(16, seed=2), random(1, 16, 9, 5, seed=3)
    weight[3] = smallest
    norm, plain = norms(weight, bias)
    assert not norm.scale_last
    found = norm(x)
    assert relative(found, plain(x)) <= 1e-6
    assert (found[:, 3] - bias[3]).abs().max() <= 1e-4


def test_replace_modules_counts_what_it_replaced():
    root = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Tanh()))
    build = lambda module: torch.nn.GELU() if isinstance(module, torch.nn.ReLU) else None  # noqa: E731
    assert replace_modules(root, build) == 2
    assert [type(m).__name__ for m in root.modules()][1:] == ["GELU", "Sequential", "GELU", "Tanh"]


def test_the_mask_product_in_bands_is_the_whole_one_and_no_band_is_too_wide():
    hyper, upscaled = random(1, 4, 8), random(1, 8, 256, 256, seed=1)
    widths = []

    class Watched(MaskProduct):
        def forward(self, hyper, upscaled):
            widths.append(upscaled.shape[-2] * upscaled.shape[-1])
            return super().forward(hyper, upscaled)

    class Bands(RowMaskProduct, Watched):
        pass

    assert relative(Bands()(hyper, upscaled), MaskProduct()(hyper, upscaled)) <= 1e-6
    assert widths == [COLUMNS] * 4


def test_sizes_found_on_a_small_image_are_those_of_the_whole_one(model):
    expected = {}
    modules = [module for module in model.image_encoder.modules() if bicubic_scale(module) is not None]
    hooks = [
        module.register_forward_pre_hook(lambda m, inputs: expected.update({m: tuple(inputs[0].shape[-2:])}))
        for module in modules
    ]
    encode(model)
    for hook in hooks:
        hook.remove()
    assert model.image_encoder.any_size and len(set(expected.values())) == 2
    assert bicubic_inputs(model) == expected
    assert not any(module._forward_pre_hooks for module in modules)
