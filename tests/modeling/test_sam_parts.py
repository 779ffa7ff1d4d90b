"""LayerNorm2d, MLP, stability, attention, prompt encoder, mask decoder: each against something that is not itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from edgesam_export.modeling.common import MLP, LayerNorm2d, stability_score
from edgesam_export.modeling.mask_decoder import MaskDecoder, MaskProduct
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.transformer import Attention, TwoWayTransformer


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def test_channel_norm_is_a_layer_norm_of_every_pixel():
    norm, x = LayerNorm2d(6), torch.randn(2, 6, 3, 4)
    norm.weight.copy_(torch.randn(6))
    norm.bias.copy_(torch.randn(6))
    expected = nn.functional.layer_norm(x.permute(0, 2, 3, 1), (6,), norm.weight, norm.bias, eps=1e-6)
    assert torch.allclose(norm(x), expected.permute(0, 3, 1, 2), atol=1e-6)


def test_mlp_has_relu_between_its_layers_and_none_at_the_end():
    mlp = MLP(1, 1, 1, 3)
    for layer, weight in zip(mlp.layers, (-1.0, 2.0, -3.0)):
        layer.weight.fill_(weight)
        layer.bias.fill_(0.5)
    # 1 -> relu(-0.5) = 0 -> relu(0.5) = 0.5 -> -1.5 + 0.5
    assert mlp(torch.ones(1, 1)).item() == -1.0


def test_mlp_with_sigmoid_output_squeezes_the_last_layer():
    mlp = MLP(1, 1, 1, 1, sigmoid_output=True)
    mlp.layers[0].weight.fill_(0)
    mlp.layers[0].bias.fill_(math.log(3))
    assert mlp(torch.ones(1, 1)).item() == pytest.approx(0.75)


def test_stability_counts_strictly_above_both_thresholds():
    logits = torch.tensor([[[2.0, 1.0], [0.0, -1.0]], [[5.0, 5.0], [5.0, 5.0]]])
    # Above 1: one; above -1: three.
    assert stability_score(logits).tolist() == pytest.approx([1 / 3, 1.0])


def test_stability_of_an_empty_mask_is_zero_and_not_nan():
    assert stability_score(torch.full((1, 4, 256, 256), -9.0)).tolist() == [[0, 0, 0, 0]]


def test_stability_does_not_overflow_in_half_precision():
    logits = torch.full((256, 256), 9.0, dtype=torch.float16)
    assert stability_score(logits).item() == 1.0
    logits[0] = 0
    assert stability_score(logits).item() == pytest.approx(255 / 256, abs=1e-3)


def test_stability_of_a_single_pixel_is_one_in_half_precision():
    logits = torch.full((256, 256), -9.0, dtype=torch.float16)
    logits[17, 4] = 9
    assert stability_score(logits).item() == 1.0


def test_attention_is_torchs_multi_head_attention():
    ours, theirs = Attention(16, 4), nn.MultiheadAttention(16, 4, batch_first=True)
    theirs.in_proj_weight.copy_(torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.q_proj.bias, ours.k_proj.bias, ours.v_proj.bias]))
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    q, k, v = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    assert torch.allclose(ours(q, k, v), theirs(q, k, v)[0], atol=1e-6)


def test_attention_works_at_reduced_width():
    attention = Attention(16, 4, downsample=2)
    assert attention.q_proj.out_features == attention.out_proj.in_features == 8
    assert attention(torch.randn(1, 3, 16), torch.randn(1, 5, 16), torch.randn(1, 5, 16)).shape == (1, 3, 16)


def test_key_with_bias_minus_infinity_is_as_if_it_did_not_exist():
    attention, q, k, v = Attention(16, 4), torch.randn(1, 3, 16), torch.randn(1, 5, 16), torch.randn(1, 5, 16)
    bias = torch.tensor([[0, 0, -math.inf, 0, -math.inf]])
    kept = [0, 1, 3]
    assert torch.allclose(attention(q, k, v, bias), attention(q, k[:, kept], v[:, kept]), atol=1e-6)


def test_transformer_with_masked_tokens_equals_the_transformer_without_them():
    transformer = TwoWayTransformer(dim=32, mlp_dim=64).eval()
    image, pe, tokens = torch.randn(1, 32, 4, 6), torch.randn(1, 32, 4, 6), torch.randn(1, 5, 32)
    bias = torch.tensor([[0, 0, -math.inf, 0, -math.inf]])
    kept = [0, 1, 3]
    masked_tokens, masked_image = transformer(image, pe, tokens, bias)
    fewer_tokens, fewer_image = transformer(image, pe, tokens[:, kept])
    assert masked_image.shape == image.shape
    assert torch.allclose(masked_tokens[:, kept], fewer_tokens, atol=1e-5)
    assert torch.allclose(masked_image, fewer_image, atol=1e-5)


def test_layer_norm_epsilon_reaches_every_norm_of_the_transformer():
    decoder = MaskDecoder(layer_norm_eps=1e-6)
    assert {m.eps for m in decoder.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    assert {m.eps for m in MaskDecoder().modules() if isinstance(m, nn.LayerNorm)} == {1e-5}


@pytest.fixture
def encoder() -> PromptEncoder:
    return PromptEncoder()


def encode(encoder: PromptEncoder, x: float, y: float, label: float) -> torch.Tensor:
    return encoder.encode_points(torch.tensor([[[x, y]]]), torch.tensor([[label]]))[0, 0]


def test_point_encoding_is_sine_and_cosine_of_the_projected_pixel_centre(encoder):
    matrix = encoder.pe_layer.positional_encoding_gaussian_matrix.double().numpy()
    angle = 2 * np.pi * (np.array([2 * 100.5 / 1024 - 1, 2 * 700.5 / 1024 - 1]) @ matrix)
    expected = np.concatenate([np.sin(angle), np.cos(angle)]) + encoder.point_embeddings[1].weight[0].numpy()
    np.testing.assert_allclose(encode(encoder, 100, 700, 1).numpy(), expected, atol=1e-5)


def test_labels_differ_by_their_vectors_only(encoder):
    vectors = torch.cat([embedding.weight for embedding in encoder.point_embeddings])
    encoded = torch.stack([encode(encoder, 3, 4, label) for label in range(4)])
    assert torch.allclose(encoded - encoded[0], vectors - vectors[0], atol=1e-5)


def test_padding_point_is_the_not_a_point_vector_wherever_it_lies(encoder):
    for x, y in ((0, 0), (512, 33)):
        assert torch.equal(encode(encoder, x, y, -1), encoder.not_a_point_embed.weight[0])


def test_integer_labels_encode_as_floating_ones(encoder):
    coords = torch.rand(1, 5, 2) * 1024
    labels = torch.tensor([[1, 0, 2, 3, -1]])
    assert torch.equal(encoder.encode_points(coords, labels), encoder.encode_points(coords, labels.float()))


def test_cell_of_the_image_embedding_is_placed_where_its_centre_is(encoder):
    row, column = 5, 40
    bare = encode(encoder, 16 * column + 7.5, 16 * row + 7.5, 1) - encoder.point_embeddings[1].weight[0]
    assert encoder.dense_pe().shape == (1, 256, 64, 64)
    assert torch.allclose(encoder.dense_pe()[0, :, row, column], bare, atol=1e-5)


def test_without_a_mask_every_cell_gets_the_no_mask_vector(encoder):
    dense = encoder.dense(None)
    assert dense.shape == (1, 256, 64, 64)
    assert torch.equal(dense.flatten(2).transpose(1, 2), encoder.no_mask_embed.weight.expand(1, 4096, 256))


def test_mask_prompt_is_brought_to_the_grid(encoder):
    assert encoder.dense(torch.randn(2, 1, 256, 256)).shape == (2, 256, 64, 64)


def test_mask_product_multiplies_each_mask_vector_with_each_pixel():
    hyper = torch.tensor([[[1.0, 2.0], [0.0, -1.0]]])
    upscaled = torch.tensor([[[[1.0, 2.0]], [[10.0, 20.0]]]])
    assert MaskProduct()(hyper, upscaled).tolist() == [[[[21.0, 42.0]], [[-10.0, -20.0]]]]


def test_mask_product_is_a_module_without_parameters():
    assert not list(MaskDecoder().mask_product.state_dict())
