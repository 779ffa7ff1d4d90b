"""Decoders of several prompts at once, on files: each prompt gets what it gets alone, whatever the others are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from small_models import SMALL, SMALL_MAPS, registered, small_model

from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.formats import find_format
from edgesam_export.parity import check_parity
from edgesam_export.parity.inputs import default_prompts
from edgesam_export.predict.mask_generator import GeneratorConfig, generate_masks
from edgesam_export.predict.predictor import Predictor
from edgesam_export.runners import open_runner
from edgesam_export.runners.torch import TorchRunner
from edgesam_export.spec import CoreMLConfig, OnnxConfig

QUERIES = 3
MODELS = {"one map": small_model(SMALL), "three maps": small_model(SMALL_MAPS)}
IMAGE = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.fixture(scope="module", params=[("one map", "coreml"), ("three maps", "onnx")])
def exported(request, tmp_path_factory):
    """A model, and its files with a decoder of three prompts; of three maps the decoder scores objects too."""
    name, format = request.param
    model = MODELS[name]
    options = {"queries": QUERIES, "mask_input": True, "object_score": model.mask_decoder.scores_objects}
    config = OnnxConfig(**options) if format == "onnx" else CoreMLConfig(points=5, **options)
    folder = tmp_path_factory.mktemp("queries")
    return model, find_format(format).export(model, folder, config)


@pytest.fixture(scope="module")
def embedding(exported):
    noise = np.random.default_rng(2)
    runner = TorchRunner(exported[0])
    shapes = zip(runner.embedding_names, runner.info.embedding_shapes, strict=True)
    return {name: noise.normal(size=shape).astype(np.float32) for name, shape in shapes}


def prompts(count: int):
    """Different prompts: coordinates, labels, masks, and for which of them the mask counts."""
    noise = np.random.default_rng(count)
    labels = np.full((count, 4), -2, np.float32)
    labels[:, 0] = 1
    labels[::2, 1] = 0
    coords = noise.uniform(0, 1024, (count, 4, 2)).astype(np.float32)
    masks = noise.normal(size=(count, 1, 256, 256)).astype(np.float32)
    return coords, labels, masks, np.arange(count) % 3 == 1


@pytest.mark.parametrize("count", [1, 5])
def test_each_prompt_gets_what_the_model_gives_it_alone(exported, embedding, count):
    model, files = exported
    runner = open_runner(files, numerics="fp32" if files[0].format == "coreml" else None)
    assert runner.queries == QUERIES and runner.contracts["decoder"]["queries"] == QUERIES
    found = runner.decode_many(embedding, *prompts(count))
    reference = TorchRunner(model, score=runner.score_kind)
    half = files[0].format == "coreml"  # weights rounded to FP16
    for index, (coords, labels, mask, has) in enumerate(zip(*prompts(count), strict=True)):
        expected = reference.decode_all(embedding, coords[None], labels[None], mask[None] if has else None)
        for part, own in zip(found, expected, strict=True):
            if own is not None and part is not None:
                assert np.abs(part[index] - own[0]).max() <= (2e-2 if half else 2e-4) * max(1, np.abs(own).max())


def test_other_queries_and_empty_ones_change_no_bit(exported, embedding):
    _, files = exported
    runner = open_runner(files)
    coords, labels, masks, _ = prompts(QUERIES)
    together = runner.decode_many(embedding, coords, labels, masks, np.array([True, False, True]))
    fewer = runner.decode_many(embedding, coords[:2], labels[:2], masks[:2], np.array([True, False]))
    alone = runner.decode_all(embedding, coords[:1], labels[:1], masks[:1])
    for all_of_them, two, one in zip(together, fewer, alone, strict=True):
        if all_of_them is not None:
            np.testing.assert_array_equal(all_of_them[:2], two)
            np.testing.assert_array_equal(all_of_them[:1], one)


def test_the_predictor_and_everything_mode_use_all_queries(exported, monkeypatch):
    _, files = exported
    runner, calls = open_runner(files), []
    decode = runner.decode_queries
    monkeypatch.setattr(
        runner, "decode_queries", lambda e, c, labels, masks: calls.append(len(labels)) or decode(e, c, labels, masks)
    )
    asked = [{"points": [(10, 20)]}, {"box": (5, 5, 50, 40)}, {"points": [(9, 9), (70, 50)], "labels": [1, 0]}]
    asked.append({"points": [(30, 30)], "mask_input": np.full((256, 256), -3.0)})
    predictor = Predictor(runner=runner).set_image(IMAGE)
    many = predictor.predict_many(asked)
    assert calls == [3, 1] and predictor.predict_many([]) == []
    for masks, prompt in zip(many, asked, strict=True):
        alone = predictor.predict(**prompt)
        np.testing.assert_array_equal(masks.logits, alone.logits)
        np.testing.assert_array_equal(masks.masks, alone.masks)
        assert (masks.best_index, masks.object_score) == (alone.best_index, alone.object_score)
    del calls[:]
    generate_masks(runner, IMAGE, GeneratorConfig(points_per_side=3, points_per_batch=4))
    assert calls == [3, 3, 3]  # four prompts are two calls, so six at once


def test_parity_of_files_passes_with_one_row_for_each_prompt(exported):
    model, files = exported
    report = check_parity(
        model, files, numerics=("fp16",), images=[IMAGE, IMAGE[::2]], prompts=lambda size: default_prompts(size)[3:]
    )
    assert report.passed
    assert {row.prompt for row in report.rows} == {"", "box+point", "mask"}
    assert all(row.shape[0] == 1 for row in report.rows)


@pytest.mark.parametrize(
    "prompts, said",
    [
        ([{"points": [(1, 1)]}, {"points": [(90, 1)]}], r"prompt 1: point \(90, 1\) is outside the image of 80x60"),
        ([{"point": [(1, 1)]}], "prompt 0: no 'point' is known; give points, labels, box, mask_input"),
        ([{}], "prompt 0: no prompt: give at least one point"),
    ],
)
def test_a_bad_one_of_several_prompts_is_named(prompts, said):
    with pytest.raises(UsageError, match=said):
        Predictor(MODELS["one map"]).set_image(IMAGE).predict_many(prompts)


@pytest.mark.parametrize("queries", [0, 65, -1])
def test_a_number_of_queries_out_of_range_is_refused(queries):
    with pytest.raises(UsageError, match=f"queries is {queries}; a decoder takes 1 to 64 prompts at once"):
        OnnxConfig(queries=queries)


@pytest.mark.parametrize("profile", ["official", "sam6", "sam2", "apple-sam2", "transformers-js", "x-anylabeling"])
def test_a_consumers_profile_has_no_queries(profile, tmp_path):
    format = "coreml" if profile == "apple-sam2" else "onnx"
    config = (OnnxConfig if format == "onnx" else CoreMLConfig)(profile=profile, queries=8)
    with pytest.raises(UsageError, match=rf"profile '{profile}' has its consumer's number of prompts.*not 8 queries"):
        find_format(format).export(MODELS["one map"], tmp_path, config)


@pytest.mark.parametrize("queries", ["8", 0, 10**9, None, True])
def test_a_contract_of_an_impossible_number_of_queries_is_refused(exported, queries):
    _, files = exported
    runner = open_runner(files)
    contract = {**files[-1].contract, "queries": queries}
    with pytest.raises(SchemaError, match=r"contract has queries .*, expected 1 to 64; export again"):
        type(runner)([*files[:-1], replace(files[-1], contract=contract)])


def test_more_prompts_than_queries_in_one_call_are_refused(exported, embedding):
    _, files = exported
    coords, labels, _, _ = prompts(QUERIES + 1)
    with pytest.raises(UsageError, match="4 prompts in one call, this decoder takes 3; export with --queries"):
        open_runner(files).decode_queries(embedding, coords, labels, [None] * 4)


def test_the_command_line_exports_and_segments(tmp_path, command):
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    files, masks = str(tmp_path / "build"), str(tmp_path / "out")
    with registered():
        export = ["onnx", "small", "--random-weights", "1", "--no-verify", "--output", files]
        code, out, err = command(*export, "--queries", "2")
        assert code == 0 and "small_decoder.onnx" in out, err
        code, _, err = command(
            "segment", str(tmp_path / "image.png"), "--artifact", files, "--point", "40,30", "--output", masks
        )
        assert code == 0, err
        code, _, err = command(*export, "--queries", "65")
    assert code == 2 and "queries is 65; a decoder takes 1 to 64 prompts at once" in err
