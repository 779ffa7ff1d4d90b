"""The side that files are held to: what the PyTorch runner answers, computed once and refused when not finite."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.imaging.geometry import PreparedImage, prepare
from edgesam_export.parity.inputs import pack
from edgesam_export.parity.report import Prompt
from edgesam_export.runners import Embedding

__all__ = ["Reference", "Truth", "trusted"]


@dataclass(frozen=True)
class Truth:
    """The reference's answer to one prompt. Shapes: logits (4, 256, 256), scores (4,), mask_input (1, 1, 256, 256)."""

    logits: np.ndarray
    scores: np.ndarray
    mask_input: np.ndarray | None


class Reference:
    """The PyTorch runner, which computes everything once whatever the number of candidates."""

    def __init__(self, runner: Any, frame: Any) -> None:
        self.runner = runner
        self.frame = frame
        self.prepared: dict[str, PreparedImage] = {}
        self.embeddings: dict[tuple[str, bool], Embedding] = {}
        self.truths: dict[tuple[str, bool, Prompt], Truth] = {}
        self.ranged: set[str] = set()
        """Digests of files whose ranges are known; they do not depend on the numerics of the runner."""

    def prepare(self, name: str, picture: np.ndarray) -> PreparedImage:
        if name not in self.prepared:
            self.prepared[name] = prepare(picture, self.frame)
        return self.prepared[name]

    def embedding(self, name: str, from_pixels: bool) -> Embedding:
        """Embedding of the tensor, or of the 8-bit padded picture that an image input gets.

        Padding differs between both: zero after normalisation, or the nearest 8-bit colour to it.
        """
        key = name, from_pixels
        if key not in self.embeddings:
            prepared = self.prepared[name]
            encode, given = self.runner.encode, prepared
            if from_pixels:
                encode, given = self.runner.encode_pixels, prepared.pixels
            maps = encode(given).items()
            self.embeddings[key] = {part: trusted(value, f"embedding of {name}") for part, value in maps}
        return self.embeddings[key]

    def proposals(self, name: str, from_pixels: bool) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and their scores on the reference's own embedding."""
        boxes, scores = self.runner.propose(self.embedding(name, from_pixels))
        return trusted(boxes, f"boxes of {name}"), trusted(scores, f"box scores of {name}")

    def truth(self, name: str, from_pixels: bool, prompt: Prompt) -> Truth:
        """Answer on the reference's own embedding, with exactly as many tokens as the prompt has."""
        key = name, from_pixels, prompt
        if key not in self.truths:
            mask_input = None
            if prompt.kind == "mask":
                before = self.truth(name, from_pixels, replace(prompt, kind="point"))
                mask_input = before.logits[before.scores.argmax()][None, None]
            coords, labels = pack(self.prepared[name], prompt, None, self.runner.info.padding_point)
            logits, scores = self.runner.decode(self.embedding(name, from_pixels), coords, labels, mask_input)
            what = f"of {name}, prompt {prompt.kind}"
            self.truths[key] = Truth(
                trusted(logits, f"logits {what}")[0], trusted(scores, f"scores {what}")[0], mask_input
            )
        return self.truths[key]


def trusted(array: np.ndarray, what: str) -> np.ndarray:
    """The reference's array, refused when it is not finite: nothing can be judged by it."""
    if not np.isfinite(array).all():
        raise UsageError(f"the reference's {what} are not finite; check the checkpoint for NaN")
    return array
