"""Core AI assets: what an export writes, in which types, and that it is the same every time."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import small_model
from torch import nn

from edgesam_export.coreai.availability import why_unavailable
from edgesam_export.errors import ProgramError, RunnerUnavailableError, UsageError
from edgesam_export.export.compression import find_scheme, output_axis, stored_values
from edgesam_export.export.contract import CONTRACT_KEY
from edgesam_export.export.quiet import quiet
from edgesam_export.export.trace import TracedComponent, build_components, keep_module, trace_component
from edgesam_export.families import load_model
from edgesam_export.formats import find_format
from edgesam_export.formats.coreai import convert, export_coreai, read_metadata
from edgesam_export.formats.coreai.metadata import put_nulls, without_nulls
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Artifact, CoreAIConfig, TensorSpec

REASON = why_unavailable()
needs_coreai = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def program_of(artifact: Artifact) -> bytes:
    return (artifact.path / "main.mlirb").read_bytes()


def contract_of(path: Path) -> dict[str, Any]:
    return json.loads(read_metadata(path)[CONTRACT_KEY])


def psnr_db(values: np.ndarray, expected: np.ndarray) -> float:
    error = np.square(values.astype(np.float64) - expected).mean()
    return 10 * np.log10(np.ptp(expected.astype(np.float64)) ** 2 / error)


@pytest.fixture(scope="module")
def small() -> SamModel:
    return small_model()


@pytest.fixture(scope="module")
def files(small: SamModel, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """Encoder and decoder in FP16, the decoder with a second number of slots."""
    return export_coreai(small, tmp_path_factory.mktemp("first"), CoreAIConfig(functions=(2,), mask_input=True))


@needs_coreai
def test_an_asset_has_the_contract_of_the_export(files):
    encoder, decoder = files
    assert [file.path.name for file in files] == ["small_encoder.aimodel", "small_decoder.aimodel"]
    for file in files:
        assert contract_of(file.path) == json.loads(json.dumps(file.contract)) and file.contract["experimental"] is True
        assert file.contract["versions"]["coreai-torch"] == "0.4.3"
    assert encoder.contract["inputs"][0]["dtype"] == "fp16" and encoder.contract["input_values"] == "0..255"
    assert decoder.contract["functions"] == {"main": 8, "points_2": 2} and decoder.contract["mask_input"]
    # fields that are null are restored, although the file holds none
    text = (decoder.path / "metadata.json").read_text()
    assert ": null" not in text and decoder.contract["export"]["compress"] is None


@needs_coreai
def test_apple_reads_names_and_types_of_the_contract(files):
    from coreai.authoring import AIModelAsset

    for file in files:
        summary = AIModelAsset.load(file.path).summary(include_statistics=False)
        types = {"fp16": "Float16", "fp32": "Float32"}
        for side, found in (("inputs", summary.function_inputs), ("outputs", summary.function_outputs)):
            described = dict(found("main"))
            assert set(described) == {spec["name"] for spec in file.contract[side]}
            for spec in file.contract[side]:
                assert types[spec["dtype"]].lower() in described[spec["name"]].lower().replace("f16", "float16")
    assert sorted(summary.function_names) == ["main", "points_2"]


@needs_coreai
def test_two_exports_are_equal_and_name_no_source(small, files, tmp_path):
    config = CoreAIConfig(functions=(2,), mask_input=True)
    again = export_coreai(small, tmp_path, config)
    assert [file.sha256 for file in again] == [file.sha256 for file in files]
    for file in files:
        # the converter's names of constants are made of addresses, which change between processes
        assert not re.search(rb"resource_\d|[\w./-]+\.py\b|site-packages", program_of(file))


@needs_coreai
def test_functions_share_their_weights(small, files):
    """Stored for each function, they would take twice the space."""
    position = small.prompt_encoder.dense_pe()
    weights = 2 * sum(tensor.numel() for tensor in (*small.mask_decoder.parameters(), position))
    assert weights < len(program_of(files[1])) < 1.7 * weights


@needs_coreai
def test_operations_know_the_modules_that_they_came_from(small, files):
    from edgesam_export.coreai.program import load_asset

    recorded = json.loads((files[0].path.parent / "export.json").read_text())["artifacts"]
    modules = recorded[files[0].path.name]["modules"]
    convolutions = {op.name for op in load_asset(files[0].path).operations if op.type == "conv"}
    assert {modules[name] for name in convolutions} == {
        f"image_encoder.{part}" for part in ("fine", "middle", "coarse")
    }


@needs_coreai
@pytest.mark.parametrize(("form", "least_db", "most_db"), [("coreml", 10, 30), ("coreai", 70, 120)])
def test_fp16_needs_another_form_of_the_channel_norm(form, least_db, most_db, tmp_path):
    """The tiny encoder with its trained weights, on noise, as it is laid out for Core ML and as it is for Core AI."""
    from edgesam_export.coreai.program import load_asset

    model, config = load_model("edge_sam_tiny"), CoreAIConfig(tensor_input=True)
    components, names = build_components(model, config, format=form)
    component = trace_component(components[0], model, config, names, format="coreai", capture=keep_module)
    with quiet():
        program = convert.convert({"main": convert.capture(component)}, component)
        convert.save(program, tmp_path / "encoder.aimodel")
    size = model.info.frame.size
    noise = np.random.default_rng(0).normal(0, 1, (1, 3, size, size)).astype(np.float16)
    output = load_asset(tmp_path / "encoder.aimodel").predict({"image": noise}, numerics="fp16")["image_embeddings"]
    with torch.inference_mode():
        expected = model.image_encoder(torch.from_numpy(noise).float()).numpy()
    assert least_db < psnr_db(output, expected) < most_db


@needs_coreai
def test_fp32_islands_are_cast_at_their_borders_only(small):
    """The prompt's arithmetic is FP32, nothing else is, and no value of it passes through FP16."""
    from edgesam_export.formats.coreai.precision import CAST, module_of

    config = CoreAIConfig(score="stability")
    components, names = build_components(small, config, format="coreai")
    component = trace_component(components[1], small, config, names, format="coreai", capture=keep_module)
    with quiet():
        graph = convert.capture(component).graph
    for node in graph.nodes:
        if node.op != "call_function" or node.target is CAST or not node.meta["val"].is_floating_point():
            continue
        exact = module_of(node).split(".")[0] == "prompt" or module_of(node) == "stability.ratio"
        assert node.meta["val"].dtype == (torch.float32 if exact else torch.float16), node
    casts = [node for node in graph.nodes if node.target is CAST and node.kwargs.get("dtype") == torch.float32]
    assert all(node.args[0].target is not CAST for node in casts)
    masks, scores = next(node for node in graph.nodes if node.op == "output").args[0]
    assert (masks.meta["val"].dtype, scores.meta["val"].dtype) == (torch.float16, torch.float32)
    assert scores.target is not CAST  # computed in FP32, not rounded on the way out


class Kernels(nn.Module):
    """The weights of a layer of each kind, read out by inputs of unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 96, 1, bias=False)
        self.transposed = nn.ConvTranspose2d(64, 96, 1, bias=False)
        self.linear = nn.Linear(64, 96, bias=False)

    def forward(self, units: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.conv(units), self.transposed(units), self.linear(units.reshape(1, 64, 64))


@needs_coreai
@pytest.mark.parametrize(
    "name",
    ["palettize4", "palettize6", "palettize8", "linear8", "linear4", "palettize1", "palettize6_g8"],
)
def test_compressed_weights_decode_bit_for_bit(name, tmp_path):
    """The executor returns what training simulates, and the program is as much smaller."""
    from edgesam_export.coreai.program import load_asset
    from edgesam_export.formats.coreai.compress import compress

    torch.manual_seed(3)
    scheme, kernels, units = (
        find_scheme(name),
        Kernels().eval().requires_grad_(False),
        torch.eye(64).reshape(1, 64, 8, 8),
    )
    expected = {
        path: stored_values(layer.weight, scheme, output_axis(layer)).half().numpy().reshape(layer.weight.shape[:2])
        for path, layer in kernels.named_children()
    }
    spec = TensorSpec(name="units", shape=tuple(units.shape), dtype="fp16", description="")
    shapes = {"conv": (1, 96, 8, 8), "transposed": (1, 96, 8, 8), "linear": (1, 64, 96)}
    component = TracedComponent(
        name="decoder",
        module=kernels,
        inputs=(spec,),
        outputs=tuple(replace(spec, name=path, shape=shape) for path, shape in shapes.items()),
        example=(units,),
        free_dims={},
        contract={"component": "decoder", "precision": "fp16"},
        fp32_modules=(),
    )
    asset = tmp_path / "kernels.aimodel"
    with quiet():
        assert set(compress(component, name)["tensors"]) == set(shapes)
        convert.save(convert.convert({"main": convert.capture(component)}, component), asset)
    assert (asset / "main.mlirb").stat().st_size < 3 * 64 * 96 * scheme.bits / 8 + 8000
    outputs = load_asset(asset).predict({"units": units.half().numpy()}, numerics="fp16")
    np.testing.assert_array_equal(outputs["conv"].reshape(96, 64), expected["conv"])
    np.testing.assert_array_equal(outputs["transposed"].reshape(96, 64).T, expected["transposed"])
    np.testing.assert_array_equal(outputs["linear"].reshape(64, 96).T, expected["linear"])


@needs_coreai
def test_compression_is_in_the_contract_and_refused_where_it_finds_nothing(small, tmp_path):
    with pytest.raises(UsageError, match="compress palettize4 finds no weight in encoder"):
        export_coreai(small, tmp_path, CoreAIConfig(compress="palettize4"))
    assert not list(tmp_path.iterdir())


@needs_coreai
@pytest.mark.parametrize("name", ["palettize3", "sparse50", "sparse75_linear8", "palettize6_g8_int8"])
def test_what_only_core_ml_stores_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match=f"compress {name} is for Core ML; a Core AI export takes"):
        export_coreai(load_model("edge_sam_tiny", random_weights=0), tmp_path, CoreAIConfig(compress=name))


@needs_coreai
@pytest.mark.parametrize("how", [KeyboardInterrupt(), RuntimeError("first line\nsecond")])
def test_an_export_that_stops_leaves_nothing(how, small, tmp_path, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise how

    monkeypatch.setattr(convert, "make_reproducible", stop)
    message = "^coreai-torch could not convert encoder: first line$" if isinstance(how, RuntimeError) else None
    with pytest.raises((KeyboardInterrupt, convert.ConversionError), match=message):
        export_coreai(small, tmp_path)
    assert not list(tmp_path.iterdir())


def test_options_that_do_not_fit_together_are_refused():
    for message, options in (
        ("fixed number of prompt slots", {"points": None}),
        ("every number of slots once", {"points": 8, "functions": (8,)}),
        ("compress linear8 needs precision fp16", {"compress": "linear8", "precision": "fp32"}),
        ("choose one of: exact, ", {"compress": "zip"}),
    ):
        with pytest.raises(UsageError, match=message):
            CoreAIConfig(**options)


def test_a_profile_of_other_formats_is_refused(small):
    with pytest.raises(UsageError, match="profile 'official' is for coreml, onnx, not for coreai"):
        build_components(small, CoreAIConfig(profile="official"), format="coreai")


def test_without_the_packages_the_command_says_why(command, monkeypatch, tmp_path):
    monkeypatch.setattr("edgesam_export.coreai.availability.why_not_here", lambda: "this is another planet")
    code, out, err = command("coreai", "edge_sam_tiny", "--output", tmp_path / "x")
    assert (code, out) == (3, "") and err.splitlines()[-1].endswith("not available: this is another planet")
    assert not (tmp_path / "x").exists()
    with pytest.raises(RunnerUnavailableError):
        find_format("coreai").export(None, tmp_path)


def test_nulls_come_back_and_hostile_paths_do_no_harm():
    fields = {"a": None, "b": {"c": None, "d": 1, "e": [None, 2]}, "f": {}}
    kept, nulls = without_nulls(fields)
    assert kept == {"b": {"d": 1, "e": [None, 2]}, "f": {}} and nulls == [["a"], ["b", "c"]]
    put_nulls(kept, nulls)
    assert kept == fields
    put_nulls(kept, [[], ["b", "d", "x"], [1], ["b", ["c"]], "ab", None, ["b", "d"], {}])
    assert kept == fields


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"creatorDefinedMetadata": 1}', '{"creatorDefinedMetadata": []}', "\x00\xff"]
)
def test_broken_metadata_is_one_line(text, tmp_path):
    asset = tmp_path / "x.aimodel"
    asset.mkdir()
    if text is not None:
        (asset / "metadata.json").write_text(text, encoding="latin-1")
    with pytest.raises(ProgramError, match="Core AI asset") as caught:
        read_metadata(asset)
    assert "\n" not in str(caught.value)
