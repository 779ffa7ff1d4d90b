"""Forms for runtimes of matrix products: several prompts, long prompts, SAM's blocks, and what their graphs hold."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
import torch
from small_models import SMALL, small_model

from edgesam_export.families.sam import GRID, Block, SamEncoder, ViTConfig
from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.transformer import TwoWayTransformer
from edgesam_export.rewrites import apply_rewrites
from edgesam_export.rewrites.token_side import TokenSideTransformer

CONFIG = ViTConfig(width=32, depth=2, heads=2, global_blocks=(1,))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def transformer() -> TwoWayTransformer:
    made = TwoWayTransformer(dim=64, mlp_dim=96)
    fill_random(made, 3)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("keep_position", [False, True])
@pytest.mark.parametrize(("prompts", "count"), [(1, 1), (1, 40), (3, 8)])
def test_the_transformer_takes_any_number_of_prompts_and_tokens(keep_position, prompts, count):
    made = TwoWayTransformer(dim=64, mlp_dim=96, keep_position=keep_position)
    fill_random(made, 3)
    made.eval().requires_grad_(False)
    bias = torch.zeros(prompts, count)
    bias[:, count // 2 + 1 :] = -1e4
    inputs = random(prompts, 64, 5, 7), random(1, 64, 5, 7, seed=1), random(prompts, count, 64, seed=2), bias
    for found, expected in zip(TokenSideTransformer(made, (5, 7))(*inputs), made(*inputs), strict=True):
        assert relative(found, expected) <= 1e-5


def test_an_empty_slot_takes_no_part(transformer):
    image, position, tokens = random(1, 64, 5, 7), random(1, 64, 5, 7, seed=1), random(1, 4, 64, seed=2)
    padded = torch.cat([tokens, 50.0 * random(1, 3, 64, seed=4)], dim=1)
    bias = torch.tensor([[0.0] * 4 + [-1e4] * 3])
    rewritten = TokenSideTransformer(transformer, (5, 7))
    alone, beside = rewritten(image, position, tokens), rewritten(image, position, padded, bias)
    assert relative(beside[0][:, :4], alone[0]) <= 1e-6 and relative(beside[1], alone[1]) <= 1e-6


def test_blocks_of_sam_attend_in_padded_windows_and_everywhere():
    encoder = SamEncoder(CONFIG)
    model = SamModel(
        info=replace(SMALL, family="sam"),
        image_encoder=encoder,
        prompt_encoder=small_model().prompt_encoder,
        mask_decoder=small_model().mask_decoder,
    )
    fill_random(model, 7)
    x = random(1, 32, GRID, GRID)
    expected = [block(x) for block in encoder.blocks]
    folded = apply_rewrites(model, ("fold_branches", "blocks_channels_last")).image_encoder
    normed = apply_rewrites(model, ("layer_norm_last_axis", "blocks_channels_last")).image_encoder
    for rewritten in (folded, normed):
        assert not any(isinstance(part, Block | LayerNorm2d) for part in rewritten.blocks.modules())
    assert max(relative(block(x), value) for block, value in zip(folded.blocks, expected, strict=True)) <= 1e-5
    assert relative(normed.blocks[0](x), expected[0]) <= 1e-5  # the one with windows, which is quicker


def test_the_graph_of_a_decoder_has_norms_as_one_operation_each_and_projects_tokens_alone(tmp_path):
    from edgesam_export import OnnxConfig, export_onnx

    model = small_model(SMALL)
    path = export_onnx(model, tmp_path, OnnxConfig(points=3))[1].path
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    kinds = [node.op_type for node in graph.node]
    norms = sum(isinstance(part, LayerNorm2d | torch.nn.LayerNorm) for part in model.mask_decoder.modules())
    assert kinds.count("LayerNormalization") == norms
    assert not {"ReduceMean", "ReduceMax", "ConvTranspose", "Shape"} & set(kinds)
    weights = {entry.name: tuple(entry.dims) for entry in graph.initializer}
    shapes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in graph.value_info}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights and "transformer" in node.name:
            assert GRID * GRID not in shapes[node.input[0]], node.name
