"""Training against compressed weights: packages hold what was simulated, gradients pass, palettes follow on demand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from compressed_weights import decoded_weights
from safetensors import safe_open
from torch import nn
from torch.nn.utils import parametrize

from edgesam_export.checkpoints.reading import read_state_dict
from edgesam_export.distill.compression import attach, detach, refresh, stand_ins
from edgesam_export.errors import UsageError
from edgesam_export.export.compression import model_values, uniform_recipe
from edgesam_export.export.folding import folded_model, matching_form, save_folded
from edgesam_export.families import model_info
from edgesam_export.families.edge_sam_tiny import EdgeSamTinyEncoder
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.mil import load_program
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import COMPRESSIONS, CoreMLConfig, Recipe

DIM = 128
STAGES = ((8, (True,)), (16, (False,)), (32, (False, True)), (64, (False,)))


MIXED = Recipe(
    name="mixed",
    default={"encoder": "palettize4", "decoder": "linear8"},
    components={
        "encoder": {
            "image_encoder.neck.0": "sparse50",
            "image_encoder.neck.2": "sparse75_linear8",
            "image_encoder.fuse_stage2": "palettize2_g16",
        },
        "decoder": {
            # four layers of the model in one tensor; a palette's group holds halves of two of them
            "mask_decoder.output_hypernetworks_mlps.layers.4": "palettize3_g32",
            "mask_decoder.output_hypernetworks_mlps.layers.2": "sparse50_palettize4",
            "mask_decoder.output_hypernetworks_mlps.layers.0": "sparse75_linear8",
            "mask_decoder.transformer.layers.0.self_attn.q_proj": "palettize4_g8_int8",
            "mask_decoder.transformer.layers.0.self_attn.k_proj": "linear4_b16",
            "mask_decoder.output_upscaling.3": "palettize3_g16",
            "mask_decoder.output_upscaling.0": "sparse50_palettize6",
            "mask_downscaling.6": "fp16",
        },
    },
)


def plain_model() -> SamModel:
    """A cut-down EdgeSAM with stand-in weights, branches and batch norms in place."""
    model = SamModel(
        info=model_info("edge_sam_tiny"),
        image_encoder=EdgeSamTinyEncoder(STAGES, DIM),
        prompt_encoder=PromptEncoder(DIM),
        mask_decoder=MaskDecoder(DIM, mlp_dim=DIM),
    )
    fill_random(model, 6)
    return model


@pytest.fixture(scope="module")
def plain() -> SamModel:
    """Read only."""
    return plain_model()


@pytest.fixture
def folded(plain: SamModel) -> SamModel:
    """One's own folded copy, to be trained."""
    return folded_model(plain).requires_grad_(True)


def step(model: SamModel, rate: float = 0.05) -> None:
    """One step of gradient descent on a made-up loss; two prompts at once on one small image."""
    generator = torch.Generator().manual_seed(0)
    embedding = model.encode(torch.randn(1, 3, 512, 512, generator=generator))
    coords, labels = torch.tensor([[[100.0, 200.0]], [[700.0, 300.0]]]), torch.tensor([[1.0], [1.0]])
    logits, scores = model.decode(embedding, coords, labels)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = (logits / 10).tanh().mean() + scores.mean()
    grads = torch.autograd.grad(loss, trained, allow_unused=True)
    with torch.no_grad():
        for parameter, grad in zip(trained, grads):
            if grad is not None:
                parameter -= rate * parameter.abs().mean() * grad.sign()


# ------------------------------------------------------------------------------------- what a package holds afterwards


@pytest.mark.parametrize(("scheme", "target"), [("linear8", "iOS16"), (MIXED, "iOS18")], ids=["linear8", "mixed"])
def test_what_was_trained_is_what_the_package_holds(plain, folded, tmp_path, scheme, target):
    attach(folded, scheme, train_palettes=True)
    step(folded)
    refresh(folded)
    step(folded)
    paths = {module: path for path, module in folded.named_modules()}
    trained = {paths[module]: module.weight.detach().clone() for module, _ in stand_ins(folded)}
    detach(folded)
    save_folded(folded, tmp_path / "recovered.safetensors")
    state = read_state_dict(tmp_path / "recovered.safetensors")
    loaded = matching_form(plain, state)
    loaded.load_state_dict(state)
    loaded.provenance = plain.provenance
    artifacts = export_coreml(loaded, tmp_path, CoreMLConfig(compress=scheme, target=target, mask_input=True))
    found: dict[str, torch.Tensor] = {}
    for artifact in artifacts:
        values = decoded_weights(load_program(artifact.path))
        found |= {path: values[name] for path, name in artifact.contract["compression"]["tensors"].items()}
    expected = in_export_layout(trained)
    # scores are IoUs here, so nothing of the decoder is left out
    assert set(found) == set(expected)
    wrong = [path for path in expected if not torch.equal(found[path].flatten(), expected[path].flatten())]
    assert not wrong


def in_export_layout(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by path in the exported component: what the rewrites do, written down once more."""
    laid_out: dict[str, torch.Tensor] = {}
    for path, weight in weights.items():
        if path.endswith("q_proj"):
            width = len(weight) // 8  # all attentions have eight heads
            weight = weight * width**-0.5
        if path == "mask_decoder.output_upscaling.3":
            weight = torch.cat([weight[:, :, y, x].t() for y in (0, 1) for x in (0, 1)])
        path = path.removeprefix("prompt_encoder.").replace("mlp.lin1", "mlp.0").replace("mlp.lin2", "mlp.2")
        if "hypernetworks" in path:
            layer = int(path[-1])
            path = f"mask_decoder.output_hypernetworks_mlps.layers.{2 * layer}"  # an activation after each
            weight = torch.cat([laid_out.get(path, weight[:0]), weight])
        laid_out[path] = weight
    return {path: weight.half().float() for path, weight in laid_out.items()}


@pytest.mark.parametrize("scheme", ["linear8", "linear4", "palettize6"])
def test_compressed_parameters_are_what_stands_in_and_what_detaching_leaves_compresses_to(folded, scheme):
    expected = model_values(folded, uniform_recipe(scheme))
    attach(folded, scheme)
    weights = {path: folded.get_submodule(path.removesuffix(".weight")).weight for path in expected}
    assert expected and all(torch.equal(weights[path], expected[path]) for path in expected)
    detach(folded)
    assert not any(parametrize.is_parametrized(module) for module in folded.modules())
    again = model_values(folded, uniform_recipe(scheme))
    assert all(torch.allclose(again[path], expected[path], rtol=1e-6, atol=0) for path in expected)


def test_a_palette_serves_the_tensor_that_an_export_joins(folded):
    values = model_values(folded, uniform_recipe("palettize4"))
    per_mask = [values[f"mask_decoder.output_hypernetworks_mlps.{mask}.layers.0.weight"] for mask in range(4)]
    assert len(torch.cat(per_mask).unique()) <= 16
    encoder = {path: value for path, value in values.items() if path.startswith("image_encoder.")}
    assert encoder and all(len(value.unique()) <= 16 for value in encoder.values())
    assert len(torch.cat([value.flatten() for value in encoder.values()]).unique()) > 16


# ------------------------------------------------------------------------------------------------------------ training


class Layer(SamModel):
    """A single layer behind a first convolution, dressed up as a model."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        first, layer = nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 1)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(64, 64, 1, 1, generator=torch.Generator().manual_seed(2)))
        self.image_encoder = nn.Sequential(first, layer)

    @property
    def weight(self) -> torch.Tensor:
        return self.image_encoder[1].weight

    @property
    def latent(self) -> nn.Parameter:
        return self.image_encoder[1].parametrizations.weight.original


@pytest.mark.parametrize("scheme", COMPRESSIONS)
def test_gradients_pass_straight_through(scheme):
    model = Layer()
    before = model.weight.detach().clone()
    assert attach(model, scheme) == []
    factor = torch.randn(64, 64, 1, 1, generator=torch.Generator().manual_seed(3))
    assert not torch.equal(model.weight, before)
    (model.weight * factor).sum().backward()
    assert torch.equal(model.latent.grad, factor) and torch.equal(model.latent, before)


def test_a_trained_palettes_entry_gets_what_its_weights_get():
    model = Layer()
    (palette,) = attach(model, "palettize4", train_palettes=True)
    factor = torch.randn(64, 64, 1, 1, generator=torch.Generator().manual_seed(3))
    values = model.weight.detach()
    (model.weight * factor).sum().backward()
    expected = [float(factor[values == entry].sum()) for entry in palette.detach()[0]]
    assert palette.grad[0].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert torch.equal(model.latent.grad, factor)
    with torch.no_grad():
        palette += 0.25
    assert set(model.weight.unique().tolist()) <= set(palette.half().float().flatten().tolist())


def test_a_palette_stays_until_it_is_refreshed():
    model = Layer()
    attach(model, "palettize4")
    before = set(model.weight.unique().tolist())
    with torch.no_grad():
        model.latent.mul_(3)
    assert set(model.weight.unique().tolist()) <= before
    assert refresh(model) == 1
    after = model.weight.unique()
    assert float(after.detach().abs().max()) > 2 * max(map(abs, before)) and len(after) <= 16


def test_scales_follow_the_weights():
    model = Layer()
    attach(model, "linear8")
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.latent.mul_(4)
    assert torch.equal(model.weight, before * 4) and refresh(model) == 0


def test_detaching_leaves_palette_values_or_the_trained_weights():
    for scheme, values in (("palettize4", 16), ("linear8", 64 * 64)):
        model = Layer()
        attach(model, scheme)
        latent, standing_in = model.latent.detach().clone(), model.weight.detach().clone()
        detach(model)
        assert torch.equal(model.weight, standing_in if values == 16 else latent)
        assert len(model.weight.unique()) <= values


def test_the_model_it_came_from_is_not_trained_with_it(plain, folded):
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    attach(folded, "linear4")
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter += 1
    detach(folded)
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


# ----------------------------------------------------------------------------------------------------------- the file


def test_folded_weights_are_known_by_their_keys(plain, folded, tmp_path):
    path = tmp_path / "new" / "mine.safetensors"
    save_folded(folded, path, {"edgesam_export.compress": "linear8"})
    with safe_open(path, "pt") as file:
        assert file.metadata()["edgesam_export.compress"] == "linear8"
        assert file.metadata()["edgesam_export.model"] == "edge_sam_tiny"
    state = read_state_dict(path)
    found = matching_form(plain, state)
    found.load_state_dict(state, strict=True)
    image = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(found.encode(image), folded.encode(image))
        assert torch.allclose(found.encode(image), plain.encode(image), atol=1e-4)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert matching_form(plain, plain.state_dict()) is plain
    assert matching_form(plain, {"another.model": state.popitem()[1]}) is plain


def test_a_folder_that_cannot_be_written_to_is_named(folded, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write '.*mine\.safetensors': .*; choose another path"):
        save_folded(folded, Path(tmp_path / "file" / "mine.safetensors"))


# ------------------------------------------------------------------------------------------------------------ refusals


def test_what_cannot_be_trained_is_refused(plain, folded):
    with pytest.raises(UsageError, match=r"need batch norms folded, and 'image_encoder\.features\.0\.0\.bn' is not"):
        attach(plain, "linear8")
    with pytest.raises(UsageError, match=r"compress is 'zip'; choose one of: exact, "):
        attach(folded, "zip")
    attach(folded, "linear8")
    with pytest.raises(UsageError, match="has compressed weights already; detach them first"):
        attach(folded, "linear8")
