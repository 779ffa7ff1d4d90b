"""EdgeSAM-RPN: EdgeSAM's keys plus a head, a third exported component that parity judges, a box for every point.

No weights of the head were ever released, so all of this runs on stand-in weights.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgesam_export.ane.analyzer import analyze
from edgesam_export.artifacts import pick_components, pick_pair
from edgesam_export.errors import CheckpointError, UsageError
from edgesam_export.export.trace import build_components, trace_component
from edgesam_export.families import build_model, load_model
from edgesam_export.families.edge_sam_rpn import HEAD, join_checkpoints
from edgesam_export.files import sha256_of
from edgesam_export.formats.coreml.convert import save_package
from edgesam_export.formats.onnx.convert import save_onnx
from edgesam_export.imaging.reading import open_image
from edgesam_export.mil import load_program
from edgesam_export.modeling.proposals import merge_proposals
from edgesam_export.parity import check_parity
from edgesam_export.runners import open_artifact, open_runner
from edgesam_export.spec import CoreMLConfig, OnnxConfig

NAME, SEED = "edge_sam_rpn", 3
POINT = (150.0, 125.0)


@pytest.fixture(scope="module")
def rpn():
    """The model; its last convolutions say more than stand-in weights would, so that a wrong one shows."""
    model = load_model(NAME, random_weights=SEED)
    for branch in (model.proposal_head.objectness, model.proposal_head.correction):
        branch.predict.pointwise.weight *= 40.0
    return model


def export_head(model, config, folder: Path) -> Path:
    """Return the proposals alone as a file."""
    format, save = ("coreml", save_package) if isinstance(config, CoreMLConfig) else ("onnx", save_onnx)
    components, names = build_components(model, config, format=format)
    assert [part.name for part in components] == ["encoder", "decoder", "proposals"]
    path = folder / f"{NAME}_proposals{'.mlpackage' if format == 'coreml' else '.onnx'}"
    save(trace_component(components[2], model, config, names, format=format), config, path)
    return path


@pytest.fixture(scope="module")
def package(rpn, tmp_path_factory) -> Path:
    return export_head(rpn, CoreMLConfig(), tmp_path_factory.mktemp("coreml"))


@pytest.fixture(scope="module")
def pictures(photo):
    picture = open_image(photo)
    return (("photo", picture), ("turned", np.ascontiguousarray(picture.transpose(1, 0, 2))))


# ------------------------------------------------------------------------------------------------------------- weights


def test_its_keys_are_those_of_edge_sam_and_then_the_heads():
    keys, common = list(build_model(NAME).state_dict()), list(build_model("edge_sam_3x").state_dict())
    assert keys[: len(common)] == common
    assert len(keys) > len(common) and all(key.startswith(HEAD) for key in keys[len(common) :])


def test_without_a_checkpoint_it_says_that_none_was_released():
    with pytest.raises(CheckpointError, match="no released checkpoint of 'edge_sam_rpn' is known"):
        load_model(NAME)


def test_a_checkpoint_of_edge_sam_alone_lacks_the_head(checkpoint):
    with pytest.raises(CheckpointError, match=r"missing: proposal_head\.lateral\.weight"):
        load_model(NAME, checkpoint)


def test_a_checkpoint_and_a_head_file_make_one_that_loads(checkpoint, rpn, tmp_path):
    save_file({HEAD + key: value for key, value in rpn.proposal_head.state_dict().items()}, tmp_path / "head.st")
    path = join_checkpoints(checkpoint, tmp_path / "head.st", tmp_path / "joined.safetensors")
    found = load_model(NAME, path)
    for key, value in rpn.proposal_head.state_dict().items():
        assert torch.equal(found.proposal_head.state_dict()[key], value), key
    mine = torch.load(checkpoint, weights_only=True)
    assert all(torch.equal(found.state_dict()[key], value) for key, value in mine.items())


def test_keys_without_the_prefix_are_the_heads_and_one_that_lacks_is_named(checkpoint, rpn, tmp_path):
    head = dict(rpn.proposal_head.state_dict())
    del head["norm.weight"]
    save_file(head, tmp_path / "head.st")
    with pytest.raises(CheckpointError, match=r"head\.st.*1 missing: proposal_head\.norm\.weight"):
        join_checkpoints(checkpoint, tmp_path / "head.st", tmp_path / "joined.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["head.st"]


# ---------------------------------------------------------------------------------------------------------- the export


def test_parity_judges_boxes_and_their_scores(rpn, package, pictures):
    report = check_parity(rpn, [package], images=pictures)
    assert report.passed
    rows = {(row.numerics, row.component, row.output) for row in report.rows}
    assert rows == {(n, "proposals", out) for n in ("fp32", "fp16", "ane") for out in ("boxes", "box_scores")}
    assert all(row.checks for row in report.rows)


def test_parity_fails_for_the_head_of_other_weights(rpn, package, pictures):
    other = copy.deepcopy(rpn)
    other.proposal_head.correction.predict.pointwise.bias += 0.5
    report = check_parity(other, [package], images=pictures, numerics=("fp16",))
    assert {row.output for row in report.failures} == {"boxes"}
    assert not report.passed


def test_only_the_decoding_at_the_end_leaves_the_neural_engine(package):
    report = analyze(load_program(package))
    # FP32 boxes, and lists longer than its axes may be.
    assert {finding.rule for finding in report.findings if finding.severity == "error"} == {"A03", "A15"}
    shapes = [output.type.shape for op in load_program(package).operations for output in op.outputs]
    assert shapes and all(len(shape) <= 4 for shape in shapes)


def test_the_contract_says_how_to_merge(package):
    contract = open_artifact(package).contract
    assert contract["component"] == "proposals"
    assert contract["merging"] == {"nearest": 5, "min_score": 0.1, "weights": "score"}
    assert [tuple(spec["shape"]) for spec in contract["outputs"]] == [(1, 49104, 4), (1, 49104)]


def test_onnx_proposes_what_pytorch_proposes(rpn, tmp_path):
    runner = open_runner(export_head(rpn, OnnxConfig(), tmp_path))
    embeddings = torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(4))
    for found, expected in zip(
        runner.propose({"image_embeddings": embeddings.numpy()}), rpn.propose(embeddings), strict=True
    ):
        np.testing.assert_allclose(found, expected.numpy(), atol=0.02)


def test_two_proposals_are_one_too_many(package, tmp_path):
    other = tmp_path / package.name
    other.symlink_to(package)
    with pytest.raises(UsageError, match="several proposals"):
        open_runner([package, other])


def test_what_measures_a_pair_leaves_the_proposals_aside(package):
    proposals = open_artifact(package)
    encoder, decoder = (replace(proposals, component=name) for name in ("encoder", "decoder"))
    assert pick_components([proposals, decoder, encoder]) == [encoder, decoder, proposals]
    assert pick_pair([proposals, decoder, encoder]) == [encoder, decoder]
    with pytest.raises(UsageError, match="neither encoder nor decoder"):
        pick_pair([proposals])


# ------------------------------------------------------------------------------------------------------------- segment


@pytest.fixture(scope="module")
def joined(rpn, tmp_path_factory) -> Path:
    """The model's parameters as a file for the command line."""
    path = tmp_path_factory.mktemp("joined") / "rpn.safetensors"
    save_file(rpn.state_dict(), path)
    return path


def segment(command, photo, output: Path, *words: object) -> tuple[dict, np.ndarray]:
    """Return the result of ``segment`` and the logits it wrote."""
    code, out, err = command("segment", photo, *words, "--output", output, "--json", "--quiet")
    assert code == 0, err
    document = json.loads(out)
    return document, np.load(document["logits"])


def test_a_point_is_segmented_with_the_box_proposed_for_it(command, rpn, joined, photo, tmp_path):
    point, words = f"{POINT[0]},{POINT[1]}", ("--model", NAME, "--checkpoint", joined)
    found, logits = segment(command, photo, tmp_path / "point", "--point", point, *words)
    # The picture is 320 x 240, so the prompt frame shows it 3.2 times as large.
    boxes, scores = open_runner(rpn).propose(embedding_of(rpn, photo))
    expected = merge_proposals(boxes[0], scores[0], np.array(POINT) * 3.2) / 3.2
    expected = expected.clip(0, [320, 240, 320, 240])
    assert found["prompt_box"] == pytest.approx(expected.tolist(), abs=0.01)
    x0, y0, x1, y1 = found["prompt_box"]
    assert x0 < POINT[0] < x1 and y0 < POINT[1] < y1
    box = ",".join(str(value) for value in found["prompt_box"])
    again, same = segment(command, photo, tmp_path / "box", "--point", point, "--box", box, *words)
    assert again["prompt_box"] == found["prompt_box"] and np.array_equal(logits, same)


def test_exported_files_use_the_proposals_beside_them(command, joined, photo, tmp_path):
    exported = tmp_path / "files"
    code, out, err = command("onnx", NAME, "--checkpoint", joined, "--no-verify", "--json", "--output", exported)
    assert code == 0, err
    files = {item["component"]: Path(item["path"]) for item in json.loads(out)["artifacts"]}
    assert list(files) == ["encoder", "decoder", "proposals"]
    assert json.loads(out)["artifacts"][2]["sha256"] == sha256_of(files["proposals"])
    point = ("--point", f"{POINT[0]},{POINT[1]}")
    found, _ = segment(command, photo, tmp_path / "onnx", *point, "--artifact", exported)
    reference, _ = segment(command, photo, tmp_path / "torch", *point, "--model", NAME, "--checkpoint", joined)
    assert found["prompt_box"] == pytest.approx(reference["prompt_box"], abs=0.05)
    files["proposals"].unlink()
    without, _ = segment(command, photo, tmp_path / "without", *point, "--artifact", exported)
    assert without["prompt_box"] is None
    with pytest.raises(UsageError, match="no proposals among the files"):
        open_runner(exported).propose({"image_embeddings": np.zeros((1, 256, 64, 64), np.float32)})


def embedding_of(model, photo: Path) -> np.ndarray:
    """Return the embedding of a picture file."""
    from edgesam_export.predict.predictor import Predictor

    return Predictor(model).set_image(photo).embedding
