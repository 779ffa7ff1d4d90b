"""EfficientSAM: the network as a whole against upstream's, its six slots, and what an export of it promises."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from golden_picture import (
    EMBEDDING,
    INPUT,
    IOU,
    LOGITS_STATS,
    MASK_BITS,
    STABILITY,
    Picture,
    assert_close,
    assert_logits,
    assert_same_counts,
    assert_same_keys,
    golden_embedding,
    golden_model,
    read_golden,
    read_manifest,
    statistics,
)
from torch import nn
from torch.nn import functional as F

from edgesam_export.checkpoints.reading import check_keys
from edgesam_export.errors import CheckpointError, UsageError
from edgesam_export.export.trace import build_components, trace_component
from edgesam_export.families import build_model, load_model, model_info
from edgesam_export.families.efficient_sam import (
    Attention,
    EfficientSamEncoder,
    GeluMLP,
    OneGroupNorm,
    SlotPromptEncoder,
    ViTConfig,
)
from edgesam_export.imaging.geometry import prepare, to_frame
from edgesam_export.imaging.masks import masks_to_source
from edgesam_export.imaging.prompts import pack_prompt
from edgesam_export.modeling.common import stability_score
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.wrappers import Normalise
from edgesam_export.profiles import find_profile
from edgesam_export.rewrites import apply_rewrites, recommended_rewrites
from edgesam_export.rewrites import load_all as all_rewrites
from edgesam_export.rewrites.fold_branches import fold_branches
from edgesam_export.spec import CoreMLConfig, ImageFrame, OnnxConfig

NAME = "efficient_sam_vitt"
EXTRA = f"{NAME}.extra"
NAMES = [NAME, "efficient_sam_vits"]
PROMPTS = ("point", "fg_bg", "box", "box_bg", "five")


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    difference = (found - expected).detach()
    return float(difference.abs().max() / expected.detach().abs().max())


@dataclass
class SlotPicture(Picture):
    """A golden picture of a model that gets the points as they are, six at most."""

    def predict(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        if name not in self.results:
            prompt = self.meta["prompts"][name]
            points = np.asarray(prompt["sent_coords"], np.float64)[:6]
            self.results[name] = self.decode(to_frame(points, self.prepared), prompt["sent_labels"][:6])
        return self.results[name]

    def at_source(self, name: str) -> torch.Tensor:
        """Logits of all masks at source size."""
        return torch.from_numpy(masks_to_source(self.predict(name)[0].numpy(), self.prepared))


@pytest.fixture(scope="module")
def manifest() -> dict:
    return read_manifest(NAME)


@pytest.fixture(scope="module")
def golden(manifest, synthetic) -> SamModel:
    return golden_model(NAME, manifest, synthetic)


def make_picture(golden: SamModel, synthetic, name: str, index: int) -> SlotPicture:
    arrays, meta = read_golden(name)
    image = meta["images"][index]
    drawn = synthetic.test_image(image["height"], image["width"], image["variant"])
    prepared = prepare(drawn, golden.info.frame)
    return SlotPicture(arrays, image, golden, prepared, golden_embedding(golden, prepared, name, image))


@pytest.fixture(scope="module", params=[0, 1])
def picture(request, golden, synthetic) -> SlotPicture:
    return make_picture(golden, synthetic, NAME, request.param)


@pytest.fixture(scope="module")
def extra(golden, synthetic) -> SlotPicture:
    return make_picture(golden, synthetic, EXTRA, 0)


def assert_embedding(picture: SlotPicture) -> None:
    flat = picture.embedding.numpy().reshape(-1)
    assert list(picture.embedding.shape) == picture.meta["embedding_shape"]
    assert_close(flat[:: picture.meta["embedding_stride"]], picture.array("embedding"), EMBEDDING)
    assert abs(flat.mean(dtype=np.float64) - picture.meta["embedding_mean"]) <= LOGITS_STATS
    assert abs(flat.std(dtype=np.float64) - picture.meta["embedding_std"]) <= LOGITS_STATS


class TestGoldens:
    def test_state_dict_and_counts_are_the_released_ones(self, golden, manifest):
        assert_same_keys(golden, manifest)
        assert_same_counts(golden, manifest)

    def test_embedding_is_upstreams(self, picture):
        assert_embedding(picture)

    def test_embedding_and_input_of_a_larger_picture_are_upstreams(self, extra):
        sampled = extra.prepared.tensor.reshape(-1)[:: extra.meta["input_stride"]]
        assert_close(sampled, extra.array("input"), INPUT)
        assert_embedding(extra)

    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_three_masks_at_source_size_are_upstreams(self, picture, prompt):
        logits, iou = picture.at_source(prompt)[1:], picture.predict(prompt)[1][1:]
        # assert_logits takes every fourth value of what it is given, the file has every eighth.
        assert_logits(logits[:, ::2, ::2], picture.array(f"{prompt}/logits"))
        assert_close(statistics(logits), picture.array(f"{prompt}/logits_stats"), LOGITS_STATS)
        assert_close(iou, picture.array(f"{prompt}/iou"), IOU)
        area = (logits > 0).float().mean(dim=(1, 2))
        assert_close(area, np.asarray(picture.meta["prompts"][prompt]["area"], np.float32), 1e-4)

    @pytest.mark.parametrize("prompt", [*PROMPTS, "eight"])
    def test_four_raw_tokens_are_upstreams(self, extra, prompt):
        logits, iou = extra.predict(prompt)
        assert_logits(logits, extra.array(f"{prompt}/logits"))
        assert_close(statistics(logits), extra.array(f"{prompt}/logits_stats"), LOGITS_STATS)
        assert_close(iou, extra.array(f"{prompt}/iou"), IOU)
        assert_close(stability_score(logits), extra.array(f"{prompt}/stability"), STABILITY)

    @pytest.mark.parametrize("prompt", [*PROMPTS, "eight"])
    def test_final_masks_are_upstreams(self, extra, prompt):
        masks = (extra.at_source(prompt) > 0).numpy()  # upstream: >= 0
        height, width = extra.meta["height"], extra.meta["width"]
        assert masks.shape == (4, height, width)
        areas = np.count_nonzero(masks, axis=(1, 2))
        assert np.abs(areas - extra.meta["prompts"][prompt]["mask_area"]).max() <= MASK_BITS
        if prompt in ("point", "box"):
            stored = np.unpackbits(extra.array(f"{prompt}/mask"), axis=1, count=height * width)
            assert np.count_nonzero(stored != masks.reshape(4, -1)) <= MASK_BITS


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_has_the_released_keys(name):
    with torch.device("meta"):
        model = build_model(name)
    assert_same_keys(model, read_manifest(name))
    assert_same_counts(model, read_manifest(name))
    info = model_info(name)
    assert info.frame == ImageFrame(fit="stretch", mask_resize="bicubic")
    assert (info.family, info.default_score, info.padding_point, info.slots) == ("efficient_sam", "iou", False, 6)


@pytest.mark.parametrize("given", ["sam_vit_b", "edge_sam"])
def test_a_checkpoint_of_another_family_is_named(given):
    with torch.device("meta"):
        model = build_model(NAME)
    with pytest.raises(CheckpointError, match=f"look like {given.removesuffix('_vit_b')};"):
        check_keys(model, read_manifest(given)["state_dict"], where="weights.pt")
    with torch.device("meta"):
        other = build_model(given)
    with pytest.raises(CheckpointError, match="look like efficient_sam;"):
        check_keys(other, read_manifest(NAME)["state_dict"], where="weights.pt")


# ---- six slots


@pytest.fixture(scope="module")
def model() -> SamModel:
    return load_model(NAME, random_weights=5)


EMBEDDINGS = random(1, 256, 64, 64, seed=2)
COORDS = torch.tensor([[[100.0, 200.0], [700.5, 301.0]]])
LABELS = torch.tensor([[1.0, 0.0]])


def filled(label: float, place: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The prompt with its four unused slots written out."""
    coords = torch.cat([COORDS, torch.full((1, 4, 2), place)], dim=1)
    return coords, torch.cat([LABELS, torch.full((1, 4), label)], dim=1)


@pytest.mark.parametrize("label", [-1.0, -2.0])
@pytest.mark.parametrize("place", [-1.0, 0.0, 900.0])
def test_unused_slots_are_the_same_however_they_are_written(model, label, place):
    expected = model.decode(EMBEDDINGS, COORDS, LABELS)
    found = model.decode(EMBEDDINGS, *filled(label, place))
    assert all(torch.equal(one, other) for one, other in zip(expected, found))


def test_an_unused_slot_is_the_invalid_vector_at_minus_one_and_takes_part(model):
    encoder = model.prompt_encoder
    token = encoder.encode_points(torch.full((1, 1, 2), 77.0), torch.tensor([[-2.0]]))
    place = encoder.pe_layer.encode(torch.full((1, 1, 2), -0.5 / 1024))
    assert torch.equal(token, place + encoder.invalid_points.weight)
    other = load_model(NAME, random_weights=5)
    other.prompt_encoder.invalid_points.weight.data += 1.0
    expected, found = (one.decode(EMBEDDINGS, COORDS, LABELS)[0] for one in (model, other))
    assert relative(found, expected) > 1e-2


def test_a_background_point_is_its_position_alone(model):
    encoder = model.prompt_encoder
    token = encoder.encode_points(COORDS[:, :1], torch.tensor([[0.0]]))
    assert torch.equal(token, encoder.pe_layer.encode((COORDS[:, :1] + 0.5) / 1024))


def test_the_order_of_points_does_not_matter(model):
    one, other = model.decode(EMBEDDINGS, COORDS, LABELS), model.decode(EMBEDDINGS, COORDS.flip(1), LABELS.flip(1))
    assert all(relative(found, expected) <= 1e-5 for found, expected in zip(other, one))


def test_several_prompts_at_once_are_each_as_if_alone(model):
    coords, labels = torch.cat([COORDS, COORDS + 50.0]), torch.tensor([[1.0, 0.0], [1.0, -2.0]])
    together = model.decode(EMBEDDINGS, coords, labels)
    for index in range(2):
        alone = model.decode(EMBEDDINGS, coords[index : index + 1], labels[index : index + 1])
        assert all(relative(many[index : index + 1], one) <= 1e-5 for many, one in zip(together, alone))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ((torch.zeros(1, 7, 2), torch.ones(1, 7)), "prompt has 7 points, efficient_sam_vitt takes 6"),
        ((*filled(-1.0, 0.0), torch.zeros(1, 1, 256, 256)), "knows no mask prompt"),
        ((COORDS, torch.tensor([[-1.0, -2.0]])), "neither a point nor a mask"),
        ((COORDS, torch.tensor([[1.0, 4.0]])), "point_labels holds 4"),
    ],
)
def test_prompts_that_it_does_not_know_are_refused(model, prompt, message):
    with pytest.raises(UsageError, match=message):
        model.decode(EMBEDDINGS, *prompt)


def test_prompts_get_no_padding_point(model):
    prepared = prepare(np.zeros((50, 100, 3), np.uint8), model.info.frame)
    coords, labels = pack_prompt(prepared, points=[(50, 25)], slots=6, padding_point=model.info.padding_point)
    assert labels.tolist() == [[1, -2, -2, -2, -2, -2]]
    assert coords[0, 0].tolist() == [512, 512]  # each axis is stretched by its own factor


# ---- pieces


def test_attention_equals_torchs_own():
    config = ViTConfig(width=16, heads=2)
    attention = Attention(config).eval().requires_grad_(False)
    fill_random(attention, 3)
    x = random(2, 16, 64, 64, scale=8.0)
    rows = F.linear(x.flatten(2).transpose(1, 2), attention.qkv.weight, attention.qkv.bias)  # (B, S, 3 * C)
    q, k, v = rows.unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)  # (B, heads, S, d)
    attended = F.scaled_dot_product_attention(q.double(), k.double(), v.double()).float()
    expected = F.linear(attended.transpose(1, 2).flatten(2), attention.proj.weight, attention.proj.bias)
    found = attention(x).flatten(2).transpose(1, 2)
    assert relative(found, expected) <= 1e-5


def test_one_group_norm_equals_torchs_group_norm():
    norm, expected = OneGroupNorm(8), nn.GroupNorm(1, 8, eps=1e-5)
    for one in (norm, expected):
        one.load_state_dict({"weight": random(8, seed=1), "bias": random(8, seed=2)})
    x = random(3, 8, 12, 20, seed=3, scale=40.0) + 7.0
    assert relative(norm(x), expected(x)) <= 1e-6


def test_mlps_have_gelu_after_every_layer_but_the_last():
    mlp = GeluMLP(2, 3, 1, 2)
    for parameter in mlp.requires_grad_(False).parameters():
        nn.init.ones_(parameter)
    # 2 inputs of 1 and a bias of 1 make 3; gelu, three of them and 1; gelu, three of them and 1.
    first = 3 * F.gelu(torch.tensor(3.0)) + 1
    assert float(mlp(torch.ones(1, 2))) == pytest.approx(float(3 * F.gelu(first) + 1))


@pytest.fixture(scope="module")
def small() -> nn.Module:
    """Something with an encoder of one block, which a rewrite can be applied to."""

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image_encoder = EfficientSamEncoder(ViTConfig(width=16, heads=2, depth=1))

    holder = Holder().eval().requires_grad_(False)
    fill_random(holder, 5)
    return holder


def test_the_exported_encoder_has_its_positions_as_a_constant(small):
    image = random(1, 3, 1024, 1024, seed=2)
    before = {key: value.clone() for key, value in small.state_dict().items()}
    original = small.image_encoder
    expected = original(image)
    fold_branches(small)
    assert small.image_encoder is not original
    assert all(torch.equal(value, before[f"image_encoder.{key}"]) for key, value in original.state_dict().items())
    assert (small.image_encoder(image) - expected).abs().max() <= 1e-4 * expected.abs().max()
    graph = torch.jit.trace(small.image_encoder, image, check_trace=False).inlined_graph
    kinds = {node.kind() for node in graph.nodes()}
    assert not kinds & {"aten::upsample_bicubic2d", "aten::size", "aten::Int", "prim::NumToTensor"}
    ranks = [
        value.type().dim() for node in graph.nodes() for value in node.outputs() if value.type().kind() == "TensorType"
    ]
    assert max(rank for rank in ranks if rank is not None) <= 4


def test_exact_slots_give_the_prompt_encoders_tokens():
    encoder = SlotPromptEncoder().requires_grad_(False)
    fill_random(encoder, 3)
    coords = torch.tensor([[[0.0, 1023.0], [17.5, 3.0], [1024.0, 512.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]]])
    labels = torch.tensor([[1.0, 0.0, 2.0, 3.0, -1.0, -2.0]])
    tokens, bias = encoder.exact_prompt()(coords, labels)
    assert bias is None
    assert (tokens - encoder.encode_points(coords, labels)).abs().max() <= 2e-5


# ---- rewrites and exports

ORDERS = [recommended_rewrites(format)[::step] for format in ("coreml", "onnx") for step in (1, -1)]


@pytest.mark.parametrize("names", [*[(name,) for name in all_rewrites()], *ORDERS])
def test_rewrites_keep_what_the_decoder_computes(model, names):
    rewritten = apply_rewrites(model, names)
    tolerance = 1e-4 if len(names) > 1 else all_rewrites()[names[0]].tolerance
    expected, found = (one.decode(EMBEDDINGS, COORDS, LABELS) for one in (model, rewritten))
    assert max(relative(*pair) for pair in zip(found, expected)) <= tolerance


@pytest.mark.parametrize(
    ("format", "parts"),
    [
        ("coreml", {"ChannelsFirstTransformer", "GroupedHypernetworks", "PhaseMaskProduct"}),
        ("onnx", {"TokenSideTransformer", "StackedHypernetworks"}),
    ],
)
def test_the_recommended_rewrites_reach_every_part_of_the_decoder(model, format, parts):
    rewritten = apply_rewrites(model, recommended_rewrites(format))
    kinds = {type(module).__name__ for module in rewritten.mask_decoder.modules()}
    assert parts <= kinds
    assert "LayerNorm" not in kinds
    assert [kind for kind in kinds if kind == "ReLU"] == []


@pytest.mark.parametrize("config", [CoreMLConfig(), CoreMLConfig(points=6), OnnxConfig(), OnnxConfig(points=6)])
def test_an_exported_decoder_has_six_slots_and_says_what_the_unused_ones_do(model, config):
    format = "coreml" if isinstance(config, CoreMLConfig) else "onnx"
    (encoder, decoder), names = build_components(model, config, format=format)
    assert decoder.inputs[1].shape == (1, 6, 2) and decoder.inputs[2].shape == (1, 6)
    assert decoder.free_dims == {}
    assert "stretched" in encoder.inputs[0].description and "padded" not in encoder.inputs[0].description
    assert "bicubic to source size" in decoder.outputs[0].description
    contract = trace_component(decoder, model, config, names, format=format).contract
    assert contract["slots"] == 6 and contract["padding_point"] is False and contract["mask_input"] is False
    for labels in (contract["labels"], encoder.details["labels"]):
        assert "takes part in everything" in labels["-1"] and "same as -1" in labels["-2"]
    assert "takes no part" not in str(contract["inputs"]) + str(contract["labels"])


def test_an_exported_decoder_computes_what_the_model_does(model):
    (_, decoder), _ = build_components(model, CoreMLConfig(), format="coreml")
    expected = model.decode(EMBEDDINGS, COORDS, LABELS)
    found = decoder.module(EMBEDDINGS, *filled(-2.0, 0.0))
    assert all(relative(one, other) <= 1e-4 for one, other in zip(found, expected))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (CoreMLConfig(points=5), "points is 5, but efficient_sam_vitt always has 6 prompt slots"),
        (OnnxConfig(points=8), "points is 8, but efficient_sam_vitt always has 6 prompt slots"),
        (CoreMLConfig(target="iOS18", functions=(4,)), "also points 4, but efficient_sam_vitt always has 6"),
        (CoreMLConfig(mask_input=True), "efficient_sam_vitt knows no mask prompt"),
    ],
)
def test_exports_that_its_prompts_do_not_fit_are_refused(model, config, message):
    with pytest.raises(UsageError, match=message) as error:
        build_components(model, config, format="coreml" if isinstance(config, CoreMLConfig) else "onnx")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("profile", ["official", "sam6", "x-anylabeling"])
def test_profiles_of_other_programs_are_refused(model, profile):
    config = OnnxConfig(profile=profile)
    with pytest.raises(UsageError, match="takes it stretched to a square"):
        build_components(model, config, format="onnx")
    with pytest.raises(UsageError, match="exactly 6 prompt slots, this profile leaves their number free"):
        find_profile(profile).decoder(model, config)


def test_other_families_keep_their_choice_of_slots():
    other = load_model("edge_sam", random_weights=1)
    (_, decoder), _ = build_components(other, replace(CoreMLConfig(), points=5), format="coreml")
    assert decoder.details["slots"] == 5 and "labels" not in decoder.details


def test_normalising_in_fp16_shifts_no_channel():
    frame = model_info(NAME).frame
    mean, std = (torch.tensor(values).double().reshape(1, 3, 1, 1) for values in (frame.mean, frame.std))
    # 40 values on either side of the mean: whatever is left of their errors' mean is a shift.
    values = mean.round() + torch.arange(-40.0, 41.0).reshape(1, 1, 1, 81)
    expected = (values - mean) / std
    assert (Normalise(frame)(values.float()) - expected).abs().max() <= 1e-6
    found = Normalise(frame).half()(values.half())
    # The mean rounded to FP16 is off by 6e-4 standard deviations in green.
    assert (found.double() - expected).mean(dim=(0, 2, 3)).abs().max() <= 1e-4
