"""One module per way to execute a model; ``open_runner`` picks the one that fits its source."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesam_export.artifacts import embedding_specs, joined_contracts, list_files, open_artifact, pick_components
from edgesam_export.errors import UsageError
from edgesam_export.export.contract import info_of, queries_of
from edgesam_export.imaging.feeds import (
    cast,
    encoder_input,
    fill_queries,
    fill_slots,
    mask_inputs,
    match_maps,
    pixel_input,
    takes_pixels,
)
from edgesam_export.registry import Registry, import_submodules
from edgesam_export.runners.base import Decoded, Embedding, Runner
from edgesam_export.spec import DYNAMIC, Artifact

if TYPE_CHECKING:
    from edgesam_export.imaging.geometry import PreparedImage

__all__ = [
    "RUNNERS",
    "ArtifactRunner",
    "Decoded",
    "Embedding",
    "Runner",
    "in_fp32",
    "numerics_choices",
    "open_artifact",
    "open_runner",
    "runner_of",
]


RUNNERS: Registry[type[Runner]] = Registry("runner")
"""Name -> runner class; those that execute exported files say their ``formats``."""


def open_runner(source: Any, *, numerics: str | None = None, device: str = "cpu") -> Runner:
    """Return a runner for a loaded model, an exported file, several, or a folder of them.

    ``numerics`` of Apple's formats: ``fp32``, ``fp16`` (default) or ``ane`` in the executor; of Core ML on a Mac also
    ``native:all``, ``native:cpu_only``, ``native:cpu_and_gpu`` and ``native:cpu_and_ne``; of Core AI also ``apple``.

    Raises:
        UsageError: files that are not an encoder and a decoder of one model, or numerics that they do not have.
        RunnerUnavailableError: this machine cannot execute them.
    """
    import_submodules(__name__)
    from edgesam_export.modeling.sam import SamModel

    if isinstance(source, SamModel):
        if numerics not in (None, "fp32"):
            raise UsageError(f"numerics is '{numerics}', but PyTorch computes in FP32; leave --numerics out")
        return RUNNERS["torch"].open_model(source, device=device)
    return runner_of([open_artifact(file) for file in list_files(source)], numerics=numerics, device=device)


def runner_of(artifacts: Iterable[Artifact], *, numerics: str | None = None, device: str = "cpu") -> Runner:
    """Return a runner for files by the contracts that their artifacts carry; see ``open_runner``."""
    import_submodules(__name__)
    artifacts = pick_components(list(artifacts))
    if not artifacts:
        raise UsageError("no exported file to run; give an encoder and a decoder, or their folder")
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
        self.queries = queries_of(decoder)
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
        return self.decode_queries(
            embedding, point_coords, point_labels, [None if mask_input is None else mask_input[0]]
        )

    def decode_queries(
        self,
        embedding: Embedding,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        masks: Sequence[np.ndarray | None],
    ) -> Decoded:
        """Return what one call returns of B prompts, see ``Runner.decode_queries``; the other queries stay empty."""
        outputs = self.decoder_outputs(embedding, point_coords, point_labels, masks, None)
        # Low-resolution logits and scores have other names in the contracts of some consumers.
        names = Decoded._fields if self.scores_objects else Decoded._fields[:2]
        logits, *scores = (outputs[self.outputs_of[name]] for name in names)
        # Those for several objects at once have one more axis.
        parts = logits.reshape(logits.shape[-4:]), *(score.reshape(score.shape[-2:]) for score in scores)
        return Decoded(*(part[: len(point_labels)].astype(np.float32) for part in parts))

    def decode_at_source(
        self, embedding: Embedding, point_coords: np.ndarray, point_labels: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mask logits (1, M, *size) of a source of ``size`` (height, width), and (1, M, 256, 256) beside them.

        Raises:
            UsageError: the decoder returns none of that size.
        """
        if not self.at_source:
            return super().decode_at_source(embedding, point_coords, point_labels, size)
        outputs = self.decoder_outputs(embedding, point_coords, point_labels, [None], size)
        return outputs["masks"].astype(np.float32), outputs[self.outputs_of["masks"]].astype(np.float32)

    def decoder_outputs(
        self,
        embedding: Embedding,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        masks: Sequence[np.ndarray | None],
        size: tuple[int, int] | None,
    ) -> dict[str, np.ndarray]:
        """Return all outputs of the decoder for a source of ``size``, None: one that fills the prompt frame."""
        coords, labels = fill_slots(point_coords, point_labels, self.slots, fixed=self.fixed_slots)
        coords, labels = fill_queries(coords, labels, self.queries)
        values = {**match_maps(embedding, self.embedding_names), "point_coords": coords, "point_labels": labels}
        if any(mask is not None for mask in masks):
            self.require_mask_prompt()
        if self.accepts_mask_input:
            values |= mask_inputs(masks, self.queries)
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


def in_fp32(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contract whose FP16 inputs are FP32 ones, so that feeds are not rounded."""
    inputs = [{**spec, "dtype": "fp32" if spec["dtype"] == "fp16" else spec["dtype"]} for spec in contract["inputs"]]
    return {**contract, "inputs": inputs}
