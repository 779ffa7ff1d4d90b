"""The reference side: outputs of the PyTorch runner and the noise of half precision on them, each computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.imaging.geometry import PreparedImage, prepare
from edgesam_export.parity.inputs import pack
from edgesam_export.parity.noise import Noise, side_by_side, spread
from edgesam_export.parity.outputs import enlarged
from edgesam_export.parity.report import Owner, Prompt
from edgesam_export.runners import Decoded, Embedding, Runner
from edgesam_export.spec import MASK_SIDE, ImageFrame

__all__ = ["Reference", "ReferenceOutputs", "image_extent", "require_finite"]

LARGE = 20_000_000
"""Parameters of a model whose encoder may take gigabytes for an image, so that one runs at a time."""


@dataclass(frozen=True)
class ReferenceOutputs:
    """The reference's outputs for one prompt, and the mask prompt they belong to.

    Shapes: logits (4, 256, 256), scores (4,), mask_input (1, 1, 256, 256), object_score (1,)
    """

    logits: np.ndarray
    scores: np.ndarray
    mask_input: np.ndarray | None
    object_score: np.ndarray | None = None
    """None of a model that has none."""


class Reference:
    """The PyTorch runner with a cache: each output is computed once whatever the number of candidates.

    ``noisy`` are samples of the same model in half precision; an output that is not finite is refused.
    """

    def __init__(self, runner: Runner, frame: ImageFrame, noisy: Sequence[Runner] = ()) -> None:
        self.runner = runner
        self.frame = frame
        self.samples = [Reference(sample, frame) for sample in noisy]
        model = runner.model
        self.alongside = model is not None and sum(part.numel() for part in model.parameters()) < LARGE
        """Whether samples may run at once."""
        self.prepared: dict[str, PreparedImage] = {}
        self.embeddings: dict[tuple[str, bool], Embedding] = {}
        self.decoded: dict[tuple[str, bool, Prompt], ReferenceOutputs] = {}
        self.masks: dict[tuple[str, bool, Prompt], np.ndarray] = {}
        self.noises: dict[tuple[str, bool, Prompt, Owner], Noise] = {}

    def prepare(self, name: str, image: np.ndarray) -> PreparedImage:
        """Return the image in the candidates' frame."""
        if name not in self.prepared:
            self.prepared[name] = prepare(image, self.frame)
            for sample in self.samples:
                sample.prepared[name] = self.prepared[name]
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
            found = self.runner.decode_all(self.embedding(name, from_pixels), coords, labels, mask_input)
            what = f"of {name}, prompt {prompt.kind}"
            self.decoded[key] = ReferenceOutputs(
                require_finite(found.masks, f"logits {what}")[0],
                require_finite(found.scores, f"scores {what}")[0],
                mask_input,
                None if found.object_score is None else require_finite(found.object_score, f"object score {what}")[0],
            )
        return self.decoded[key]

    def enlarged_masks(self, name: str, from_pixels: bool, prompt: Prompt) -> np.ndarray:
        """Return the masks of all tokens in the prompt frame, without the padding. Shapes: bool (4, H, W)"""
        key = name, from_pixels, prompt
        if key not in self.masks:
            rows, columns = image_extent(self.prepared[name])
            self.masks[key] = enlarged(self.outputs(*key).logits[:, :rows, :columns]) > 0
        return self.masks[key]

    def noise(self, name: str, from_pixels: bool, prompt: Prompt, owner: Owner) -> Noise | None:
        """Return what half precision costs on these outputs, None without samples.

        On the reference's embedding the decoder's noise alone, on the sample's own the encoder's too.
        """
        if not self.samples:
            return None
        key = name, from_pixels, prompt, owner
        if key not in self.noises:
            exact = self.outputs(name, from_pixels, prompt)
            coords, labels = pack(self.prepared[name], prompt, None, self.runner.info.padding_point)

            def decoded(sample: Reference) -> Decoded:
                embedding = (sample if owner == "own" else self).embedding(name, from_pixels)
                return sample.runner.decode_all(embedding, coords, labels, exact.mask_input)

            found = side_by_side(decoded, self.samples) if self.alongside else list(map(decoded, self.samples))
            pairs = [(require_finite(one.masks, "logits")[0], require_finite(one.scores, "scores")[0]) for one in found]
            noise = spread(exact.logits, exact.scores, pairs, image_extent(self.prepared[name]))
            self.noises[key] = replace(noise, object_score=presence_noise(exact, found))
        return self.noises[key]


def presence_noise(exact: ReferenceOutputs, samples: Sequence[Decoded]) -> float:
    """Return the root mean square error of the samples' object scores; 0 of a model without."""
    if exact.object_score is None:
        return 0.0
    errors = [one.object_score - exact.object_score for one in samples if one.object_score is not None]
    return float(np.sqrt(np.mean(np.square(errors))))


def image_extent(prepared: PreparedImage) -> tuple[int, int]:
    """Return the rows and columns of the 256x256 logits that show the image, not its padding."""
    height, width = (-(-side * MASK_SIDE // prepared.frame.prompt_size) for side in prepared.prompt_extent)
    return height, width


def require_finite(array: np.ndarray, what: str) -> np.ndarray:
    """Return the reference's array.

    Raises: UsageError when it is not finite, as nothing can be compared with it.
    """
    if not np.isfinite(array).all():
        raise UsageError(f"the reference's {what} are not finite; check the checkpoint for NaN")
    return array
