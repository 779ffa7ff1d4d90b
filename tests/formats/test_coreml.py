"""Core ML packages as they were saved: operations, types, contract, and what they compute in the executor."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_models import small_model

from edgesam_export.errors import ConversionError, UsageError
from edgesam_export.export.contract import CONTRACT_KEY
from edgesam_export.export.trace import build_components, trace_component, trace_model
from edgesam_export.families import model_info
from edgesam_export.families.edge_sam_tiny import EdgeSamTinyEncoder
from edgesam_export.formats.coreml import convert as coreml
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.formats.coreml.convert import save_package, with_containers
from edgesam_export.imaging.geometry import prepare
from edgesam_export.imaging.reading import open_image
from edgesam_export.mil import Program, load_program
from edgesam_export.mil.package import find_files
from edgesam_export.mil.program import read_model
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.runners import open_runner
from edgesam_export.runners.torch import StoredWeightsRunner
from edgesam_export.spec import Artifact, CoreMLConfig

COORDS = np.random.default_rng(3).uniform(0, 1023, (1, 16, 2)).astype(np.float32)
LABELS = np.array([[1, 0, 1, 1, 0, -1, 1, 0, 2, 3, 1, 1, 0, 1, 0, 1]], np.float32)


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    """As wide as EdgeSAM's; narrower models take the first channels."""
    return np.random.default_rng(4).standard_normal((1, 256, 64, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder(edge_sam_packages) -> Program:
    return load_program(edge_sam_packages[0].path)


@pytest.fixture(scope="module")
def decoder(edge_sam_packages) -> Program:
    return load_program(edge_sam_packages[1].path)


@pytest.fixture(scope="module")
def small() -> SamModel:
    return small_model()


@pytest.fixture(scope="module")
def bicubic() -> SamModel:
    """Every kind of layer of EdgeSAM's encoder, each stage of one block."""
    model = SamModel(
        info=model_info("edge_sam_tiny"),
        image_encoder=EdgeSamTinyEncoder(((24, (True,)), (48, (False,)), (96, (True,)), (192, (False,)))),
        prompt_encoder=PromptEncoder(128),
        mask_decoder=MaskDecoder(128, mlp_dim=128),
    )
    fill_random(model, 4)
    return model


@pytest.fixture(scope="module")
def convert(small, tmp_path_factory) -> Callable[..., Program]:
    """``convert(part, model, **config)`` -> the saved package of one component, loaded."""

    def converted(part: str, model: SamModel = small, **options) -> Program:
        config = CoreMLConfig(**options)
        components, names = build_components(model, config, format="coreml")
        component = next(one for one in components if one.name == part)
        path = tmp_path_factory.mktemp(part) / f"{part}.mlpackage"
        save_package(trace_component(component, model, config, names, format="coreml"), config, path)
        return load_program(path)

    return converted


@pytest.fixture(scope="module")
def exact_decoder(convert) -> Program:
    """Sixteen slots in FP32, no mask prompt, oldest target."""
    return convert("decoder", precision="fp32", points=16, target="iOS16")


def counts(program: Program) -> Counter[str]:
    return Counter(operation.type for operation in program.operations if not operation.is_constant)


def tensors(features) -> dict[str, tuple]:
    return {feature.name: (feature.dtype, feature.shape) for feature in features}


def fitting(embeddings: np.ndarray, program: Program) -> np.ndarray:
    """The channels that a decoder takes."""
    _, shape = tensors(program.inputs)["image_embeddings"]
    return embeddings[:, : shape[1]]


def version_of(program: Program) -> int:
    return read_model(find_files(program.path)).specificationVersion


# --------------------------------------------------------------------------------------- operations


def test_encoder_is_folded_and_holds_nothing_the_neural_engine_refuses(encoder):
    found = counts(encoder)
    # bars of the project; the released export has 130 conv and 75 add
    assert 0 < found["conv"] <= 107 and 0 < found["add"] <= 29
    assert found["layer_norm"] == 2
    for unwanted in ("batch_norm", "pow", "rsqrt", "reshape", "transpose", "shape", "gather", "pad"):
        assert not found[unwanted], unwanted
    assert not [name for name in found if "upsample" in name or "resize" in name]


def test_encoder_is_fp16_throughout(encoder):
    types = {out.type.dtype for op in encoder.operations if not op.is_constant for out in op.outputs}
    assert types == {"fp16"}


def test_decoder_holds_no_shapes_no_gathers_and_low_ranks(decoder):
    found = counts(decoder)
    assert not [name for name in found if name.startswith(("gather", "scatter")) or name in ("shape", "where", "tile")]
    assert found["layer_norm"] == 12 and not found["batch_norm"] and not found["pow"] and not found["rsqrt"]
    outputs = [out for op in decoder.operations for out in op.outputs]
    assert max(len(out.type.shape or ()) for out in outputs) == 4
    assert all(None not in (out.type.shape or ()) for out in outputs)


def test_no_product_is_as_wide_as_the_mask(decoder):
    widths = [op.outputs[0].type.shape[-1] for op in decoder.operations if op.type == "matmul"]
    assert widths and max(widths) <= 16384


def test_decoder_is_fp32_only_in_the_prompt_and_the_ratio(decoder, edge_sam_packages):
    modules = json.loads((edge_sam_packages[1].path.parent / "export.json").read_text())
    modules = modules["artifacts"][edge_sam_packages[1].path.name]["modules"]
    islands = ("prompt", "stability.ratio")
    exact = [op for op in decoder.operations if not op.is_constant and op.outputs[0].type.dtype == "fp32"]
    outside = [str(op) for op in exact if op.type != "cast" and not modules.get(op.label, "").startswith(islands)]
    assert not outside
    kinds = {op.type for op in exact}
    assert {"sin", "linear", "real_div"} <= kinds and not kinds & {"conv", "softmax", "layer_norm", "gelu", "exp"}


def test_positional_encoding_is_not_fp16(decoder):
    (operation,) = [op for op in decoder.operations if op.type in ("sin", "cos")]
    output = operation.outputs[0].type  # a cosine is the sine of a shifted angle
    assert (operation.type, output.dtype, output.shape) == ("sin", "fp32", (1, 8, 256))


def test_without_the_other_rewrites_the_export_still_converts_and_is_larger(convert, bicubic, decoder):
    encoder = counts(convert("encoder", bicubic))
    # Core ML has no bicubic operation, so that one rewrite is needed
    plain = counts(convert("encoder", bicubic, rewrites=("bicubic_as_matmul",), tensor_input=True))
    assert plain["conv"] > encoder["conv"] and plain["add"] > encoder["add"]
    assert encoder["layer_norm"] == 2 and not plain["layer_norm"]
    plain = convert("decoder", rewrites=())
    assert max(op.outputs[0].type.shape[-1] for op in plain.operations if op.type == "matmul") == 65536
    assert counts(plain)["transpose"] > counts(decoder)["transpose"]


# --------------------------------------------------------------------------------------- inputs and outputs


def test_inputs_and_outputs_are_those_promised(encoder, decoder):
    assert tensors(encoder.outputs) == {"image_embeddings": ("fp16", (1, 256, 64, 64))}
    assert tensors(decoder.inputs) == {
        "image_embeddings": ("fp16", (1, 256, 64, 64)),
        "point_coords": ("fp32", (1, 8, 2)),
        "point_labels": ("fp32", (1, 8)),
        "mask_input": ("fp16", (1, 1, 256, 256)),
        "has_mask_input": ("fp32", (1,)),
    }
    assert tensors(decoder.outputs) == {"masks": ("fp16", (1, 4, 256, 256)), "scores": ("fp32", (1, 4))}
    assert not any(feature.is_flexible or feature.optional for feature in (*encoder.inputs, *decoder.inputs))


def test_encoder_takes_an_rgb_picture(encoder):
    (image,) = encoder.inputs
    assert (image.name, image.kind, image.colour, image.shape) == ("image", "image", "RGB", (1, 3, 1024, 1024))


def test_encoder_can_take_a_tensor_in_fp32(convert, small, photo):
    program = convert("encoder", precision="fp32", tensor_input=True)
    assert tensors(program.inputs) == {"image": ("fp32", (1, 3, 1024, 1024))}
    assert program.inputs[0].kind == "tensor"
    types = {out.type.dtype for op in program.operations if not op.is_constant for out in op.outputs}
    assert types == {"fp32"}
    prepared = prepare(open_image(photo), small.info.frame)
    found = program.predict({"image": prepared.tensor}, numerics="fp32")["image_embeddings"]
    assert psnr_db(small.encode(torch.from_numpy(prepared.tensor)).numpy(), found) >= 80


@pytest.mark.parametrize(
    ("options", "masks", "meaning"),
    [
        ({"candidates": 3, "score": "iou", "points": 2, "target": "iOS16"}, 3, "predicted IoU"),
        ({"candidates": 1, "score": "stability", "points": 3, "target": "iOS18"}, 1, "stability"),
    ],
    ids=["three by IoU, two slots, iOS16", "one by stability, three slots, iOS18"],
)
def test_slots_candidates_score_and_target_are_those_asked_for(convert, small, embeddings, options, masks, meaning):
    program = convert("decoder", **options)
    version = {"iOS16": 7, "iOS17": 8, "iOS18": 9}[options["target"]]
    assert (version_of(program), program.opset) == (version, options["target"])
    slots = options["points"]
    assert tensors(program.inputs)["point_coords"] == ("fp32", (1, slots, 2))
    assert tensors(program.outputs) == {"masks": ("fp16", (1, masks, 256, 256)), "scores": ("fp32", (1, masks))}
    contract = json.loads(program.metadata[CONTRACT_KEY])
    assert (contract["slots"], contract["score"]) == (slots, options["score"])
    assert meaning in next(feature.description for feature in program.outputs if feature.name == "scores")

    feed = {"image_embeddings": fitting(embeddings, program).astype(np.float16)}
    feed |= {"point_coords": COORDS[:, :slots], "point_labels": LABELS[:, :slots]}
    found = program.predict(feed, numerics="fp32")
    logits, iou = decode(small, feed["image_embeddings"].astype(np.float32), slots)
    tokens = contract["candidates"]
    assert tokens == {3: [1, 2, 3], 1: [0]}[masks]
    # weights are FP16 in the file, so this is no test of exactness
    assert psnr_db(logits[:, tokens], found["masks"]) >= 45
    if options["score"] == "iou":
        assert np.abs(iou[:, tokens] - found["scores"]).max() <= 1e-2
    else:
        inner, outer = ((found["masks"] > bound).sum((2, 3)) for bound in (1.0, -1.0))
        assert np.abs(inner / outer - found["scores"]).max() <= 1e-5


def test_the_default_target_is_ios17(encoder, decoder):
    assert version_of(encoder) == version_of(decoder) == 8
    assert encoder.opset == decoder.opset == "iOS17"


# --------------------------------------------------------------------------------------- contract


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_package_carries_its_contract(request, part):
    program = request.getfixturevalue(part)
    contract = json.loads(program.metadata[CONTRACT_KEY])
    assert contract["component"] == part and contract["model"] == "edge_sam_3x" and contract["precision"] == "fp16"
    assert contract["weights"] == {
        "source": "random-weights",
        "sha256": None,
        "licence": "none: random weights",
        "random_seed": 11,
    }
    assert {"edgesam-export", "torch", "coremltools"} <= set(contract["versions"])
    assert contract["frame"]["size"] == 1024 and contract["upsample"] == "bicubic" and contract["rewrites"]
    for promised, features in ((contract["inputs"], program.inputs), (contract["outputs"], program.outputs)):
        shapes = {entry["name"]: tuple(entry["shape"]) for entry in promised}
        assert shapes == {feature.name: feature.shape for feature in features}
        assert {entry["name"]: entry["description"] for entry in promised} == {f.name: f.description for f in features}
        assert all(feature.description for feature in features)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_xcode_shows_origin_and_licence(request, part):
    metadata = request.getfixturevalue(part).metadata
    assert "RANDOM WEIGHTS (seed 11)" in metadata["description"]
    assert metadata["license"] == "none: random weights"
    assert metadata["author"].startswith("edgesam-export") and metadata["version"]


def test_operations_know_their_torch_module(decoder, edge_sam_packages):
    record = json.loads((edge_sam_packages[0].path.parent / "export.json").read_text())["artifacts"]
    modules = record[edge_sam_packages[1].path.name]["modules"]
    known = [op for op in decoder.operations if not op.is_constant and op.label in modules]
    assert len(known) >= 0.7 * sum(counts(decoder).values())
    assert {"prompt", "stability.ratio"} <= set(modules.values())
    assert any(path.startswith("mask_decoder.transformer.layers.0.") for path in modules.values())
    assert any(path.startswith("image_encoder") for path in record[edge_sam_packages[0].path.name]["modules"].values())


# --------------------------------------------------------------------------------------- what they compute


def decode(model, embeddings: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The unpadded PyTorch model on the first ``count`` prompts."""
    prompt = (torch.from_numpy(array[:, :count]) for array in (COORDS, LABELS))
    logits, iou = model.decode(torch.from_numpy(embeddings), *prompt)
    return logits.numpy(), iou.numpy()


def test_in_fp32_the_saved_files_give_what_pytorch_gives(edge_sam, edge_sam_packages, photo):
    reference, candidate = (
        StoredWeightsRunner(edge_sam, edge_sam_packages),
        open_runner(edge_sam_packages, numerics="fp32"),
    )
    prepared = prepare(open_image(photo), edge_sam.info.frame)
    embedding = reference.encode(prepared)
    (array,) = embedding.values()
    assert psnr_db(array, candidate.encode(prepared)["image_embeddings"]) >= 80
    mask = np.random.default_rng(1).normal(0, 8, (1, 1, 256, 256)).astype(np.float32)
    for prompt in (
        (COORDS[:, :1], LABELS[:, :1]),
        (COORDS[:, :8], LABELS[:, :8]),
        (COORDS[:, :3], LABELS[:, :3], mask),
    ):
        for expected, found in zip(reference.decode(embedding, *prompt), candidate.decode(embedding, *prompt)):
            assert psnr_db(expected, found) >= 80


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_empty_slots_take_no_part(small, exact_decoder, embeddings, count):
    labels = np.where(np.arange(16) < count, LABELS, -2).astype(np.float32)
    embeddings = fitting(embeddings, exact_decoder)
    feed = {"image_embeddings": embeddings, "point_coords": COORDS, "point_labels": labels}
    found = exact_decoder.predict(feed, numerics="fp32")
    logits, _ = decode(small, embeddings, count)
    assert psnr_db(logits, found["masks"]) >= 80


def test_what_an_empty_slot_holds_changes_not_a_bit(exact_decoder, decoder, embeddings):
    for program, slots in ((exact_decoder, 16), (decoder, 8)):
        labels = np.where(np.arange(slots) < 2, LABELS[:, :slots], -2).astype(np.float32)
        feed = {"point_labels": labels}
        if slots == 8:
            feed |= {"mask_input": np.zeros((1, 1, 256, 256), np.float16), "has_mask_input": np.zeros(1, np.float32)}
        feed["image_embeddings"] = fitting(embeddings, program).astype(np.float16 if slots == 8 else np.float32)
        found = []
        for rest in (0.0, 900.0):
            coords = np.where(np.arange(slots)[None, :, None] < 2, COORDS[:, :slots], rest).astype(np.float32)
            found.append(program.predict({"point_coords": coords} | feed))
        assert np.array_equal(found[0]["masks"], found[1]["masks"])
        assert np.array_equal(found[0]["scores"], found[1]["scores"])


def test_a_mask_prompt_counts_only_when_it_is_announced(decoder, embeddings):
    labels = np.where(np.arange(8) < 2, LABELS[:, :8], -2).astype(np.float32)
    feed = {"image_embeddings": embeddings.astype(np.float16), "point_coords": COORDS[:, :8], "point_labels": labels}
    masks = [np.zeros((1, 1, 256, 256), np.float16), np.full((1, 1, 256, 256), 9, np.float16)]
    without = [
        decoder.predict({**feed, "mask_input": mask, "has_mask_input": np.zeros(1, np.float32)})["masks"]
        for mask in masks
    ]
    used = decoder.predict({**feed, "mask_input": masks[1], "has_mask_input": np.ones(1, np.float32)})["masks"]
    assert np.array_equal(*without)
    assert psnr_db(without[0].astype(np.float32), used.astype(np.float32)) < 40


# --------------------------------------------------------------------------------------- several functions


@pytest.fixture(scope="module")
def joined(small, tmp_path_factory) -> list[Artifact]:
    """One package whose decoder has eight slots, and two in a second function."""
    return export_coreml(small, tmp_path_factory.mktemp("joined"), CoreMLConfig(target="iOS18", functions=(2,)))


def weights_of(path) -> int:
    return sum(member.stat().st_size for member in path.rglob("weight.bin"))


def test_functions_share_their_weights(joined, convert):
    assert 0 < weights_of(joined[1].path) < 1.05 * weights_of(convert("decoder", target="iOS18").path)
    assert {p.name for p in joined[0].path.parent.iterdir()} == {p.path.name for p in joined} | {"export.json"}


def test_every_function_computes_what_pytorch_computes(small, joined, embeddings):
    path = joined[1].path
    assert load_program(path).functions == ("main", "points_2")
    half = fitting(embeddings, load_program(path)).astype(np.float16)
    logits, _ = decode(small, half.astype(np.float32), 2)
    for function, slots in (("main", 8), ("points_2", 2)):
        program = load_program(path, function=function)
        assert tensors(program.inputs)["point_labels"] == ("fp32", (1, slots))
        labels = np.where(np.arange(slots) < 2, LABELS[:, :slots], -2).astype(np.float32)
        feed = {"image_embeddings": half, "point_coords": COORDS[:, :slots], "point_labels": labels}
        # FP16 weights against FP32 ones
        assert psnr_db(logits, program.predict(feed, numerics="fp32")["masks"]) >= 45


def test_a_package_of_several_functions_carries_its_contract(joined):
    contract = json.loads(load_program(joined[1].path).metadata[CONTRACT_KEY])
    assert contract["functions"] == {"main": 8, "points_2": 2}
    assert contract == json.loads(json.dumps(joined[1].contract))
    # the public descriptions of a function's tensors
    assert all(feature.description for feature in load_program(joined[1].path).outputs)


# --------------------------------------------------------------------------------------- refusals


def test_what_coremltools_says_becomes_one_line_and_nothing_stays(small, tmp_path, monkeypatch):
    def refuse(component, config):
        raise NotImplementedError("PyTorch convert function for op 'x' not implemented.\nsecond line")

    monkeypatch.setattr(coreml, "convert", refuse)
    with pytest.raises(ConversionError, match=r"could not convert encoder: PyTorch .* not implemented\.$"):
        export_coreml(small, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"points": 0}, "points is 0; a decoder has 2 to 64"),
        ({"points": 65}, "points is 65"),
        ({"target": "iOS15"}, "target is 'iOS15'; choose one of: iOS16, iOS17, iOS18"),
        ({"functions": (2,)}, "need target iOS18, not iOS17"),
        ({"functions": (8,), "target": "iOS18"}, "every number of slots once"),
        ({"functions": (2, 2), "target": "iOS18"}, "every number of slots once"),
        ({"functions": (99,), "target": "iOS18"}, "points is 99"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"candidates": 2}, "candidates is 2"),
        ({"score": "best"}, "score is 'best'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, line):
    with pytest.raises(UsageError, match=line):
        CoreMLConfig(**options)


def test_an_unknown_profile_is_refused_with_the_known_ones(model):
    with pytest.raises(UsageError, match=r"unknown profile 'sam7'; choose one of: .*default"):
        trace_model(model, CoreMLConfig(profile="sam7"), format="coreml")
    with pytest.raises(UsageError, match="profile 'sam6' is for onnx, not for coreml"):
        trace_model(model, CoreMLConfig(profile="sam6"), format="coreml")


def test_a_module_is_found_behind_those_that_were_not_called():
    known = {"encoder", "encoder.trunk", "encoder.trunk.blocks", "encoder.trunk.blocks.0", "encoder.neck"}
    known |= {"encoder.trunk.blocks.0.attn", "encoder.trunk.blocks.0.attn.qkv", "encoder.trunk.blocks.0.mlp"}
    known |= {"encoder.trunk.blocks.0.mlp.layers", "encoder.trunk.blocks.0.mlp.layers.0", "encoder.neck.a", "encoder.b"}
    assert with_containers("encoder.0.qkv", known) == "encoder.trunk.blocks.0.attn.qkv"
    assert with_containers("encoder.0.mlp.0", known) == "encoder.trunk.blocks.0.mlp.layers.0"
    assert with_containers("encoder.neck", known) == "encoder.neck"
    assert with_containers("encoder.b", {*known, "encoder.trunk.b"}) == "encoder.b"
    assert with_containers("encoder.a", {*known, "encoder.trunk.a"}) == "encoder.a"  # two of them: as it was traced
