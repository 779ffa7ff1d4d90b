"""Ways to execute a model on this machine: PyTorch, and exported files in ONNX Runtime or in the executor."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesam_export.bench.parity import FeedRecorder
from edgesam_export.bench.statistics import NS_PER_MS
from edgesam_export.errors import UsageError
from edgesam_export.imaging.feeds import cast
from edgesam_export.imaging.geometry import PreparedImage, prepare
from edgesam_export.imaging.prompts import pack_prompt
from edgesam_export.runners import ArtifactRunner, Embedding, Runner, open_runner
from edgesam_export.spec import Artifact

if TYPE_CHECKING:
    import torch

    from edgesam_export.modeling.sam import SamModel

__all__ = [
    "ROLES",
    "Call",
    "Candidate",
    "FileCandidate",
    "Inputs",
    "TorchCandidate",
    "open_executor",
    "open_file",
    "random_inputs",
]

SEED = 0
ROLES = ("encoder", "decoder")
Call = Callable[[], object]
"""One execution of a stage, everything else done before."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """One image and one prompt, ready for every candidate."""

    prepared: PreparedImage
    coords: np.ndarray
    labels: np.ndarray
    embedding: Embedding


def random_inputs(runner: Runner, points: int) -> Inputs:
    """Return an image of noise, a prompt of so many points and an embedding of noise, the same at every call."""
    noise, info = np.random.default_rng(SEED), runner.info
    side = info.frame.size
    prepared = prepare(noise.integers(0, 256, (side, side, 3), np.uint8), info.frame)
    positions = noise.uniform(0, side - 1, (points, 2))
    coords, labels = pack_prompt(prepared, points=positions, labels=np.ones(points), padding_point=info.padding_point)
    maps = (noise.standard_normal(shape).astype(np.float32) for shape in info.embedding_shapes)
    return Inputs(prepared, coords, labels, dict(zip(runner.embedding_names, maps)))


class Candidate(ABC):
    """One way to execute the model: loaded, then called stage by stage."""

    runtime: str
    units: str = "cpu"
    roles: tuple[str, ...] = ()
    """Components that are loaded from files of their own."""
    takes_image: bool = False
    """The encoder gets 8-bit pixels."""
    masks: tuple[int, ...] = (0, 1, 2, 3)
    """Mask tokens that the decoder returns, in order."""

    @property
    def name(self) -> str:
        """Name in the ids of its cases."""
        return self.runtime

    @property
    def facts(self) -> dict[str, Any]:
        """Fields that it adds to its cases, known once it is loaded."""
        return {}

    def load(self, role: str) -> None:
        """Load one of ``roles`` anew."""
        raise NotImplementedError(role)

    @abstractmethod
    def prepare_calls(self, inputs: Inputs) -> dict[str, Call]:
        """Return the call of each stage; everything that is not prediction happens here."""

    @abstractmethod
    def outputs(self, inputs: Inputs) -> tuple[Embedding | None, np.ndarray | None]:
        """Return embedding and mask logits of the inputs, for parity; None for what this candidate does not make."""

    def timed(self, call: Call) -> int:
        """Return the duration of a call, nanoseconds."""
        start = time.perf_counter_ns()
        call()
        return time.perf_counter_ns() - start


class FileCandidate(Candidate):
    """Exported files in one runtime, each component opened by ``open_one``."""

    def __init__(
        self, runtime: str, artifacts: Iterable[Artifact], open_one: Callable[[Artifact], ArtifactRunner]
    ) -> None:
        self.runtime, self.open_one = runtime, open_one
        self.artifacts: dict[str, Artifact] = {artifact.component: artifact for artifact in artifacts}
        self.roles = tuple(role for role in ROLES if role in self.artifacts)
        self.runners: dict[str, ArtifactRunner] = {}

    @property
    def facts(self) -> dict[str, Any]:
        return {"artifacts": {role: artifact.sha256 for role, artifact in self.artifacts.items()}}

    def load(self, role: str) -> None:
        runner = self.runners[role] = self.open_one(self.artifacts[role])
        if role == "encoder":
            self.takes_image = runner.takes_image
        else:
            self.masks = runner.candidates

    def prepare_calls(self, inputs: Inputs) -> dict[str, Call]:
        recorder = FeedRecorder(self.artifacts.values())
        if "encoder" in self.roles:
            recorder.encode(inputs.prepared)
        if "decoder" in self.roles:
            recorder.decode(inputs.embedding, inputs.coords, inputs.labels)
        calls: dict[str, Call] = {
            role: partial(self.runners[role].run, role, recorder.feeds[role]) for role in self.roles
        }
        if self.roles == ROLES:
            calls["end_to_end"] = partial(self.end_to_end, recorder.feeds)
        return calls

    def end_to_end(self, feeds: Mapping[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the decoder's outputs on the embedding that the encoder returns."""
        outputs = self.runners["encoder"].run("encoder", feeds["encoder"])
        specs = [spec for spec in self.artifacts["decoder"].contract["inputs"] if spec["name"] in outputs]
        maps = {spec["name"]: cast(outputs[spec["name"]], spec) for spec in specs}
        return self.runners["decoder"].run("decoder", feeds["decoder"] | maps)

    def outputs(self, inputs: Inputs) -> tuple[Embedding | None, np.ndarray | None]:
        embedding = self.runners["encoder"].encode(inputs.prepared) if "encoder" in self.runners else None
        if "decoder" not in self.runners or self.runners["decoder"].selects:
            return embedding, None
        return embedding, self.runners["decoder"].decode(inputs.embedding, inputs.coords, inputs.labels)[0]


def open_file(artifact: Artifact, numerics: str | None = None) -> ArtifactRunner:
    """Return the runner of one exported file.

    Raises:
        UsageError: its runner executes whole models only.
    """
    runner = open_runner([artifact], numerics=numerics)
    if not isinstance(runner, ArtifactRunner):
        raise UsageError(f"{artifact.path.name}: {runner.name} executes no single component")
    return runner


def open_executor(numerics: str, artifact: Artifact) -> ArtifactRunner:
    """Return a package in the executor, its constants in memory."""
    from edgesam_export.runners.mil import MilRunner

    runner = open_file(artifact, numerics)
    if isinstance(runner, MilRunner):
        for program in runner.programs[artifact.component]:
            program.prepare(numerics)
    return runner


class TorchCandidate(Candidate):
    """The PyTorch model on the CPU, or on a CUDA device timed by its own events."""

    def __init__(self, model: SamModel, device: str = "cpu", precision: str = "fp32") -> None:
        self.source, self.units, self.precision = model, device, precision
        self.runtime = "pytorch" if device == "cpu" else f"pytorch_{device}"
        self.model = model
        """The caller's own on the CPU, else a copy."""

    @property
    def name(self) -> str:
        return self.runtime if self.precision == "fp32" else f"{self.runtime}_{self.precision}"

    @property
    def facts(self) -> dict[str, Any]:
        import torch

        if self.units == "cpu":
            return {"precision": self.precision}
        tf32 = {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "convolution": torch.backends.cudnn.allow_tf32,
        }
        return {"precision": self.precision, "accelerator": torch.cuda.get_device_name(), "tf32": tf32}

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and activations."""
        import torch

        return torch.float16 if self.precision == "fp16" else torch.float32

    def tensors(
        self, inputs: Inputs
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], tuple[torch.Tensor, torch.Tensor]]:
        """Return image, embedding and prompt on the model's device; coordinates stay FP32, they exceed 2048."""
        import torch

        def on_device(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
            return torch.from_numpy(np.asarray(array, np.float32)).to(self.units, dtype)

        maps = tuple(on_device(array, self.dtype) for array in inputs.embedding.values())
        prompt = on_device(inputs.coords, torch.float32), on_device(inputs.labels, torch.float32)
        return on_device(inputs.prepared.tensor, self.dtype), maps, prompt

    def prepare_calls(self, inputs: Inputs) -> dict[str, Call]:
        if self.units != "cpu":
            self.model = deepcopy(self.source).to(self.units, self.dtype)
        image, maps, prompt = self.tensors(inputs)
        return {
            "encoder": lambda: self.model.encode(image),
            "decoder": lambda: self.model.decode(maps, *prompt),
            "end_to_end": lambda: self.model.decode(self.model.encode(image), *prompt),
        }

    def timed(self, call: Call) -> int:
        import torch

        with torch.inference_mode():
            if self.units != "cuda":
                return super().timed(call)
            event: Any = torch.cuda.Event  # torch gives it no types
            start, end = event(enable_timing=True), event(enable_timing=True)
            start.record()
            call()
            end.record()
            end.synchronize()
            return round(float(start.elapsed_time(end)) * NS_PER_MS)

    def outputs(self, inputs: Inputs) -> tuple[Embedding | None, np.ndarray | None]:
        import torch

        from edgesam_export.modeling.sam import as_maps

        image, maps, prompt = self.tensors(inputs)
        with torch.inference_mode():
            encoded, masks = as_maps(self.model.encode(image)), self.model.decode(maps, *prompt)[0]
        arrays = [tensor.float().cpu().numpy() for tensor in encoded]
        return dict(zip(inputs.embedding, arrays)), masks.float().cpu().numpy()
