"""The decoder's forms for Core ML and Core AI compute what the model's own parts do, with few layout operations."""

from __future__ import annotations

import pytest
import torch
from small_models import small_model
from torch import nn

from edgesam_export.ane.analyzer import analyze
from edgesam_export.modeling.mask_decoder import MaskProduct
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.transformer import TwoWayTransformer
from edgesam_export.modeling.wrappers import ExactPrompt, ProjectedPrompt, SignedStabilityScore, StabilityScore
from edgesam_export.rewrites.layer_norm import ScaledLayerNorm, TokenLayerNorm
from edgesam_export.rewrites.mask_product import PhaseMaskProduct
from edgesam_export.rewrites.transformer import ChannelsFirstTransformer


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((found - expected).abs().max() / expected.abs().max()).detach())


def transformer(keep_position: bool = False) -> TwoWayTransformer:
    made = TwoWayTransformer(dim=64, mlp_dim=96, keep_position=keep_position)
    fill_random(made, 3)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("prompts", "images", "count", "keep_position"),
    [(1, 1, 1, True), (1, 1, 40, False), (3, 1, 8, False), (3, 3, 8, True)],
)
def test_the_transformer_takes_several_prompts_on_one_image_or_an_image_each(prompts, images, count, keep_position):
    made = transformer(keep_position)
    bias = torch.zeros(prompts, count)
    bias[:, count // 2 + 1 :] = -1e4
    inputs = random(images, 64, 5, 7), random(1, 64, 5, 7, seed=1), random(prompts, count, 64, seed=2), bias
    for found, expected in zip(ChannelsFirstTransformer(made, (5, 7))(*inputs), made(*inputs), strict=True):
        assert found.shape == expected.shape and relative(found, expected) <= 1e-5


def test_an_empty_slot_takes_no_part():
    image, position, tokens = random(1, 64, 5, 7), random(1, 64, 5, 7, seed=1), random(1, 4, 64, seed=2)
    padded = torch.cat([tokens, 50.0 * random(1, 3, 64, seed=4)], dim=1)
    bias = torch.tensor([[0.0] * 4 + [-1e4] * 3])
    rewritten = ChannelsFirstTransformer(transformer(), (5, 7))
    alone, beside = rewritten(image, position, tokens), rewritten(image, position, padded, bias)
    assert relative(beside[0][:, :4], alone[0]) <= 1e-6 and relative(beside[1], alone[1]) <= 1e-6


@pytest.mark.parametrize("batch", [1, 3])
def test_the_product_by_phases_puts_every_pixel_where_the_shuffle_does(batch):
    hyper, phases = random(batch, 4, 6), random(batch, 4 * 6, 5, 7, seed=1)
    upscaled = nn.functional.pixel_shuffle(phases.reshape(batch, 4, 6, 5, 7).transpose(1, 2).flatten(1, 2), 2)
    found = PhaseMaskProduct(4, 6, (5, 7))(hyper, phases)
    assert found.shape == (batch, 4, 10, 14) and relative(found, MaskProduct()(hyper, upscaled)) <= 1e-6


def test_angles_of_one_layer_are_those_of_the_products():
    exact = ExactPrompt(small_model().requires_grad_(False))
    coords = torch.rand(2, 9, 2, generator=torch.Generator().manual_seed(5)) * 1200 - 100
    labels = torch.tensor([[-2.0, -1, 0, 1, 2, 3, 1, 0, -2], [1.0, 1, -1, -1, 0, 0, 2, 3, -2]])
    projected = ProjectedPrompt(exact).requires_grad_(False)
    for found, expected in zip(projected(coords, labels), exact(coords, labels), strict=True):
        # angles reach 25 rad and more, where neighbouring FP32 numbers are 2e-6 apart
        assert float((found - expected).abs().max()) <= 2e-5


def test_a_logit_on_the_threshold_is_not_above_it():
    logits = torch.tensor([-2.0, -1.0, -0.9995, 0.0, 1.0, 1.001, 60000.0, -60000.0]).reshape(1, 1, 2, 4)
    for threshold in (1.0, -1.0):
        found = SignedStabilityScore().above(logits, threshold)
        assert torch.equal(found, StabilityScore().above(logits, threshold))
    assert torch.equal(SignedStabilityScore()(logits), StabilityScore()(logits))


def test_a_norm_of_tokens_has_a_form_for_core_ai_that_large_and_small_values_pass():
    norm = nn.LayerNorm(16)
    fill_random(norm, 1)
    made = TokenLayerNorm(norm.requires_grad_(False))
    scaled = made.form_for("coreai")
    assert made.form_for("coreml") is None and isinstance(scaled, ScaledLayerNorm) and scaled.form_for("coreai") is None
    for size in (1e-2, 1.0, 1e4):
        tokens = size * random(2, 5, 16)
        assert relative(scaled(tokens), norm(tokens)) <= 1e-4


def test_a_decoder_has_at_most_25_layout_operations(exported):
    folder = exported("edge_sam_tiny", "coreml")
    totals = analyze(folder / "edge_sam_tiny_decoder.mlpackage").totals
    assert totals.layout_operations <= 25  # 58 before tokens were rows
