"""A family with three feature maps is one file: its maps reach exports, runners and commands by the contract."""

from __future__ import annotations

import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import edgesam_export
from edgesam_export import families
from edgesam_export.artifacts import embedding_specs, open_artifact
from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.families import load_model
from edgesam_export.formats.coreml import export_coreml
from edgesam_export.formats.onnx import export_onnx
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity.metrics import psnr_db
from edgesam_export.predict.predictor import Predictor
from edgesam_export.runners import open_runner
from edgesam_export.spec import Artifact, CoreMLConfig, OnnxConfig

NAME, SEED = "three_maps", 5
SHAPES = {"image_embeddings": (1, 256, 64, 64), "feats_s0": (1, 32, 256, 256), "feats_s1": (1, 64, 128, 128)}
PACKAGE = Path(edgesam_export.__file__).parent


@pytest.fixture(scope="module", autouse=True)
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The family's file in one more folder of ``families``; every trace of it is gone afterwards."""
    folder = tmp_path_factory.mktemp("families")
    (folder / f"{NAME}.py").write_text(Path(__file__).with_name(f"{NAME}.py").read_text(encoding="utf-8"))
    families.__path__.append(str(folder))
    yield
    families.__path__.remove(str(folder))
    families.FAMILIES.entries.pop(NAME, None)
    sys.modules.pop(f"{families.__name__}.{NAME}", None)
    families.__dict__.pop(NAME, None)


@pytest.fixture(scope="module")
def network() -> SamModel:
    return load_model(NAME, random_weights=SEED)


@pytest.fixture(scope="module")
def packages(network, tmp_path_factory) -> list[Artifact]:
    return export_coreml(network, tmp_path_factory.mktemp("packages"), CoreMLConfig(points=3))


@pytest.fixture(scope="module")
def graphs(network, tmp_path_factory) -> list[Artifact]:
    return export_onnx(network, tmp_path_factory.mktemp("graphs"), OnnxConfig())


@pytest.mark.parametrize("kind", ["packages", "graphs"])
def test_both_contracts_list_the_three_maps(request, kind):
    encoder, decoder = (open_artifact(file.path).contract for file in request.getfixturevalue(kind))
    promised = {spec["name"]: tuple(spec["shape"]) for spec in encoder["outputs"]}
    taken = {spec["name"]: tuple(spec["shape"]) for spec in decoder["inputs"]}
    assert list(promised.items()) == list(SHAPES.items())
    assert list(taken) == [*SHAPES, "point_coords", "point_labels"]
    assert {name: taken[name] for name in SHAPES} == SHAPES


def test_files_give_the_masks_of_pytorch(network, packages, graphs, photo):
    expected = Predictor(network).set_image(photo)
    masks = expected.predict(points=[(150, 125)])
    for runner in (open_runner(packages, numerics="fp16"), open_runner(graphs)):
        predictor = Predictor(runner=runner).set_image(photo)
        assert {name: array.shape for name, array in predictor.embedding.items()} == SHAPES
        least = 80 if runner.numerics == "fp32" else 45
        assert psnr_db(masks.logits, predictor.predict(points=[(150, 125)]).logits) > least


def test_every_map_takes_part_in_the_masks(graphs, photo):
    predictor = Predictor(graphs).set_image(photo)
    before = predictor.predict(points=[(150, 125)]).logits
    for name in SHAPES:
        changed = Predictor(runner=predictor.runner).set_image(photo)
        changed.embedding = {**predictor.embedding, name: np.zeros(SHAPES[name], np.float32)}
        assert np.abs(changed.predict(points=[(150, 125)]).logits - before).max() > 1e-2, name


def test_parity_has_a_row_for_each_map_and_passes(command, packages, graphs, photo, tmp_path):
    turned = tmp_path / "turned.png"
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(turned)
    sources = (packages[0].path.parent, graphs[0].path.parent, "--image", photo, "--image", turned)
    code, out, err = command("parity", *sources, "--numerics", "fp16", "--output", tmp_path, "--json", "--quiet")
    report = json.loads(Path(json.loads(out)["reports"]["json"]).read_text())
    assert code == 0 and report["passed"], err
    encoder = [row for row in report["rows"] if row["component"] == "encoder"]
    assert {row["output"] for row in encoder} == set(SHAPES) and all(row["checks"] for row in encoder)


@pytest.mark.parametrize("kind", ["packages", "graphs"])
def test_segment_writes_a_mask(command, request, kind, photo, tmp_path):
    folder = request.getfixturevalue(kind)[0].path.parent
    code, out, _ = command("segment", photo, "--point", "150,125", "--artifact", folder, "--output", tmp_path, "--json")
    assert code == 0
    with Image.open(json.loads(out)["mask"]) as mask:
        assert mask.size == (320, 240)


def test_an_encoder_and_a_decoder_of_other_maps_are_refused(packages):
    encoder, decoder = (open_artifact(file.path).contract for file in packages)
    assert [spec["name"] for spec in embedding_specs({"decoder": decoder})] == list(SHAPES)
    swapped = {**encoder, "outputs": [*encoder["outputs"][:1], *reversed(encoder["outputs"][1:])]}
    fewer = {**encoder, "outputs": encoder["outputs"][:2]}
    huge = {**encoder, "outputs": [{**spec, "shape": [1, 1 << 40, 64, 64]} for spec in encoder["outputs"]]}
    for bad in (swapped, fewer, huge):
        with pytest.raises(SchemaError, match=r"expected one list of maps .*; export encoder and decoder together"):
            embedding_specs({"encoder": bad, "decoder": decoder})


def test_the_model_says_what_it_returns(network):
    with torch.inference_mode():
        maps = network.encode(torch.zeros(1, 3, 1024, 1024))
    assert tuple(tuple(part.shape) for part in maps) == network.info.embedding_shapes == tuple(SHAPES.values())
    with pytest.raises(UsageError, match="has no proposal head"):
        network.propose(maps[0])


def test_only_profiles_name_the_maps():
    """What an encoder returns comes from the contract: in code the names stand in ``profiles/`` alone."""

    def strings(path: Path) -> Iterator[str]:
        with tokenize.open(path) as file:
            tokens = tokenize.generate_tokens(io.StringIO(file.read()).readline)
            yield from (token.string for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL))

    named = re.compile(r"image_embeddings|feats_s\d")
    other = PACKAGE / "segment_anything" / "parts.py"  # there it is an argument of segment-anything's decoder
    found = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if path != other and any(map(named.search, strings(path)))
    }
    assert found == {"profiles"}
    swift = PACKAGE.parent / "swift" / "Sources"
    assert swift.is_dir() and not [path for path in swift.rglob("*.swift") if named.search(path.read_text())]
