"""One module per way to execute a model; ``open_runner`` picks the one that fits its source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from edgesam_export.artifacts import SUFFIXES, joined_contracts, list_files, pick_components, recorded_modules
from edgesam_export.errors import SchemaError, UsageError
from edgesam_export.export.contract import CONTRACT_KEY, read_contract
from edgesam_export.files import sha256_of
from edgesam_export.registry import Registry, import_submodules
from edgesam_export.spec import EMBEDDING_SIDE, EMPTY_SLOT, Artifact, ImageFrame, ModelInfo

if TYPE_CHECKING:
    from edgesam_export.imaging.geometry import PreparedImage

__all__ = ["RUNNERS", "ArtifactRunner", "Runner", "chains", "embedding_dim", "open_artifact", "open_runner"]

T = TypeVar("T")
RUNNERS: Registry[Any] = Registry("runner")
"""Name -> runner class. Classes of exported files take ``(artifacts, **options)`` and say their ``formats``."""
MAX_EMBEDDING_DIM = 4096
"""Sixteen times what any known model has; a contract that claims more is not believed."""


def open_artifact(source: Artifact | str | Path) -> Artifact:
    """Return an exported file with the contract that its own metadata holds.

    The map from operations to torch modules is added under ``modules`` when an ``export.json`` of the same digest lies
    beside the file.

    Raises:
        UsageError: no such file, not an exported one, or without a contract of ours.
    """
    path = source.path if isinstance(source, Artifact) else Path(source)
    format = SUFFIXES.get(path.suffix)
    if format is None or not path.exists():
        raise UsageError(f"'{path}' is no exported file; give an existing .mlpackage or .onnx")
    import_submodules(__name__)
    text = next(RUNNERS[name].metadata(path) for name in RUNNERS if format in RUNNERS[name].formats).get(CONTRACT_KEY)
    if text is None:
        raise UsageError(f"'{path}' carries no contract of edgesam-export; only packages made by this tool can be used")
    contract = read_contract(text, str(path))
    digest = sha256_of(path)
    return Artifact(
        path=path,
        format=format,
        component=contract["component"],
        model=contract["model"],
        sha256=digest,
        contract={**contract, "modules": recorded_modules(path, digest)},
    )


def open_runner(source: Any, *, numerics: str | None = None, device: str = "cpu") -> Any:
    """Return a runner for a loaded model, an exported file, several, or a folder of them.

    ``numerics`` of Core ML packages: ``fp32``, ``fp16`` (default) or ``ane`` in the executor; on a Mac also
    ``native:all``, ``native:cpu_only``, ``native:cpu_and_gpu`` and ``native:cpu_and_ne``.

    Raises:
        UsageError: files that are not an encoder and a decoder of one model.
        RunnerUnavailableError: this machine cannot execute them.
    """
    import_submodules(__name__)
    if hasattr(source, "decode") and hasattr(source, "image_encoder"):
        return RUNNERS["torch"](source, device=device)
    artifacts = pick_components([open_artifact(file) for file in list_files(source)])
    format = artifacts[0].format
    if format == "onnx":
        return RUNNERS["onnxruntime"](artifacts)
    kind, _, units = (numerics or "fp16").partition(":")
    if kind == "native":
        return RUNNERS["coreml"](artifacts, units=units or "all")
    return RUNNERS["mil"](artifacts, numerics=kind, device=device)


def chains(artifacts: list[Artifact], load: Callable[[Path], T]) -> dict[str, list[T]]:
    """Return what ``load`` makes of each component's files, in the order in which they run."""
    loaded: dict[str, list[T]] = {}
    for artifact in artifacts:
        loaded.setdefault(artifact.component, []).append(load(artifact.path))
    return loaded


class ArtifactRunner(ABC):
    """An encoder and a decoder file, or one of them, and what else was exported, described by their contracts."""

    formats: tuple[str, ...] = ()
    name: str
    numerics: str

    def __init__(self, artifacts: list[Artifact]) -> None:
        self.artifacts = tuple(artifacts)
        self.contracts = joined_contracts(artifacts)
        first = artifacts[0].contract
        frame = first["frame"]
        self.info = ModelInfo(
            name=first["model"],
            family=first["family"],
            upsample=first["upsample"],
            frame=ImageFrame(
                size=frame["size"],
                prompt_size=frame["prompt_size"],
                mean=tuple(frame["mean"]),
                std=tuple(frame["std"]),
                # Files of before these two fields existed had only the first of each.
                fit=frame.get("fit", "longest_side"),
                mask_resize=frame.get("mask_resize", "bilinear"),
            ),
            padding_point=first.get("padding_point", True),
            embedding_dim=embedding_dim(self.contracts),
        )
        decoder = self.contracts.get("decoder", {})
        self.slots: int | None = decoder.get("slots")
        self.fixed_slots: bool = decoder.get("fixed_slots", False)
        """Every export of the model has just these slots."""
        self.accepts_mask_input: bool = decoder.get("mask_input", False)
        self.mask_prompts: bool = decoder.get("mask_prompts", True)
        """Some export of the model takes a mask prompt."""
        self.candidates: tuple[int, ...] = tuple(decoder.get("candidates", ()))
        self.score_kind: str = decoder.get("score", "iou")
        self.selects: bool = decoder.get("selection", "all") != "all"
        """The graph picks one of the candidates itself."""
        self.takes_image: bool = self.contracts.get("encoder", {}).get("image_input", False)
        self.proposes: bool = "proposals" in self.contracts
        """Boxes for point prompts can be had from ``propose``."""

    @staticmethod
    @abstractmethod
    def metadata(path: Path) -> dict[str, str]:
        """Return the user-defined metadata of a file."""

    @abstractmethod
    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component on inputs by name; outputs by name."""

    def encode(self, prepared: PreparedImage) -> np.ndarray:
        """Return image embeddings (1, D, 64, 64), float32.

        Raises:
            UsageError: no encoder among the files.
        """
        contract = self.contract_of("encoder")
        outputs = self.run("encoder", {contract["inputs"][0]["name"]: encoder_input(prepared, contract)})
        return outputs["image_embeddings"].astype(np.float32)

    def decode(
        self,
        embeddings: np.ndarray,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (1, M, 256, 256) and scores (1, M), float32; prompts are filled up to the decoder's slots.

        Raises:
            UsageError: no decoder among the files, more prompts than slots, or a mask prompt it does not take.
        """
        contract = self.contract_of("decoder")
        coords, labels = fill_slots(point_coords, point_labels, self.slots, fixed=self.fixed_slots)
        values = {"image_embeddings": embeddings, "point_coords": coords, "point_labels": labels}
        if mask_input is not None and not self.accepts_mask_input:
            advice = "export it again with --mask-input" if self.mask_prompts else "no export of this model does"
            raise UsageError(f"this decoder takes no mask prompt; {advice}")
        if self.accepts_mask_input:
            side = 256
            values["mask_input"] = np.zeros((1, 1, side, side), np.float32) if mask_input is None else mask_input
            values["has_mask_input"] = np.full(1, mask_input is not None, np.float32)
        values["orig_im_size"] = np.full(2, self.info.frame.prompt_size, np.float32)
        feed = {spec["name"]: cast(values[spec["name"]], spec) for spec in contract["inputs"]}
        outputs = self.run("decoder", feed)
        # Low-resolution logits and scores have other names in the contracts of some consumers.
        names = {"masks": "masks", "scores": "scores", **contract.get("outputs_of", {})}
        return outputs[names["masks"]].astype(np.float32), outputs[names["scores"]].astype(np.float32)

    def propose(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (1, K, 4) in pixels of the prompt frame and their scores (1, K), float32.

        Raises:
            UsageError: no proposals among the files.
        """
        spec = self.contract_of("proposals")["inputs"][0]
        outputs = self.run("proposals", {spec["name"]: cast(embeddings, spec)})
        return outputs["boxes"].astype(np.float32), outputs["scores"].astype(np.float32)

    def contract_of(self, component: str) -> dict[str, Any]:
        """Return the contract of a component, or say that its file is missing."""
        if component not in self.contracts:
            raise UsageError(f"no {component} among the files ({self.artifacts[0].path.name}); give it too")
        return self.contracts[component]


def embedding_dim(contracts: dict[str, dict[str, Any]]) -> int:
    """Return D of the image embedding (1, D, 64, 64) that the components hand over and take.

    Raises:
        SchemaError: none of them has such a tensor, or two have different ones.
    """
    specs = [spec for contract in contracts.values() for spec in (*contract["inputs"], *contract["outputs"])]
    shapes = [spec["shape"] for spec in specs if spec["name"] == "image_embeddings"]
    for shape in shapes[:1]:
        dim = shape[1] if isinstance(shape, list) and len(shape) == 4 else None
        fits = isinstance(dim, int) and 1 <= dim <= MAX_EMBEDDING_DIM
        if fits and all(found == [1, dim, EMBEDDING_SIDE, EMBEDDING_SIDE] for found in shapes):
            return dim
    raise SchemaError(
        f"contracts have image_embeddings {str(shapes)[:80]}, expected one (1, D, 64, 64), D at most"
        f" {MAX_EMBEDDING_DIM}; export encoder and decoder together"
    )


def cast(value: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
    """Return ``value`` in the type that a contract declares for a tensor."""
    return np.asarray(value, {"fp16": np.float16, "uint8": np.uint8}.get(spec["dtype"], np.float32))


def encoder_input(prepared: PreparedImage, contract: dict[str, Any]) -> np.ndarray:
    """Return the picture as the encoder's contract wants it: 8-bit padded image, bare pixels or normalised tensor."""
    spec = contract["inputs"][0]
    if contract.get("padded_by") == "graph":
        height, width = prepared.scaled_size
        bare = prepared.pixels[:height, :width]
        return cast(bare if contract["input_layout"] == "HWC" else bare.transpose(2, 0, 1)[None], spec)
    return prepared.pixels if spec["dtype"] == "image" else cast(prepared.tensor, spec)


def fill_slots(
    coords: np.ndarray, labels: np.ndarray, slots: int | None, *, fixed: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return prompts with empty slots appended up to ``slots``; ``fixed``: no export has another number of them.

    Raises:
        UsageError: more prompts than slots.
    """
    needed = labels.shape[1]
    if slots is None or needed == slots:
        return coords, labels
    if needed > slots:
        advice = (
            "every export of the model has as many, give fewer points" if fixed else f"export with --points {needed}"
        )
        raise UsageError(f"the prompt needs {needed} slots, this decoder has {slots}; {advice}")
    extra = slots - needed
    return (
        np.pad(coords, ((0, 0), (0, extra), (0, 0))),
        np.pad(labels, ((0, 0), (0, extra)), constant_values=EMPTY_SLOT),
    )


class Runner(Protocol):
    """One way to execute an encoder and a decoder; see ``runners/``."""

    info: Any
    """``ModelInfo`` or anything else that has ``frame``."""
    slots: int | None
    """Prompt slots of the decoder, None when the number is free."""
    accepts_mask_input: bool

    def encode(self, prepared: PreparedImage) -> np.ndarray:
        """Return image embeddings (1, D, 64, 64)."""
        ...

    def decode(
        self,
        embeddings: np.ndarray,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (1, M, 256, 256) and scores (1, M)."""
        ...
