"""Profiles of programs that run SAM 2: names and shapes, any number of prompts, three packages, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import SMALL, SMALL_MAPS, small_model

from edgesam_export.ane import analyze
from edgesam_export.artifacts import list_files, open_artifact, pick_pair
from edgesam_export.errors import UsageError
from edgesam_export.export.trace import build_components
from edgesam_export.families import model_info
from edgesam_export.formats import find_format
from edgesam_export.mil.program import load_program, model_message
from edgesam_export.modeling.wrappers import MASKED, ExactPrompt, PaddedPrompt, ProjectedPrompt
from edgesam_export.parity import check_parity
from edgesam_export.parity.foreign import open_foreign
from edgesam_export.parity.inputs import default_prompts
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.parity.report import Prompt
from edgesam_export.predict.predictor import Predictor
from edgesam_export.profiles import apple_sam2, find_profile
from edgesam_export.runners import open_runner
from edgesam_export.spec import CoreMLConfig, OnnxConfig

ONNX_PROFILES = ("sam2", "transformers-js")
IMAGES = [
    (f"noise {height}x{width}", np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8))
    for height, width in ((60, 100), (120, 90))
]


def two_prompts(size: tuple[int, int]) -> list[Prompt]:
    return [prompt for prompt in default_prompts(size) if prompt.kind in ("points", "box")]


@pytest.fixture(scope="module")
def model():
    """A small network with SAM 2's frame and padding point, and maps of its own sizes."""
    return small_model(replace(SMALL_MAPS, frame=model_info("edgetam").frame, padding_point="always"))


@pytest.fixture(scope="module")
def exports(model, tmp_path_factory) -> dict[str, Path]:
    """An export of each profile; read only."""
    folders = {profile: tmp_path_factory.mktemp(profile) for profile in (*ONNX_PROFILES, "apple-sam2")}
    for profile in ONNX_PROFILES:
        find_format("onnx").export(model, folders[profile], OnnxConfig(profile=profile))
    find_format("coreml").export(model, folders["apple-sam2"], CoreMLConfig(profile="apple-sam2"))
    return folders


# ---------------------------------------------------------------------------------------------------------- the tensors


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sam2.1_hiera_tiny", "SAM2_1TinyImageEncoderFLOAT16"),
        ("sam2.1_hiera_base_plus", "SAM2_1BasePlusImageEncoderFLOAT16"),
        ("sam2_hiera_small", "SAM2SmallImageEncoderFLOAT16"),
        ("edgetam", "EdgeTAMImageEncoderFLOAT16"),
    ],
)
def test_packages_have_apples_names(name, expected):
    assert apple_sam2.file_stem(model_info(name), "ImageEncoder") == expected


def test_packages_have_apples_features(exports):
    """Read from the packages that sam2-studio ships; D is 256 there, and the maps 32 and 64 channels deep."""
    programs = {path.stem.removeprefix("small_maps"): load_program(path) for path in list_files(exports["apple-sam2"])}
    assert set(programs) == {f"{part}FLOAT16" for part in ("ImageEncoder", "PromptEncoder", "MaskDecoder")}
    features = {
        name: ({f.name: f.shape for f in program.inputs}, {f.name: (f.shape, f.dtype) for f in program.outputs})
        for name, program in programs.items()
    }
    maps = {"image_embedding": (1, 32, 64, 64), "feats_s0": (1, 4, 256, 256), "feats_s1": (1, 8, 128, 128)}
    tokens = {"sparse_embedding": (1, 17, 32), "dense_embedding": (1, 32, 64, 64)}
    inputs, outputs = features["ImageEncoderFLOAT16"]
    assert list(inputs) == ["image"] and programs["ImageEncoderFLOAT16"].inputs[0].kind == "image"
    assert outputs == {name: (shape, "fp16") for name, shape in maps.items()}
    inputs, outputs = features["PromptEncoderFLOAT16"]
    assert list(inputs) == ["points", "labels"]
    assert outputs == {f"{name}s": (shape, "fp16") for name, shape in tokens.items()}
    inputs, outputs = features["MaskDecoderFLOAT16"]
    assert inputs == {**maps, **tokens}
    assert list(inputs) == ["image_embedding", "sparse_embedding", "dense_embedding", "feats_s0", "feats_s1"]
    assert outputs == {"low_res_masks": ((1, 3, 256, 256), "fp16"), "scores": ((1, 3), "fp16")}


def test_nothing_blocks_apples_decoder_on_the_neural_engine(exports):
    program = load_program(exports["apple-sam2"] / "small_mapsMaskDecoderFLOAT16.mlpackage")
    assert not [finding for finding in analyze(program).findings if finding.severity == "error"]


@pytest.mark.parametrize("count", [1, 3, 16])
def test_apples_prompt_encoder_takes_any_number_of_points(model, exports, count):
    """Chained by hand, as an app does; the reference is PyTorch with these points and the padding point."""
    _, prompt_encoder, decoder = (load_program(exports["apple-sam2"] / f"small_maps{part}FLOAT16.mlpackage")
                                  for part in ("ImageEncoder", "PromptEncoder", "MaskDecoder"))  # fmt: skip
    generator = np.random.default_rng(count)
    points = generator.uniform(0, 1024, (1, count, 2)).astype(np.float32)
    labels = generator.integers(0, 4, (1, count)).astype(np.float32)
    maps = [generator.normal(size=shape).astype(np.float32) for shape in model.info.embedding_shapes]
    tokens = prompt_encoder.predict({"points": points, "labels": labels}, numerics="fp32")
    feed = {name.removesuffix("s"): value for name, value in tokens.items()}
    feed |= dict(zip(apple_sam2.MAPS, maps))
    found = decoder.predict(feed, numerics="fp32")
    padded = np.concatenate([points, np.zeros((1, 1, 2), np.float32)], 1)
    kinds = np.concatenate([labels, [[-1.0]]], 1).astype(np.float32)
    expected, scores = model.decode(tuple(map(torch.from_numpy, maps)), *map(torch.from_numpy, (padded, kinds)))
    # weights and constants are stored in FP16
    assert np.abs(found["low_res_masks"] - expected[:, 1:].numpy()).max() < 5e-3 * expected.abs().max()
    assert np.abs(found["scores"] - scores[:, 1:].numpy()).max() < 5e-3


def test_a_mask_alone_gets_no_padding_point(model):
    padded = PaddedPrompt(ExactPrompt(model))
    coords = torch.zeros(2, 2, 2)
    _, bias = padded(coords, torch.tensor([[-2.0, -2.0], [1.0, -2.0]]))
    assert bias.reshape(2, 3).tolist() == [[MASKED, MASKED, MASKED], [0.0, MASKED, 0.0]]


def test_files_of_transformers_js_are_named_by_precision(model):
    config = OnnxConfig(profile="transformers-js", precision="fp16")
    profile = find_profile("transformers-js")
    names = [component.file_stem for component in profile.components(model, config)]
    assert names == ["vision_encoder_fp16", "prompt_encoder_mask_decoder_fp16"]
    documents = profile.companions(model_info("edgetam"), config)
    assert documents["config.json"]["model_type"] == "edgetam"
    assert documents["config.json"]["transformers.js_config"] == {"dtype": "fp16"}
    mean = documents["preprocessor_config.json"]["image_mean"]
    assert mean == [0.485, 0.456, 0.406]  # SAM 2's, of values 0 to 1


# ----------------------------------------------------------------------------------------------- parity, pairing, masks


@pytest.mark.parametrize("profile", [*ONNX_PROFILES, "apple-sam2"])
def test_files_pass_the_gates(model, exports, profile):
    prompts = None if profile == "sam2" else two_prompts  # with a mask prompt, which only that one takes
    report = check_parity(model, exports[profile], images=IMAGES, numerics=("fp16",), prompts=prompts)
    assert report.passed, report.failures
    assert {row.component for row in report.rows} == {"encoder", "decoder"}
    shapes = {row.output: row.shape[1] for row in report.rows if row.component == "decoder"}
    presence = shapes.pop("object_score", None)
    assert set(shapes.values()) == {3} and presence == (1 if profile == "transformers-js" else None)


def test_segmenting_with_three_packages_gives_pytorchs_masks(model, exports):
    expected = Predictor(model).set_image(IMAGES[0][1]).predict(points=[(50, 30), (10, 10)], labels=[1, 0])
    found = Predictor(exports["apple-sam2"]).set_image(IMAGES[0][1]).predict(points=[(50, 30), (10, 10)], labels=[1, 0])
    assert found.masks.shape == (3, 60, 100)
    assert psnr_db(expected.logits[1:], found.logits) > 50


def test_a_damaged_prompt_encoder_is_found_and_named(model, exports, tmp_path):
    folder = shutil.copytree(exports["apple-sam2"], tmp_path / "files")
    (weights,) = (folder / "small_mapsPromptEncoderFLOAT16.mlpackage").rglob("weight.bin")
    stored = ProjectedPrompt(ExactPrompt(model)).angles.weight.detach().numpy()
    assert weights.read_bytes().count(stored.tobytes()) == 1
    damaged = stored * np.array([0, 1], np.float32)  # no frequencies of x
    weights.write_bytes(weights.read_bytes().replace(stored.tobytes(), damaged.tobytes()))
    (folder / "export.json").unlink()
    report = check_parity(model, folder, images=IMAGES, numerics=("fp32",), prompts=two_prompts)
    assert not report.passed
    assert {row.component for row in report.failures} == {"decoder"}
    assert [item.component for item in report.divergences] == ["prompt_encoder"]


def test_parts_that_belong_together_are_asked_for(exports):
    encoder, prompt_encoder, decoder = open_runner(exports["apple-sam2"]).artifacts
    assert [file.component for file in (encoder, prompt_encoder, decoder)] == ["encoder", "prompt_encoder", "decoder"]
    runner = open_runner([encoder, decoder])
    maps = dict(zip(runner.embedding_names, (np.zeros(s, np.float32) for s in runner.info.embedding_shapes)))
    with pytest.raises(UsageError, match=r"^no prompt encoder among the files .*; give it too$"):
        runner.decode(maps, np.zeros((1, 1, 2), np.float32), np.ones((1, 1), np.float32))
    with pytest.raises(UsageError, match="is a prompt encoder; give the decoder that takes its tokens too"):
        open_runner(prompt_encoder)
    with pytest.raises(UsageError, match="only pairs of an encoder and a decoder are measured"):
        pick_pair([encoder, prompt_encoder, decoder])


def test_maps_are_in_the_models_order_whatever_the_files_have(exports):
    runner = open_runner(exports["sam2"])
    assert runner.embedding_names == ("image_embed", "high_res_feats_0", "high_res_feats_1")
    assert [shape[1] for shape in runner.info.embedding_shapes] == [32, 4, 8]
    outputs = [spec["name"] for spec in runner.contracts["encoder"]["outputs"]]
    assert outputs == ["high_res_feats_0", "high_res_feats_1", "image_embed"]
    assert runner.info.padding_point is False and runner.logit_limit == 32.0


def test_a_folder_of_transformers_js_is_found_by_its_root(exports):
    root = exports["transformers-js"]
    assert {path.name for path in root.iterdir()} == {"config.json", "preprocessor_config.json", "onnx"}
    assert [path.name for path in list_files(root)] == ["prompt_encoder_mask_decoder.onnx", "vision_encoder.onnx"]
    assert open_artifact(root / "onnx" / "vision_encoder.onnx").component == "encoder"
    assert json.loads((root / "onnx" / "export.json").read_text())["artifacts"].keys() == {
        "prompt_encoder_mask_decoder.onnx",
        "vision_encoder.onnx",
    }


# ---------------------------------------------------------------------------------------------------- files of others


def test_apples_packages_without_a_contract_are_checked(model, exports, tmp_path):
    for package in exports["apple-sam2"].glob("*.mlpackage"):
        copy = shutil.copytree(package, tmp_path / package.name)
        (file,) = copy.rglob("*.mlmodel")
        message = model_message()
        message.ParseFromString(file.read_bytes())
        message.description.metadata.userDefined.clear()
        file.write_bytes(message.SerializeToString())
    opened = open_foreign([tmp_path], model, profile="apple-sam2", score=None, numerics=("fp16",))
    assert (opened.differences, opened.skipped) == ((), ())
    assert opened.runners[0].slots is None, "other exporters know no empty slots"
    assert check_parity(model, list(opened.runners), images=IMAGES, prompts=two_prompts).passed


# ----------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("profile", ["sam2", "x-anylabeling-sam2", "transformers-js"])
def test_a_model_of_one_map_is_refused(profile):
    with pytest.raises(
        UsageError, match=f"^profile '{profile}' is for models with SAM 2's three maps and frame, small"
    ):
        build_components(small_model(SMALL), OnnxConfig(profile=profile), format="onnx")


@pytest.mark.parametrize(
    ("profile", "options", "message"),
    [
        ("sam2", {"candidates": 1}, "returns 3 masks, not 1"),
        ("sam2", {"points": 4}, "takes any number of points, not 4"),
        (
            "sam2",
            {"rewrites": ("grouped_hypernetworks",)},
            "several prompts at once, rewrite grouped_",
        ),
        ("transformers-js", {"mask_input": True}, "has no mask_input"),
        ("apple-sam2", {"precision": "fp32"}, "Apple's tensors, which know no precision fp32"),
        ("apple-sam2", {"mask_input": True}, "Apple's tensors, which know no mask_input"),
        ("apple-sam2", {"functions": (2,), "target": "iOS18"}, "Apple's tensors, which know no functions"),
        ("apple-sam2", {"split_encoder": True}, "Apple's tensors, which know no split_encoder"),
    ],
)
def test_options_that_contradict_the_consumer_are_refused(model, profile, options, message):
    format, config = ("coreml", CoreMLConfig) if profile == "apple-sam2" else ("onnx", OnnxConfig)
    with pytest.raises(UsageError, match=f"^profile '{profile}' .*{message}"):
        build_components(model, config(profile=profile, **options), format=format)
