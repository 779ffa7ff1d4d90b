"""Activations in 8 bits: ranges, the pairs in the saved package, which layers keep FP16, and what parity finds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from coremltools.converters.mil.frontend.milproto import load as milproto
from coremltools.models import MLModel
from coremltools.optimize import _utils as apples
from PIL import Image
from small_models import registered
from torch import nn

from edgesam_export.artifacts import open_artifact
from edgesam_export.errors import EdgeSAMExportWarning, SchemaError, UsageError
from edgesam_export.export.activations import Quantization, QuantizedInput, quantization_of, quantized_layers
from edgesam_export.export.trace import build_components, trace_component
from edgesam_export.families import load_model, model_info
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.formats.coreml.activations import SavedComponent, quantize_activations
from edgesam_export.formats.coreml.calibration import MAX_IMAGES, Calibration, Histogram
from edgesam_export.formats.coreml.convert import save_package
from edgesam_export.imaging.geometry import prepare
from edgesam_export.mil import load_program
from edgesam_export.mil.package import find_files
from edgesam_export.mil.program import read_model
from edgesam_export.modeling.channels_first import PointwiseLinear
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity import check_parity
from edgesam_export.parity.inputs import default_prompts
from edgesam_export.parity.report import ParityRow
from edgesam_export.runners.torch import StoredWeightsRunner
from edgesam_export.spec import Artifact, CoreMLConfig

DIM = 32
ENCODER = {"image_encoder.layers.2", "image_encoder.layers.4", "image_encoder.side", "image_encoder.embed"}
"""Layers with work, all of them convolutions and linear layers behind the first convolution."""


class SmallEncoder(nn.Module):
    """Convolutions behind GELU, ReLU and none, two readers of one value, a linear layer, and one of little work.

    ``side`` reshapes its weight, whose constant the converter then names anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 8, stride=8),
            nn.GELU(),
            nn.Conv2d(16, 48, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, DIM, 1),
        )
        self.side = PointwiseLinear(48, DIM)
        self.squeeze = nn.Conv2d(DIM, DIM, 1)
        self.embed = nn.Linear(DIM, DIM)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.layers[3](self.layers[2](self.layers[1](self.layers[0](image))))
        x = self.layers[4](x) + torch.tanh(self.side(x))
        x = x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))
        return self.embed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def model_of(encoder: nn.Module) -> SamModel:
    """Return a whole network around an encoder."""
    model = SamModel(
        info=replace(model_info("edge_sam_tiny"), embedding_dim=DIM),
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(DIM),
        mask_decoder=MaskDecoder(DIM, mlp_dim=2 * DIM),
    )
    fill_random(model, 4)
    return model


@pytest.fixture(scope="module")
def small() -> SamModel:
    return model_of(SmallEncoder())


def photo(seed: int) -> np.ndarray:
    smooth = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(smooth).resize((128, 96), Image.Resampling.BICUBIC))


PHOTOS = [photo(1), photo(2)]


def saved_encoder(small: SamModel, folder: Path, config: CoreMLConfig) -> SavedComponent:
    """Return the encoder, converted."""
    components, names = build_components(small, config, format="coreml")
    component = trace_component(components[0], small, config, names, format="coreml")
    return save_package(component, config, folder / "small_encoder.mlpackage")


def choose_layers(saved: SavedComponent, small: SamModel, images: list[np.ndarray], config: CoreMLConfig) -> None:
    """Quantise activations of a converted encoder."""
    quantize_activations([saved], Calibration.of(small.info, images), small.info, config, lambda *_: None)


def encoder_of(small: SamModel, folder: Path, images: list[np.ndarray], **options) -> tuple[Artifact, Path]:
    """Return the quantised encoder, and a copy of the package of before."""
    config = CoreMLConfig(activations="int8", **options)
    saved = saved_encoder(small, folder, config)
    before = folder / "before.mlpackage"
    shutil.copytree(saved.path, before)
    choose_layers(saved, small, images, config)
    return open_artifact(saved.path), before


@pytest.fixture(scope="module")
def quantized(small: SamModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    """The encoder with every layer that has work, and its package of before."""
    return encoder_of(small, tmp_path_factory.mktemp("int8"), PHOTOS, activations_db=0)


@pytest.fixture(scope="module")
def encoder(quantized: tuple[Artifact, Path]) -> Artifact:
    return quantized[0]


def encoder_rows(small: SamModel, encoder: Artifact) -> tuple[list[ParityRow], str]:
    """Return what parity says of an encoder in exact arithmetic, and the operation at fault."""
    images = [("a", photo(3)), ("b", photo(4))]
    report = check_parity(small, encoder, images=images, prompts=lambda size: (), numerics=("fp32",))
    rows = [row for row in report.rows if row.candidate == "executor fp32"]
    return rows, "".join(divergence.operation for divergence in report.divergences)


# ------------------------------------------------------------------------------------------------------------ integers


def test_a_range_becomes_integers_with_zero_among_them():
    assert quantization_of(0.0, 255.0) == Quantization(dtype="uint8", scale=1.0, zero_point=0)
    assert quantization_of(3.0, 255.0) == Quantization(dtype="uint8", scale=1.0, zero_point=0)
    assert quantization_of(-128.0, 127.0) == Quantization(dtype="int8", scale=1.0, zero_point=0)
    assert quantization_of(-255.0, 0.0) == Quantization(dtype="int8", scale=1.0, zero_point=127)
    assert quantization_of(-55.0, 200.0) == Quantization(dtype="int8", scale=1.0, zero_point=-73)
    assert quantization_of(0.0, 0.0) is None and quantization_of(-1e-3, 1e-3) is None


@pytest.mark.parametrize(("low", "high"), [(-1.0, 6.0), (0.0, 3.0), (-4.0, 4.0)])
def test_integers_are_those_that_coremltools_computes(low, high):
    found = quantization_of(low, high)
    steps = np.arange(-400, 400) / 2  # every other one is a tie
    values = (steps * found.scale).astype(np.float32)
    zero_point = np.array(found.zero_point, found.dtype) if found.zero_point else None
    scale = np.array(found.scale, np.float32)
    expected = apples.quantize_by_scale_and_zp(values, scale, zero_point, found.dtype)
    integers = found.integers(torch.from_numpy(values))
    np.testing.assert_array_equal(integers.numpy(), expected.astype(np.float32))
    back = apples.dequantize_by_scale_and_zp(expected, scale, zero_point)
    np.testing.assert_array_equal(found.values(integers).numpy(), back)


def test_a_layer_takes_given_integers_only_where_either_is_right():
    layer = QuantizedInput(nn.Identity(), Quantization(dtype="int8", scale=1.0, zero_point=0))
    values = torch.tensor([0.499, 0.501, 0.3, 200.0, 1.2])
    layer.given = torch.tensor([1, 0, 1, 126, 1], dtype=torch.int8)
    assert layer(values).tolist() == [1, 0, 0, 127, 1]
    layer.given = torch.zeros(4)  # of another size: not of this value
    assert layer(values).tolist() == [0, 1, 0, 127, 1]


def test_a_range_leaves_out_a_share_on_either_side():
    histogram = Histogram()
    values = np.arange(-1000, 1001).astype(np.float16)
    histogram.add(torch.from_numpy(values[:900]))
    histogram.add(torch.from_numpy(values[900:]).float())
    assert histogram.range(0.0) == (-1000, 1000)
    assert histogram.range(0.01) == (-980, 980)  # 20 of 2001 on either side
    assert histogram.counts.sum() == 2001
    histogram.add(torch.tensor([np.inf]))
    assert histogram.range() is None


# ------------------------------------------------------------------------------------------------------------ packages


def pairs_of(artifact: Artifact) -> dict[str, tuple]:
    """Return what the saved program says of each pair, by the value that is quantised."""
    program = load_program(artifact.path)
    constants = {op.label: op.attributes["val"].load() for op in program.operations if op.is_constant}
    made = {}
    for op in program.operations:
        if op.type in ("quantize", "dequantize"):
            (source,) = op.inputs["input"]
            names = {key: arguments[0] for key, arguments in op.inputs.items() if key != "input"}
            made[op.label] = op.type, source, {key: constants[name] for key, name in names.items()}
    found = {}
    for kind, source, values in made.values():
        if kind == "dequantize":
            _, origin, forward = made[source]
            dtype = forward.pop("output_dtype")
            assert forward == values
            found[origin] = str(dtype), float(values["scale"]), int(values.get("zero_point", 0))
    return found


def require_pairs(artifact: Artifact) -> None:
    """Check that the layers of the contract read integers, as it says, and no others."""
    layers = quantized_layers(artifact.contract, "here")
    facts = {layer.tensor: layer.quantization for layer in layers}
    assert pairs_of(artifact) == {name: (q.dtype, q.scale, q.zero_point) for name, q in facts.items()}
    program = load_program(artifact.path)
    readers = [op for op in program.operations for a in op.inputs.get("x", ()) if str(a).endswith("_dequantized")]
    assert {op.type for op in readers} <= {"conv", "linear"} and len(readers) == len(layers)


def test_layers_of_the_contract_read_integers_and_no_others(encoder):
    require_pairs(encoder)
    entry = encoder.contract["activations"]
    assert set(entry["layers"]) >= ENCODER
    assert entry["kept_fp16"] == {"image_encoder.squeeze": {"reason": "little work"}}
    assert len(pairs_of(encoder)) == len(entry["layers"]) - 1  # two layers read one value through one pair
    assert entry["images"]["count"] == 2 and entry["work_share"] == pytest.approx(1, abs=1e-3)


def test_numbers_never_negative_are_unsigned_and_others_have_a_zero_point(encoder):
    entry = encoder.contract["activations"]["layers"]
    assert entry["image_encoder.side"]["dtype"] == "uint8" and entry["image_encoder.side"]["zero_point"] == 0
    # GELU is never below -0.17
    assert entry["image_encoder.layers.2"]["dtype"] == "int8" and entry["image_encoder.layers.2"]["zero_point"] < -64


def test_weights_and_all_other_operations_stay_as_they_are(quantized):
    after, before = quantized
    assert weight_file(before).read_bytes() == weight_file(after.path).read_bytes()
    programs = [load_program(path) for path in (before, after.path)]
    kinds = [[op.type for op in program.operations if not op.is_constant] for program in programs]
    assert [kind for kind in kinds[1] if kind not in ("quantize", "dequantize")] == kinds[0]


def weight_file(path: Path) -> Path:
    return next(path.rglob("weight.bin"))


def test_coremltools_reads_the_pairs_and_infers_the_same_types(encoder):
    spec = MLModel(str(encoder.path), skip_model_load=True).get_spec()
    program = milproto.load(spec, spec.specificationVersion, str(weight_file(encoder.path).parent))
    quantized = [op for op in program.functions["main"].operations if op.op_type == "quantize"]
    assert len(quantized) == len(pairs_of(encoder))
    for op in quantized:
        assert op.outputs[0].name == f"{op.input.name}_quantized" and op.outputs[0].shape == op.input.shape


def test_the_order_of_the_images_changes_nothing(small, encoder, tmp_path):
    again, _ = encoder_of(small, tmp_path, PHOTOS[::-1], activations_db=0)
    assert again.contract["activations"] == encoder.contract["activations"]


# -------------------------------------------------------------------------------------------------------------- parity


def test_exact_arithmetic_gives_what_pytorch_gives_with_the_same_integers(small, encoder):
    rows, _ = encoder_rows(small, encoder)
    assert rows and min(row.metrics["psnr_db"] for row in rows) > 120


def changed(artifact: Artifact, folder: Path, change) -> Artifact:
    """Return a copy of a package whose message ``change`` edits."""
    path = folder / artifact.path.name
    shutil.copytree(artifact.path, path)
    files = find_files(path)
    model = read_model(files)
    (function,) = model.mlProgram.functions.values()
    change({op.outputs[0].name: op for op in function.block_specializations[function.opset].operations}, model)
    files.model.write_bytes(model.SerializeToString())
    return open_artifact(path)


def set_scale(name: str, factor: float):
    """Return the change of one scale, of both halves of its pair."""

    def change(operations, model) -> None:
        for half in ("quantized", "dequantized"):
            held = operations[f"{name}_{half}_scale"].attributes["val"].immediateValue.tensor.bytes
            held.values = (np.frombuffer(held.values, np.float16) * np.float16(factor)).tobytes()

    return change


def drop_pair(name: str):
    """Return the change that lets every layer read the value itself."""

    def change(operations, model) -> None:
        for operation in operations.values():
            for argument in operation.inputs["x"].arguments if "x" in operation.inputs else ():
                if argument.name == f"{name}_dequantized":
                    argument.name = name

    return change


def move_zero(name: str):
    def change(operations, model) -> None:
        for half in ("quantized", "dequantized"):
            held = operations[f"{name}_{half}_zero_point"].attributes["val"].immediateValue.tensor.bytes
            held.values = (np.frombuffer(held.values, np.int8) + np.int8(1)).tobytes()

    return change


def widen_contract(path: str):
    """Return the change of the contract alone, by the smallest step that a scale can make."""

    def change(operations, model) -> None:
        metadata = model.description.metadata.userDefined
        contract = json.loads(metadata["edgesam_export.contract"])
        line = contract["activations"]["layers"][path]
        line["scale"] = float(np.nextafter(np.float16(line["scale"]), np.float16(np.inf)))
        metadata["edgesam_export.contract"] = json.dumps(contract)

    return change


@pytest.mark.parametrize("fault", ["scale", "zero point", "no pair", "contract"])
def test_a_wrong_or_missing_pair_is_found(small, encoder, tmp_path, fault):
    path = "image_encoder.layers.2"
    tensor = encoder.contract["activations"]["layers"][path]["tensor"]
    broken = {
        "scale": set_scale(tensor, 1 + 2**-10),  # the smallest step that it can make
        "zero point": move_zero(tensor),
        "no pair": drop_pair(tensor),
        "contract": widen_contract(path),
    }[fault]
    rows, culprit = encoder_rows(small, changed(encoder, tmp_path, broken))
    assert rows and not any(row.passed for row in rows)
    assert culprit.startswith(tensor) == (fault != "no pair")  # then it is the layer that reads another value


def test_contracts_that_cannot_be_are_refused():
    line = {"tensor": "x", "dtype": "int8", "scale": 0.5, "zero_point": 3}
    assert quantized_layers({"activations": {"layers": {"a.b": line}}}, "here")[0].integers == "x_quantized"
    for entry, text in (
        (None, "does not say which activations"),
        ({"layers": 3}, "does not say which activations"),
        ({"layers": {"a.b": {**line, "scale": 0.0}}}, "quantises 'a.b' by"),
        ({"layers": {"a.b": {**line, "scale": float("nan")}}}, "quantises 'a.b' by"),
        ({"layers": {"a.b": {**line, "scale": "1"}}}, "quantises 'a.b' by"),
        ({"layers": {"a.b": {**line, "zero_point": 128}}}, "quantises 'a.b' by"),
        ({"layers": {"a.b": {**line, "dtype": "int4"}}}, "quantises 'a.b' by"),
        ({"layers": {"a.b": []}}, "quantises 'a.b' by"),
    ):
        with pytest.raises(SchemaError, match=text):
            quantized_layers({"activations": entry}, "here")


def test_a_layer_that_the_model_does_not_have_is_refused(small, encoder):
    entry = encoder.contract["activations"]
    gone = {**entry, "layers": {"image_encoder.gone": next(iter(entry["layers"].values()))}}
    with pytest.raises(SchemaError, match=r"quantised layer 'image_encoder\.gone'"):
        StoredWeightsRunner(small, [replace(encoder, contract={**encoder.contract, "activations": gone})])


# -------------------------------------------------------------------------------------------------------- which layers


def test_the_worst_layers_keep_fp16_until_the_bound_holds(small, encoder, tmp_path):
    bound = encoder.contract["activations"]["signal_to_noise_db"] + 6
    kept_by_name = "image_encoder.layers.4"
    other, before = encoder_of(small, tmp_path, PHOTOS, activations_db=bound, keep_fp16=(kept_by_name,))
    entry = other.contract["activations"]
    kept = {path for path, line in entry["kept_fp16"].items() if line["reason"] == "sensitivity"}
    assert entry["kept_fp16"][kept_by_name] == {"reason": "asked for"}
    assert kept and entry["layers"] and not kept & set(entry["layers"])
    assert entry["signal_to_noise_db"] == pytest.approx(signal_to_noise(small, before, other.path), abs=0.1)
    assert entry["signal_to_noise_db"] >= bound


def signal_to_noise(small: SamModel, before: Path, after: Path) -> float:
    """Return by how much exact arithmetic on the two packages differs, over all images."""
    signal = noise = 0.0
    for image in PHOTOS:
        feed = {"image": prepare(image, small.info.frame).pixels}
        outputs = [load_program(path).predict(feed, numerics="fp32") for path in (before, after)]
        a, b = (output["image_embeddings"].astype(np.float64) for output in outputs)
        signal, noise = signal + np.square(a).sum(), noise + np.square(a - b).sum()
    return float(10 * np.log10(signal / noise))


class TwinsEncoder(SmallEncoder):
    """Two layers of equal weights, which share one constant, on different values."""

    def __init__(self) -> None:
        super().__init__()
        self.twins = nn.ModuleList(nn.Conv2d(DIM, DIM, 1) for _ in range(2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = super().forward(image)
        return self.twins[1](torch.tanh(self.twins[0](x)))


def test_layers_of_equal_weights_are_told_apart_by_their_modules(small, tmp_path):
    encoder = TwinsEncoder()
    model = model_of(encoder)
    encoder.twins[1].weight.data = encoder.twins[0].weight.data.clone()
    artifact, _ = encoder_of(model, tmp_path, PHOTOS[:1], activations_db=0)
    paths = ["image_encoder.twins.0", "image_encoder.twins.1"]
    layers = artifact.contract["activations"]["layers"]
    operations = {op.label: op for op in load_program(artifact.path).operations}
    read = [(f"{layers[path]['tensor']}_dequantized",) for path in paths]
    readers = [next(op for op in operations.values() if op.inputs.get("x") == name) for name in read]
    assert readers[0].inputs["weight"] == readers[1].inputs["weight"]
    assert operations[layers[paths[1]]["tensor"]].type == "tanh"
    rows, _ = encoder_rows(model, artifact)
    assert rows and min(row.metrics["psnr_db"] for row in rows) > 120


def test_a_package_is_read_once_while_its_layers_are_chosen(small, tmp_path, monkeypatch):
    config = CoreMLConfig(activations="int8", activations_db=0, keep_fp16=("image_encoder.embed",))
    saved = saved_encoder(small, tmp_path, config)
    reads = []

    def counted(files):
        reads.append(files.path)
        return read_model(files)

    for module in ("formats.coreml.activations", "mil.program"):
        monkeypatch.setattr(f"edgesam_export.{module}.read_model", counted)
    choose_layers(saved, small, PHOTOS[:1], config)
    assert reads == [saved.path]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"target": "iOS16"}, "activations int8 needs target iOS17, not iOS16; pass --target iOS17"),
        ({"activations": "int4"}, "activations is 'int4'; choose one of: int8"),
        ({"activations_in": "decoder"}, "activations_in is 'decoder'; choose one of: encoder, both"),
        ({"precision": "fp32"}, "needs precision fp16, not fp32"),
        ({"activations_db": -1.0}, "activations_db is -1; give 0 or more, below 100"),
        ({"activations_db": float("nan")}, "activations_db is nan"),
        ({"activations_in": "both", "queries": 2}, "leave activations_in at encoder"),
        ({"activations": None, "keep_fp16": ("a",)}, "keep_fp16 is a, but no activations are quantised"),
    ],
)
def test_what_does_not_fit_together_is_refused(small, tmp_path, options, line):
    with pytest.raises(UsageError, match=line):
        export_coreml(small, tmp_path, CoreMLConfig(**{"activations": "int8", **options}), calibration=PHOTOS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"keep_fp16": ("image_encoder.layer",)},
            r"keep_fp16 image_encoder.layer: no such layer.*image_encoder\.layers",
        ),
        ({"activations_db": 99.0}, "no layer of the encoder can be quantised within 99 dB"),
        ({"keep_fp16": ("image_encoder",)}, "finds no layer of the encoder"),
    ],
)
def test_bounds_and_names_that_leave_nothing_are_refused(small, tmp_path, options, line):
    with pytest.raises(UsageError, match=line):
        encoder_of(small, tmp_path, PHOTOS[:1], **options)


# -------------------------------------------------------------------------------------------------------------- images


def test_calibration_takes_a_folder_paths_arrays_or_the_samples(small, tmp_path):
    for number, image in enumerate(PHOTOS):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    info = small.info
    digests = {
        Calibration.of(info, source).entry()["sha256"]
        for source in (tmp_path, str(tmp_path), sorted(tmp_path.glob("*.png"), reverse=True), PHOTOS)
    }
    assert len(digests) == 1
    with pytest.warns(EdgeSAMExportWarning, match="2 bundled images, since none were given"):
        assert Calibration.of(info, None).entry()["source"] == "bundled samples"


def test_folders_without_images_and_files_that_are_none_are_one_line(small, tmp_path):
    with pytest.raises(UsageError, match=r"holds no images to calibrate on \(\.png"):
        Calibration.of(small.info, tmp_path)
    with pytest.raises(UsageError, match=r"cannot read folder '.*gone': No such file"):
        Calibration.of(small.info, tmp_path / "gone")
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 cut short")
    with pytest.raises(UsageError, match=r"a\.jpg: not an image"):
        Calibration.of(small.info, tmp_path)


def test_images_of_one_colour_are_pointed_out_and_alone_refused(small):
    plain = [np.full((4, 6, 3), (10, 20, value), np.uint8) for value in (30, 31)]
    with pytest.raises(UsageError, match="'calibration' holds only images of one colour, 2; give photos"):
        Calibration.of(small.info, plain)
    with pytest.warns(EdgeSAMExportWarning, match="2 of 3 images are of one colour each"):
        assert len(Calibration.of(small.info, [*plain, PHOTOS[0]]).images) == 3


def test_of_many_images_some_are_taken_evenly(small):
    many = [np.full((4, 4, 3), number + 50, np.uint8) for number in range(3 * MAX_IMAGES)]
    for image in many:
        image[1] = 0
    with pytest.warns(EdgeSAMExportWarning, match=f"{MAX_IMAGES} of them, evenly spread"):
        taken = Calibration.of(small.info, many)
    assert [image[0, 0, 0] for image in taken.images] == [3 * number + 50 for number in range(MAX_IMAGES)]


def test_the_command_line_exports_both_parts_and_says_what_it_quantised(command, tmp_path):
    Image.fromarray(PHOTOS[0]).save(tmp_path / "a.png")
    words = ("--random-weights", 1, "--points", 4, "--activations", "int8", "--activations-in", "both", "--no-verify")
    folder = tmp_path / "out"
    with registered():
        model = load_model("small", random_weights=1)
        code, out, _ = command(
            "coreml", "small", *words, "--activations-db", 0, "--calibrate", tmp_path, "--output", folder
        )
    assert code == 0 and "int8 activations in 3 layers (100% of the work)" in out.splitlines()[0]
    decoder = open_artifact(folder / "small_decoder.mlpackage")
    assert f"int8 activations in {len(decoder.contract['activations']['layers'])} layers" in out.splitlines()[1]
    require_pairs(decoder)
    assert "mask_decoder.transformer.final_attn_token_to_image.v_proj" in decoder.contract["activations"]["layers"]
    images = [("a", photo(3)), ("b", photo(4))]
    report = check_parity(model, decoder, images=images, prompts=lambda s: default_prompts(s)[:1], numerics=("fp32",))
    rows = [row for row in report.rows if row.candidate == "executor fp32" and row.output == "masks"]
    assert rows and min(row.metrics["psnr_db"] for row in rows) > 100


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("coreml", "--calibrate", "x"), "--calibrate is for quantised activations; add --activations int8"),
        (("coreml", "--activations", "int8", "--calibrate", "x"), "cannot read folder 'x'"),
        (("coreml", "--activations", "int8", "--target", "iOS16"), "needs target iOS17, not iOS16"),
        (("onnx", "--activations", "int8"), "No such option '--activations'"),
    ],
)
def test_the_command_line_refuses_in_one_line(command, tmp_path, words, line):
    name, *options = words
    code, out, err = command(name, "edge_sam", "--random-weights", 0, "--output", tmp_path / "out", *options)
    assert (code, out) == (2, "") and line in err.splitlines()[-1] and not err.startswith("Traceback")
