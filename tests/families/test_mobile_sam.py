"""MobileSAM: the network as a whole against upstream's, and what its pieces promise."""

from __future__ import annotations

import pytest
import torch
from golden_picture import OnnxWrapperSuite, read_manifest
from torch.nn import functional as F

from edgesam_export.checkpoints.reading import check_keys
from edgesam_export.errors import CheckpointError
from edgesam_export.families import build_model
from edgesam_export.families.mobile_sam import STAGES, TinyViTEncoder, WindowAttention, distance_indexes
from edgesam_export.modeling.channels_first import PointwiseLinear, Windows
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.rewrites.fold_branches import fold_branches
from edgesam_export.rewrites.layer_norm import layer_norm_2d


class TestMobileSamGoldens(OnnxWrapperSuite):
    MODEL = "mobile_sam"
    PICTURES = (*[("mobile_sam", index) for index in range(3)], ("mobile_sam.extra", 0))
    WRAPPED = ("mobile_sam.extra", 0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("grid", "size"), [(64, 7), (64, 14), (8, 4), (5, 5), (3, 7)])
def test_windows_are_what_unfolding_cuts_and_come_back(grid, size):
    x = random(2, 3, grid, grid)
    windows = Windows(grid, size)
    cut = windows.cut(windows.pad(x), 3)
    columns = F.unfold(windows.pad(x), size, stride=size)  # (2, 3 * size * size, windows)
    expected = columns.permute(2, 0, 1).reshape(-1, 3, 1, size * size)
    assert torch.equal(cut, expected)
    assert torch.equal(windows.join(cut, 3), x)


def test_pointwise_linear_is_a_linear_layer_on_axis_1():
    layer, x = PointwiseLinear(6, 4), random(2, 6, 3, 5)
    expected = F.linear(x.permute(0, 2, 3, 1), layer.weight, layer.bias).permute(0, 3, 1, 2)
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_distances_are_numbered_as_first_met_from_the_first_cell():
    # Counted as TinyViT's authors define it: a new number for every distance not met before.
    size, numbers, expected = 3, {}, []
    cells = [(y, x) for y in range(size) for x in range(size)]
    for one in cells:
        for other in cells:
            apart = (abs(one[0] - other[0]), abs(one[1] - other[1]))
            expected.append(numbers.setdefault(apart, len(numbers)))
    assert distance_indexes(size).flatten().tolist() == expected


@pytest.fixture(scope="module")
def attention() -> WindowAttention:
    """Attention on a 10 x 10 grid, padded to 14 x 14."""
    attention = WindowAttention(10, STAGES[1]).eval().requires_grad_(False)
    fill_random(attention, 3)
    return attention


def test_folded_attention_equals_the_original_and_leaves_it_alone(attention):
    before = {key: value.clone() for key, value in attention.state_dict().items()}
    x = random(2, 128, 10, 10, seed=1)
    expected, found = attention(x), attention.folded()(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert all(torch.equal(value, before[key]) for key, value in attention.state_dict().items())


def test_padding_takes_part_in_attention(attention):
    """Without it, and without its place in the softmax, a window at the border would give something else."""
    x = random(1, 128, 10, 10, seed=1)
    inner = WindowAttention(7, STAGES[1]).eval().requires_grad_(False)
    inner.load_state_dict(attention.state_dict())
    assert torch.allclose(attention(x)[:, :, :7, :7], inner(x[:, :, :7, :7]), atol=1e-5)  # a window of pixels only
    changed = attention.folded()
    changed.norm.bias.data += 1.0  # seen by pixels, and no longer by the padding
    changed.qkv.bias.data -= changed.qkv.weight.sum(1)
    assert (changed(x) - attention(x))[:, :, 7:].abs().max() > 1e-2


@pytest.mark.parametrize("rewrites", [(), (fold_branches, layer_norm_2d)], ids=["as is", "rewritten"])
def test_exported_form_computes_the_same_without_values_of_six_axes(rewrites):
    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image_encoder = TinyViTEncoder(128)

    model = Holder().eval().requires_grad_(False)
    fill_random(model, 5)
    image = random(1, 3, 128, 128, seed=2)
    expected = model.image_encoder(image)
    for rewrite in rewrites:
        rewrite(model)
    found = model.image_encoder(image)
    assert expected.shape == (1, 256, 8, 8)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    graph = torch.jit.trace(model.image_encoder, image, check_trace=False).inlined_graph
    ranks = [
        value.type().dim() for node in graph.nodes() for value in node.outputs() if value.type().kind() == "TensorType"
    ]
    assert max(rank for rank in ranks if rank is not None) <= 5
    assert not [
        node.kind() for node in graph.nodes() if node.kind() in ("aten::size", "aten::Int", "prim::NumToTensor")
    ]


def test_the_classifier_is_kept_for_its_keys_only():
    with torch.device("meta"):
        encoder = build_model("mobile_sam").image_encoder
    assert encoder.head.weight.shape == (1000, 320)
    called = []
    encoder.head.register_forward_hook(lambda *_: called.append(1))
    encoder.norm_head.register_forward_hook(lambda *_: called.append(1))
    with torch.device("meta"):
        assert encoder(torch.empty(1, 3, 1024, 1024)).shape == (1, 256, 64, 64)
    assert not called


@pytest.mark.parametrize(
    ("model", "given", "hint"),
    [
        ("mobile_sam", "sam_vit_b", "the keys look like sam;"),
        ("mobile_sam", "edge_sam", "the keys look like edge_sam;"),
        ("sam_vit_b", "mobile_sam", "the keys look like mobile_sam (or TinySAM);"),
        ("edge_sam", "mobile_sam", "the keys look like mobile_sam (or TinySAM);"),
    ],
)
def test_a_checkpoint_of_another_family_is_named(model, given, hint):
    with torch.device("meta"):
        built = build_model(model)
    with pytest.raises(CheckpointError) as error:
        check_keys(built, read_manifest(given)["state_dict"], where="weights.pt")
    assert hint in str(error.value) and "\n" not in str(error.value)
