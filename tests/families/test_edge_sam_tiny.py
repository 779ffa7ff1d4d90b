"""EdgeSAM tiny: an embedding half as wide as everyone else's goes through exports, executor, parity and commands."""

from __future__ import annotations

import json

import export_cache
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from edgesam_export.artifacts import embedding_specs
from edgesam_export.bench.candidates import random_inputs
from edgesam_export.checkpoints.reading import check_keys, family_of_keys
from edgesam_export.errors import CheckpointError, SchemaError
from edgesam_export.families import build_model, load_model, model_info
from edgesam_export.families.edge_sam import Upsample2x
from edgesam_export.imaging.reading import open_image
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.parity import check_parity
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.predict.predictor import Predictor
from edgesam_export.profiles import find_profile
from edgesam_export.resources import SAMPLES
from edgesam_export.rewrites import apply_rewrites, recommended_rewrites
from edgesam_export.runners import open_artifact, open_runner
from edgesam_export.spec import Artifact, OnnxConfig

NAME = "edge_sam_tiny"
EMBEDDING = (1, 128, 64, 64)
MAX_WEIGHT_BYTES = 4_000_000


def shapes(artifact: Artifact) -> dict[str, list[int | str]]:
    contract = open_artifact(artifact.path).contract  # from the saved file
    return {spec["name"]: spec["shape"] for spec in (*contract["inputs"], *contract["outputs"])}


# ---------------------------------------------------------------------------------------------------- the network


def test_its_name_knows_the_shape_of_its_embedding(model):
    info = model_info(NAME)
    assert (info.frame.size, info.frame.prompt_size, info.embedding_shapes) == (512, 1024, (EMBEDDING,))
    with torch.inference_mode():
        embedding = model.encode(torch.zeros(1, 3, 512, 512))
        logits, scores = model.decode(embedding, torch.full((1, 1, 2), 500.0), torch.ones(1, 1))
    assert tuple(embedding.shape) == EMBEDDING
    assert (tuple(logits.shape), tuple(scores.shape)) == ((1, 4, 256, 256), (1, 4))


def test_other_models_keep_256_channels():
    assert model_info("edge_sam").embedding_shapes == ((1, 256, 64, 64),)


def test_three_stages_are_fused_at_the_finest_one():
    encoder = load_model(NAME, random_weights=export_cache.SEED).image_encoder
    picture = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    levels, x = [], picture
    for index, block in enumerate(encoder.features):
        x = block(x)
        if index in encoder.taps:
            levels.append(x)
    assert [tuple(level.shape[2:]) for level in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]

    def widened(level: torch.Tensor, weight: torch.Tensor, times: int) -> torch.Tensor:
        x = torch.einsum("bihw,oi->bohw", level, weight[:, :, 0, 0])
        for _ in range(times):
            x = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        return x

    weights = [encoder.fuse_stage1.weight, encoder.fuse_stage2.weight, encoder.fuse_stage3.op_list[0].weight]
    fused = sum(widened(level, weight, times) for times, (level, weight) in enumerate(zip(levels[1:], weights)))
    torch.testing.assert_close(encoder(picture), encoder.neck(fused), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("names", [recommended_rewrites("coreml"), ("bicubic_as_matmul",), ("bicubic_as_phases",)])
def test_rewrites_know_the_size_of_each_of_its_two_upsamplings(model, names):
    rewritten = apply_rewrites(model, names)
    assert not any(isinstance(module, Upsample2x) for module in rewritten.modules())
    picture = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected = rewritten.encode(picture), model.encode(picture)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_its_weights_fit_into_four_megabytes_and_are_known_by_their_keys(model):
    parameters = model.state_dict()
    floating = sum(value.numel() for value in parameters.values() if value.is_floating_point())
    assert 2 * floating < MAX_WEIGHT_BYTES
    assert family_of_keys(parameters) == NAME
    with pytest.raises(CheckpointError, match=f"the keys look like {NAME}"):
        check_keys(build_model("edge_sam"), parameters, where="tiny.pth")


def test_the_width_of_the_decoders_mlp_is_asked_for():
    widths = {layer.mlp.lin1.out_features for layer in MaskDecoder(64, mlp_dim=96).transformer.layers}
    usual = {layer.mlp.lin1.out_features for layer in MaskDecoder(64).transformer.layers}
    assert (widths, usual) == ({96}, {2048})


# ---------------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize("kind", ["coreml_files", "onnx_files"])
def test_the_contract_states_the_narrow_embedding_on_both_sides(request, kind):
    encoder, decoder = map(shapes, request.getfixturevalue(kind))
    assert encoder == {"image": [1, 3, 512, 512], "image_embeddings": list(EMBEDDING)}
    assert decoder["image_embeddings"] == list(EMBEDDING)
    assert decoder["masks"] == [1, 4, 256, 256] and decoder["mask_input"] == [1, 1, 256, 256]


@pytest.mark.parametrize("kind", ["coreml_files", "onnx_files"])
def test_a_runner_reads_the_width_from_either_file_alone(request, kind):
    for files in ([0], [1], [0, 1]):
        artifacts = [request.getfixturevalue(kind)[index] for index in files]
        assert open_runner(artifacts).info.embedding_shapes == (EMBEDDING,)


def contract_with(shape: list[int]) -> dict:
    maps = [{"name": "image_embeddings", "shape": shape}]
    return {"inputs": maps, "outputs": maps}


@pytest.mark.parametrize(
    ("contracts", "shown"),
    [
        ({"encoder": contract_with([1, 128, 64, 64]), "decoder": contract_with([1, 256, 64, 64])}, r"128.*256"),
        ({"decoder": contract_with([1, 128, 4096])}, r"4096"),
        ({"decoder": contract_with([1, "wide", 64, 64])}, "wide"),
        ({"decoder": contract_with([1, 1 << 40, 64, 64])}, str(1 << 40)),
        ({"decoder": {"inputs": [], "outputs": []}}, r"\[\]"),
    ],
    ids=["different", "no map", "text", "huge", "none"],
)
def test_contracts_without_one_embedding_are_refused_in_one_line(contracts, shown):
    with pytest.raises(SchemaError, match=rf"embeddings .*{shown}.*.*; export .*together") as caught:
        embedding_specs(contracts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("profile", ["default", "official", "sam6", "x-anylabeling"])
def test_every_profile_declares_what_its_modules_compute(model, profile):
    config = OnnxConfig(profile=profile)
    parts = find_profile(profile)
    encoder, decoder = parts.encoder(model, config), parts.decoder(model, config)
    with torch.inference_mode():
        assert tuple(encoder.module(*encoder.example).shape) == encoder.outputs[0].shape == EMBEDDING
        decoder.module(*decoder.example)
    assert tuple(decoder.example[0].shape) == decoder.inputs[0].shape == EMBEDDING


def test_executor_and_onnx_give_the_masks_of_pytorch(model, coreml_files, onnx_files, photo):
    picture = open_image(photo)
    expected = Predictor(model).set_image(picture)
    truth = expected.predict(points=[[150, 125]], labels=[1])
    for runner, least in ((open_runner(coreml_files, numerics="fp32"), 55), (open_runner(onnx_files), 90)):
        predictor = Predictor(runner=runner).set_image(picture)
        found = predictor.predict(points=[[150, 125]], labels=[1])
        assert [part.shape for part in predictor.embedding.values()] == [EMBEDDING] and found.masks.shape == (
            4,
            240,
            320,
        )
        assert psnr_db(truth.logits, found.logits) > least
        assert np.abs(found.scores - truth.scores).max() < 5e-3


def test_host_benchmark_makes_an_embedding_that_fits(coreml_files, model):
    for runner in (open_runner(coreml_files), open_runner(model)):
        inputs = random_inputs(runner, 1)
        assert inputs.embedding["image_embeddings"].shape == EMBEDDING
        assert inputs.prepared.pixels.shape == (512, 512, 3)


# ---------------------------------------------------------------------------------------------------- commands


def test_segment_from_the_model_and_from_its_packages_agree(command, coreml_files, photo, tmp_path):
    masks = {}
    for kind, words in {
        "torch": ("--model", NAME, "--random-weights", export_cache.SEED),
        "coreml": ("--artifact", coreml_files[0].path.parent, "--backend", "coreml"),
    }.items():
        code, out, err = command("segment", photo, "--point", "150,125", *words, "--output", tmp_path / kind, "--json")
        assert code == 0, err
        with Image.open(json.loads(out)["mask"]) as mask:
            masks[kind] = np.asarray(mask) > 0
    assert masks["torch"].shape == (240, 320)
    assert (masks["torch"] == masks["coreml"]).mean() > 0.99


def test_analysis_keeps_the_encoder_on_the_neural_engine(command, coreml_files, tmp_path):
    words = (coreml_files[0].path, "--fail-on", "error", "--output", tmp_path, "--json", "--quiet")
    code, out, _ = command("analyze", *words)
    assert code == 0 and json.loads(out)["placement_counts"]["off"] == 0


# -------------------------------------------------------------------------------------------- the bundled weights


def test_bundled_weights_pass_every_gate_in_both_formats_and_every_numerics(exported):
    """Trained attention has long tails: probabilities of 1e-6 that carry a mask's shape must survive the engine."""
    model = load_model(NAME)
    assert model.provenance.licence == "Apache-2.0" and model.provenance.random_seed is None
    report = check_parity(model, exported(NAME, ("coreml", "onnx"), random_weights=None, mask_input=True))
    failed = [(row.component, row.numerics, check) for row in report.rows for check in row.checks if not check.passed]
    assert not failed and {row.output for row in report.rows} == {"image_embeddings", "masks", "scores"}
    assert {(row.candidate.split()[0], row.numerics) for row in report.rows} == {
        ("network", "fp32"),
        ("executor", "fp32"),
        ("executor", "fp16"),
        ("executor", "ane"),
        ("onnxruntime", "fp32"),
    }
    assert len(report.artifacts) == 4


def test_bundled_weights_segment_the_bundled_scene():
    pytest.importorskip("scipy", reason="the scene is drawn by the extra 'distill'")
    from edgesam_export.distill.scenes import draw_scene
    from edgesam_export.imaging.masks import bounding_box, iou

    picture = open_image(SAMPLES / "scene.png")
    scene = draw_scene(1000, 15, 512)
    assert np.abs(picture.astype(int) - scene.image).max() <= 2
    predictor = Predictor(load_model(NAME)).set_image(picture)
    values = [iou(predictor.predict(box=bounding_box(mask)).masks[0], mask) for mask in scene.masks]
    assert np.mean(values) > 0.8, values
