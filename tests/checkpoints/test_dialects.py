"""Other libraries' key names; the libraries themselves are the witnesses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgesam_export.checkpoints.dialects import DIALECTS, SAM2_STYLE, TRANSFORMERS
from edgesam_export.checkpoints.hints import family_of_keys, other_release
from edgesam_export.checkpoints.selection import read_weights
from edgesam_export.errors import CheckpointError
from edgesam_export.families import build_model, load_model, model_info
from edgesam_export.families.sam import SamEncoder, ViTConfig
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel


def small_sam() -> SamModel:
    """A SAM of two blocks, one of windows and one global."""
    config = ViTConfig(width=32, depth=2, heads=2, global_blocks=(1,))
    model = SamModel(
        info=model_info("sam_vit_b"),
        image_encoder=SamEncoder(config),
        prompt_encoder=PromptEncoder(prompt_size=1024),
        mask_decoder=MaskDecoder(),
    )
    return model.eval()


@pytest.fixture(scope="module")
def theirs():
    """The same network as transformers builds it, with parameters that are not its initial ones."""
    pytest.importorskip("transformers", reason="transformers has no release for Python 3.10")
    from transformers.models.sam.configuration_sam import SamConfig, SamVisionConfig
    from transformers.models.sam.modeling_sam import SamModel as TheirSamModel

    vision = SamVisionConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, global_attn_indexes=[1], mlp_dim=128
    )
    model = TheirSamModel(SamConfig(vision_config=vision)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


@pytest.fixture(scope="module")
def loaded(theirs, tmp_path_factory):
    """Our network with the weights of the file that transformers writes."""
    folder = tmp_path_factory.mktemp("transformers")
    theirs.save_pretrained(folder)
    model = small_sam()
    state, note = read_weights(folder / "model.safetensors", [model.state_dict()], constants={})
    assert note == "weights of model.safetensors: renamed from transformers' SamModel"
    model.load_state_dict(state)
    return model


@pytest.fixture(scope="module")
def embeddings(theirs, loaded):
    """Transformers' embedding of an image, and ours."""
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 1024, 1024)).astype(np.float32))
    with torch.no_grad():
        return theirs.get_image_embeddings(image), loaded.encode(image)


@pytest.mark.parametrize("box", [False, True], ids=["points", "box"])
def test_transformers_weights_give_transformers_masks(theirs, loaded, embeddings, box):
    corners = torch.tensor([[[100.0, 200.0], [700.0, 800.0]]])
    with torch.no_grad():
        prompts = {"input_boxes": corners.reshape(1, 1, 4)} if box else {"input_points": corners[:, None]}
        labels = {} if box else {"input_labels": torch.tensor([[[1, 0]]])}
        expected = theirs(image_embeddings=embeddings[0], multimask_output=True, **prompts, **labels)
        ours = torch.tensor([[2, 3]]) if box else torch.tensor([[1, 0, -1]])
        coords = corners if box else torch.cat([corners, torch.zeros(1, 1, 2)], dim=1)
        masks, scores = loaded.decode(embeddings[1], coords, ours)
    torch.testing.assert_close(masks[:, 1:], expected.pred_masks[:, 0], atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(scores[:, 1:], expected.iou_scores[:, 0], atol=1e-4, rtol=1e-4)


def test_the_state_dict_with_the_repeated_tensor_is_read_too(theirs, loaded, tmp_path):
    torch.save({f"model.{key}": value for key, value in theirs.state_dict().items()}, tmp_path / "a.pth")
    state, note = read_weights(tmp_path / "a.pth", [small_sam().state_dict()], constants={})
    assert note == "weights of a.pth: found under 'model'; renamed from transformers' SamModel"
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


def test_transformers_weights_of_another_family_say_what_they_are(theirs, tmp_path):
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"the keys look like sam \(in transformers' names\)"):
        load_model("edge_sam", tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["edge_sam_tiny", "mobile_sam"])
def test_a_decoder_in_sam_2s_names_is_read(name, tmp_path):
    model = build_model(name)
    fill_random(model, 0)
    own = model.state_dict()
    torch.save({"model": {SAM2_STYLE.spelled(key): value for key, value in own.items()}}, tmp_path / "a.pth")
    loaded = load_model(name, tmp_path / "a.pth")
    assert "renamed from SAM 2's names" in loaded.provenance.note
    assert all(torch.equal(value, own[key]) for key, value in loaded.state_dict().items())


@pytest.fixture(scope="module")
def their_sam2():
    """SAM 2.1 tiny as transformers builds it for videos, with parameters that are not its initial ones."""
    pytest.importorskip("transformers", reason="transformers has no release for Python 3.10")
    from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoConfig
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoModel

    model = Sam2VideoModel(Sam2VideoConfig()).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    share_positions(model)
    return model


def share_positions(model) -> None:
    """Make the tensor that is there twice one, as in published weights; at random initialisation it is not."""
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)


@pytest.fixture(scope="module")
def loaded_sam2(their_sam2, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam2")
    their_sam2.save_pretrained(folder)
    return load_model("sam2.1_hiera_tiny", folder / "model.safetensors")


def test_transformers_sam_2_gives_transformers_embedding_and_masks(their_sam2, loaded_sam2, tmp_path):
    """Of the file for videos, and of the image model's own state dict; transformers' image model is the witness."""
    from transformers.models.sam2.configuration_sam2 import Sam2Config
    from transformers.models.sam2.modeling_sam2 import Sam2Model

    note = loaded_sam2.provenance.note
    assert "renamed from transformers' Sam2Model; not read: mask_downsample (2 tensors), memory_attention (106" in note
    witness = Sam2Model(Sam2Config()).eval()
    state = {key: value for key, value in their_sam2.state_dict().items() if key in witness.state_dict()}
    witness.load_state_dict(state)
    torch.save({"model": state}, tmp_path / "a.pt")
    again = load_model("sam2.1_hiera_tiny", tmp_path / "a.pt").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in loaded_sam2.state_dict().items())
    state["prompt_encoder.shared_embedding.positional_embedding"] = torch.ones(2, 128)
    torch.save({"model": state}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="are one tensor in the model and differ here"):
        load_model("sam2.1_hiera_tiny", tmp_path / "a.pt")

    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 1024, 1024)).astype(np.float32))
    points, labels = torch.tensor([[[100.0, 200.0], [700.0, 800.0]]]), torch.tensor([[1, 0]])
    with torch.no_grad():
        theirs, ours = witness.get_image_embeddings(image), loaded_sam2.encode(image)
        expected = witness(
            image_embeddings=theirs, input_points=points[:, None], input_labels=labels[:, None], multimask_output=True
        )
        coords = torch.cat([points, torch.zeros(1, 1, 2)], dim=1)
        masks, scores = loaded_sam2.decode(ours, coords, torch.tensor([[1, 0, -1]]))
    torch.testing.assert_close(ours[0], theirs[-1], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(masks[:, 1:], expected.pred_masks[:, 0], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(scores[:, 1:], expected.iou_scores[:, 0], atol=1e-4, rtol=1e-4)


def test_the_releases_videos_parts_tell_sam_2_and_2_1_apart_in_transformers_names(their_sam2):
    keys = list(their_sam2.state_dict())
    assert other_release("sam2.1_hiera_tiny", keys) is None
    assert "these are weights of SAM 2.1, exported as sam2_hiera_tiny" in other_release("sam2_hiera_tiny", keys)
    assert family_of_keys(keys) == "sam2 (in transformers' names)"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: str(dialect.name))
def test_no_two_keys_have_one_name(dialect):
    for name in ("sam_vit_b", "edge_sam", "efficient_sam_vitt"):
        with torch.device("meta"):
            keys = list(build_model(name).state_dict())
        assert len({dialect.spelled(key) for key in keys}) == len(keys)


def test_every_renaming_is_used():
    with torch.device("meta"):
        keys = [key for name in ("sam_vit_b", "edgetam") for key in build_model(name).state_dict()]
    for dialect in (TRANSFORMERS, SAM2_STYLE):
        for index in range(len(dialect.renamings)):
            fewer = type(dialect)(name=None, renamings=dialect.renamings[:index] + dialect.renamings[index + 1 :])
            assert any(fewer.spelled(key) != dialect.spelled(key) for key in keys), dialect.renamings[index]
