"""Modules around a network that make it take and return what a consumer's contract says; profiles are made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgesam_export.errors import UsageError
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.resampling import LongestSide
from edgesam_export.modeling.sam import Maps, SamModel, as_maps
from edgesam_export.modeling.single_mask import SingleMask
from edgesam_export.spec import DYNAMIC, EMPTY_SLOT, EVERY_FORMAT, MASK_SIDE, NOT_A_POINT, ImageFrame

__all__ = [
    "MASKED",
    "DecoderForExport",
    "DecoderOfPrompts",
    "EncoderForExport",
    "EncoderInOrder",
    "ExactPrompt",
    "ExactRatio",
    "Normalise",
    "NormaliseAndPad",
    "PaddedPrompt",
    "ScoresThenMasks",
    "StabilityScore",
    "token_indexes",
]

MASKED = -1.0e4
"""Finite in FP16 (largest 65504) and far below any score: its exponential is exactly zero."""


def token_indexes(candidates: int | str) -> tuple[int, ...]:
    """Return the indexes of the mask tokens, of the decoder's four, that an export returns.

    A ``dynamic`` one returns token 0 or what stands in for it.
    """
    return {4: (0, 1, 2, 3), 3: (1, 2, 3), 1: (0,), DYNAMIC: (0,)}[candidates]


class Normalise(nn.Module):
    """8-bit RGB values to the network's input: subtract the mean, divide by the standard deviation, per channel.

    The nearest integer is subtracted first, which FP16 does exactly, and the rest at the end.  The mean itself is
    off by up to 1/32 in FP16, the same at every pixel; that can be most of the error of a whole FP16 encoder.
    """

    whole: torch.Tensor
    inverse_std: torch.Tensor
    rest: torch.Tensor

    def __init__(self, frame: ImageFrame) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (frame.mean, frame.std))
        self.register_buffer("whole", mean.round())
        self.register_buffer("inverse_std", 1.0 / std)
        self.register_buffer("rest", (mean - mean.round()) / std)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return (B, 3, H, W) normalised from values 0..255 of the same shape."""
        return (image - self.whole) * self.inverse_std - self.rest


class NormaliseAndPad(nn.Module):
    """8-bit RGB values of any size to the network's square input, in FP32: FP16 steps at 255 are 1/8.

    Hosts resize an image to the frame of the prompts. A network that takes a smaller one gets it resized in the graph.
    """

    fp32_formats = ("onnx",)

    def __init__(self, frame: ImageFrame) -> None:
        super().__init__()
        self.size = frame.size
        self.normalise = Normalise(frame)
        self.resize = None if frame.size == frame.prompt_size else LongestSide(frame.size)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (1, 3, S, S) from values 0..255 (1, 3, H, W); zeros right and below.

        H and W are at most S, unless the network's frame is not that of the prompts: then they are free.
        """
        if self.resize is not None:
            resized, inside = self.resize(pixels.to(torch.float32))
            return self.normalise(resized) * inside
        image = self.normalise(pixels.to(torch.float32))
        height, width = image.shape[-2:]
        padded = nn.functional.pad(image, (0, self.size - width, 0, self.size - height))
        # Says the size that the network needs to a reader of the graph, who only sees a padding of computed width.
        return padded.reshape(1, 3, self.size, self.size)


class EncoderForExport(nn.Module):
    """The image encoder, with the normalisation in front when its input is an image."""

    def __init__(self, model: SamModel, *, normalise: bool) -> None:
        super().__init__()
        self.normalise = Normalise(model.info.frame) if normalise else nn.Identity()
        self.image_encoder = model.image_encoder

    def forward(self, image: torch.Tensor) -> Maps:
        """Return the maps of the embedding, the first (1, D, 64, 64), from an image (1, 3, S, S)."""
        return self.image_encoder(self.normalise(image))


class EncoderInOrder(nn.Module):
    """The image encoder with its maps in another order than the model's, for consumers that read them by position."""

    def __init__(self, model: SamModel, order: Sequence[int]) -> None:
        super().__init__()
        self.encoder = EncoderForExport(model, normalise=False)
        self.order = tuple(order)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the maps from a normalised image (1, 3, S, S)."""
        maps = as_maps(self.encoder(image))
        return tuple(maps[index] for index in self.order)


class ExactPrompt(nn.Module):
    """Point tokens in FP32 arithmetic: angles reach 25 rad, where FP16 steps are 1/64 rad.

    Labels become one-hot rows by relu(1 - |label - k|), which is exactly 0 or 1 for integers, so no boolean tensor
    and no gather is needed; each row then picks its vector from a small table.
    """

    fp32_formats = (EVERY_FORMAT,)
    x_row: torch.Tensor
    y_row: torch.Tensor
    table: torch.Tensor
    table_labels: torch.Tensor

    def __init__(self, model: SamModel) -> None:
        super().__init__()
        encoder = model.prompt_encoder
        assert isinstance(encoder, PromptEncoder)
        matrix = encoder.pe_layer.positional_encoding_gaussian_matrix.detach() * (2 * math.pi)  # (2, D / 2)
        self.scale = 2.0 / model.info.frame.prompt_size
        self.register_buffer("x_row", matrix[0].reshape(1, 1, -1).clone())
        self.register_buffer("y_row", matrix[1].reshape(1, 1, -1).clone())
        vectors = [embedding.weight.detach() for embedding in (encoder.not_a_point_embed, *encoder.point_embeddings)]
        self.register_buffer("table", torch.cat(vectors))  # (5, D)
        self.register_buffer("table_labels", torch.tensor([float(NOT_A_POINT), 0.0, 1.0, 2.0, 3.0]).reshape(1, 1, -1))

    def forward(self, point_coords: torch.Tensor, point_labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (B, N, D) and their additive key bias (B, N) from (B, N, 2) pixels and (B, N) labels."""
        label = point_labels.unsqueeze(-1)  # (B, N) -> (B, N, 1)
        tokens = self.encoding(point_coords) * (1.0 - self.indicator(label, float(NOT_A_POINT)))
        tokens = tokens + self.indicator(label, self.table_labels) @ self.table
        return tokens, MASKED * self.indicator(point_labels, float(EMPTY_SLOT))

    def encoding(self, point_coords: torch.Tensor) -> torch.Tensor:
        """Return sines and cosines (B, N, D) of the projected positions (B, N, 2)."""
        centred = (point_coords + 0.5) * self.scale - 1.0
        angle = centred[:, :, 0:1] * self.x_row + centred[:, :, 1:2] * self.y_row
        return torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1)

    def form_for(self, format: str) -> nn.Module | None:
        """Return the form for Core ML and Core AI, None for ONNX.

        ONNX Runtime multiplies FP32 matrices in TF32 on a GPU, whose 10 bits are too few for coordinates.
        """
        return None if format == "onnx" else ProjectedPrompt(self)

    @staticmethod
    def indicator(label: torch.Tensor, value: torch.Tensor | float) -> torch.Tensor:
        """Return 1.0 where ``label`` is ``value``, else 0.0."""
        return torch.relu(1.0 - (label - value).abs())


class ProjectedPrompt(ExactPrompt):
    """The same with all angles from one linear layer: a cosine is the sine of an angle a quarter of a turn further."""

    def __init__(self, prompt: ExactPrompt) -> None:
        nn.Module.__init__(self)
        self.register_buffer("table", prompt.table)
        self.register_buffer("table_labels", prompt.table_labels)
        rows = torch.stack([prompt.x_row.flatten(), prompt.y_row.flatten()], dim=1).double()  # (D / 2, 2)
        offsets = (0.5 * prompt.scale - 1.0) * rows.sum(1)
        self.angles = nn.Linear(2, 2 * len(rows))
        self.angles.weight.data = (prompt.scale * rows).repeat(2, 1).float()
        self.angles.bias.data = torch.cat([offsets, offsets + math.pi / 2]).float()

    def encoding(self, point_coords: torch.Tensor) -> torch.Tensor:
        """Return sines and cosines (B, N, D) of the projected positions (B, N, 2)."""
        return torch.sin(self.angles(point_coords))

    def form_for(self, format: str) -> nn.Module | None:
        """Return None: this is the form."""
        return None


class PaddedPrompt(nn.Module):
    """Point tokens followed by the padding point, for consumers that add none; ``prompt`` makes tokens.

    A prompt of empty slots alone, which stands for a mask alone, has no padding point either.
    """

    fp32_formats = (EVERY_FORMAT,)

    def __init__(self, prompt: nn.Module) -> None:
        super().__init__()
        self.prompt = prompt

    def forward(self, point_coords: torch.Tensor, point_labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (B, N + 1, D) and their key bias (B, N + 1) from (B, N, 2) pixels and (B, N) labels."""
        taken = 1.0 - ExactPrompt.indicator(point_labels, float(EMPTY_SLOT))
        padding = EMPTY_SLOT + (NOT_A_POINT - EMPTY_SLOT) * taken.amax(1, keepdim=True)
        labels = torch.cat([point_labels, padding], dim=1)
        coords = torch.cat([point_coords, torch.zeros_like(point_coords[:, :1])], dim=1)
        padded: tuple[torch.Tensor, torch.Tensor] = self.prompt(coords, labels)
        return padded


class ExactRatio(nn.Module):
    """Ratio of the means of two row profiles, in FP32: a mean over 65536 pixels has more bits than FP16."""

    fp32_formats = (EVERY_FORMAT,)

    def forward(self, inner: torch.Tensor, outer: torch.Tensor) -> torch.Tensor:
        """Return mean(inner) / mean(outer) over the last axis, 0 where both are 0."""
        smallest = 0.5 / (MASK_SIDE * MASK_SIDE)
        return inner.mean(-1) / outer.mean(-1).clamp(min=smallest)


class StabilityScore(nn.Module):
    """Stability score whose counts stay exact although the logits are FP16.

    The share of one row of 256 pixels is a multiple of 1/256, exact in FP16; only the last step is FP32.  A mask
    without any pixel above -1 scores 0.
    Source: Kirillov et al. 2023 (Segment Anything), appendix B; offset 1.0 as in segment_anything's mask generator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ratio = ExactRatio()

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Return (B, M) from logits (B, M, 256, 256)."""
        return self.ratio(self.above(logits, 1.0).mean(-1), self.above(logits, -1.0).mean(-1))

    def above(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Return 1.0 where a logit is above the threshold, else 0.0."""
        return (logits > threshold).to(logits.dtype)

    def form_for(self, format: str) -> nn.Module | None:
        """Return the form for Core ML and Core AI, None for ONNX, whose runtime compares and converts faster."""
        return None if format == "onnx" else SignedStabilityScore()


class SignedStabilityScore(StabilityScore):
    """The same without Boolean tensors and their conversion to numbers."""

    def above(self, logits: torch.Tensor, threshold: float) -> torch.Tensor:
        """Return 1.0 where a logit is above the threshold, else 0.0: the sign of a difference is exact."""
        return torch.relu(torch.sign(logits - threshold))

    def form_for(self, format: str) -> nn.Module | None:
        """Return None: this is the form."""
        return None


class DecoderForExport(nn.Module):
    """Prompt encoder and mask decoder behind one fixed set of tensors.

    A prompt encoder with other rules than SAM's has a method ``exact_prompt() -> nn.Module``, which returns the
    replacement of ``ExactPrompt``; one that knows no mask prompt has no ``mask_downscaling``.

    Raises:
        UsageError: the model's number of prompt slots is fixed, and it is not ``slots`` (None: any number).
    """

    image_pe: torch.Tensor
    no_mask: torch.Tensor

    def __init__(
        self,
        model: SamModel,
        *,
        candidates: int | str,
        score: str,
        slots: int | None = None,
        object_score: bool = False,
    ) -> None:
        super().__init__()
        fixed = model.info.slots
        if fixed not in (None, slots):
            raise UsageError(
                f"{model.info.name} has exactly {fixed} prompt slots, this profile"
                f" {'leaves their number free' if slots is None else f'has {slots}'}; use profile 'default'"
            )
        exact_prompt: Any = getattr(model.prompt_encoder, "exact_prompt", None)
        self.prompt: nn.Module = ExactPrompt(model) if exact_prompt is None else exact_prompt()
        self.mask_decoder = model.mask_decoder
        self.mask_downscaling: nn.Module | None = getattr(model.prompt_encoder, "mask_downscaling", None)
        self.mask_limit = model.prompt_encoder.mask_limit
        self.maps = len(model.info.embedding_shapes)
        self.tokens = token_indexes(candidates)
        self.single = SingleMask() if candidates == DYNAMIC else None
        self.object_score = object_score
        self.stability = StabilityScore() if score == "stability" else None
        self.register_buffer("image_pe", model.prompt_encoder.dense_pe().detach())
        no_mask = model.prompt_encoder.dense(None)[:, :, :1, :1]  # the same at every position
        self.register_buffer("no_mask", no_mask.detach().clone())

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return masks (B, M, 256, 256) logits, scores (B, M) and, where it was asked for, the object score (B, 1).

        Shapes of the inputs, in order:
            the maps of the embedding, the first (1, D, 64, 64); point_coords (B, N, 2) x, y in pixels of the prompt
            frame; point_labels (B, N); mask_input (B, 1, 256, 256) logits and has_mask_input (B), both or neither
        """
        embedding, *further = inputs[: self.maps]
        point_coords, point_labels, *mask = inputs[self.maps :]
        sparse, bias = self.prompt(point_coords, point_labels)
        return self.masks_of(embedding, sparse, self.dense(*mask), bias, further)

    def masks_of(
        self,
        embedding: torch.Tensor,
        sparse: torch.Tensor,
        dense: torch.Tensor,
        bias: torch.Tensor,
        further: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """Return the outputs for a prompt that is encoded already; inputs as in ``MaskDecoder.forward``."""
        prompt = embedding, self.image_pe, sparse, dense, bias, tuple(further)
        logits, iou, *presence = self.mask_decoder(*prompt, object_score=self.object_score)
        if self.single is None:
            first, last = self.tokens[0], self.tokens[-1] + 1
            logits, iou = logits[:, first:last], iou[:, first:last]
        else:
            logits, iou = self.single(logits, iou)
        return logits, iou if self.stability is None else self.stability(logits), *presence

    def dense(self, mask_input: torch.Tensor | None = None, has_mask_input: torch.Tensor | None = None) -> torch.Tensor:
        """Return the map that is added to the embedding: (1, D, 1, 1) without, (B, D, 64, 64) with a mask input."""
        if mask_input is None or has_mask_input is None or self.mask_downscaling is None:
            return self.no_mask
        has = has_mask_input.reshape(-1, 1, 1, 1)
        if self.mask_limit is not None:
            mask_input = mask_input.clamp(-self.mask_limit, self.mask_limit)
        return self.mask_downscaling(mask_input) * has + self.no_mask * (1.0 - has)


class ScoresThenMasks(nn.Module):
    """The decoder with its outputs in the order of the released files."""

    def __init__(self, model: SamModel, *, score: str) -> None:
        super().__init__()
        self.decoder = DecoderForExport(model, candidates=4, score=score)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores (1, 4) and masks (1, 4, 256, 256) logits; inputs as in ``DecoderForExport.forward``."""
        masks, scores = self.decoder(*inputs)
        return scores, masks


class DecoderOfPrompts(nn.Module):
    """The decoder of SAM 2's consumers: any number of prompts at once, padding point in the graph, masks 1 to 3."""

    def __init__(self, model: SamModel, *, score: str, logit_limit: float) -> None:
        super().__init__()
        self.decoder = DecoderForExport(model, candidates=3, score=score)
        self.decoder.prompt = PaddedPrompt(self.decoder.prompt)
        self.logit_limit = logit_limit

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return masks (B, 3, 256, 256), clamped logits, and scores (B, 3).

        Shapes of the inputs:
            those of ``DecoderForExport.forward``, the prompt's with B in place of 1
        """
        masks, scores = self.decoder(*inputs)
        return masks.clamp(-self.logit_limit, self.logit_limit), scores
