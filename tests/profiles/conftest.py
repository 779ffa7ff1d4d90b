"""One model for the tests of this folder, and single exported components in ONNX Runtime."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
import torch

from edgesam_export.export.trace import trace_component
from edgesam_export.families import load_model
from edgesam_export.formats.onnx.convert import save_onnx
from edgesam_export.modeling.sam import SamModel
from edgesam_export.profiles import find_profile
from edgesam_export.rewrites import apply_rewrites, recommended_rewrites
from edgesam_export.spec import OnnxConfig

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors are faster on one thread, and results do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def goldens() -> Path:
    return GOLDENS


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The module that makes stand-in parameters and pictures, independent of the package."""
    spec = importlib.util.spec_from_file_location("synthetic_weights", GOLDENS / "synthetic_weights.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def model(synthetic) -> SamModel:
    """EdgeSAM with the parameters that the golden files were computed with."""
    made = load_model("edge_sam", random_weights=11)
    shapes = json.loads((GOLDENS / "edge_sam.manifest.json").read_text())["state_dict"]
    values = synthetic.synthetic_state_dict(shapes, 11)
    made.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()}, strict=True)
    return made


@pytest.fixture(scope="session")
def rewritten(model) -> SamModel:
    return apply_rewrites(model, recommended_rewrites("onnx"))


@pytest.fixture(scope="session")
def embeddings() -> torch.Tensor:
    return torch.randn(1, 256, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def export(model, rewritten, tmp_path_factory):
    """``export(part, **config)`` -> ONNX Runtime session of one component; ``session.contract`` is what it says."""

    def exported(part: str, **options) -> Session:
        config = OnnxConfig(**options)
        component = getattr(find_profile(config.profile), part)(rewritten, config)
        traced = trace_component(component, model, config, recommended_rewrites("onnx"), format="onnx")
        path = tmp_path_factory.mktemp("onnx") / f"{part}.onnx"
        save_onnx(traced, config, path)
        return Session(path)

    return exported


class Session:
    """An ONNX file that can be called with NumPy arrays or torch tensors by input name."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.runtime = onnxruntime.InferenceSession(str(path), options)
        stored = self.runtime.get_modelmeta().custom_metadata_map["edgesam_export.contract"]
        self.contract = json.loads(stored)
        self.inputs = [(tensor.name, tensor.type, tensor.shape) for tensor in self.runtime.get_inputs()]
        self.outputs = [(tensor.name, tensor.type, tensor.shape) for tensor in self.runtime.get_outputs()]

    def __call__(self, **feed) -> list[np.ndarray]:
        return self.runtime.run(None, {name: np.asarray(value) for name, value in feed.items()})
