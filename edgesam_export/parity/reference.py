"""The reference side: outputs of the PyTorch runner, computed once and refused when not finite."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.imaging.geometry import PreparedImage, prepare
from edgesam_export.parity.inputs import pack
from edgesam_export.parity.report import Prompt
from edgesam_export.runners import Embedding, Runner
from edgesam_export.spec import ImageFrame

__all__ = ["Reference", "ReferenceOutputs", "require_finite"]


@dataclass(frozen=True)
class ReferenceOutputs:
    """The reference's outputs for one prompt, and the mask prompt they belong to.

    Shapes: logits (4, 256, 256), scores (4,), mask_input (1, 1, 256, 256)
    """

    logits: np.ndarray
    scores: np.ndarray
    mask_input: np.ndarray | None


class Reference:
    """The PyTorch runner with a cache: each output is computed once whatever the number of candidates."""

    def __init__(self, runner: Runner, frame: ImageFrame) -> None:
        self.runner = runner
        self.frame = frame
        self.prepared: dict[str, PreparedImage] = {}
        self.embeddings: dict[tuple[str, bool], Embedding] = {}
        self.decoded: dict[tuple[str, bool, Prompt], ReferenceOutputs] = {}

    def prepare(self, name: str, image: np.ndarray) -> PreparedImage:
        """Return the image in the candidates' frame."""
        if name not in self.prepared:
            self.prepared[name] = prepare(image, self.frame)
        return self.prepared[name]

    def embedding(self, name: str, from_pixels: bool) -> Embedding:
        """Return the embedding of a prepared image: of its tensor, or of its 8-bit padded pixels.

        An image input gets the pixels. The padding differs: zero after normalisation, or the nearest 8-bit colour.
        """
        key = name, from_pixels
        if key not in self.embeddings:
            prepared = self.prepared[name]
            embedding = self.runner.encode_pixels(prepared.pixels) if from_pixels else self.runner.encode(prepared)
            for array in embedding.values():
                require_finite(array, f"embedding of {name}")
            self.embeddings[key] = embedding
        return self.embeddings[key]

    def proposals(self, name: str, from_pixels: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (1, K, 4) and their scores (1, K) on the reference's own embedding."""
        boxes, scores = self.runner.propose(self.embedding(name, from_pixels))
        return require_finite(boxes, f"boxes of {name}"), require_finite(scores, f"box scores of {name}")

    def outputs(self, name: str, from_pixels: bool, prompt: Prompt) -> ReferenceOutputs:
        """Return the outputs on the reference's own embedding, with exactly as many tokens as the prompt has."""
        key = name, from_pixels, prompt
        if key not in self.decoded:
            mask_input = None
            if prompt.kind == "mask":
                before = self.outputs(name, from_pixels, replace(prompt, kind="point"))
                mask_input = before.logits[before.scores.argmax()][None, None]
            coords, labels = pack(self.prepared[name], prompt, None, self.runner.info.padding_point)
            logits, scores = self.runner.decode(self.embedding(name, from_pixels), coords, labels, mask_input)
            what = f"of {name}, prompt {prompt.kind}"
            self.decoded[key] = ReferenceOutputs(
                require_finite(logits, f"logits {what}")[0], require_finite(scores, f"scores {what}")[0], mask_input
            )
        return self.decoded[key]


def require_finite(array: np.ndarray, what: str) -> np.ndarray:
    """Return the reference's array.

    Raises: UsageError when it is not finite, as nothing can be compared with it.
    """
    if not np.isfinite(array).all():
        raise UsageError(f"the reference's {what} are not finite; check the checkpoint for NaN")
    return array
