"""EfficientViT-SAM: the network as a whole against upstream's, and what its pieces promise.

L0 alone is run; the others are the same code, and their keys and shapes are compared without allocating them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_picture import GoldenSuite, assert_same_counts, assert_same_keys, read_manifest
from torch import nn

from edgesam_export.ane.view import view_program
from edgesam_export.checkpoints.reading import check_keys, read_state_dict
from edgesam_export.errors import CheckpointError
from edgesam_export.export.trace import trace_component
from edgesam_export.families import build_model, model_info
from edgesam_export.families.efficientvit_sam import CONFIGS, ConvLayer, EfficientViTEncoder, Upsample
from edgesam_export.mil.program import load_program
from edgesam_export.modeling.common import LayerNorm2d
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.profiles import find_profile
from edgesam_export.rewrites import apply_rewrites, recommended_rewrites
from edgesam_export.rewrites.bicubic import BicubicMatmul, BicubicPhases
from edgesam_export.spec import CoreMLConfig

SIDES = {"l0": 512, "l1": 512, "l2": 512, "xl0": 1024, "xl1": 1024}
NAMES = [f"efficientvit_sam_{size}" for size in SIDES]


class TestEfficientViTSamGoldens(GoldenSuite):
    MODEL = "efficientvit_sam_l0"
    PICTURES = (*[("efficientvit_sam_l0", index) for index in range(3)], ("efficientvit_sam_l0.extra", 0))


def on_meta(name: str) -> SamModel:
    with torch.device("meta"):
        return build_model(name)


@pytest.mark.parametrize("name", NAMES)
def test_keys_shapes_and_counts_are_the_released_checkpoints(name):
    model = on_meta(name)
    assert_same_keys(model, read_manifest(name))
    assert_same_counts(model, read_manifest(name))


@pytest.mark.parametrize("name", NAMES)
def test_picture_and_prompt_live_in_their_own_frames(name):
    info = model_info(name)
    assert (info.frame.size, info.frame.prompt_size) == (SIDES[name.rpartition("_")[2]], 1024)
    assert (info.family, info.default_score, info.upsample) == ("efficientvit_sam", "iou", "bicubic")
    model = on_meta(name)
    assert model.prompt_encoder.prompt_size == 1024
    with torch.device("meta"):
        embedding = model.encode(torch.empty(1, 3, info.frame.size, info.frame.size))
    assert embedding.shape == (1, 256, 64, 64)


def test_every_norm_has_the_epsilon_of_upstreams_constructor():
    """Beyond the golden files: 1e-6 and 1e-5 differ by less than their tolerance where a variance is about 1."""
    model = on_meta("efficientvit_sam_xl0")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.LayerNorm | LayerNorm2d)]
    assert {type(norm) for norm in norms} == {nn.BatchNorm2d, nn.LayerNorm, LayerNorm2d}
    assert {norm.eps for norm in norms} == {1e-6}


def test_encoder_has_the_tanh_gelu_and_the_decoder_the_exact_one():
    model = on_meta("efficientvit_sam_l0")
    forms = [{m.approximate for m in part.modules() if isinstance(m, nn.GELU)} for part in model.children()]
    assert forms == [{"tanh"}, {"none"}, {"none"}]


# ------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("wrapper", [None, "state_dict"])
def test_checkpoint_may_be_bare_or_under_state_dict(wrapper, tmp_path):
    tensors = {"image_encoder.norm.weight": torch.arange(3.0), "mask_decoder.iou_token.weight": torch.ones(1, 3)}
    torch.save(tensors if wrapper is None else {wrapper: tensors, "epoch": 3}, tmp_path / "weights.pt")
    found = read_state_dict(tmp_path / "weights.pt")
    assert list(found) == list(tensors)
    assert all(torch.equal(found[key], value) for key, value in tensors.items())


def test_a_checkpoint_of_another_size_is_refused():
    with pytest.raises(CheckpointError, match=r"unexpected: image_encoder\.backbone\.stages\.3\.op_list\.5\.main"):
        check_keys(on_meta("efficientvit_sam_l0"), read_manifest("efficientvit_sam_l1")["state_dict"], where="l1.pt")


def test_a_checkpoint_of_this_family_is_named():
    with pytest.raises(CheckpointError, match="the keys look like efficientvit_sam;"):
        check_keys(on_meta("edge_sam"), read_manifest("efficientvit_sam_l0")["state_dict"], where="l0.pt")


# ------------------------------------------------------------------------------------------ pieces


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", [True, False])
def test_folded_layer_equals_the_original(norm):
    layer = ConvLayer(6, 4, 3, stride=2, bias=not norm, norm=norm).eval().requires_grad_(False)
    fill_random(layer, 2)
    x, folded = random(1, 6, 9, 9), layer.folded()
    if norm:
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        assert torch.allclose(folded(x), layer(x), atol=1e-6)
    else:
        assert folded is None


@pytest.mark.parametrize("scale", [3, 4])
@pytest.mark.parametrize("kind", ["matmul", "phases"])
def test_bicubic_upsampling_by_any_whole_factor_is_exact(scale, kind):
    x = random(2, 3, 5, 7, seed=4, scale=50.0)
    x[0, 0, 0, 0], x[0, 1, -1, -1] = 1000.0, -1000.0  # at the edges, where samples are repeated
    module = BicubicMatmul((5, 7), (5 * scale, 7 * scale)) if kind == "matmul" else BicubicPhases(3, scale)
    expected = Upsample("bicubic", 3, scale)(x.double())
    assert expected.shape == (2, 3, 5 * scale, 7 * scale)
    assert (module(x) - expected).abs().max() <= 1e-6 * expected.abs().max()


# ------------------------------------------------------------------------------------------ export

# The real thing but for widths: one block a stage, 16 x 16 cells of attention, 16 -> 64 and 32 -> 64 in the neck.
SMALL = replace(
    CONFIGS["efficientvit_sam_l0"], widths=(8, 8, 16, 16, 64), depths=(1, 1, 1, 1, 1), expansions=(1,) * 5, neck_depth=1
)
PICTURE = random(1, 3, 512, 512, seed=7)


@pytest.fixture(scope="module")
def small() -> SamModel:
    model = SamModel(
        info=model_info("efficientvit_sam_l0"),
        image_encoder=EfficientViTEncoder(SMALL),
        prompt_encoder=PromptEncoder(),
        mask_decoder=MaskDecoder(layer_norm_eps=1e-6),
    )
    fill_random(model, 9)
    return model


@pytest.fixture(scope="module")
def traced(small):
    config = CoreMLConfig(tensor_input=True)
    component = find_profile("default").encoder(apply_rewrites(small, recommended_rewrites("coreml")), config)
    return trace_component(component, small, config, recommended_rewrites("coreml"), format="coreml"), config


@pytest.fixture(scope="module")
def program(traced, tmp_path_factory):
    from edgesam_export.formats.coreml.convert import save_package

    path = tmp_path_factory.mktemp("coreml") / "encoder.mlpackage"
    save_package(*traced, path)
    return load_program(path)


@pytest.mark.parametrize("bicubic", ["bicubic_as_matmul", "bicubic_as_phases"])
def test_rewritten_encoder_computes_the_same(small, bicubic):
    names = (*(name for name in recommended_rewrites("coreml") if "bicubic" not in name), bicubic)
    rewritten = apply_rewrites(small, names).image_encoder
    kinds = {type(module) for module in rewritten.modules()}
    assert not kinds & {nn.BatchNorm2d, Upsample, LayerNorm2d}
    expected = small.encode(PICTURE)
    assert (rewritten(PICTURE) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_traced_encoder_has_no_value_of_more_than_four_axes_and_computes_no_shape(traced):
    nodes = list(traced[0].module.inlined_graph.nodes())
    outputs = [value for node in nodes for value in node.outputs() if value.type().kind() == "TensorType"]
    ranks = [value.type().dim() for value in outputs if value.type().dim() is not None]
    assert len(ranks) > 40 and max(ranks) <= 4
    assert not {node.kind() for node in nodes} & {"aten::size", "aten::Int", "prim::NumToTensor", "aten::index"}


def test_exported_gelu_keeps_its_tanh_form(program):
    graph = view_program(program)
    gelus = list(graph.of("gelu"))
    activations = sum(isinstance(module, nn.GELU) for module in EfficientViTEncoder(SMALL).modules())
    assert len(gelus) == activations > 10
    assert {graph.text(node, "mode") for node in gelus} == {"TANH_APPROXIMATION"}
    assert not list(graph.of("tanh", "erf", "batch_norm", "gather", "upsample_bilinear"))


@pytest.mark.parametrize(("numerics", "least"), [("fp32", 80.0), ("fp16", 50.0), ("ane", 50.0)])
def test_exported_encoder_agrees_with_pytorch(small, program, numerics, least):
    expected = small.encode(PICTURE).double().numpy()
    found = program.predict({"image": PICTURE.numpy().astype(np.float16)}, numerics=numerics)["image_embeddings"]
    noise = np.mean((found.astype(np.float64) - expected) ** 2)
    assert 10 * np.log10(np.abs(expected).max() ** 2 / noise) >= least
