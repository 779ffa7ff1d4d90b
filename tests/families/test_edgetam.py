"""EdgeTAM's image part against upstream's; its released checkpoint, and what an export of it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export_cache import SEED, artifacts_of
from golden_picture import read_manifest
from golden_pyramid import PyramidSuite, pyramid_model

from edgesam_export.ane import analyze
from edgesam_export.checkpoints.reading import check_keys
from edgesam_export.errors import CheckpointError
from edgesam_export.families import build_model, load_model, model_info
from edgesam_export.mil import load_program
from edgesam_export.modeling.pyramid import FoldedNeck, PyramidNeck
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.predict.predictor import Predictor
from edgesam_export.rewrites import apply_rewrites, recommended_rewrites


class TestEdgeTamGoldens(PyramidSuite):
    MODEL = "edgetam"
    PICTURES = (*[("edgetam", index) for index in range(3)], ("edgetam.extra", 0))


def saved(path, manifest: dict, values: dict[str, np.ndarray]) -> str:
    """A file as the release has it: everything under ``model``, the video part too, counters as integers."""
    tensors = {key: torch.from_numpy(np.asarray(values[key])) for key in manifest["state_dict"]}
    torch.save({manifest["layout"]: tensors}, path)
    return str(path)


@pytest.fixture(scope="module")
def manifest() -> dict:
    return read_manifest("edgetam")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, manifest, synthetic) -> str:
    values = synthetic.synthetic_state_dict(manifest["state_dict"], 11)
    return saved(tmp_path_factory.mktemp("checkpoint") / "tracker.pt", manifest, values)


def test_the_released_file_is_read_and_its_video_part_is_named(checkpoint, manifest, synthetic):
    model = load_model("edgetam", checkpoint)
    expected = pyramid_model("edgetam", manifest, synthetic).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    assert "SAM 2's names" in model.provenance.note
    assert "not read: " in model.provenance.note and "model.maskmem_tpos_enc (1 tensor)" in model.provenance.note


@pytest.mark.parametrize(
    ("model", "given", "hint"),
    [
        ("edge_sam", "edgetam", "look like edgetam"),
        ("edgetam", "sam_vit_b", "look like sam;"),
        ("edgetam", "sam2.1_hiera_tiny", "look like sam2;"),
        ("edgetam", "edgetam", "no_mem_embed"),
    ],
)
def test_a_checkpoint_of_another_family_or_without_a_key_is_named(model, given, hint):
    with torch.device("meta"):
        built = build_model(model)
    shapes = {key: tuple(shape) for key, shape in read_manifest(given)["state_dict"].items() if key != "no_mem_embed"}
    with pytest.raises(CheckpointError) as error:
        check_keys(built, shapes, where="weights.pt")
    assert hint in str(error.value) and "\n" not in str(error.value)


def test_folded_neck_equals_the_original_and_has_no_wide_fine_map():
    neck = PyramidNeck((8, 12, 16, 24)).eval().requires_grad_(False)
    for seed, parameter in enumerate(neck.parameters()):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) * 0.2
    maps = [torch.randn(2, width, side, side) for width, side in ((8, 32), (12, 16), (16, 8), (24, 4))]
    folded = neck.folded()
    for expected, found in zip(neck(*maps), folded(*maps)):
        assert expected.shape == found.shape
        assert (expected - found).abs().max() <= 1e-5 * expected.abs().max()
    assert isinstance(folded, FoldedNeck)
    assert [conv.out_channels for conv in folded.children()] == [256, 256, 64, 32]


def test_an_export_has_merged_branches_and_no_blocker(exported):
    """RepViT-M1: 48 blocks of three convolutions and a gate each at most, stem and neck; nothing else is large."""
    folder = exported("edgetam", ("coreml",))
    encoder, _ = artifacts_of(folder, "coreml")
    types = [operation.type for operation in load_program(encoder.path).operations]
    model = load_model("edgetam", random_weights=SEED)
    gates = sum(name.endswith("se.fc1") for name, _ in model.named_modules())
    convolutions = sum(
        isinstance(part, torch.nn.Conv2d)
        for part in apply_rewrites(model, recommended_rewrites("coreml")).image_encoder.modules()
    )
    assert types.count("conv") == convolutions == 2 + 23 * 3 + 3 * 4 + 2 * gates + 4
    assert not {"batch_norm", "transpose", "reshape", "matmul"} & set(types)
    report = analyze(load_program(encoder.path), target="iPhone 14")
    assert not [finding for finding in report.findings if finding.severity == "error"]


def test_a_package_gives_the_masks_of_pytorch_for_a_box_and_for_points(exported, photo):
    files = artifacts_of(exported("edgetam", ("coreml",)), "coreml")
    model = load_model("edgetam", random_weights=SEED)
    expected, found = (Predictor(source).set_image(photo) for source in (model, files))
    assert found.runner.info.padding_point == model.info.padding_point == "always"
    assert found.runner.info.frame == model.info.frame
    for prompt in ({"points": [(150, 125)]}, {"box": (40, 30, 200, 180), "points": [(60, 60)], "labels": [0]}):
        logits, wanted = found.predict(**prompt).logits, expected.predict(**prompt).logits
        assert psnr_db(wanted, logits) > 35  # half precision and an 8-bit image against floats


def test_contract_says_what_is_done_to_an_image_and_a_prompt(exported):
    encoder, decoder = (artifact.contract for artifact in artifacts_of(exported("edgetam", ("coreml",)), "coreml"))
    frame = encoder["frame"]
    assert (frame["fit"], frame["mask_resize"], frame["pad"]) == ("stretch_antialias", "bilinear_direct", "none")
    assert "antialiasing on unrounded values" in frame["resize"]
    assert decoder["padding_point"] is True and decoder["box_padding_point"] is True
    assert decoder["labels"]["-1"].endswith("added once to points and to a box")
    assert [spec["name"] for spec in encoder["outputs"]] == ["image_embeddings", "feats_s0", "feats_s1"]
    assert model_info("edgetam").embedding_shapes[1:] == ((1, 32, 256, 256), (1, 64, 128, 128))
