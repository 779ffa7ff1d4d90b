"""What every folder shares: a small model and EdgeSAM with stand-in weights, their files, an image, a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conversions import validate_once
from export_cache import SEED, artifacts_of, damaged_entries, sources_folder
from export_cache import exported as cached_export
from PIL import Image, ImageDraw

from edgesam_export.families import load_model
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import Artifact

# Workers of pytest-xdist have a core each.
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
VALIDATED_ONCE = pytest.StashKey[bool]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Spare conversions the checks between passes, as soon as a test before this one has imported coremltools."""
    if not item.config.stash.get(VALIDATED_ONCE, False):
        item.config.stash[VALIDATED_ONCE] = validate_once()


@pytest.fixture(scope="session")
def exported() -> Iterator[Callable[..., Path]]:
    """``exported(model, format, random_weights=SEED, **config)`` -> folder of an export, made once; read only."""
    yield cached_export
    damaged = damaged_entries(sources_folder())
    assert not damaged, f"a test changed files that all share: {', '.join(map(str, damaged))}"


@pytest.fixture(scope="session")
def model() -> SamModel:
    """The smallest model there is, with stand-in weights; nobody changes it."""
    return load_model("edge_sam_tiny", random_weights=SEED)


@pytest.fixture(scope="session")
def export_folder(exported: Callable[..., Path]) -> Path:
    """Both formats of ``model``, with mask prompt; read only."""
    return exported("edge_sam_tiny", ("coreml", "onnx"), mask_input=True)


@pytest.fixture(scope="session")
def coreml_files(export_folder: Path) -> list[Artifact]:
    """Encoder and decoder as packages: the recommended export, with mask prompt."""
    return artifacts_of(export_folder, "coreml")


@pytest.fixture(scope="session")
def onnx_files(export_folder: Path) -> list[Artifact]:
    """Encoder and decoder as ONNX, FP32 and any number of points, with mask prompt, beside the packages."""
    return artifacts_of(export_folder, "onnx")


@pytest.fixture(scope="session")
def edge_sam() -> SamModel:
    """EdgeSAM with stand-in weights, where its own operations and sizes are the subject; nobody changes it."""
    return load_model("edge_sam_3x", random_weights=SEED)


@pytest.fixture(scope="session")
def edge_sam_packages(exported: Callable[..., Path]) -> list[Artifact]:
    """Encoder and decoder of EdgeSAM: the recommended export, with mask prompt; the Swift tests read it too."""
    return artifacts_of(exported("edge_sam_3x", "coreml", mask_input=True), "coreml")


@pytest.fixture(scope="session")
def edge_sam_graphs(exported: Callable[..., Path]) -> list[Artifact]:
    """Encoder and decoder of EdgeSAM as ONNX, FP32 and any number of points, with mask prompt."""
    return artifacts_of(exported("edge_sam_3x", "onnx", mask_input=True), "onnx")


@pytest.fixture(scope="session")
def checkpoint(edge_sam: SamModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EdgeSAM's stand-in weights as a user's own file, written by ``torch.save``."""
    path = tmp_path_factory.mktemp("checkpoint") / "mine.pth"
    torch.save(edge_sam.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with shapes and texture, 320 x 240."""
    noise = np.random.default_rng(5).integers(0, 40, (240, 320, 3), dtype=np.uint8)
    image = Image.fromarray(noise + np.linspace(60, 160, 320, dtype=np.uint8)[None, :, None])
    ImageDraw.Draw(image).ellipse((90, 60, 210, 190), fill=(200, 60, 40), outline=(255, 255, 255), width=4)
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    image.save(path)
    return path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``command(word, ...)`` -> exit code, stdout and stderr of the command line."""
    from edgesam_export.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run
