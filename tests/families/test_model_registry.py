"""Names, builders and loading: families/__init__.py."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from edgesam_export.errors import CheckpointError, UsageError
from edgesam_export.families import build_model, load_model, model_info, model_names, register_model
from edgesam_export.spec import ModelInfo, Provenance


def test_importing_the_registry_does_not_import_torch():
    code = "import sys, edgesam_export.families; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_both_published_checkpoints_are_models():
    assert {"edge_sam", "edge_sam_3x"} <= set(model_names())


@pytest.mark.parametrize("name", ["edge_sam", "edge_sam_3x"])
def test_edge_sam_scores_by_stability_and_upsamples_bicubically(name):
    info = model_info(name)
    assert (info.name, info.family) == (name, "edge_sam")
    assert (info.default_score, info.upsample) == ("stability", "bicubic")
    assert (info.frame.size, info.frame.prompt_size) == (1024, 1024)


def test_unknown_model_is_refused_with_the_known_names():
    with pytest.raises(UsageError, match=r"unknown model 'edge_sma'.*edge_sam"):
        load_model("edge_sma", random_weights=0)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("vit_t", "it is called mobile_sam here"),
        ("vit_b", "it is called sam_vit_b here"),
        ("vit-h", "it is called sam_vit_h here"),
        ("facebook/sam-vit-large", "it is called sam_vit_l here"),
        ("EdgeSAM", "it is called edge_sam or edge_sam_3x here"),
        ("edge_sam_3x.pth", "it is called edge_sam_3x here"),
        ("MobileSAM", "it is called mobile_sam here"),
        ("efficientvit-sam-xl1", "it is called efficientvit_sam_xl1 here"),
        ("l0", "it is called efficientvit_sam_l0 here"),
        ("EfficientSAM-Ti", "it is called efficient_sam_vitt here"),
        ("MedSAM", "it is called medsam here"),
        ("medsam_vit_b.pth", "it is called medsam here"),
        ("wanglab/medsam-vit-base", "it is called medsam here"),
        ("sam2_hiera_t", "it is called sam2_hiera_tiny here"),
        ("sam2.1_hiera_b+", "it is called sam2.1_hiera_base_plus here"),
        ("configs/sam2.1/sam2.1_hiera_b+.yaml", "it is called sam2.1_hiera_base_plus here"),
        ("sam2.1_hiera_large.pt", "it is called sam2.1_hiera_large here"),
        ("facebook/sam2.1-hiera-tiny", "it is called sam2.1_hiera_tiny here"),
        ("apple/coreml-sam2.1-baseplus", "it is called sam2.1_hiera_base_plus here"),
        ("sam2_s.pt", "it is called sam2_hiera_small here"),
        ("sam2", "it is called sam2.1_hiera_tiny or sam2.1_hiera_small or sam2.1_hiera_base_plus or sam2.1_hiera_l"),
        ("SAM 2.1", "it is called sam2.1_hiera_tiny or "),
        ("facebook/EdgeTAM", "it is called edgetam here"),
        ("edge_tam.pt", "it is called edgetam here"),
        ("repvit_sam", "repvit_sam is known "),
        ("sam_hq_vit_l", "HQ-SAM is not exported yet"),
    ],
)
def test_names_of_other_repositories_say_what_is_meant(name, meaning):
    with pytest.raises(UsageError) as error:
        load_model(name, random_weights=0)
    assert str(error.value).startswith(f"unknown model '{name}': {meaning}")


def test_a_misspelled_model_names_the_nearest():
    with pytest.raises(UsageError, match=r"choose one of: .*; did you mean edge_sam\?"):
        load_model("edge_sma", random_weights=0)


def test_a_model_name_can_be_registered_once():
    model_names()
    with pytest.raises(ValueError, match="edge_sam"):
        register_model(ModelInfo(name="edge_sam", family="edge_sam"))(lambda info: None)


def test_unknown_upsampling_is_refused():
    with pytest.raises(UsageError, match="nearest"):
        build_model("edge_sam", upsample="nearest")


def test_upsampling_override_is_visible_in_the_info():
    assert build_model("edge_sam", upsample="bilinear").info.upsample == "bilinear"
    assert model_info("edge_sam").upsample == "bicubic"


def test_checkpoint_and_random_weights_exclude_each_other():
    with pytest.raises(UsageError, match="pass one"):
        load_model("edge_sam", "weights.pth", random_weights=1)


def test_random_weights_are_declared_in_the_provenance():
    model = load_model("edge_sam", random_weights=7)
    assert model.provenance == Provenance(source="random-weights", random_seed=7, licence="none: random weights")
    assert not model.training


@pytest.fixture(scope="module")
def parameters() -> dict[str, torch.Tensor]:
    return load_model("edge_sam", random_weights=11).state_dict()


def save(parameters: dict[str, torch.Tensor], folder) -> str:
    path = folder / "weights.pth"
    torch.save(parameters, path)
    return str(path)


def test_checkpoint_file_is_loaded_with_its_provenance(parameters, tmp_path):
    model = load_model("edge_sam", save(parameters, tmp_path))
    assert all(torch.equal(value, parameters[key]) for key, value in model.state_dict().items())
    assert model.provenance.source == "weights.pth"
    assert model.provenance.random_seed is None
    assert not any(p.requires_grad for p in model.parameters())


def test_checkpoint_without_one_key_is_refused_by_name(parameters, tmp_path):
    lacking = {key: value for key, value in parameters.items() if key != "mask_decoder.iou_token.weight"}
    with pytest.raises(CheckpointError, match=r"mask_decoder\.iou_token\.weight"):
        load_model("edge_sam", save(lacking, tmp_path))


def test_checkpoint_with_a_key_too_many_is_refused_by_name(parameters, tmp_path):
    with pytest.raises(CheckpointError, match=r"surplus\.weight"):
        load_model("edge_sam", save({**parameters, "surplus.weight": torch.zeros(1)}, tmp_path))


def test_checkpoint_with_another_shape_is_refused_by_name(parameters, tmp_path):
    with pytest.raises(CheckpointError, match=r"prompt_encoder\.no_mask_embed\.weight"):
        load_model("edge_sam", save({**parameters, "prompt_encoder.no_mask_embed.weight": torch.zeros(1, 8)}, tmp_path))
