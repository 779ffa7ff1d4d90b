"""Drop-in packages for apple/coreml-sam2.1-* and the apps written for them: Apple's file and feature names.

What such an app does (sam2-studio; the classes that Xcode generates from the packages are its interface):

- ``SAM2_1<Size>ImageEncoderFLOAT16``: ``image``, RGB stretched to 1024 x 1024 -> ``image_embedding``, ``feats_s0``,
  ``feats_s1``;
- ``SAM2_1<Size>PromptEncoderFLOAT16``: ``points`` (1, N, 2) in pixels of that square, ``labels`` (1, N), N from 1 to 16
  -> ``sparse_embeddings``, ``dense_embeddings``;
- ``SAM2_1<Size>MaskDecoderFLOAT16``: ``image_embedding``, ``sparse_embedding``, ``dense_embedding``, ``feats_s0``,
  ``feats_s1`` -> ``low_res_masks`` (1, 3, 256, 256) logits of the mask tokens 1 to 3, ``scores`` (1, 3).

Outputs are FP16.  What differs on purpose: mean and standard deviation are those of each channel, the position table is
bicubic, coordinates keep FP32, and the decoder takes one number of tokens instead of fourteen: the prompt encoder fills
up with tokens of zeros, which take no part.  So it may be any number of points up to ``points`` (16 unless chosen), and
15 and 16 work too.  An app that fills up itself sends label -2; -1 is the padding point, which takes part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.wrappers import MASKED, DecoderForExport, EncoderForExport, ExactPrompt, PaddedPrompt
from edgesam_export.profiles import (
    COREML_POINTS,
    PROFILES,
    Component,
    Profile,
    decoder_details,
    embedding_specs,
    padded_by_graph,
    refuse_one_map,
    refuse_other_candidates,
    score_meaning,
)
from edgesam_export.spec import EMPTY_SLOT, MASK_SIDE, CoreMLConfig, ExportConfig, ModelInfo, TensorSpec

__all__ = ["DecoderOfTokens", "TokensOfPrompt"]

MAPS = ("image_embedding", "feats_s0", "feats_s1")
TOKENS = ("sparse_embeddings", "dense_embeddings")
"""Outputs of the prompt encoder; the decoder's inputs of that meaning have no "s" at the end."""
SIZES = {"tiny": "Tiny", "small": "Small", "base_plus": "BasePlus", "large": "Large"}
CERTAIN = 1000.0
"""Times the largest magnitude in a token, which for a point is at least 0.5: sines and cosines and a vector."""


class TokensOfPrompt(nn.Module):
    """Prompt encoder without a mask prompt: tokens of a fixed number of slots, zeros for those that are empty."""

    fp32_formats = ("coreml",)
    no_points: torch.Tensor
    no_labels: torch.Tensor
    no_mask: torch.Tensor

    def __init__(self, model: SamModel, slots: int) -> None:
        super().__init__()
        self.prompt = PaddedPrompt(ExactPrompt(model))
        self.slots = slots
        self.register_buffer("no_points", torch.zeros(1, slots, 2))
        self.register_buffer("no_labels", torch.full((1, slots), float(EMPTY_SLOT)))
        no_mask = model.prompt_encoder.dense(None)
        self.grid = no_mask.shape[-2:]
        self.register_buffer("no_mask", no_mask[:, :, :1, :1].detach().clone())  # the same at every position

    def forward(self, points: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (1, slots + 1, D) and the map (1, D, 64, 64) that stands for no mask.

        Shapes:
            points (1, N, 2) pixels of the prompt frame; labels (1, N); N at most ``slots``
        """
        filled_points = torch.cat([points, self.no_points], dim=1)[:, : self.slots]
        filled_labels = torch.cat([labels, self.no_labels], dim=1)[:, : self.slots]
        # Says to a reader of the graph that their number is fixed from here on.
        filled_points, filled_labels = filled_points.reshape(1, self.slots, 2), filled_labels.reshape(1, self.slots)
        tokens, bias = self.prompt(filled_points, filled_labels)
        taken = 1.0 - bias.reshape(1, -1, 1) / MASKED
        # Of an operation, since a constant alone may not be an output.
        no_mask = self.no_mask + 0.0 * filled_labels[:, :1].reshape(1, 1, 1, 1)
        return tokens * taken, no_mask.expand(-1, -1, *self.grid)


class DecoderOfTokens(nn.Module):
    """Mask decoder that gets tokens; those of zeros take no part in anything."""

    def __init__(self, model: SamModel, *, score: str) -> None:
        super().__init__()
        self.decoder = DecoderForExport(model, candidates=3, score=score)

    def forward(
        self,
        image_embedding: torch.Tensor,
        sparse_embedding: torch.Tensor,
        dense_embedding: torch.Tensor,
        *further: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Return masks (1, 3, 256, 256), logits, and scores (1, 3).

        Shapes:
            image_embedding, dense_embedding (1, D, 64, 64); sparse_embedding (1, T, D)
        """
        taken = (sparse_embedding.abs().amax(2) * CERTAIN).clamp(min=0.0, max=1.0)  # (1, T)
        bias = MASKED * (1.0 - taken)
        masks, scores = self.decoder.masks_of(image_embedding, sparse_embedding, dense_embedding, bias, further)
        return masks, scores


def refuse_options(info: ModelInfo, config: ExportConfig) -> None:
    """Raise UsageError for a model of other maps, and for options that Apple's packages do not provide for."""
    refuse_one_map(info, config)
    refuse_other_candidates(config, 3)
    chosen = {"mask_input": config.mask_input, f"precision {config.precision}": config.precision != "fp16"}
    if isinstance(config, CoreMLConfig):
        chosen |= {"tensor_input": config.tensor_input, "split_encoder": config.split_encoder}
        chosen["functions"] = bool(config.functions)
    for option, given in chosen.items():
        if given:
            raise UsageError(
                f"profile '{config.profile}' has Apple's tensors, which know no {option};"
                f" leave it out or use profile 'default'"
            )


def file_stem(info: ModelInfo, part: str) -> str:
    """Return the name of Apple's package of a model, ``SAM2_1TinyImageEncoderFLOAT16``, or one of that kind."""
    family, _, size = info.name.partition("_hiera_")
    model = {"sam2.1": "SAM2_1", "sam2": "SAM2", "edgetam": "EdgeTAM"}.get(family, info.name)
    return f"{model}{SIZES.get(size, '')}{part}FLOAT16"


def facts() -> dict[str, Any]:
    """Return the contract's facts that all three packages share."""
    return {**padded_by_graph(), "embedding": list(MAPS)}


def encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the image encoder; raises UsageError for options that Apple's packages do not provide for."""
    refuse_options(model.info, config)
    size = model.info.frame.size
    return Component(
        name="encoder",
        module=EncoderForExport(model, normalise=True),
        inputs=(
            TensorSpec(
                name="image",
                shape=(1, 3, size, size),
                dtype="image",
                description=f"RGB image, stretched to {size} x {size}",
            ),
        ),
        outputs=embedding_specs(model.info, "fp16", MAPS),
        example=(torch.zeros(1, 3, size, size),),
        details={"image_input": True, **facts()},
        file_stem=file_stem(model.info, "ImageEncoder"),
    )


def slots_of(config: ExportConfig) -> int:
    """Return the largest number of points; the default of an export counts as not chosen."""
    most = COREML_POINTS[1]
    return most if config.points in (None, type(config).points) else config.points


def token_specs(model: SamModel, slots: int, names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
    """Return the tensors between prompt encoder and decoder, called ``names``."""
    first = model.info.embedding_shapes[0]
    shapes = ((1, slots + 1, first[1]), first)
    meanings = ("tokens of the points and the padding point, zeros for empty slots", "no mask prompt")
    return tuple(
        TensorSpec(name=name, shape=shape, dtype="fp16", description=meaning)
        for name, shape, meaning in zip(names, shapes, meanings)
    )


def prompt_encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the prompt encoder; its number of points is free up to ``points``."""
    refuse_one_map(model.info, config)
    slots, side = slots_of(config), model.info.frame.prompt_size
    return Component(
        name="prompt_encoder",
        module=TokensOfPrompt(model, slots),
        inputs=(
            TensorSpec(
                name="points",
                shape=(1, "points", 2),
                dtype="fp32",
                description=f"x, y in pixels of the {side} x {side} square",
            ),
            TensorSpec(
                name="labels",
                shape=(1, "points"),
                dtype="fp32",
                description="1 foreground, 0 background, 2 and 3 box corners, -2 empty; padding point added inside",
            ),
        ),
        outputs=token_specs(model, slots, TOKENS),
        example=(torch.full((1, 3, 2), 100.0), torch.ones(1, 3)),
        free_dims={"points": (COREML_POINTS[0], slots)},
        details={"slots": slots, **facts(), "inputs_of": {"point_coords": "points", "point_labels": "labels"}},
        file_stem=file_stem(model.info, "PromptEncoder"),
    )


def decoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the mask decoder, which takes the tokens of the prompt encoder."""
    refuse_one_map(model.info, config)
    slots = slots_of(config)
    score = config.score or model.info.default_score
    first, *further = embedding_specs(model.info, "fp16", MAPS)
    tokens = token_specs(model, slots, tuple(name.removesuffix("s") for name in TOKENS))
    inputs = (first, *tokens, *further)
    masks = "logits of mask tokens 1 to 3; bilinear to source size, then threshold at 0"
    return Component(
        name="decoder",
        module=DecoderOfTokens(model, score=score),
        inputs=inputs,
        outputs=(
            TensorSpec(name="low_res_masks", shape=(1, 3, MASK_SIDE, MASK_SIDE), dtype="fp16", description=masks),
            TensorSpec(name="scores", shape=(1, 3), dtype="fp16", description=score_meaning(score)),
        ),
        example=tuple(torch.ones([int(size) for size in spec.shape]) for spec in inputs),
        details={
            **decoder_details(slots, config, score),
            **facts(),
            "candidates": [1, 2, 3],
            "prompt_encoder": True,
            "inputs_of": {name: name.removesuffix("s") for name in TOKENS},
            "outputs_of": {"masks": "low_res_masks"},
        },
        file_stem=file_stem(model.info, "MaskDecoder"),
    )


PROFILES.register("apple-sam2")(
    Profile(
        name="apple-sam2",
        summary="drop-in for apple/coreml-sam2.1-*: image encoder, prompt encoder and mask decoder with Apple's names",
        formats=("coreml",),
        encoder=encoder,
        prompt_encoder=prompt_encoder,
        decoder=decoder,
    )
)
