"""The command ``eval``: tables, JSON, gates, files and models side by side, and one line for what cannot be done."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from edgesam_export import families
from edgesam_export.cli.app import cli
from edgesam_export.distill.comparison import Comparison, MiouGate
from edgesam_export.distill.evaluation import PROMPTS
from edgesam_export.distill.render.table import to_table
from edgesam_export.distill.results import EvalReport, ObjectResult
from edgesam_export.distill.subjects import open_subjects
from edgesam_export.errors import UsageError
from edgesam_export.families import FAMILIES, load_model, register_model
from edgesam_export.formats.onnx import export_onnx
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ModelInfo, OnnxConfig

NAME, WEIGHTS = "small_sam", ("--random-weights", 5)
DATA = ("--data", "scenes:7:1", "--objects", 1)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """A model of one convolution that the command line knows by name."""
    families.model_names()  # all families, before one more is there

    @register_model(ModelInfo(name=NAME, family=NAME))
    def build(info: ModelInfo) -> SamModel:
        return SamModel(
            info=info,
            image_encoder=nn.Conv2d(3, 256, kernel_size=16, stride=16),
            prompt_encoder=PromptEncoder(prompt_size=info.frame.prompt_size),
            mask_decoder=MaskDecoder(),
        )

    yield
    FAMILIES.entries.pop(NAME)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with the model as ONNX, four prompt slots, no mask prompt."""
    folder = tmp_path_factory.mktemp("onnx")
    export_onnx(load_model(NAME, random_weights=5), folder, OnnxConfig(points=4))
    return folder


def test_a_model_and_its_files_stand_side_by_side(command, files, tmp_path):
    path = tmp_path / "new" / "eval.json"
    words = (NAME, files, *WEIGHTS, *DATA, "--prompts", "box, point")
    code, out, err = command("eval", *words, "--min-miou", "box=0", "--output", path)
    assert code == 0 and "random weights" in err and f"report: {path}" in err
    heading, columns, *rows = out.splitlines()
    assert heading.split() == [NAME, "torch", NAME, "onnxruntime", "fp32"]
    assert columns.split() == ["prompt", *["mIoU", "std", "error", "quartiles", "objects"] * 2]
    assert [re.split(r"  +", row)[0] for row in rows] == ["box", "point", "point oracle", "point first token"]
    document = json.loads(path.read_text())
    assert document["passed"] and document["gates"] == [{"prompt": "box", "min_miou": 0.0}]
    subjects = document["subjects"]
    assert list(subjects) == [f"{NAME} onnxruntime fp32", f"{NAME} torch"]
    for subject in subjects.values():
        (found,) = subject["objects"]
        assert subject["data"] == "scenes:7:1" and found["picture"] == "scene 7:0"
        assert subject["results"]["box"]["miou"] == found["iou"]["box"]
        assert f"{found['iou']['box']:.4f}" in rows[0]
    one, two = (subject["results"]["point"]["miou"] for subject in subjects.values())
    assert abs(one - two) < 0.002


def test_a_gate_that_is_missed_exits_with_one(command, files):
    words = ("eval", files, *DATA, "--prompts", "box,point", "--min-miou", "box=1", "--min-miou", "point=0")
    code, out, err = command(*words, "--json")
    document = json.loads(out)
    assert code == 1 and not document["passed"] and len(document["failures"]) == 1
    assert re.search(r"eval: small_sam onnxruntime fp32: box has mIoU 0\.\d{4}, at least 1 is asked for", err)
    (subject,) = document["subjects"].values()
    assert subject["model"] == NAME and "objects" not in subject and subject["pictures"] == 1


def test_a_folder_of_images_and_masks(command, files, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30], mask[32:, 40:] = 1, 2
    Image.fromarray(mask).save(tmp_path / "a_mask.png")
    code, out, err = command("eval", files, "--data", tmp_path, "--prompts", "box", "--quiet")
    assert (code, err) == (0, "")
    title, heading, row = out.splitlines()
    assert title == f"{NAME} onnxruntime fp32 on {tmp_path.name}"
    assert heading.split() == ["prompt", "mIoU", "std", "error", "quartiles", "objects"] and row.split()[-1] == "2"


def test_every_numerics_of_a_package_is_a_column_of_its_own(exported):
    folder = exported("edge_sam_tiny", ("coreml", "onnx"))
    subjects = open_subjects([str(folder)], numerics=("fp16", "ane", "fp16"))
    assert [subject.label for subject in subjects] == [
        "edge_sam_tiny executor fp16",
        "edge_sam_tiny executor ane",
        "edge_sam_tiny onnxruntime fp32",
    ]


def test_files_of_one_model_in_two_folders_have_labels_of_their_own(exported, files, tmp_path):
    shutil.copytree(files, tmp_path / "copy")
    subjects = open_subjects([str(files), str(tmp_path / "copy")])
    assert [subject.label for subject in subjects] == [
        f"{NAME} onnxruntime fp32",
        f"{NAME} onnxruntime fp32, {tmp_path / 'copy'}",
    ]
    with pytest.raises(
        UsageError, match=r"several encoders \(small_sam_encoder.onnx, small_sam_encoder.onnx\); give one"
    ):
        open_subjects([str(files), *[str(tmp_path / "copy")] * 2])


def report_of(*objects: ObjectResult, prompts: tuple[str, ...] = ("box", "point")) -> EvalReport:
    return EvalReport(model="m", runner="r", data="d", prompts=prompts, mask_prompt=False, images=1, objects=objects)


def test_a_table_of_few_objects_shows_what_there_is():
    one = ObjectResult(image="a", index=0, area=5, iou={"box": 0.5, "point": 0.25, "point oracle": 0.75})
    lines = to_table(Comparison(reports={"m r": report_of(one)}, gates=())).splitlines()
    assert [re.split(r"  +", line) for line in lines[2:]] == [
        ["box", "0.5000", "-", "0.500 0.500 0.500", "1"],
        ["point", "0.2500", "-", "0.250 0.250 0.250", "1"],
        ["point oracle", "0.7500", "-", "0.750 0.750 0.750", "1"],
    ]


def test_a_prompt_without_objects_reaches_no_gate():
    one = ObjectResult(image="a", index=0, area=5, iou={"box": 0.5})
    gates = (MiouGate(prompt="box", least=0.5), MiouGate(prompt="point", least=0.0))
    comparison = Comparison(reports={"m r": report_of(one)}, gates=gates)
    assert comparison.failures == ["m r: point has mIoU none, at least 0 is asked for"]
    assert comparison.document()["passed"] is False


def test_the_prompts_of_the_command_are_those_of_the_library():
    (option,) = (one for one in cli.commands["eval"].params if one.name == "prompts")
    assert tuple(option.default.split(",")) == PROMPTS


BAD = [
    (("nobody", *DATA), "'nobody' is neither a file nor a model; models are: "),
    ((NAME, *WEIGHTS), "Missing option '--data'"),
    ((NAME, *WEIGHTS, "--data", "nowhere"), "data 'nowhere' is neither scenes:SEED:COUNT"),
    ((NAME, *WEIGHTS, "--data", "scenes:1"), "data 'scenes:1' has no end; give a limit, or a count after the seed"),
    ((NAME, *WEIGHTS, *DATA, "--prompts", "box,star"), "prompt 'star' cannot be evaluated"),
    ((NAME, *WEIGHTS, *DATA, "--min-miou", "box"), "'box' is no gate; write for example box=0.9"),
    ((NAME, *WEIGHTS, *DATA, "--min-miou", "box=90"), "'box=90' is no gate"),
    ((NAME, *WEIGHTS, *DATA, "--min-miou", "box=nan"), "'box=nan' is no gate"),
    ((NAME, *WEIGHTS, *DATA, "--min-miou", "box+1=0.9"), "--min-miou box+1: not among the prompts box,point,point+2"),
    ((NAME, "edge_sam", *WEIGHTS, *DATA), "--random-weights belongs to one model by name, given: small_sam, edge_sam"),
    ((NAME, "--checkpoint", "x.pth", *WEIGHTS, *DATA), "both checkpoint 'x.pth' and random_weights 5"),
    ((NAME, *WEIGHTS, *DATA, "--limit", "0"), "'--limit'"),
]


@pytest.mark.parametrize(("words", "line"), BAD)
def test_what_is_wrong_is_one_line(refused, words, line):
    assert line in refused("eval", *words)


def test_what_files_cannot_take_is_refused_before_anything_runs(refused, files, monkeypatch):
    assert "--checkpoint belongs to one model by name, given: none" in refused(
        "eval", files, "--checkpoint", "x.pth", *DATA
    )
    encoder, decoder = (files / f"{NAME}_{part}.onnx" for part in ("encoder", "decoder"))
    assert "no decoder among the files" in refused("eval", encoder, *DATA)
    monkeypatch.setattr("edgesam_export.runners.ArtifactRunner.encode", lambda *_: pytest.fail("it ran"))
    assert "prompt 'point+3' needs 5 slots, the decoder of small_sam has 4" in refused(
        "eval", encoder, decoder, *DATA, "--prompts", "point+3"
    )
    assert "takes no mask prompt" in refused("eval", files, *DATA, "--mask-prompt")
    assert "is no exported file" in refused("eval", Path(__file__), *DATA)
