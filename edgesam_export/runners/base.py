"""The interface of a runner: one way to execute an encoder and a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.spec import Artifact, ModelInfo

if TYPE_CHECKING:
    from edgesam_export.imaging.geometry import PreparedImage
    from edgesam_export.mil.program import Program
    from edgesam_export.modeling.sam import SamModel

__all__ = ["Decoded", "Embedding", "Runner"]

Embedding = Mapping[str, np.ndarray]
"""An encoder's result for one image: its maps by the names of the contract, float32, in the contract's order."""


class Decoded(NamedTuple):
    """Everything that a decoder returns of B prompts, one or more.

    Shapes: masks (B, M, 256, 256) logits, scores (B, M), float32
    """

    masks: np.ndarray
    scores: np.ndarray
    object_score: np.ndarray | None = None
    """Logit of an object's presence, float32 (B, 1); None of a decoder that does not return it."""

    def of(self, index: int) -> Decoded:
        """Return what belongs to one of the prompts, as a batch of one."""
        at = slice(index, index + 1)
        return Decoded(self.masks[at], self.scores[at], None if self.object_score is None else self.object_score[at])

    @staticmethod
    def joined(results: Sequence[Decoded]) -> Decoded:
        """Return the results of several calls of one decoder as one batch, in their order."""
        objects = [result.object_score for result in results if result.object_score is not None]
        return Decoded(
            np.concatenate([result.masks for result in results]),
            np.concatenate([result.scores for result in results]),
            np.concatenate(objects) if objects else None,
        )


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
    queries: int = 1
    """Prompts that the decoder takes at once; fewer cost the same."""
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

    def under(self, numerics: str) -> Runner:
        """Return a runner of the same files with others of its class's ``numerics_choices``, sharing what was read.

        Raises:
            UsageError: the class has no choice.
        """
        raise UsageError(f"{self.name}: its files decide the numerics")

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
        has_mask: np.ndarray | None = None,
    ) -> Decoded:
        """Return what the decoder returns of B prompts on one embedding, ``queries`` of them in each call.

        Shapes:
            point_coords (B, N, 2), point_labels (B, N), mask_input (B, 1, 256, 256); otherwise as ``decode``
            has_mask bool (B,), which prompts the masks count for; by default all
        Raises:
            UsageError: as ``decode``, or no prompt.
        """
        count = len(point_labels)
        if not count:
            raise UsageError("no prompt: give at least one")
        masks: list[np.ndarray | None] = [None] * count
        if mask_input is not None:
            counted = np.ones(count, bool) if has_mask is None else has_mask
            masks = [mask if has else None for mask, has in zip(mask_input, counted, strict=True)]
        chunks = [slice(start, start + self.queries) for start in range(0, count, self.queries)]
        results = [self.decode_queries(embedding, point_coords[at], point_labels[at], masks[at]) for at in chunks]
        return Decoded.joined(results)

    def decode_queries(
        self,
        embedding: Embedding,
        point_coords: np.ndarray,
        point_labels: np.ndarray,
        masks: Sequence[np.ndarray | None],
    ) -> Decoded:
        """Return what one call of the decoder returns of B prompts, at most ``queries``.

        Shapes: point_coords (B, N, 2), point_labels (B, N); each of ``masks`` (1, 256, 256), or None
        Raises: UsageError as ``decode``.
        """
        (mask,) = masks
        return self.decode_all(embedding, point_coords, point_labels, None if mask is None else mask[None])

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
