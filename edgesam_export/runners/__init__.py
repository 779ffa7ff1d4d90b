"""One module per way to execute a model; ``open_runner`` picks the one that fits its source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from edgesam_export.artifacts import embedding_specs, joined_contracts, list_files, open_artifact, pick_components
from edgesam_export.errors import UsageError
from edgesam_export.export.contract import info_of
from edgesam_export.imaging.feeds import cast, encoder_input, fill_slots, match_maps, pixel_input, takes_pixels
from edgesam_export.registry import Registry, import_submodules
from edgesam_export.spec import DYNAMIC, MASK_SIDE, Artifact, ModelInfo

if TYPE_CHECKING:
    from edgesam_export.imaging.geometry import PreparedImage
    from edgesam_export.mil.program import Program
    from edgesam_export.modeling.sam import SamModel

__all__ = [
    "RUNNERS",
    "ArtifactRunner",
    "Decoded",
    "Embedding",
    "Runner",
    "chains",
    "numerics_choices",
    "open_artifact",
    "open_runner",
    "runner_of",
]

T = TypeVar("T")
Embedding = Mapping[str, np.ndarray]
"""An encoder's result for one image: its maps by the names of the contract, float32, in the contract's order."""


class Decoded(NamedTuple):
    """Everything that a decoder returns of one prompt. Shapes: masks (1, M, 256, 256) logits, scores (1, M), float32"""

    masks: np.ndarray
    scores: np.ndarray
    object_score: np.ndarray | None = None
    """Logit of an object's presence, float32 (1, 1); None of a decoder that does not return it."""


class Runner(ABC):
    """One way to execute an encoder and a decoder. What a runner can do is an attribute, here with its default."""

    name: str
    """A few words for reports and tables."""
    info: ModelInfo
    numerics: str = "fp32"
    """Arithmetic that gates are chosen by, one of ``spec.NUMERICS``."""
    formats: tuple[str, ...] = ()
    """Formats whose files the class executes."""
    prefix: str = ""
    """Word before the colon of ``open_runner``'s numerics that selects the class; empty for a format's default."""
    numerics_choices: tuple[str, ...] = ()
    """Arithmetic that the class can be opened with, empty when its files decide."""
    witness: str = ""
    """Prefix of a class that executes the same files by other code, in exact arithmetic; empty for none."""
    artifacts: tuple[Artifact, ...] = ()
    """Files behind the runner, none for a PyTorch model."""
    model: SamModel | None = None
    """PyTorch model behind the runner, None for files."""
    embedding_names: tuple[str, ...] = ()
    """Names of the maps in ``encode``'s result, in order."""
    slots: int | None = None
    """Prompt slots of the decoder, None when their number is free."""
    fixed_slots: bool = False
    """Every export of the model has just these slots."""
    accepts_mask_input: bool = False
    """The decoder takes a mask prompt."""
    mask_prompts: bool = True
    """Some export of the model takes a mask prompt."""
    candidates: tuple[int, ...] = (0, 1, 2, 3)
    """Mask tokens that the decoder returns, in order."""
    score_kind: str = "iou"
    """What scores are: ``iou`` or ``stability``."""
    logit_limit: float | None = None
    """Logits are returned clamped to this magnitude, None: as they are."""
    selects: bool = False
    """The decoder picks one of the candidates itself."""
    dynamic: bool = False
    """It does so by the rule of ``modeling.single_mask``; ``candidates`` is the token that another may replace."""
    scores_objects: bool = False
    """The decoder returns the object score."""
    at_source: bool = False
    """The decoder also returns masks at the size of the source image; see ``decode_at_source``."""
    takes_image: bool = False
    """The encoder takes 8-bit pixels; see ``encode_pixels``."""
    proposes: bool = False
    """Boxes for point prompts can be had from ``propose``."""

    @classmethod
    def open(cls, artifacts: list[Artifact], *, numerics: str | None, device: str) -> Runner:
        """Return a runner for exported files; ``numerics`` is what stands after the prefix, None for the default.

        Raises:
            UsageError: the class executes no files, or does not know the numerics.
            RunnerUnavailableError: this machine cannot execute them.
        """
        raise UsageError(f"{cls.__name__} executes no exported files")

    @classmethod
    def open_model(cls, model: SamModel, *, device: str) -> Runner:
        """Return a runner for a PyTorch model.

        Raises:
            UsageError: the class executes files only.
        """
        raise UsageError(f"{cls.__name__} executes no PyTorch model")

    @abstractmethod
    def encode(self, prepared: PreparedImage) -> Embedding:
        """Return the embedding of an image, one map or several, the first (1, D, 64, 64)."""

    @abstractmethod
    def decode_all(
        self,
        embedding: Embedding,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None = None,
    ) -> Decoded:
        """Return mask logits and scores of one prompt, and the object score of a decoder that returns it.

        An embedding of another runner of the same model is taken by the order of its maps; prompts are filled up to the
        decoder's slots.

        Shapes:
            point_coords (1, N, 2) x, y in pixels of the prompt frame; point_labels (1, N)
            mask_input (1, 1, 256, 256) logits of an earlier prediction
        Raises:
            UsageError: no decoder, more prompts than slots, or a mask prompt that the decoder does not take.
        """

    def decode(self, *inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and scores alone; inputs as of ``decode_all``."""
        return self.decode_all(*inputs)[:2]

    def decode_many(
        self,
        embedding: Embedding,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits and scores of B prompts on one embedding; one call each unless the runner takes several.

        Shapes:
            point_coords (B, N, 2), point_labels (B, N), mask_input (B, 1, 256, 256); otherwise as ``decode``
            returns logits (B, M, 256, 256), scores (B, M), both float32
        Raises:
            UsageError: as ``decode``, or no prompt.
        """
        if not len(point_labels):
            raise UsageError("no prompt: give at least one")
        masks = [None] * len(point_labels) if mask_input is None else [one[None] for one in mask_input]
        results = [
            self.decode(embedding, coords[None], labels[None], mask)
            for coords, labels, mask in zip(point_coords, point_labels, masks, strict=True)
        ]
        logits, scores = (np.concatenate(parts) for parts in zip(*results))
        return logits, scores

    def encode_pixels(self, pixels: np.ndarray) -> Embedding:
        """Return the embedding of 8-bit pixels (S, S, 3), padded as an image input gets them.

        Raises:
            UsageError: the runner cannot encode pixels.
        """
        raise UsageError(f"{self.name}: no encoder with an image input")

    def decode_at_source(
        self, embedding: Embedding, point_coords: np.ndarray, point_labels: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (1, M, *size) of a source of ``size`` (height, width), and (1, M, 256, 256) beside them.

        Raises:
            UsageError: the decoder returns none of that size.
        """
        raise UsageError(f"{self.name}: no decoder of masks at the source's size")

    def propose(self, embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (1, K, 4) in pixels of the prompt frame and their scores (1, K), float32.

        Raises:
            UsageError: the model has no proposal head.
        """
        raise UsageError(f"{self.name}: {self.info.name} proposes no boxes")

    def release(self) -> None:
        """Free memory that the next call can fill again; nothing unless a runner keeps some."""
        return

    def replay(self, component: str, part: int = 0) -> tuple[Program, dict[str, Any]] | None:
        """Return the program and the feed of a component's latest call; None when no ``Program`` is executed.

        ``part`` counts the parts of a split component from 0.
        """
        return None

    def require_mask_prompt(self) -> None:
        """Raise UsageError unless the decoder takes a mask prompt."""
        if not self.accepts_mask_input:
            advice = "export it again with --mask-input" if self.mask_prompts else "no export of this model does"
            raise UsageError(f"this decoder takes no mask prompt; {advice}")


RUNNERS: Registry[type[Runner]] = Registry("runner")
"""Name -> runner class; those that execute exported files say their ``formats``."""


def open_runner(source: Any, *, numerics: str | None = None, device: str = "cpu") -> Runner:
    """Return a runner for a loaded model, an exported file, several, or a folder of them.

    ``numerics`` of Core ML packages: ``fp32``, ``fp16`` (default) or ``ane`` in the executor; on a Mac also
    ``native:all``, ``native:cpu_only``, ``native:cpu_and_gpu`` and ``native:cpu_and_ne``.

    Raises:
        UsageError: files that are not an encoder and a decoder of one model.
        RunnerUnavailableError: this machine cannot execute them.
    """
    import_submodules(__name__)
    from edgesam_export.modeling.sam import SamModel

    if isinstance(source, SamModel):
        return RUNNERS["torch"].open_model(source, device=device)
    return runner_of([open_artifact(file) for file in list_files(source)], numerics=numerics, device=device)


def runner_of(artifacts: Iterable[Artifact], *, numerics: str | None = None, device: str = "cpu") -> Runner:
    """Return a runner for files by the contracts that their artifacts carry; see ``open_runner``."""
    import_submodules(__name__)
    artifacts = pick_components(list(artifacts))
    classes = {RUNNERS[name].prefix: RUNNERS[name] for name in RUNNERS if artifacts[0].format in RUNNERS[name].formats}
    prefix, _, rest = (numerics or "").partition(":")
    if prefix and prefix in classes:
        return classes[prefix].open(artifacts, numerics=rest or None, device=device)
    return classes[""].open(artifacts, numerics=numerics, device=device)


def numerics_choices(format: str) -> tuple[str, ...]:
    """Return the arithmetic that files of a format can be opened with, empty when they decide themselves."""
    import_submodules(__name__)
    classes = (RUNNERS[name] for name in RUNNERS)
    return next(one.numerics_choices for one in classes if format in one.formats and not one.prefix)


def chains(artifacts: list[Artifact], load: Callable[[Path], T]) -> dict[str, list[T]]:
    """Return each component's files, loaded by ``load``, in the order in which they run."""
    loaded: dict[str, list[T]] = {}
    for artifact in artifacts:
        loaded.setdefault(artifact.component, []).append(load(artifact.path))
    return loaded


class ArtifactRunner(Runner):
    """An encoder and a decoder file, or one of them, and what else was exported, described by their contracts."""

    def __init__(self, artifacts: Iterable[Artifact]) -> None:
        self.artifacts = tuple(artifacts)
        self.contracts = joined_contracts(self.artifacts)
        maps = embedding_specs(self.contracts)
        self.embedding_names = tuple(spec["name"] for spec in maps)
        self.info = info_of(self.artifacts[0].contract, [spec["shape"] for spec in maps])
        decoder = self.contracts.get("decoder", {})
        self.slots = decoder.get("slots")
        self.fixed_slots = decoder.get("fixed_slots", False)
        self.accepts_mask_input = decoder.get("mask_input", False)
        self.mask_prompts = decoder.get("mask_prompts", True)
        self.candidates = tuple(decoder.get("candidates", ()))
        self.score_kind = decoder.get("score", "iou")
        self.logit_limit = decoder.get("logit_limit")
        self.scores_objects = decoder.get("object_score", False)
        self.outputs_of = {name: name for name in Decoded._fields} | decoder.get("outputs_of", {})
        returned = {spec["name"] for spec in decoder.get("outputs", ())}
        self.at_source = self.outputs_of["masks"] != "masks" and "masks" in returned
        selection = decoder.get("selection", "all")
        self.selects, self.dynamic = selection != "all", selection == DYNAMIC
        self.takes_image = takes_pixels(self.contracts.get("encoder", {}))
        self.proposes = "proposals" in self.contracts

    @abstractmethod
    def run(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component on inputs by name; outputs by name."""

    def execute(self, component: str, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute one component by the contract's names, which the file of another exporter may not have."""
        names: dict[str, str] = self.contracts[component].get("names", {})
        outputs = self.run(component, {names.get(name, name): value for name, value in feed.items()})
        known = {own: name for name, own in names.items()}
        return {known.get(own, own): value for own, value in outputs.items()}

    def encode(self, prepared: PreparedImage) -> Embedding:
        """Return the embedding by the names of the encoder's outputs, float32.

        Raises:
            UsageError: no encoder among the files.
        """
        contract = self.contract_of("encoder")
        outputs = self.execute("encoder", {contract["inputs"][0]["name"]: encoder_input(prepared, contract)})
        return {name: outputs[name].astype(np.float32) for name in self.embedding_names}

    def encode_pixels(self, pixels: np.ndarray) -> Embedding:
        """Return the embedding of an 8-bit padded image (S, S, 3).

        Raises:
            UsageError: no encoder among the files, or one that takes a tensor.
        """
        contract = self.contract_of("encoder")
        if not self.takes_image:
            return super().encode_pixels(pixels)
        spec = contract["inputs"][0]
        outputs = self.execute("encoder", {spec["name"]: pixel_input(pixels, spec)})
        return {name: outputs[name].astype(np.float32) for name in self.embedding_names}

    def decode_all(
        self,
        embedding: Embedding,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None = None,
    ) -> Decoded:
        """Return everything that the file's decoder returns, see ``Runner.decode_all``."""
        outputs = self.decoder_outputs(embedding, point_coords, point_labels, mask_input, None)
        # Low-resolution logits and scores have other names in the contracts of some consumers.
        names = Decoded._fields if self.scores_objects else Decoded._fields[:2]
        masks, *rest = (outputs[self.outputs_of[name]].astype(np.float32) for name in names)
        # Those for several objects at once have one more axis.
        return Decoded(masks.reshape(masks.shape[-4:]), *(part.reshape(part.shape[-2:]) for part in rest))

    def decode_at_source(
        self, embedding: Embedding, point_coords: np.ndarray, point_labels: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (1, M, *size) of a source of ``size`` (height, width), and (1, M, 256, 256) beside them.

        Raises:
            UsageError: the decoder returns none of that size.
        """
        if not self.at_source:
            return super().decode_at_source(embedding, point_coords, point_labels, size)
        outputs = self.decoder_outputs(embedding, point_coords, point_labels, None, size)
        return outputs["masks"].astype(np.float32), outputs[self.outputs_of["masks"]].astype(np.float32)

    def decoder_outputs(
        self,
        embedding: Embedding,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        mask_input: np.ndarray | None,
        size: tuple[int, int] | None,
    ) -> dict[str, np.ndarray]:
        """Return all outputs of the decoder for a source of ``size``, None: one that fills the prompt frame."""
        coords, labels = fill_slots(point_coords, point_labels, self.slots, fixed=self.fixed_slots)
        values = {**match_maps(embedding, self.embedding_names), "point_coords": coords, "point_labels": labels}
        if mask_input is not None:
            self.require_mask_prompt()
        if self.accepts_mask_input:
            empty = np.zeros((1, 1, MASK_SIDE, MASK_SIDE), np.float32)
            values["mask_input"] = empty if mask_input is None else mask_input
            values["has_mask_input"] = np.full(1, mask_input is not None, np.float32)
        values["orig_im_size"] = np.array(size or (self.info.frame.prompt_size,) * 2, np.float32)
        values["input_boxes"] = np.zeros((0, 4), np.float32)  # a box is two points with labels of its own
        if self.contract_of("decoder").get("prompt_encoder"):
            values |= self.execute("prompt_encoder", self.feed("prompt_encoder", values))
        return self.execute("decoder", self.feed("decoder", values))

    def feed(self, component: str, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the inputs of a component by name, as its contract asks for them; ``values`` are by their meaning."""
        contract = self.contract_of(component)
        meanings = {name: meaning for meaning, name in contract.get("inputs_of", {}).items()}
        return {
            spec["name"]: cast(values[meanings.get(spec["name"], spec["name"])], spec) for spec in contract["inputs"]
        }

    def propose(self, embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (1, K, 4) in pixels of the prompt frame and their scores (1, K), float32.

        Raises:
            UsageError: no proposals among the files.
        """
        maps = match_maps(embedding, self.embedding_names)
        outputs = self.execute("proposals", self.feed("proposals", maps))
        return outputs["boxes"].astype(np.float32), outputs["scores"].astype(np.float32)

    def contract_of(self, component: str) -> dict[str, Any]:
        """Return the contract of a component, or say that its file is missing."""
        if component not in self.contracts:
            missing = component.replace("_", " ")
            raise UsageError(f"no {missing} among the files ({self.artifacts[0].path.name}); give it too")
        return self.contracts[component]
