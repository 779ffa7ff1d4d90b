"""What ``Runner`` promises holds for every runner, and a class that keeps the promise is a runner wherever it lies."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_models import SMALL_MAPS, small_model

import edgesam_export
from edgesam_export import runners
from edgesam_export.coreai.availability import why_unavailable
from edgesam_export.errors import UsageError
from edgesam_export.formats.coreai import export_coreai
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.formats.onnx import export_onnx
from edgesam_export.imaging.geometry import prepare
from edgesam_export.imaging.reading import open_image
from edgesam_export.mil import load_program
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity import check_parity
from edgesam_export.predict.predictor import Predictor
from edgesam_export.registry import import_submodules
from edgesam_export.runners import RUNNERS, ArtifactRunner, Runner, open_runner, runner_of
from edgesam_export.runners import coreml as coreml_runner
from edgesam_export.runners.torch import StoredWeightsRunner
from edgesam_export.spec import NUMERICS, Artifact, CoreAIConfig, CoreMLConfig, ModelInfo, OnnxConfig

NAMES = ("image_embeddings", "feats_s0", "feats_s1")
PROMPT = np.array([[[300, 200], [0, 0]]], np.float32), np.array([[1, -1]], np.float32)


class ExecutorAsMLModel:
    """``coremltools.models.MLModel`` as far as the Core ML runner uses it, computed by the executor."""

    def __init__(self, path: str, *, compute_units: object) -> None:
        self.program = load_program(path)

    def predict(self, values: dict) -> dict:
        return self.program.predict(values, numerics="fp16")


@pytest.fixture(scope="module")
def small() -> SamModel:
    """A model whose encoder returns three maps."""
    return small_model(SMALL_MAPS)


@pytest.fixture(scope="module")
def packages(small, tmp_path_factory) -> list[Artifact]:
    return export_coreml(small, tmp_path_factory.mktemp("packages"), CoreMLConfig(mask_input=True))


@pytest.fixture(scope="module")
def graphs(small, tmp_path_factory) -> list[Artifact]:
    return export_onnx(small, tmp_path_factory.mktemp("graphs"), OnnxConfig(mask_input=True))


@pytest.fixture(scope="module")
def prepared(small, photo):
    return prepare(open_image(photo), small.info.frame)


@pytest.fixture(scope="module")
def assets(small, tmp_path_factory) -> list[Artifact]:
    """Core AI files for both of their runners: Apple's interpreter takes FP32 alone."""
    if reason := why_unavailable():
        pytest.skip(reason)
    return export_coreai(small, tmp_path_factory.mktemp("assets"), CoreAIConfig(mask_input=True, precision="fp32"))


@pytest.fixture(scope="module")
def by_apple(assets) -> Iterator[Runner]:
    runner = open_runner(assets, numerics="apple")
    yield runner
    runner.release()


@pytest.fixture(params=["torch", "stored", "mil", "onnxruntime", "coreml", "coreai", "coreai_apple"])
def runner(request, monkeypatch, small, packages, graphs) -> Runner:
    """Each runner on the same model; Core ML itself is replaced, so that of its runner only our own part is tested."""
    if request.param == "coreai":
        return open_runner(request.getfixturevalue("assets"))
    if request.param == "coreai_apple":
        return request.getfixturevalue("by_apple")
    if request.param == "torch":
        return open_runner(small)
    if request.param == "stored":
        return StoredWeightsRunner(small, packages)
    if request.param == "coreml":
        monkeypatch.setattr("coremltools.models.MLModel", ExecutorAsMLModel)
        monkeypatch.setattr(coreml_runner, "sys", SimpleNamespace(platform="darwin"))
        return open_runner(packages, numerics="native:cpu_and_ne")
    return open_runner(graphs if request.param == "onnxruntime" else packages)


def test_every_registered_runner_is_one():
    import_submodules(runners.__name__)
    assert {"torch", "mil", "onnxruntime", "coreml", "coreai", "coreai_apple"} <= set(RUNNERS)
    assert all(issubclass(RUNNERS[name], Runner) for name in RUNNERS)


def test_it_says_what_it_can(runner):
    assert runner.name and runner.numerics in NUMERICS and isinstance(runner.info, ModelInfo)
    assert all(isinstance(artifact, Artifact) for artifact in runner.artifacts)
    assert bool(runner.artifacts) != (runner.name == "torch")
    assert runner.slots is None or runner.slots > 0
    assert runner.score_kind in ("iou", "stability") and set(runner.candidates) <= {0, 1, 2, 3}
    flags = ("fixed_slots", "accepts_mask_input", "mask_prompts", "selects", "takes_image", "proposes")
    assert {type(getattr(runner, flag)) for flag in flags} == {bool}
    assert (runner.model is not None) == isinstance(runner, RUNNERS["torch"] | StoredWeightsRunner)


def test_encoding_and_decoding_keep_names_shapes_and_types(runner, prepared):
    embedding = runner.encode(prepared)
    assert tuple(embedding) == runner.embedding_names == NAMES
    assert [array.shape for array in embedding.values()] == list(runner.info.embedding_shapes)
    mask = np.zeros((1, 1, 256, 256), np.float32)
    for prompt in (PROMPT, (*PROMPT, mask)):
        logits, scores = runner.decode(embedding, *prompt)
        assert logits.shape == (1, len(runner.candidates), 256, 256) and scores.shape == (1, len(runner.candidates))
        assert {array.dtype for array in (*embedding.values(), logits, scores)} == {np.dtype(np.float32)}


def test_an_embedding_is_matched_by_names_or_else_by_order(runner, prepared):
    embedding = runner.encode(prepared)
    renamed = {f"other {name}": array for name, array in embedding.items()}
    for one, other in zip(runner.decode(embedding, *PROMPT), runner.decode(renamed, *PROMPT), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(
        UsageError, match=r"has maps \[.*'more'\]; this decoder takes \['image_embeddings', 'feats_s0', 'feats_s1'\]"
    ):
        runner.decode({**embedding, "more": PROMPT[0]}, *PROMPT)


def test_pixels_are_encoded_where_there_is_an_image_input(runner, prepared):
    if runner.model is not None or runner.takes_image:
        found = runner.encode_pixels(prepared.pixels)
        assert [array.shape for array in found.values()] == list(runner.info.embedding_shapes)
    else:
        with pytest.raises(UsageError, match="no encoder with an image input"):
            runner.encode_pixels(prepared.pixels)


def test_without_a_proposal_head_there_are_no_boxes(runner, prepared):
    assert not runner.proposes
    with pytest.raises(UsageError, match="propos"):
        runner.propose(runner.encode(prepared))


def test_release_loses_nothing_but_time(runner, prepared):
    embedding = runner.encode(prepared)
    before = runner.decode(embedding, *PROMPT)
    runner.release()
    assert all(np.array_equal(*pair) for pair in zip(before, runner.decode(embedding, *PROMPT), strict=True))


def test_what_runs_in_the_executor_can_be_replayed(runner, prepared):
    runner.encode(prepared)
    found = runner.replay("encoder")
    assert (found is not None) == runner.name.startswith("executor")
    if found is not None:
        program, feed = found
        again = program.predict(feed, numerics=runner.numerics)
        for name, array in runner.encode(prepared).items():
            assert np.array_equal(again[name], array.astype(again[name].dtype))


def test_an_encoder_in_two_parts_hands_over_all_maps(small, packages, prepared, tmp_path):
    parts = export_coreml(small, tmp_path, CoreMLConfig(mask_input=True, split_encoder=True))
    assert len(parts) == 3
    whole = open_runner(packages, numerics="fp16").encode(prepared)
    split = open_runner(parts, numerics="fp16").encode(prepared)
    assert tuple(split) == NAMES and all(np.array_equal(split[name], whole[name]) for name in NAMES)


def test_a_mask_prompt_is_refused_in_the_same_words_everywhere():
    class Bare(Runner):
        name, info = "bare", ModelInfo(name="m", family="f")

        def encode(self, prepared):
            raise AssertionError

        decode_all = encode

    for known, words in ((True, "export it again with --mask-input"), (False, "no export of this model does")):
        bare = Bare()
        bare.mask_prompts = known
        with pytest.raises(UsageError, match=f"^this decoder takes no mask prompt; {words}$"):
            bare.require_mask_prompt()
        bare.accepts_mask_input = True
        bare.require_mask_prompt()


def test_nobody_asks_a_runner_by_getattr_or_hasattr():
    root = Path(edgesam_export.__file__).parent
    probes = [
        f"{path.relative_to(root)}: {ast.unparse(node)}"
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr")
        if "runner" in ast.unparse(node.args[0])
    ]
    assert probes == []


TOY_RUNNER = '''
from edgesam_export.runners import RUNNERS
from edgesam_export.runners.onnxruntime import OnnxRuntimeRunner

@RUNNERS.register("toy_runtime")
class ToyRuntime(OnnxRuntimeRunner):
    """ONNX Runtime under another name, asked for as ``toy:anything``."""

    prefix = "toy"

    @classmethod
    def open(cls, artifacts, *, numerics, device):
        runner = cls(artifacts)
        runner.name = f"toy {numerics}"
        return runner
'''


@pytest.fixture
def toy_runtime(tmp_path, monkeypatch) -> Iterator[None]:
    (tmp_path / "toy_runtime.py").write_text(TOY_RUNNER, encoding="utf-8")
    monkeypatch.setattr(runners, "__path__", [*runners.__path__, str(tmp_path)])
    yield
    RUNNERS.entries.pop("toy_runtime", None)
    sys.modules.pop(f"{runners.__name__}.toy_runtime", None)
    runners.__dict__.pop("toy_runtime", None)


def test_a_file_dropped_into_the_folder_is_a_runner(toy_runtime, photo, tmp_path):
    model = small_model()
    graphs = export_onnx(model, tmp_path)
    runner = open_runner(graphs, numerics="toy:fast")
    assert isinstance(runner, ArtifactRunner) and runner.name == "toy fast"
    found = Predictor(runner=runner).set_image(photo).predict(points=[(150, 120)])
    assert found.masks.shape == (4, 240, 320)
    images = [("one", open_image(photo)), ("two", open_image(photo)[::-1].copy())]
    report = check_parity(model, runner, images=images)
    assert report.passed and {row.candidate for row in report.rows} == {"toy fast"}
    assert open_runner(graphs).name == "onnxruntime fp32"  # the format's own runner stays the default


def test_apples_interpreter_takes_exact_files_and_no_numerics(assets):
    half = [replace(artifact, contract={**artifact.contract, "precision": "fp16"}) for artifact in assets]
    with pytest.raises(UsageError, match=r"computes in FP16, whose products Apple's interpreter also sums in FP16"):
        runner_of(half, numerics="apple")
    with pytest.raises(UsageError, match=r"numerics is 'apple:fp16'; Apple's interpreter is used for fp32 alone"):
        open_runner(assets, numerics="apple:fp16")
