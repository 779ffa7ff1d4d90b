"""Prompts that the weights were not trained on: found in the weights, written into the contract, warned of in use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from export_cache import artifacts_of
from safetensors.torch import load_file, save_file

from edgesam_export.cli.export import show_artifacts
from edgesam_export.errors import EdgeSAMExportWarning, collected_warnings
from edgesam_export.export.contract import trained_kinds
from edgesam_export.families import load_model
from edgesam_export.formats import find_format
from edgesam_export.modeling.prompt_encoder import PromptEncoder, never_trained_on_masks
from edgesam_export.predict.predictor import Predictor
from edgesam_export.runners import Decoded, Runner, open_runner
from edgesam_export.spec import PROMPT_KINDS, ModelInfo, OnnxConfig

BUNDLED = Path(__file__).parents[2] / "models" / "edge_sam_tiny.safetensors"
NORMS = ("prompt_encoder.mask_downscaling.1", "prompt_encoder.mask_downscaling.4")


@dataclass
class FakeRunner(Runner):
    """Embeds nothing and decodes to nothing."""

    accepts_mask_input: bool = True
    info: ModelInfo = field(default_factory=lambda: ModelInfo(name="fake", family="fake"))

    def encode(self, prepared):
        return {"image_embeddings": np.zeros((1, 256, 64, 64), np.float32)}

    def decode_all(self, embedding, point_coords, point_labels, mask_input=None):
        return Decoded(np.zeros((1, 1, 256, 256), np.float32), np.zeros((1, 1), np.float32))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    """The bundled weights as they would be had nothing trained the layers that read a mask prompt."""
    weights = load_file(BUNDLED)
    for norm in NORMS:
        weights[f"{norm}.weight"] = torch.ones_like(weights[f"{norm}.weight"])
        weights[f"{norm}.bias"] = torch.zeros_like(weights[f"{norm}.bias"])
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture(scope="module")
def files(untrained, tmp_path_factory) -> Path:
    """An export of them with mask prompt."""
    folder = tmp_path_factory.mktemp("export")
    find_format("onnx").export(load_model("edge_sam_tiny", untrained), folder, OnnxConfig(mask_input=True))
    return folder


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_step_of_training_shows_in_the_layers_and_none_does_not(decay):
    encoder = PromptEncoder(32)
    assert never_trained_on_masks(encoder)
    optimizer = torch.optim.AdamW(encoder.parameters(), weight_decay=decay)
    coords, labels = torch.full((1, 2, 2), 100.0), torch.ones(1, 2)
    (encoder.encode_points(coords, labels).sum() + encoder.dense(None).sum()).backward()
    optimizer.step()  # as in a training without mask prompts: these layers have no gradient
    assert never_trained_on_masks(encoder)
    encoder.dense(torch.randn(1, 1, 256, 256)).square().sum().backward()
    optimizer.step()
    assert not never_trained_on_masks(encoder)


def test_bundled_weights_were_trained_on_everything(model):
    assert load_model("edge_sam_tiny").info.trained_prompts == ()
    assert model.info.trained_prompts == ()


def test_untrained_layers_are_found_and_warned_of_in_use(untrained):
    model = load_model("edge_sam_tiny", untrained)
    assert model.info.trained_prompts == ("point", "points", "box", "box+point")
    predictor = Predictor(model).set_image(np.full((32, 48, 3), 90, np.uint8))
    logits = predictor.predict(box=(4, 4, 30, 20)).logits
    text = "trained on prompts of kind point, points, box, box\\+point, not mask; masks may be wrong"
    with pytest.warns(EdgeSAMExportWarning, match=text):
        predictor.predict(box=(4, 4, 30, 20), mask_input=logits[0])


def test_contract_and_export_say_so_and_the_files_warn_too(files):
    record = json.loads((files / "export.json").read_text())["artifacts"]
    encoder, decoder = (record[f"edge_sam_tiny_{part}.onnx"]["contract"] for part in ("encoder", "decoder"))
    assert decoder["trained_prompts"] == encoder["trained_prompts"] == ["point", "points", "box", "box+point"]
    assert decoder["image_domain"] == "photographs"
    assert "warnings" not in encoder and decoder["warnings"][0].startswith("mask_input: the weights of edge_sam_tiny")
    runner = open_runner(files)
    assert "mask" not in runner.info.trained_prompts
    with pytest.warns(EdgeSAMExportWarning, match="not mask"):
        predictor = Predictor(runner=runner).set_image(np.full((32, 48, 3), 90, np.uint8))
        predictor.predict(points=[(9, 9)], mask_input=np.full((256, 256), -1.0))


def test_command_warns_of_what_the_contract_warns_of_and_on_segment(command: Callable, files, photo, tmp_path):
    with collected_warnings(silent=True) as found:
        show_artifacts(artifacts_of(files, "onnx"), as_json=True)
    assert len(found) == 1 and found[0].startswith("edge_sam_tiny_decoder.onnx: mask_input:")
    np.save(tmp_path / "logits.npy", np.full((256, 256), -2.0))
    words = ("segment", photo, "--artifact", files, "--box", "90,60,210,190", "--output", tmp_path / "out", "--json")
    code, out, err = command(*words, "--mask-input", tmp_path / "logits.npy")
    assert code == 0, err
    (text,) = json.loads(out)["warnings"]
    assert "not mask; masks may be wrong" in text and f"warning: {text}" in err.splitlines()


@pytest.mark.parametrize("listed", [None, "box", 7, ["box", "scribble"], [*PROMPT_KINDS], []])
def test_a_contract_may_say_anything(listed):
    assert trained_kinds({"trained_prompts": listed}) == (("box",) if listed == ["box", "scribble"] else ())


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ({"points": [(1, 1)]}, "point"),
        ({"points": [(1, 1), (2, 2)], "labels": [1, 0]}, "points"),
        ({"box": (1, 1, 9, 9)}, "box"),
        ({"box": (1, 1, 9, 9), "points": [(2, 2)]}, "box+point"),
        ({"points": [(1, 1)], "mask_input": np.full((256, 256), -1.0)}, "mask"),
    ],
)
def test_each_kind_of_prompt_is_told_apart(prompt, kind):
    others = tuple(one for one in PROMPT_KINDS if one != kind)
    runner = FakeRunner()
    runner.info = replace(runner.info, trained_prompts=(kind,))
    predictor = Predictor(runner=runner).set_image(np.full((16, 16, 3), 90, np.uint8))
    predictor.predict(**prompt)  # a warning would be an error
    runner.info = replace(runner.info, trained_prompts=others)
    with pytest.warns(EdgeSAMExportWarning, match=f"not {kind.replace('+', '.')}; masks may be wrong"):
        predictor.predict(**prompt)
