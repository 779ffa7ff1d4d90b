"""Segment Anything: the network as a whole against upstream's, and what its pieces promise.

ViT-B alone is run, on the picture whose samples see every column; ViT-L and ViT-H are the same code, and their keys and
shapes are compared without allocating them.
"""

from __future__ import annotations

import pytest
import torch
from golden_picture import OnnxWrapperSuite, assert_same_counts, assert_same_keys, read_manifest

from edgesam_export.checkpoints.reading import check_keys
from edgesam_export.errors import CheckpointError
from edgesam_export.families import build_model
from edgesam_export.families.sam import QUERY_ROWS, Attention
from edgesam_export.modeling.channels_first import PatchEmbedding
from edgesam_export.modeling.random_weights import fill_random


class TestSamGoldens(OnnxWrapperSuite):
    MODEL = "sam_vit_b"
    PICTURES = (("sam_vit_b.extra", 0),)
    WRAPPED = ("sam_vit_b.extra", 0)


@pytest.mark.parametrize("name", ["sam_vit_b", "sam_vit_l", "sam_vit_h"])
def test_keys_shapes_and_counts_are_the_released_checkpoints(name):
    with torch.device("meta"):
        model = build_model(name)
    assert_same_keys(model, read_manifest(name))
    assert_same_counts(model, read_manifest(name))


def test_a_checkpoint_of_another_size_is_refused_by_shape():
    with torch.device("meta"):
        model = build_model("sam_vit_b")
    with pytest.raises(CheckpointError, match=r"image_encoder\.pos_embed \(expected 1x64x64x768, found 1x64x64x1024\)"):
        check_keys(model, read_manifest("sam_vit_l")["state_dict"], where="sam_vit_l_0b3195.pth")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attention_of(side: int) -> Attention:
    attention = Attention(12, 2, side).eval().requires_grad_(False)
    fill_random(attention, 1)
    attention.rel_pos_h *= 20  # so that relative positions matter
    attention.rel_pos_w *= 20
    return attention


def by_hand(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    """The formula cell by cell, in float64: one query, one key and one head at a time."""
    side, heads = attention.side, attention.heads
    width = attention.head_width
    qkv = torch.einsum("oc,cyx->oyx", attention.qkv.weight.double(), x.reshape(-1, side, side).double())
    qkv += attention.qkv.bias.double()[:, None, None]
    q, k, v = qkv.reshape(3, heads, width, side, side)
    out = torch.zeros(heads, width, side, side, dtype=torch.float64)
    cells = [(y, x) for y in range(side) for x in range(side)]
    for head in range(heads):
        for y, x_ in cells:
            query = q[head, :, y, x_]
            scores = [
                query @ k[head, :, ky, kx] / width**0.5
                + query @ attention.rel_pos_h[y - ky + side - 1].double()
                + query @ attention.rel_pos_w[x_ - kx + side - 1].double()
                for ky, kx in cells
            ]
            weights = torch.stack(scores).softmax(0)
            out[head, :, y, x_] = sum(weight * v[head, :, ky, kx] for weight, (ky, kx) in zip(weights, cells))
    out = torch.einsum("oc,cyx->oyx", attention.proj.weight.double(), out.reshape(-1, side, side))
    return out + attention.proj.bias.double()[:, None, None]


def test_attention_is_the_formula_of_decomposed_relative_positions():
    attention, x = attention_of(4), random(1, 12, 1, 16)
    assert torch.allclose(attention(x).reshape(12, 4, 4).double(), by_hand(attention, x), atol=1e-5)


def test_queries_in_chunks_attend_as_all_at_once(monkeypatch):
    attention, x = attention_of(24), random(2, 12, 1, 24 * 24)
    chunked = attention(x)
    monkeypatch.setattr("edgesam_export.families.sam.QUERY_ROWS", 24)
    assert QUERY_ROWS < 24
    assert torch.allclose(chunked, attention(x), atol=1e-6)


@pytest.mark.parametrize("side", [14, 24])
def test_attention_has_no_value_of_more_than_four_axes_and_computes_no_shape(side):
    graph = torch.jit.trace(attention_of(side), random(2, 12, 1, side * side), check_trace=False).inlined_graph
    outputs = [value for node in graph.nodes() for value in node.outputs() if value.type().kind() == "TensorType"]
    ranks = [value.type().dim() for value in outputs if value.type().dim() is not None]
    assert len(ranks) > 20 and max(ranks) <= 4
    assert not [
        node.kind() for node in graph.nodes() if node.kind() in ("aten::size", "aten::Int", "prim::NumToTensor")
    ]


def test_folded_patch_embedding_has_small_kernels_and_equals_the_original():
    patches, image = PatchEmbedding(8).eval().requires_grad_(False), random(2, 3, 64, 48)
    fill_random(patches, 4)
    folded = patches.folded()
    assert max(folded[1].kernel_size) == 4
    assert torch.allclose(folded(image), patches(image), atol=1e-5)


def test_global_attention_is_divided_last_where_probabilities_vanish_in_half_precision():
    attention, x = attention_of(24), random(1, 12, 1, 24 * 24) * 3
    folded, windowed = attention.folded(), attention_of(4).folded()
    assert folded.divides_last and not windowed.divides_last and not attention.divides_last
    assert torch.allclose(folded(x), attention(x), atol=1e-5)
    graph = torch.jit.trace(folded, x, check_trace=False).inlined_graph
    kinds = [node.kind() for node in graph.nodes()]
    assert "aten::softmax" not in kinds and "aten::exp" in kinds


def test_folded_attention_equals_the_original_and_leaves_it_alone():
    attention, x = attention_of(4), random(2, 12, 1, 16)
    before = attention.qkv.weight.clone()
    folded = attention.folded()
    assert folded.key_scale == 1 and not torch.equal(folded.qkv.weight, before)
    assert torch.allclose(folded(x), attention(x), atol=1e-6)
    assert torch.equal(attention.qkv.weight, before)
