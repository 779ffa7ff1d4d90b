"""The SAM 2 files of samexporter 0.5, which AnyLabeling and X-AnyLabeling run (``SegmentAnything2ONNX`` of all three).

Encoder (samexporter, ``export_sam2.py``): ``image`` (1, 3, 1024, 1024) float32, stretched and normalised ->
``high_res_feats_0`` (1, 32, 256, 256), ``high_res_feats_1`` (1, 64, 128, 128), ``image_embed`` (1, 256, 64, 64), in
this order.  Decoder: ``image_embed``, ``high_res_feats_0``, ``high_res_feats_1``, ``point_coords`` (B, N, 2),
``point_labels`` (B, N), ``mask_input`` (B, 1, 256, 256), ``has_mask_input`` (1) -> ``masks`` (B, 3, 256, 256) of the
mask tokens 1 to 3, clamped to -32..32, ``iou_predictions`` (B, 3); all float32.

The programs scale each axis by itself, send a box as labels 2 and 3 and add no padding point: the graph does.  They
show the mask of the best score.  Empty slots (label -2) take no part, which samexporter's files do not know.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.wrappers import DecoderOfPrompts, EncoderInOrder
from edgesam_export.profiles import (
    EXAMPLE_POINTS,
    EXAMPLE_PROMPTS,
    ONE_PROMPT,
    PROFILES,
    Component,
    Profile,
    decoder_details,
    embedding_specs,
    example_prompt,
    padded_by_graph,
    prompt_specs,
    refuse_fixed_points,
    refuse_one_map,
    refuse_other_candidates,
    score_meaning,
)
from edgesam_export.spec import MASK_SIDE, ExportConfig, TensorSpec

__all__ = ["decoder", "encoder"]

MAPS = ("image_embed", "high_res_feats_0", "high_res_feats_1")
"""In the model's order; the encoder returns the first one last."""
LOGIT_LIMIT = 32.0
"""samexporter clamps logits to this magnitude, as SAM 2 does to those that it returns beside full-size masks."""


def encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the encoder of samexporter's SAM 2 files: the finest map comes first, the embedding last.

    Raises:
        UsageError: the model's embedding is not SAM 2's three maps.
    """
    refuse_one_map(model.info, config)
    size, order = model.info.frame.size, (1, 2, 0)
    maps = embedding_specs(model.info, "fp32", MAPS)
    meaning = f"RGB, stretched to {size} x {size}, normalised with the contract's mean and std"
    return Component(
        name="encoder",
        module=EncoderInOrder(model, order),
        inputs=(TensorSpec(name="image", shape=(1, 3, size, size), dtype="fp32", description=meaning),),
        outputs=tuple(maps[index] for index in order),
        example=(torch.zeros(1, 3, size, size),),
        details={"image_input": False, "input_layout": "NCHW", **padded_by_graph(), "embedding": list(MAPS)},
    )


def output_specs(score: str) -> tuple[TensorSpec, ...]:
    """Return the two outputs of the decoder."""
    masks = f"logits of mask tokens 1 to 3, clamped to {LOGIT_LIMIT:g}; to source size, then threshold at 0"
    shape = ("prompts", 3, MASK_SIDE, MASK_SIDE)
    return (
        TensorSpec(name="masks", shape=shape, dtype="fp32", description=masks),
        TensorSpec(name="iou_predictions", shape=("prompts", 3), dtype="fp32", description=score_meaning(score)),
    )


def decoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the decoder of samexporter's SAM 2 files; the numbers of prompts and of their points are free.

    Raises:
        UsageError: the model's embedding is not SAM 2's three maps, or ``points``, ``functions`` or ``candidates``
            contradict samexporter's files.
    """
    refuse_one_map(model.info, config)
    refuse_fixed_points(config)
    refuse_other_candidates(config, 3)
    config = replace(config, mask_input=True, precision="fp32", candidates=3)
    score = config.score or model.info.default_score
    prompt = prompt_specs("points", config, model.info.frame.prompt_size)
    maps, examples = embedding_specs(model.info, "fp32", MAPS), example_prompt(model.info, EXAMPLE_POINTS, config)
    several = [example.expand(EXAMPLE_PROMPTS, *example.shape[1:]) for example in examples[len(maps) : -1]]
    return Component(
        name="decoder",
        module=DecoderOfPrompts(model, score=score, logit_limit=LOGIT_LIMIT),
        inputs=(*maps, *(replace(spec, shape=("prompts", *spec.shape[1:])) for spec in prompt[:-1]), prompt[-1]),
        outputs=output_specs(score),
        example=(*examples[: len(maps)], *several, examples[-1]),
        free_dims={"prompts": (1, 64), "points": (1, 64)},
        details={
            **decoder_details(None, config, score),
            **padded_by_graph(),
            "embedding": list(MAPS),
            "logit_limit": LOGIT_LIMIT,
            "outputs_of": {"scores": "iou_predictions"},
        },
    )


PROFILES.register("sam2")(
    Profile(
        name="sam2",
        summary="samexporter's SAM 2 files, as AnyLabeling expects: three maps, padding point in the graph",
        formats=("onnx",),
        encoder=encoder,
        decoder=decoder,
        without=ONE_PROMPT,
    )
)
