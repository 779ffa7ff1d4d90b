"""SAM 2 and SAM 2.1 on single images against upstream's code, and what the trunk's layout promises."""

from __future__ import annotations

import re
import sys
import warnings

import pytest
import torch
from golden_picture import read_manifest
from golden_pyramid import PyramidSuite
from torch.nn import functional as F

from edgesam_export.checkpoints.dialects import SAM2_STYLE
from edgesam_export.checkpoints.hints import NEWER_KEYS, other_release, shapes_of
from edgesam_export.checkpoints.layouts import nearest_difference
from edgesam_export.checkpoints.manifest import checkpoint_for
from edgesam_export.checkpoints.names import named_tensors
from edgesam_export.checkpoints.reading import check_keys
from edgesam_export.errors import CheckpointError, EdgeSAMExportWarning
from edgesam_export.families import build_model, load_model, model_info, model_names
from edgesam_export.families.sam2 import CONFIGS, HieraEncoder
from edgesam_export.modeling.hiera import Hiera, HieraConfig, from_quads, to_quads
from edgesam_export.modeling.random_weights import fill_random

MODELS = [f"sam2.1_hiera_{size}" for size in CONFIGS]


class TestTinyGoldens(PyramidSuite):
    MODEL = "sam2.1_hiera_tiny"
    PICTURES = (("sam2.1_hiera_tiny.extra", 0),)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", MODELS)
def test_image_part_has_the_released_keys_shapes_and_counts(name):
    manifest = read_manifest(name)
    with torch.device("meta"):
        model = build_model(name)
    found = {SAM2_STYLE.spelled(key): list(value.shape) for key, value in model.state_dict().items()}
    video = set(manifest["video_only"])
    assert found == {key: shape for key, shape in manifest["state_dict"].items() if key not in video}
    assert sum(parameter.numel() for parameter in model.parameters()) == manifest["parameters_image_mode"]


def test_both_releases_are_the_same_networks():
    for size in CONFIGS:
        older, newer = (model_info(f"{release}_hiera_{size}") for release in ("sam2", "sam2.1"))
        assert older.family == newer.family == "sam2" and older.frame == newer.frame
        with torch.device("meta"):
            shapes = [
                {key: value.shape for key, value in build_model(info.name).state_dict().items()}
                for info in (older, newer)
            ]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("model", "newer", "says"),
    [
        ("sam2.1_hiera_tiny", False, "weights of SAM 2 of July 2024, exported as sam2.1_hiera_tiny;"),
        ("sam2_hiera_tiny", True, "weights of SAM 2.1, exported as sam2_hiera_tiny;"),
        ("sam2.1_hiera_tiny", True, None),
        ("sam2_hiera_tiny", False, None),
        ("edgetam", False, None),
    ],
)
def test_the_video_part_tells_the_releases_apart(model, newer, says):
    manifest = read_manifest("edgetam" if model == "edgetam" else "sam2.1_hiera_tiny")
    keys = [f"model.{key}" for key in manifest["state_dict"] if newer or not key.startswith(NEWER_KEYS)]
    assert len(manifest["state_dict"]) - len(keys) == (3 if model != "edgetam" and not newer else 0)
    found = other_release(model, keys)
    assert (says is None and found is None) or says in found
    image = [key for key in keys if not any(part in key for part in manifest["video_only"])]
    assert other_release(model, image) is None  # an image part alone does not tell


@pytest.mark.parametrize(
    ("model", "newer", "title", "name"),
    [("sam2_hiera_tiny", True, "SAM 2.1", "sam2.1_"), ("sam2.1_hiera_tiny", False, "SAM 2 of July 2024", "sam2_")],
)
def test_the_other_release_is_read_with_a_warning(tmp_path, model, newer, title, name):
    """A whole file, video part and all: the weights are used, and whose they are is said."""
    shapes = read_manifest("sam2.1_hiera_tiny")["state_dict"]
    kept = {key: torch.zeros(shape) for key, shape in shapes.items() if newer or not key.startswith(NEWER_KEYS)}
    kept["no_mem_embed"] = torch.full_like(kept["no_mem_embed"], 0.25)
    file = tmp_path / "mine.pt"
    torch.save({"model": kept}, file)
    said = rf"^mine\.pt: these are weights of {re.escape(title)}, .* name the model {re.escape(name)}hiera_tiny$"
    with pytest.warns(EdgeSAMExportWarning, match=said):
        loaded = load_model(model, file)
    assert bool((loaded.image_encoder.neck.no_mem_embed == 0.25).all())
    assert "not read: model.maskmem_tpos_enc" in loaded.provenance.note


def test_every_size_has_its_published_file():
    for name in (name for name in model_names() if model_info(name).family == "sam2"):
        file = checkpoint_for(name)
        assert file is not None and file.licence == "Apache-2.0" and file.name == f"{name}.pt"
        if name.startswith("sam2.1"):
            assert file.sha256 and file.bytes and "092824" in file.url
        else:
            assert "072824" in file.url


@pytest.mark.parametrize(
    ("model", "given", "hint"),
    [
        ("sam2.1_hiera_tiny", "sam_vit_b", "look like sam;"),
        ("sam2.1_hiera_tiny", "edgetam", "look like edgetam;"),
        ("edge_sam", "sam2.1_hiera_small", "look like sam2;"),
        ("sam_vit_b", "sam2.1_hiera_tiny", "look like sam2;"),
        ("sam_vit_b", "edgetam", "look like edgetam;"),
    ],
)
def test_a_checkpoint_of_another_family_is_named(model, given, hint):
    with torch.device("meta"):
        built = build_model(model)
    with pytest.raises(CheckpointError) as error:
        check_keys(built, read_manifest(given)["state_dict"], where="weights.pt")
    assert hint in str(error.value) and "\n" not in str(error.value)


def test_a_checkpoint_of_another_size_lacks_the_encoder_and_nothing_else():
    manifest = read_manifest("sam2.1_hiera_tiny")
    with torch.device("meta"):
        small = build_model("sam2.1_hiera_small")
        names = named_tensors({"model": {key: torch.zeros(shape) for key, shape in manifest["state_dict"].items()}})
    text = nearest_difference(names, [shapes_of(small.state_dict())])
    assert "it has no whole image_encoder, and a part alone" in text and "image_encoder.trunk.blocks.12." in text


@pytest.mark.parametrize(("batch", "levels"), [(1, 3), (2, 3), (1, 2), (1, 1), (2, 1)])
def test_quads_are_windows_and_come_back(batch, levels):
    side = 32 << levels
    x = random(batch, 3, side, side)
    quads = to_quads(x, levels, 3)
    assert torch.equal(from_quads(quads, levels, 3), x)
    windows = F.unfold(x, 1 << levels, stride=1 << levels).reshape(batch, 3, -1, 1024)
    assert torch.equal(quads.sort(dim=2).values, windows.sort(dim=2).values)
    pooled = F.max_pool2d(quads, (4, 1))
    expected = F.max_pool2d(x, 2)
    assert torch.equal(from_quads(pooled, levels - 1, 3) if levels > 1 else pooled.reshape(expected.shape), expected)


SMALL = HieraConfig(width=8, heads=1, depths=(1, 2, 3, 2), global_blocks=(4,))


@pytest.fixture(scope="module")
def encoder() -> HieraEncoder:
    """A narrow trunk at full resolution, every kind of block in it."""
    encoder = HieraEncoder(SMALL).eval().requires_grad_(False)
    fill_random(encoder, 5)
    return encoder


def test_folded_encoder_equals_the_original_and_leaves_it_alone(encoder):
    image = random(1, 3, 1024, 1024, seed=1)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    for expected, found in zip(encoder(image), encoder.folded()(image)):
        assert expected.shape == found.shape
        assert (expected - found).abs().max() <= 1e-5 * expected.abs().max()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_every_product_of_the_folded_encoder_has_the_kernel_of_a_layer(encoder):
    """A part of a weight would be a constant that no layer owns: it stays FP16 in a compressed package."""
    folded = encoder.folded()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch.jit.trace(folded, torch.zeros(1, 3, 1024, 1024), check_trace=False).inlined_graph
    products = [node for node in graph.nodes() if node.kind() == "aten::_convolution"]
    assert products
    for product in products:
        made = list(product.inputs())[1].node()
        while made.kind() != "prim::GetAttr":
            if made.kind() != "aten::unsqueeze":  # weight[:, None] is a slice too, of the whole axis
                assert made.kind() == "aten::slice"
                assert [value.toIValue() for value in made.inputs()][2:] == [0, sys.maxsize, 1]
            made = next(iter(made.inputs())).node()
    again = folded.trunk.folded()  # what is folded for good is exported like any other
    assert [key for key, _ in again.named_parameters()] == [key for key, _ in folded.trunk.named_parameters()]


def test_two_images_at_once_are_two_images(encoder):
    images = random(2, 3, 1024, 1024, seed=2)
    together = encoder(images)
    for index in range(2):
        for one, part in zip(encoder(images[index : index + 1]), together):
            assert (one[0] - part[index]).abs().max() <= 1e-5 * part.abs().max()


def test_exported_form_has_no_value_of_six_axes_and_computes_no_shape(encoder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch.jit.trace(encoder.folded(), torch.zeros(1, 3, 1024, 1024), check_trace=False).inlined_graph
    values = [value for node in graph.nodes() for value in node.outputs() if value.type().kind() == "TensorType"]
    sizes = [value.type().sizes() for value in values if value.type().sizes() is not None]
    assert sizes and max(map(len, sizes)) <= 5
    assert not [node.kind() for node in graph.nodes() if node.kind() in ("aten::size", "prim::NumToTensor")]


def test_global_attention_is_softmax_attention(encoder):
    attention = Hiera(SMALL).blocks[4].attn
    q, k, v = (random(1, 4, 8, 1024, seed=seed) for seed in range(3))
    expected = attention.attend(q, k, v)
    assert (attention.attend_to_all(q, k, v) - expected).abs().max() <= 1e-5 * expected.abs().max()
