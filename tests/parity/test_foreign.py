"""Files without our contract: matched with a profile, every difference named, held to the same gates."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgesam_export.errors import UsageError
from edgesam_export.mil.program import model_message
from edgesam_export.parity.check import check_parity
from edgesam_export.parity.foreign import ForeignFiles, open_foreign
from edgesam_export.parity.gate_file import read_gates
from edgesam_export.parity.gates import DEFAULT_GATES
from edgesam_export.parity.inputs import default_images, default_prompts
from edgesam_export.parity.matching import match
from edgesam_export.parity.report import ParityReport
from edgesam_export.spec import Artifact, TensorSpec

SMALL = [(name, image[::4, ::4]) for name, image in default_images()[:2]]


def box_prompt(size):
    return [prompt for prompt in default_prompts(size) if prompt.kind == "box"]


@pytest.fixture(scope="module")
def sam6(exported: Callable[..., Path]) -> Path:
    """Files of the profile sam6; read only."""
    return exported("edge_sam_tiny", "onnx", profile="sam6")


@pytest.fixture
def foreign(sam6: Path, tmp_path: Path) -> Path:
    """The same files in a folder of their own, without metadata, as another exporter would write them."""
    for file in sam6.glob("*.onnx"):
        edit(file, tmp_path / file.name.rpartition("_")[2], lambda graph: None)
    return tmp_path


@pytest.fixture
def package(coreml_files: list[Artifact], tmp_path: Path) -> Path:
    """A decoder package without metadata."""
    target = shutil.copytree(coreml_files[1].path, tmp_path / "decoder.mlpackage")
    (file,) = target.rglob("*.mlmodel")
    message = model_message()
    message.ParseFromString(file.read_bytes())
    message.description.metadata.userDefined.clear()
    file.write_bytes(message.SerializeToString())
    return target


def edit(source: Path, target: Path, change: Callable[[onnx.GraphProto], object]) -> None:
    """Write a graph without metadata, changed."""
    proto = onnx.load(source)
    del proto.metadata_props[:]
    change(proto.graph)
    onnx.save(proto, target)


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a tensor another name everywhere."""
    for value in (*graph.input, *graph.output):
        value.name = new if value.name == old else value.name
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def check(model, files, *, score=None) -> tuple[ForeignFiles, ParityReport]:
    opened = open_foreign([files], model, profile="sam6", score=score, numerics=("fp32",))
    return opened, check_parity(model, list(opened.runners), images=SMALL, prompts=box_prompt)


def test_files_without_a_contract_are_checked_like_ours_masks_at_the_sources_size_too(model, foreign):
    opened, report = check(model, foreign)
    assert (opened.differences, opened.skipped) == ((), ())
    assert report.passed and report.model == "edge_sam_tiny"
    assert {row.component for row in report.rows} == {"encoder", "decoder"}
    assert {item.file for item in report.artifacts} == {"encoder.onnx", "decoder.onnx"}
    at_source = [row for row in report.rows if row.output == "masks_at_source"]
    assert [row.image for row in at_source] == ["source of 640x480", "source of 480x640", "source of 900x300"]
    assert [row.shape for row in at_source] == [(1, 4, 480, 640), (1, 4, 640, 480), (1, 4, 300, 900)]
    assert all(row.checks[0].value > 100 for row in at_source)


def test_masks_at_the_sources_size_have_a_gate_of_their_own(model, foreign, tmp_path):
    opened = open_foreign([foreign / "decoder.onnx"], model, profile="sam6", score=None, numerics=("fp32",))

    def verdicts(gates):
        report = check_parity(model, list(opened.runners), images=SMALL, prompts=box_prompt, gates=gates)
        return [row.passed for row in report.rows if row.output == "masks_at_source"]

    own = '[[gate]]\noutput = "masks_at_source"\nmetric = "psnr_db"\nnumerics = "fp32"\nminimum = 500'
    (tmp_path / "gates.toml").write_text(own)
    assert verdicts(read_gates(tmp_path / "gates.toml").gates) == [False] * 3
    assert verdicts(DEFAULT_GATES) == [True] * 3
    assert verdicts([gate for gate in DEFAULT_GATES if gate.output != "masks_at_source"]) == [], "no gate, no row"


def test_a_changed_weight_is_found(model, foreign):
    def change(graph):
        weight = max(graph.initializer, key=lambda entry: np.prod(entry.dims))
        values = numpy_helper.to_array(weight).copy()
        values.reshape(len(values), -1)[0] = 0
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    edit(foreign / "decoder.onnx", foreign / "decoder.onnx", change)
    report = check(model, foreign / "decoder.onnx")[1]
    assert {row.component for row in report.failures} == {"decoder"}


def test_other_names_and_types_are_named_and_do_not_hinder_the_check(model, foreign):
    edit(foreign / "encoder.onnx", foreign / "encoder.onnx", lambda graph: rename(graph, "input_image", "pixels"))

    def change(graph):
        rename(graph, "iou_predictions", "quality")
        rename(graph, "point_labels", "kinds")
        graph.node.insert(0, helper.make_node("Cast", ["point_labels"], ["kinds"], to=onnx.TensorProto.FLOAT))
        next(value for value in graph.input if value.name == "kinds").name = "point_labels"
        next(v for v in graph.input if v.name == "point_labels").type.tensor_type.elem_type = onnx.TensorProto.INT64
        del graph.output[[value.name for value in graph.output].index("masks")]

    edit(foreign / "decoder.onnx", foreign / "decoder.onnx", change)
    opened, report = check(model, foreign)
    assert report.passed
    assert opened.differences == (
        "decoder.onnx: input 'point_labels' is int64, fp32 in the profile",
        "decoder.onnx: output 'masks' is missing",
        "decoder.onnx: output 'quality' is called 'iou_predictions' in the profile",
        "encoder.onnx: input 'pixels' is called 'input_image' in the profile",
    )
    assert not [row for row in report.rows if row.output == "masks_at_source"]


def test_an_encoder_of_normalised_tensors_is_fed_so_and_the_assumption_is_named(model, onnx_files, tmp_path):
    edit(onnx_files[0].path, tmp_path / "encoder.onnx", lambda graph: None)
    opened, report = check(model, tmp_path)
    assert report.passed
    assert opened.differences == (
        "encoder.onnx: input 'image' is called 'input_image' in the profile",
        "encoder.onnx: input 'image' has shape (1, 3, 512, 512), (height, width, 3) in the profile",
        "encoder.onnx: image is taken to be passed with input layout NCHW instead of HWC, input values normalised"
        " instead of 0..255, padded by caller instead of graph",
    )


def test_scores_are_held_to_the_kind_that_they_are_said_to_be(model, foreign):
    assert {row.output for row in check(model, foreign / "decoder.onnx", score="stability")[1].failures} == {"scores"}


def fixed_points(graph):
    for value in graph.input:
        if value.name.startswith("point_"):
            value.type.tensor_type.shape.dim[1].dim_value = 5


def single_mask(graph):
    scores = next(value for value in graph.output if value.name == "iou_predictions")
    scores.type.tensor_type.shape.dim[1].dim_value = 1


def further_input(graph):
    graph.input.append(helper.make_tensor_value_info("temperature", onnx.TensorProto.FLOAT, [1]))


def other_width(graph):
    maps = next(value for value in graph.input if value.name == "image_embeddings")
    maps.type.tensor_type.shape.dim[1].dim_value = 256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fixed_points, r"decoder\.onnx' takes exactly 5 points, this profile any number"),
        (single_mask, r"decoder\.onnx' returns 1 mask\(s\), chosen inside"),
        (further_input, r"takes 'temperature' \(1\), unknown to the profile; give --model and --profile"),
        (other_width, r"has 'image_embeddings' \(1, 256, 64, 64\), the model's is \(1, 128, 64, 64\)"),
        (
            lambda graph: graph.output.pop(1),
            r"decoder\.onnx' as decoder of profile 'sam6': has no output 'iou_predictions'",
        ),
        (lambda graph: graph.input.pop(1), r"neither an encoder of one image nor a decoder with points"),
    ],
)
def test_what_leaves_nothing_to_feed_or_to_compare_is_an_error(model, foreign, change, message):
    edit(foreign / "decoder.onnx", foreign / "decoder.onnx", change)
    with pytest.raises(UsageError, match=message):
        open_foreign([foreign], model, profile="sam6", score=None, numerics=("fp32",))


def test_a_file_that_is_none_and_a_profile_of_another_format_are_errors(model, foreign, package):
    (foreign / "text.onnx").write_text("text")
    for file, profile, message in (
        (foreign / "text.onnx", "sam6", "cannot load .*text.onnx' as ONNX"),
        (
            foreign / "absent.onnx",
            "sam6",
            "absent.onnx' is no file of another exporter that can be checked; give an existing .onnx or",
        ),
        (package, "sam6", "profile 'sam6' is for onnx, not for"),
        (foreign / "decoder.onnx", "sam7", "unknown profile 'sam7'; choose one of"),
    ):
        with pytest.raises(UsageError, match=message):
            open_foreign([file], model, profile=profile, score=None, numerics=("fp32",))


def test_a_package_is_checked_in_half_precision_which_is_all_that_is_known_of_it(model, package):
    opened = open_foreign([package], model, profile="default", score=None, numerics=("fp32", "fp16"))
    report = check_parity(model, list(opened.runners), images=SMALL, prompts=box_prompt)
    assert report.passed and {row.numerics for row in report.rows} == {"fp16"}
    assert opened.differences == ()
    assert opened.skipped == ("coreml files in exact arithmetic: how their weights were rounded to FP16 is unknown",)
    with pytest.raises(UsageError, match=r"nothing to compare .*give --numerics fp16"):
        open_foreign([package], model, profile="default", score=None, numerics=("fp32",))


def spec(name: str, *shape: int | str, dtype: str = "fp32") -> TensorSpec:
    return TensorSpec(name=name, shape=shape, dtype=dtype, description="")


def test_tensors_are_matched_by_name_then_by_a_shape_that_one_alone_has():
    expected = (spec("a", 1, "n"), spec("b", 2), spec("c", 3), spec("d", 3))
    found = match(expected, (spec("x", 2), spec("a", 1, 7), spec("y", 3), spec("z", 3)), "input")
    assert found.names == {"b": "x"}
    assert [item.name for item in found.specs] == ["a", "b"] and found.find("a").shape == (1, 7)
    assert [item.name for item in found.missing] == ["c", "d"]
    assert [item.name for item in found.surplus] == ["y", "z"]
    assert "input 'a' has shape (1, 7), (1, n) in the profile" in found.differences


def test_a_size_that_the_file_leaves_open_is_the_profiles():
    found = match((spec("a", 1, 64),), (replace(spec("a", "batch", 64), dtype="fp16"),), "output")
    assert found.find("a").shape == (1, 64)
    assert found.differences == ("output 'a' is fp16, fp32 in the profile",)
