"""Files for ``Sam2Model`` and ``EdgeTamModel`` of transformers.js 3.8 and later, as onnx-community publishes them.

What that library does (``modeling_sam2.js``, ``session.js``, ``image_processing_sam.js``), and what is here therefore:

- it reads ``config.json`` (the kind of model, and how many maps there are) and ``preprocessor_config.json``, and looks
  in ``onnx/`` for ``vision_encoder`` and ``prompt_encoder_mask_decoder`` with the suffix of a ``dtype``: none for
  ``fp32``, ``_fp16`` for ``fp16``.  ``config.json`` names the one exported last, which is what is loaded without a
  ``dtype``; the library's own default in a browser is ``q8``, which is not made;
- encoder: ``pixel_values`` (1, 3, 1024, 1024) float32, stretched, normalised -> ``image_embeddings.0`` (1, 32, 256,
  256), ``image_embeddings.1`` (1, 64, 128, 128), ``image_embeddings.2`` (1, 256, 64, 64);
- decoder: ``input_points`` (1, P, N, 2) in pixels of that square, ``input_labels`` int64 (1, P, N), ``input_boxes``
  (1, M, 4) -> ``iou_scores`` (1, P, 3), ``pred_masks`` (1, P, 3, 256, 256) logits of the mask tokens 1 to 3,
  ``object_score_logits`` (1, P, 1).  Each of P prompts has N points, and a box if M is P; without boxes M is 0.  Of
  boxes alone the library makes points (1, 1, 0, 2) and labels (1, M, 0).

The padding point is added in the graph.  Labels below -1 (the library's own filling is -10) are empty and take no part;
in the files of onnx-community they do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.wrappers import DecoderForExport, PaddedPrompt
from edgesam_export.profiles import (
    EXAMPLE_POINTS,
    EXAMPLE_PROMPTS,
    FINEST_FIRST,
    ONE_PROMPT,
    PROFILES,
    Component,
    Profile,
    decoder_details,
    embedding_specs,
    finest_map_first,
    padded_by_graph,
    refuse_fixed_points,
    refuse_one_map,
    refuse_other_candidates,
    score_meaning,
)
from edgesam_export.spec import EMPTY_SLOT, MASK_SIDE, ExportConfig, ModelInfo, TensorSpec

__all__ = ["DecoderOfPointsAndBoxes"]

MAPS = ("image_embeddings.2", "image_embeddings.0", "image_embeddings.1")
"""In the model's order."""
SUFFIXES = {"fp32": "", "fp16": "_fp16"}
TOKENS = slice(1, 4)


class DecoderOfPointsAndBoxes(nn.Module):
    """Prompt encoder and mask decoder for several prompts of points, boxes, or both."""

    def __init__(self, model: SamModel, *, score: str) -> None:
        super().__init__()
        self.decoder = DecoderForExport(model, candidates=3, score=score)
        self.prompt = PaddedPrompt(self.decoder.prompt)

    def forward(
        self,
        input_points: torch.Tensor,
        input_labels: torch.Tensor,
        input_boxes: torch.Tensor,
        fine: torch.Tensor,
        middle: torch.Tensor,
        embedding: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return scores (1, P, 3), logits (1, P, 3, 256, 256) and the object's score (1, P, 1).

        Shapes:
            input_points (1, P or 1, N, 2) pixels of the prompt frame; input_labels (1, P, N) integers
            input_boxes (1, P or 0, 4); fine, middle, embedding: the maps of one image
        """
        labels = input_labels[0].to(torch.float32).clamp(min=float(EMPTY_SLOT))
        points = input_points[0].expand(labels.shape[0], -1, -1)
        corners = input_boxes.reshape(labels.shape[0], -1, 2)  # two for each prompt, or none
        corner_labels = torch.ones_like(corners[:, :, 0]).cumsum(1) + 1.0  # 2 and 3
        sparse, bias = self.prompt(torch.cat([corners, points], dim=1), torch.cat([corner_labels, labels], dim=1))
        prompt = embedding, self.decoder.image_pe, sparse, self.decoder.no_mask, bias, (fine, middle)
        logits, scores, presence = self.decoder.mask_decoder(*prompt, object_score=True)
        logits, scores = logits[:, TOKENS], scores[:, TOKENS]
        if self.decoder.stability is not None:
            scores = self.decoder.stability(logits)
        return scores.unsqueeze(0), logits.unsqueeze(0), presence.unsqueeze(0)


def refuse_options(model: SamModel, config: ExportConfig) -> None:
    """Raise UsageError for a model of other maps, and for options that the library's files do not provide for."""
    refuse_one_map(model.info, config)
    refuse_fixed_points(config)
    refuse_other_candidates(config, 3)
    if config.mask_input or not model.mask_decoder.scores_objects:
        what = "no mask_input" if config.mask_input else f"an object score, which {model.info.name} has not"
        raise UsageError(f"profile '{config.profile}' has {what}; use profile 'default' or 'sam2'")


def facts() -> dict[str, Any]:
    """Return the contract's facts that both files share."""
    return {**padded_by_graph(), "embedding": list(MAPS)}


def encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the vision encoder; raises UsageError for options that the library's files do not provide for."""
    refuse_options(model, config)
    stem = f"vision_encoder{SUFFIXES[config.precision]}"
    return replace(finest_map_first(model, "pixel_values", MAPS), file_stem=stem)


def prompt_inputs(side: int) -> tuple[TensorSpec, ...]:
    """Return the inputs that describe prompts."""
    where = f"pixels of the {side} x {side} square"
    labels = "1 foreground, 0 background, 2 and 3 box corners, -1 padding point, below: empty"
    return (
        TensorSpec(name="input_points", shape=(1, "point_prompts", "points", 2), dtype="fp32", description=where),
        TensorSpec(name="input_labels", shape=(1, "prompts", "points"), dtype="int64", description=labels),
        TensorSpec(name="input_boxes", shape=(1, "boxes", 4), dtype="fp32", description=f"x0, y0, x1, y1, {where}"),
    )


def output_specs(score: str) -> tuple[TensorSpec, ...]:
    """Return the three outputs of the decoder."""
    masks, presence = "logits of mask tokens 1 to 3; to source size, then > 0", "above 0 where there is an object"
    shape = (1, "prompts", 3, MASK_SIDE, MASK_SIDE)
    return (
        TensorSpec(name="iou_scores", shape=(1, "prompts", 3), dtype="fp32", description=score_meaning(score)),
        TensorSpec(name="pred_masks", shape=shape, dtype="fp32", description=masks),
        TensorSpec(name="object_score_logits", shape=(1, "prompts", 1), dtype="fp32", description=presence),
    )


def decoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the decoder; the numbers of prompts, points and boxes are free."""
    score = config.score or model.info.default_score
    maps = embedding_specs(model.info, "fp32", MAPS)
    ordered = tuple(maps[index] for index in FINEST_FIRST)
    examples = tuple(torch.zeros(model.info.embedding_shapes[index]) for index in FINEST_FIRST)
    prompts = (
        torch.full((1, EXAMPLE_PROMPTS, EXAMPLE_POINTS, 2), 100.0),
        torch.ones(1, EXAMPLE_PROMPTS, EXAMPLE_POINTS, dtype=torch.int64),
        torch.full((1, EXAMPLE_PROMPTS, 4), 100.0),
    )
    return Component(
        name="decoder",
        module=DecoderOfPointsAndBoxes(model, score=score),
        inputs=(*prompt_inputs(model.info.frame.prompt_size), *ordered),
        outputs=output_specs(score),
        example=(*prompts, *examples),
        free_dims=dict.fromkeys(("point_prompts", "prompts", "points", "boxes"), (0, 64)),
        details={
            **decoder_details(None, config, score),
            **facts(),
            "candidates": [1, 2, 3],
            "inputs_of": {"point_coords": "input_points", "point_labels": "input_labels"},
            "object_score": True,
            "outputs_of": {"masks": "pred_masks", "scores": "iou_scores", "object_score": "object_score_logits"},
        },
        file_stem=f"prompt_encoder_mask_decoder{SUFFIXES[config.precision]}",
    )


def companions(info: ModelInfo, config: ExportConfig) -> dict[str, Any]:
    """Return the documents that the library reads first: the kind of model, and how an image is prepared."""
    kind, name = ("edgetam", "EdgeTamModel") if info.family == "edgetam" else ("sam2", "Sam2Model")
    square = {"height": info.frame.size, "width": info.frame.size}
    return {
        "config.json": {
            "architectures": [name],
            "model_type": kind,
            "transformers.js_config": {"dtype": config.precision},
            "vision_config": {"num_feature_levels": len(info.embedding_shapes)},
        },
        "preprocessor_config.json": {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_pad": False,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [round(value / 255, 6) for value in info.frame.mean],
            "image_processor_type": "Sam2ImageProcessorFast",
            "image_std": [round(value / 255, 6) for value in info.frame.std],
            "pad_size": square,
            "processor_class": "Sam2Processor",
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": square,
        },
    }


PROFILES.register("transformers-js")(
    Profile(
        name="transformers-js",
        summary="folder of a model for transformers.js: config.json, onnx/vision_encoder, prompts of points and boxes",
        formats=("onnx",),
        encoder=encoder,
        decoder=decoder,
        without=ONE_PROMPT,
        folder="onnx",
        companions=companions,
    )
)
