"""The reference: the PyTorch model itself, FP32."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgesam_export.artifacts import config_of
from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.export.activations import (
    QuantizedInput,
    QuantizedLayer,
    is_quantized,
    quantize_inputs,
    quantized_layers,
)
from edgesam_export.export.compression import Scheme, compress_modules, find_scheme, through_fp16
from edgesam_export.export.trace import build_components, fp32_modules, trace_component, within
from edgesam_export.imaging.feeds import match_maps
from edgesam_export.imaging.geometry import PreparedImage
from edgesam_export.mil import Program, load_program
from edgesam_export.mil.graph import Operation
from edgesam_export.modeling.common import stability_score
from edgesam_export.modeling.sam import Maps, SamModel, as_maps
from edgesam_export.profiles import Component, embedding_names
from edgesam_export.runners import RUNNERS, ArtifactRunner, Decoded, Embedding, Runner, in_fp32
from edgesam_export.spec import Artifact, CoreMLConfig, ExportConfig, PackageConfig

__all__ = ["ExportedModulesRunner", "StoredWeightsRunner", "TorchRunner", "exported_components", "fresh_program"]


Rewrites = tuple[str, ...]
"""Names of the rewrites that were applied."""


@RUNNERS.register("torch")
class TorchRunner(Runner):
    """Runs a ``SamModel``; scores are of the kind ``score``, else of the family's default kind."""

    name = "torch"
    accepts_mask_input = True
    without_gradients: Callable[[], AbstractContextManager[Any]] = torch.inference_mode

    def __init__(self, model: SamModel, *, device: str = "cpu", score: str | None = None) -> None:
        self.model: SamModel = model.to(device)
        self.device = device
        self.info = model.info
        self.embedding_names = embedding_names(len(model.info.embedding_shapes))
        self.score_kind = score or model.info.default_score
        self.scores_objects = model.mask_decoder.scores_objects
        self.proposes = model.proposes

    @classmethod
    def open_model(cls, model: SamModel, *, device: str) -> TorchRunner:
        """Return a runner for the model on a device."""
        return cls(model, device=device)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Compute without gradients and in FP32, also inside a program's own ``torch.autocast``."""
        with self.without_gradients(), torch.autocast(torch.device(self.device).type, enabled=False):
            yield

    def encode(self, prepared: PreparedImage) -> Embedding:
        """Return the embedding under the names of the default profile, float32."""
        with self.inference():
            return self.named(self.model.encode(torch.from_numpy(prepared.tensor).to(self.device)))

    def encode_pixels(self, pixels: np.ndarray) -> Embedding:
        """Return the embedding of an 8-bit padded image (S, S, 3), normalised here as an image input normalises it."""
        frame = self.info.frame
        mean, std = (np.asarray(values, np.float32) for values in (frame.mean, frame.std))
        normalised = (pixels.astype(np.float32) - mean) / std
        tensor = torch.from_numpy(normalised.transpose(2, 0, 1)[None].copy())
        with self.inference():
            return self.named(self.model.encode(tensor.to(self.device)))

    def named(self, encoded: Maps) -> Embedding:
        """Return the model's maps as arrays by name."""
        return dict(zip(self.embedding_names, (part.cpu().numpy() for part in as_maps(encoded)), strict=True))

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """Return an array as float32 on the model's device."""
        return torch.from_numpy(np.asarray(array, np.float32)).to(self.device)

    def decode_all(
        self,
        embedding: Embedding,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None = None,
    ) -> Decoded:
        """Return logits (1, 4, 256, 256), scores (1, 4) and, of a model that has one, the object score (1, 1)."""
        maps = match_maps(embedding, self.embedding_names).values()
        prompt = [self.tensor(array) for array in (point_coords, point_labels, mask_input) if array is not None]
        with self.inference():
            logits, iou, presence = self.model.decode_all(tuple(map(self.tensor, maps)), *prompt)
            scores = stability_score(logits) if self.score_kind == "stability" else iou
        object_score = None if presence is None else presence.cpu().numpy()
        return Decoded(logits.cpu().numpy(), scores.cpu().numpy(), object_score)

    def decode_many(
        self,
        embedding: Embedding,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None = None,
        has_mask: np.ndarray | None = None,
    ) -> Decoded:
        """Return what the decoder returns of B prompts, decoded at once unless a mask counts for some of them only."""
        if has_mask is not None and not has_mask.all():
            return super().decode_many(embedding, point_coords, point_labels, mask_input, has_mask)
        return self.decode_all(embedding, point_coords, point_labels, mask_input)

    def propose(self, embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (1, K, 4) in pixels of the prompt frame and scores (1, K), of a model with a proposal head."""
        first, *_ = match_maps(embedding, self.embedding_names).values()
        with self.inference():
            boxes, scores = self.model.propose(self.tensor(first))
        return boxes.cpu().numpy(), scores.cpu().numpy()


class StoredWeightsRunner(ArtifactRunner):
    """PyTorch with the parameters as exported files store them: what FP32 numerics must reproduce.

    An FP16 file holds rounded weights, so exact arithmetic on it does not give the original's numbers (about 70 dB on
    EdgeSAM).  This runs the very modules that were traced, their parameters rounded like the file's, so that any
    difference left is a defect of conversion or execution.
    """

    name = "torch, weights as stored"

    def __init__(
        self, model: SamModel, artifacts: Sequence[Artifact], exported: ExportedModulesRunner | None = None
    ) -> None:
        """``exported`` runs the modules before their weights are rounded; without it they are built."""
        super().__init__(artifacts)
        self.queries = 1  # the modules take any number, so that each prompt is computed alone
        self.model: SamModel = model
        modules = copy.deepcopy(exported.modules) if exported else traced_modules(model, artifacts)
        self.modules: dict[str, nn.Module] = {}
        self.quantized: dict[str, list[tuple[QuantizedLayer, QuantizedInput]]] = {}
        for artifact in artifacts:
            if artifact.component not in self.modules:  # else the second part of a split one
                self.modules[artifact.component] = modules[artifact.component]
                self.store(modules[artifact.component], artifact, config_of(artifact))

    def store(self, module: nn.Module, artifact: Artifact, config: ExportConfig) -> None:
        """Replace the parameters of one component by what its file stores for them."""
        if config.precision == "fp16":
            round_weights(module, fp32_modules(module, artifact.format))
        if isinstance(config, PackageConfig) and config.compress is not None:
            compress_modules(module, compressed_layers(artifact), str(artifact.path))
        if is_quantized(config, artifact.component):
            layers = quantized_layers(artifact.contract, str(artifact.path))
            self.quantized[artifact.component] = quantize_inputs(module, layers, str(artifact.path))

    def encode(self, prepared: PreparedImage) -> Embedding:
        """Return the embedding; the model's own when there is only a decoder to check."""
        return super().encode(prepared) if "encoder" in self.modules else TorchRunner(self.model).encode(prepared)

    @torch.inference_mode()
    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component; outputs by name, float32."""
        contract = self.contract_of(component)
        if component in self.quantized:
            self.take_integers(component, feed)
        tensors = [as_tensor(feed[spec["name"]], spec) for spec in contract["inputs"]]
        outputs = self.modules[component](*tensors)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {spec["name"]: value.numpy() for spec, value in zip(contract["outputs"], outputs)}

    def take_integers(self, component: str, feed: dict[str, np.ndarray]) -> None:
        """Give the layers of a component the integers that its files have on the same feed, in exact arithmetic."""
        waiting: dict[str, list[QuantizedInput]] = {}
        for layer, module in self.quantized[component]:
            module.given = None
            waiting.setdefault(layer.integers, []).append(module)

        def take(operation: Operation, name: str, value: torch.Tensor) -> None:
            for module in waiting.get(name, ()):
                module.given = value.clone()

        values: dict[str, Any] = dict(feed)
        for artifact in self.artifacts:
            if artifact.component == component:
                values = load_program(artifact.path).predict(values, numerics="fp32", probe=take)


class ExportedModulesRunner(StoredWeightsRunner):
    """The very modules that were traced, with the model's own parameters: shows what rewrites and wrappers change."""

    name = "network as exported"

    def __init__(self, model: SamModel, artifacts: Sequence[Artifact]) -> None:
        super().__init__(model, artifacts)
        self.contracts = {component: in_fp32(contract) for component, contract in self.contracts.items()}

    def store(self, module: nn.Module, artifact: Artifact, config: ExportConfig) -> None:
        """Leave the parameters as they are."""


def traced_modules(model: SamModel, artifacts: Sequence[Artifact]) -> dict[str, nn.Module]:
    """Return the modules that files were traced from, by component."""
    return {name: built.module.eval() for name, (built, _) in exported_components(model, artifacts).items()}


def exported_components(model: SamModel, artifacts: Sequence[Artifact]) -> dict[str, tuple[Component, Rewrites]]:
    """Return the components that files were traced from and their rewrites, built once for files of equal options."""
    config: ExportConfig | None = None
    built: dict[str, Component] = {}
    rewrites: Rewrites = ()
    found: dict[str, tuple[Component, Rewrites]] = {}
    for artifact in artifacts:
        if config_of(artifact) != config:
            config = config_of(artifact)
            components, rewrites = build_components(model, config, format=artifact.format)
            built = {component.name: component for component in components}
        found.setdefault(artifact.component, (built[artifact.component], rewrites))
    return found


@contextmanager
def fresh_program(model: SamModel, artifact: Artifact) -> Iterator[tuple[Program, dict[str, str]]]:
    """Yield the program of a new export of ``model`` with a package's own options, and its operations' modules.

    Raises:
        SchemaError: the contract does not hold the options.
        ConversionError: the component can no longer be converted.
    """
    from edgesam_export.formats import component_path
    from edgesam_export.formats.coreml.activations import write_pairs
    from edgesam_export.formats.coreml.convert import save_package, split_package

    config = config_of(artifact)
    if not isinstance(config, CoreMLConfig):
        raise SchemaError(f"{artifact.path}: contract of a {artifact.format} file, expected one of a package")
    config = replace(config, functions=())
    built, rewrites = exported_components(model, [artifact])[artifact.component]
    component = trace_component(built, model, config, rewrites, format="coreml")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export" / f"whole{artifact.path.suffix}"
        path.parent.mkdir()
        saved = save_package(component, config, path)
        if is_quantized(config, component.name):
            component.contract["activations"] = artifact.contract.get("activations")
            write_pairs(saved)
        part = artifact.contract.get("part")
        if part:
            piece = split_package(component, path)[part[0] - 1]
            path = component_path(path.parent, piece, path.suffix)
        yield load_program(path), saved.modules


def compressed_layers(artifact: Artifact) -> dict[str, Scheme]:
    """Return torch path -> scheme of the layers whose weights a package holds compressed.

    Raises:
        SchemaError: its contract does not say, or has a scheme that does not exist.
    """
    compression = artifact.contract.get("compression")
    entry = compression if isinstance(compression, dict) else {}
    tensors = entry.get("tensors")
    if not isinstance(tensors, dict):
        raise SchemaError(f"{artifact.path}: contract does not say which weights are compressed; export again")
    # files of before recipes have one scheme for all
    schemes = entry.get("schemes", dict.fromkeys(tensors, entry.get("scheme")))
    if not isinstance(schemes, dict) or schemes.keys() != tensors.keys():
        raise SchemaError(f"{artifact.path}: contract does not say how each weight is compressed; export again")
    try:
        return {path: find_scheme(str(name)) for path, name in schemes.items()}
    except UsageError as error:
        raise SchemaError(f"{artifact.path}: contract's compression: {error}") from None


def round_weights(module: nn.Module, kept: tuple[str, ...]) -> None:
    """Round every floating-point parameter and buffer to FP16 and back, but for the modules at the paths ``kept``.

    Rounded tensors replace the old ones, which may be shared with the model that ``module`` was built from.
    """
    for path, part in module.named_modules():
        if within(path, kept):
            continue
        if hasattr(part, "round_weights"):
            part.round_weights(through_fp16)
            continue
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(through_fp16(parameter), requires_grad=False))
        for name, buffer in list(part.named_buffers(recurse=False)):
            if buffer.is_floating_point():  # an index is stored as the integer it is
                setattr(part, name, through_fp16(buffer))


def as_tensor(value: np.ndarray, spec: dict[str, Any]) -> torch.Tensor:
    """Return a runner's feed as the traced module takes it: images become (1, 3, H, W) floats."""
    if spec["dtype"] == "image":
        value = value.transpose(2, 0, 1)[None]
    return torch.from_numpy(np.ascontiguousarray(value, np.float32))
