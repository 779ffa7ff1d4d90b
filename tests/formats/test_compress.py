"""Packages with compressed weights: which tensors, what they decode to, how large they are, what parity says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from compressed_weights import decoded_weights
from coremltools.optimize.coreml._quantization_passes import linear_quantize_weights
from torch import nn

from edgesam_export.artifacts import config_of
from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.export.compression import SCHEMES, find_palette, find_scheme, nearest_entries, stored_values
from edgesam_export.export.contract import CONTRACT_KEY
from edgesam_export.export.trace import build_components, trace_component
from edgesam_export.families import model_info
from edgesam_export.formats.coreml.compress import program_tables
from edgesam_export.formats.coreml.convert import save_package
from edgesam_export.mil import load_program
from edgesam_export.modeling.channels_first import PointwiseLinear
from edgesam_export.modeling.common import ConvBN
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity import check_parity
from edgesam_export.parity.report import Prompt
from edgesam_export.runners.torch import StoredWeightsRunner
from edgesam_export.spec import COMPRESSIONS, Artifact, CoreMLConfig, Recipe

DIM = 128
CASES = [
    ("linear8", "iOS16"),
    ("linear8", "iOS18"),
    ("linear4", "iOS18"),
    ("palettize4", "iOS16"),
    ("palettize6", "iOS18"),
    ("palettize8", "iOS17"),
]


class SmallEncoder(nn.Module):
    """Every kind of kernel: first convolution, depthwise, folded, pointwise, transposed, linear, and a small one.

    The last two are one of a layer that reshapes its weight, and one whose container is passed over when it is called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 16, stride=16)
        self.wide = ConvBN(64, 256)
        self.depthwise = nn.Conv2d(256, 256, 3, padding=1, groups=256)
        self.narrow = nn.Conv2d(256, 96, 1)
        self.small = nn.Conv2d(96, 16, 1)
        self.up = nn.ConvTranspose2d(96, 64, 2, stride=2)
        self.embed = nn.Linear(64, DIM)
        self.pixels = PointwiseLinear(DIM, DIM)
        self.inner = nn.ModuleDict({"parts": nn.ModuleList([PointwiseLinear(DIM, DIM)])})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.wide(torch.relu(self.first(image))))))
        x = self.narrow(x)
        x = self.up(x * torch.sigmoid(self.small(x).mean(1, keepdim=True)))
        x = self.embed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.inner["parts"][0](self.pixels(x))


COMPRESSED = {"wide", "depthwise", "narrow", "up", "embed", "pixels", "inner.parts.0"}


@pytest.fixture(scope="module")
def small() -> SamModel:
    """The encoder above with a decoder that nothing here exports."""
    model = SamModel(
        info=model_info("edge_sam_tiny"),
        image_encoder=SmallEncoder(),
        prompt_encoder=PromptEncoder(DIM),
        mask_decoder=MaskDecoder(DIM, mlp_dim=DIM),
    )
    fill_random(model, 4)
    return model


@pytest.fixture(scope="module")
def encoder(small: SamModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artifact]:
    """``encoder(scheme, target)`` -> the saved package; each is made once."""
    made: dict[tuple, Artifact] = {}

    def export(scheme: str | None, target: str = "iOS17", **options) -> Artifact:
        key = scheme, target, *options.items()
        if key not in made:
            config = CoreMLConfig(compress=scheme, target=target, **options)
            components, names = build_components(small, config, format="coreml")
            component = trace_component(components[0], small, config, names, format="coreml")
            path = tmp_path_factory.mktemp("encoder") / "small_encoder.mlpackage"
            save_package(component, config, path)
            made[key] = Artifact(
                path=path,
                format="coreml",
                component="encoder",
                model=small.info.name,
                sha256="0" * 64,
                contract=component.contract,
            )
        return made[key]

    return export


def kernel(small: SamModel, path: str) -> torch.Tensor:
    """The weight that an export stores, FP16 values; ``path`` is the torch path in the component."""
    part = small.get_submodule(path)
    return (part.folded() if hasattr(part, "folded") else part).weight.detach().half()


def weight_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("weight.bin"))


# ---------------------------------------------------------------------------------------------------- what is decoded


@pytest.mark.parametrize(("scheme", "target"), CASES)
def test_the_layers_named_in_the_contract_are_compressed_and_no_others(small, encoder, scheme, target):
    artifact = encoder(scheme, target)
    program = load_program(artifact.path)
    compression = json.loads(program.metadata[CONTRACT_KEY])["compression"]
    assert compression["scheme"] == scheme and compression == artifact.contract["compression"]
    wanted = COMPRESSED - ({"depthwise"} if scheme == "linear4" else set())  # blocks of 32 do not divide one channel
    assert set(compression["tensors"]) == {f"image_encoder.{name}" for name in wanted}
    assert set(decoded_weights(program)) == set(compression["tensors"].values())


@pytest.mark.parametrize(("scheme", "target"), [case for case in CASES if case[0].startswith("linear")])
def test_linear_weights_decode_to_what_coremltools_defines(small, encoder, scheme, target):
    artifact = encoder(scheme, target)
    exact = decoded_weights(load_program(artifact.path), "fp32")
    rounded = decoded_weights(load_program(artifact.path))
    found = find_scheme(scheme)
    for path, name in artifact.contract["compression"]["tensors"].items():
        weight = kernel(small, path)
        axis = int(path.endswith("up"))
        blocks = [0] * weight.dim()
        blocks[axis], blocks[1 - axis] = 1, found.block or 0
        stored = linear_quantize_weights.blockwise_compress(
            weight.numpy(), nbits=found.bits, mode="LINEAR_SYMMETRIC", signed=True, block_sizes=blocks
        )
        assert np.array_equal(linear_quantize_weights.decompress(stored).reshape(-1), rounded[name].numpy().reshape(-1))
        simulated = stored_values(weight.float(), found, axis).reshape(-1)
        assert torch.equal(simulated, exact[name].reshape(-1))
        assert torch.equal(simulated.half().float(), rounded[name].reshape(-1))


@pytest.mark.parametrize(("scheme", "target"), [case for case in CASES if case[0].startswith("palettize")])
def test_palettes_hold_few_values_and_every_weight_the_nearest(small, encoder, scheme, target):
    artifact = encoder(scheme, target)
    for path, name in artifact.contract["compression"]["tensors"].items():
        weight = kernel(small, path).double().flatten().numpy()
        found = decoded_weights(load_program(artifact.path))[name].double().flatten().numpy()
        values = np.unique(found)
        assert 2 ** (SCHEMES[scheme].bits - 1) < len(values) <= 2 ** SCHEMES[scheme].bits
        nearest = np.abs(weight[:, None] - values[None]).min(1)
        assert np.array_equal(np.abs(weight - found), nearest)


def test_the_same_export_twice_holds_the_same_weights(small, encoder, tmp_path):
    first, again = encoder("palettize6", "iOS18"), encoder("palettize6", "iOS18", points=4)
    both = [decoded_weights(load_program(artifact.path)) for artifact in (first, again)]
    assert first.path != again.path and all(torch.equal(both[0][name], both[1][name]) for name in both[0])


@pytest.mark.parametrize(("scheme", "target"), CASES)
def test_a_package_shrinks_by_what_its_weights_no_longer_take(small, encoder, scheme, target):
    plain, artifact = encoder(None), encoder(scheme, target)
    compression = artifact.contract["compression"]
    assert compression["bytes_before"] == weight_bytes(plain.path)
    assert compression["bytes_after"] == artifact.contract["weight_bytes"] == weight_bytes(artifact.path)
    paths = list(compression["tensors"])
    elements = [kernel(small, path).numel() for path in paths]
    saved = sum(count * (16 - SCHEMES[scheme].bits) // 8 for count in elements)
    # scales or a table, a zero per channel, and records with their alignment come on top
    channels = sum(kernel(small, path).shape[int(path.endswith("up"))] for path in paths)
    scales = sum(elements) * 2 // 32 if scheme == "linear4" else 3 * channels
    extra = len(paths) * 512 if scheme.startswith("palettize") else scales
    overhead = saved - (compression["bytes_before"] - compression["bytes_after"])
    assert 0 < overhead <= extra + 64 * 4 * len(paths)


# ---------------------------------------------------------------------------------------------------------- arithmetic


def test_linear_values_by_hand():
    scheme = find_scheme("linear8")
    weight = torch.tensor([[127.0, 63.6, -0.4, -127.0], [0.0, 0.0, 0.0, 0.0], [254.0, 1.0, 3.0, -5.0]])
    # scales 1, 0 and 2; halves go to the even number; FP16 holds 63.6 as 63.59375 and -0.4 as -0.39990
    expected = [[127.0, 64.0, 0.0, -127.0], [0.0, 0.0, 0.0, 0.0], [254.0, 0.0, 4.0, -4.0]]
    assert stored_values(weight.half().float(), scheme).tolist() == expected
    assert stored_values(weight.half().float().t(), scheme, axis=1).t().tolist() == expected


def test_linear_values_of_blocks_by_hand():
    weight = torch.cat([torch.full((1, 32), 7.0), torch.full((1, 32), 0.875)], dim=1)
    weight[0, 1], weight[0, 33] = 1.4, 0.3  # steps of 1 and of 1/8
    values = stored_values(weight, find_scheme("linear4"))
    assert values[0, :2].tolist() == [7.0, 1.0] and values[0, 32:34].tolist() == [0.875, 0.25]


def test_a_palette_keeps_what_it_has_room_for():
    weight = torch.tensor([3.0, -1.0, 3.0, 0.5, -1.0])
    palette = find_palette(weight, 4)
    assert palette.tolist() == [-1.0, 0.5] + [3.0] * 14
    assert torch.equal(palette[nearest_entries(weight, palette)], weight)


def test_of_two_entries_as_near_the_lower_one_is_taken():
    palette = torch.tensor([0.0, 1.0, 2.0])
    assert nearest_entries(torch.tensor([0.5, 0.51, 1.5, 9.0, -9.0]), palette).tolist() == [0, 1, 1, 2, 0]


@pytest.mark.parametrize("shape", ["normal", "heavy tails", "two humps"])
def test_a_palette_is_nearly_the_best_there_is(shape):
    rng = np.random.default_rng(8)
    drawn = {
        "normal": rng.standard_normal(600),
        "heavy tails": rng.standard_t(3, 600),
        "two humps": np.concatenate([rng.normal(-3, 0.2, 300), rng.normal(1, 1.0, 300)]),
    }[shape]
    weight = torch.from_numpy(drawn).half().float()
    palette = find_palette(weight, 4)
    error = float(((weight - palette[nearest_entries(weight, palette)]).double() ** 2).sum())
    assert error <= 1.15 * least_error(np.sort(weight.double().numpy()), 16)


def least_error(values: np.ndarray, entries: int) -> float:
    """Smallest sum of squares that so many entries leave, by dynamic programming over sorted values."""
    first, second = (np.concatenate([[0], np.cumsum(values**power)]) for power in (1, 2))
    count = len(values)
    start, end = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
    size = np.maximum(end - start, 1)
    cost = np.where(end > start, second[end] - second[start] - (first[end] - first[start]) ** 2 / size, np.inf)
    best = cost[0]
    for _ in range(entries - 1):
        best = (best[:, None] + cost).min(0)
    return float(best[-1])


# -------------------------------------------------------------------------------------------------------------- parity


def test_parity_judges_conversion_apart_from_what_compression_loses(small, encoder):
    pictures = [("a", noise(1)), ("b", noise(2))]
    for scheme, target in (("palettize4", "iOS16"), ("linear4", "iOS18"), ("linear8", "iOS16")):
        options = {"images": pictures, "prompts": lambda size: (), "numerics": ("fp32", "fp16")}
        report = check_parity(small, [encoder(scheme, target)], **options)
        rows = [row for row in report.rows if row.output == "image_embeddings"]
        exact, half = ([row for row in rows if row.numerics == numerics] for numerics in ("fp32", "fp16"))
        # exact arithmetic on the stored weights gives what PyTorch gives with them
        assert exact and all(row.passed for row in exact), scheme
        if scheme.endswith("4"):
            assert half and all(row.metrics["psnr_db"] < 40 for row in half)  # against the original, four bits are seen


MIXED = Recipe(
    name="mixed",
    model="edge_sam_tiny",
    default={"decoder": "linear4_b16"},
    components={
        "decoder": {
            "image_pe": "palettize4",
            "mask_decoder.output_hypernetworks_mlps.layers.0": "sparse75_linear8",
            "mask_decoder.output_hypernetworks_mlps.layers.4": "palettize3_g32",
            "mask_decoder.output_upscaling.0": "palettize6_g8_int8",
            "mask_decoder.transformer.layers.0.mlp.0": "sparse50_palettize4",
            "mask_decoder.transformer.layers.0.mlp.2": "fp16",
            "mask_decoder.transformer.layers.1.mlp.0": "sparse75",
            "mask_downscaling.6": "palettize2",  # of a mask prompt, which this export does not take
        }
    },
)


def test_a_decoder_of_many_schemes_is_the_network_with_what_its_contract_says(model, tmp_path):
    config = CoreMLConfig(compress=MIXED, target="iOS18")
    components, names = build_components(model, config, format="coreml")
    component = trace_component(components[1], model, config, names, format="coreml")
    save_package(component, config, tmp_path / "decoder.mlpackage")
    contract = json.loads(load_program(tmp_path / "decoder.mlpackage").metadata[CONTRACT_KEY])
    assert contract == json.loads(json.dumps(component.contract)) and contract["compression"]["recipe"] == "mixed"
    schemes = contract["compression"]["schemes"]
    named = {path: name for path, name in MIXED.components["decoder"].items() if name != "fp16"}
    assert {path: schemes.get(path) for path in named} == {**named, "mask_downscaling.6": None}
    assert set(schemes.values()) == {*named.values(), "linear4_b16"} - {"palettize2"}
    artifact = Artifact(
        path=tmp_path / "decoder.mlpackage",
        format="coreml",
        component="decoder",
        model=model.info.name,
        sha256="0" * 64,
        contract=contract,
    )
    assert config_of(artifact) == config
    options = {"images": [("a", noise(1)), ("b", noise(2))], "numerics": ("fp32",)}
    options["prompts"] = lambda size: (Prompt(kind="point", points=((40.0, 30.0),), labels=(1,)),)
    rows = [row for row in check_parity(model, [artifact], **options).rows if row.candidate == "executor fp32"]
    assert rows and all(row.passed for row in rows)
    path = "mask_decoder.output_hypernetworks_mlps.layers.4"
    compression = {**contract["compression"], "schemes": {**schemes, path: "palettize3_g16"}}
    changed = replace(artifact, contract={**contract, "compression": compression})
    stored = decoded_weights(load_program(artifact.path), "fp32")[contract["compression"]["tensors"][path]]
    for one, fits in ((artifact, True), (changed, False)):
        weight = StoredWeightsRunner(model, [one]).modules["decoder"].get_submodule(path).weight
        assert torch.equal(weight.flatten(), stored.flatten()) == fits


def test_a_contract_of_before_recipes_is_read(small, encoder):
    artifact = encoder("linear8", "iOS16")
    compression = {key: value for key, value in artifact.contract["compression"].items() if key != "schemes"}
    older = replace(artifact, contract={**artifact.contract, "compression": compression})
    now, before = (StoredWeightsRunner(small, [one]).modules["encoder"].state_dict() for one in (artifact, older))
    assert now and all(torch.equal(now[name], before[name]) for name in now)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def test_a_contract_that_lists_what_is_not_there_is_refused(small, encoder):
    artifact = encoder("linear8", "iOS16")
    for compression, line in (
        ({"scheme": "linear8", "tensors": {"image_encoder.gone": "x"}}, "compressed layer 'image_encoder.gone'"),
        ({"scheme": "linear8", "tensors": {"image_encoder": "x"}}, "compressed layer 'image_encoder'"),
        ({"schemes": {"image_encoder": "zip"}, "tensors": {"image_encoder": "x"}}, "compress is 'zip'; choose one of"),
        ({"schemes": {}, "tensors": {"image_encoder": "x"}}, "does not say how each weight"),
        ({"tensors": 3}, "does not say which weights"),
        (None, "does not say which weights"),
    ):
        changed = replace(artifact, contract={**artifact.contract, "compression": compression})
        with pytest.raises(SchemaError, match=line):
            StoredWeightsRunner(small, [changed])


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"compress": "palettize5"},
            r"compress is 'palettize5'; choose one of: exact, balanced, small, palettize4, .*; or a recipe's \.toml",
        ),
        ({"compress": "linear4"}, "compress linear4 needs target iOS18, not iOS17; pass --target iOS18"),
        ({"compress": "linear4", "target": "iOS16"}, "needs target iOS18, not iOS16"),
        ({"compress": "linear8", "precision": "fp32"}, "compress linear8 needs precision fp16, not fp32"),
    ],
)
def test_what_does_not_fit_together_is_refused(options, line):
    with pytest.raises(UsageError, match=line):
        CoreMLConfig(**options)


def test_the_command_line_says_so_in_one_line(command):
    code, _, err = command("coreml", "edge_sam", "--random-weights", 0, "--compress", "linear4")
    assert code == 2 and err.count("\n") == 1 and "needs target iOS18" in err


def test_branches_that_are_not_folded_are_refused(encoder):
    with pytest.raises(UsageError, match=r"need batch norms folded, and 'image_encoder\.wide\.bn' is not"):
        encoder("linear8", "iOS17", rewrites=())


def test_every_scheme_has_a_target_and_a_kind():
    assert set(COMPRESSIONS) == set(SCHEMES)


def test_a_table_is_found_in_the_shape_that_the_program_holds_it_in():
    module = nn.Module()
    module.register_buffer("image_pe", torch.rand(1, 8, 16, 32))
    held = module.image_pe.half().numpy().reshape(1, 8, 1, 512)
    values = {"scale": np.float16(2.0), "image_pe_7_to_fp16": held, "other": held[:, :, :, ::-1].copy()}
    operations = [
        SimpleNamespace(op_type="const", name=name, val=SimpleNamespace(val=value)) for name, value in values.items()
    ]
    operations.append(SimpleNamespace(op_type="add", name="sum"))
    found = program_tables(operations, SimpleNamespace(traced=module))
    assert {path: (name, kernel.shape, kernel.axis) for path, (name, kernel) in found.items()} == {
        "image_pe": ("image_pe_7_to_fp16", (1, 8, 1, 512), 1)
    }
