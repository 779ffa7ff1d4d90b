"""The contract that every exported file carries."""

from __future__ import annotations

import json

import pytest

from edgesam_export.errors import SchemaError
from edgesam_export.export.contract import LABELS, SCHEMA_VERSION, make_contract, read_contract, summary
from edgesam_export.spec import CoreMLConfig, ImageFrame, ModelInfo, OnnxConfig, Provenance, TensorSpec

TENSOR = TensorSpec(name="image", shape=(1, 3, "side", 4), dtype="fp32", description="a picture")


def contract_of(provenance: Provenance, config=None, frame: ImageFrame | None = None) -> dict:
    return make_contract(
        info=ModelInfo(name="small", family="edge_sam", frame=frame or ImageFrame(), upsample="bilinear"),
        provenance=provenance,
        config=config or OnnxConfig(),
        component="encoder",
        inputs=(TENSOR,),
        outputs=(),
        details={"image_input": True},
    )


TRAINED = Provenance(source="mine.pth", sha256="ab" * 32, licence="S-Lab 1.0")


def test_a_contract_is_plain_json_and_comes_back_as_it_was():
    contract = contract_of(TRAINED, CoreMLConfig(functions=(2,), target="iOS18"))
    text = json.dumps(contract, allow_nan=False)
    assert read_contract(text, "here") == json.loads(text)
    assert json.loads(text)["export"]["functions"] == [2]


def test_a_contract_says_what_the_tensors_and_the_frame_are():
    frame = ImageFrame(size=512, prompt_size=1024, mean=(1.0, 2.6, 3.0), std=(4.0, 5.0, 6.0))
    contract = contract_of(TRAINED, frame=frame)
    assert contract["inputs"] == [
        {"name": "image", "shape": [1, 3, "side", 4], "dtype": "fp32", "description": "a picture"}
    ]
    stated = contract["frame"]
    assert (stated["size"], stated["prompt_size"]) == (512, 1024)
    assert (stated["mean"], stated["std"], stated["pad_colour"]) == ([1.0, 2.6, 3.0], [4.0, 5.0, 6.0], [1, 3, 3])
    assert contract["upsample"] == "bilinear" and contract["image_input"] is True
    assert (contract["model"], contract["family"], contract["component"]) == ("small", "edge_sam", "encoder")


def test_a_contract_says_where_weights_come_from_and_what_made_it():
    contract = contract_of(TRAINED)
    assert contract["weights"] == {
        "source": "mine.pth",
        "sha256": "ab" * 32,
        "licence": "S-Lab 1.0",
        "random_seed": None,
    }
    assert {"edgesam-export", "torch", "coremltools", "onnx", "numpy"} == set(contract["versions"])


def test_every_label_of_the_decoder_is_explained():
    assert set(LABELS) == {"-2", "-1", "0", "1", "2", "3"}
    assert contract_of(TRAINED)["labels"] == LABELS


def test_the_summary_names_licence_and_digest_of_trained_weights():
    text = summary(contract_of(TRAINED))
    assert "mine.pth" in text and "ab" * 32 in text and "S-Lab 1.0" in text and "RANDOM" not in text


def test_the_summary_of_random_weights_warns():
    text = summary(contract_of(Provenance(source="random-weights", random_seed=0, licence="none")))
    assert "RANDOM WEIGHTS (seed 0)" in text and "masks mean nothing" in text


def test_fields_of_later_tools_are_kept():
    text = json.dumps({"schema_version": SCHEMA_VERSION, "something": "new"})
    assert read_contract(text, "here")["something"] == "new"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '"text"', "3"])
def test_what_is_no_contract_is_refused(text):
    with pytest.raises(SchemaError, match=r"a\.onnx: metadata 'edgesam_export\.contract' is not a contract"):
        read_contract(text, "a.onnx")


def test_a_newer_version_is_refused_with_both_numbers():
    with pytest.raises(SchemaError, match=rf"contract version {SCHEMA_VERSION + 1}, .* reads {SCHEMA_VERSION}"):
        read_contract(json.dumps({"schema_version": SCHEMA_VERSION + 1}), "a.onnx")
