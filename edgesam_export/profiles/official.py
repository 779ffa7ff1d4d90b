"""Drop-in files for programs written for the Core ML and ONNX files that the EdgeSAM authors released.

What such a program does, and what these files therefore take and return (EdgeSAM, ``scripts/export_coreml_model.py``,
``scripts/export_onnx_model.py`` and the packages released with them):

- encoder: ``image`` (1, 3, 1024, 1024) float32, longest side resized to 1024, normalised, zeros right and below
  -> ``image_embeddings``;
- decoder: ``image_embeddings``, ``point_coords`` (1, N, 2) float32, ``point_labels`` (1, N) float32, N from 1 to 16 in
  Core ML and free in ONNX -> ``scores`` (1, 4), then ``masks`` (1, 4, 256, 256): all four mask tokens, in this order.

Scores are stability scores unless ``score`` says otherwise, as in the released files.  Everything is float32 outside,
whatever the arithmetic inside.  Two things differ on purpose: the neck is bicubic as trained, where the released files
are bilinear, and coordinates keep their FP32 precision.  No padding point is added: a caller who wants SAM's token
sends it as label -1.

``points`` has no effect here: its defaults are accepted and leave N free, any other number is refused.
"""

from __future__ import annotations

import torch
from torch import nn

from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.profiles import PROFILES, Component, Profile
from edgesam_export.profiles.default import (
    LOGITS_SIDE,
    DecoderForExport,
    EncoderForExport,
    decoder_details,
    embedding_specs,
    example_prompt,
    prompt_specs,
)
from edgesam_export.spec import CoreMLConfig, ExportConfig, TensorSpec

__all__ = ["ScoresThenMasks", "refuse_contradictions", "refuse_fixed_points", "scores_then_masks"]

COREML_POINTS = (1, 16)
"""Range of N in the released Core ML decoder."""
EXAMPLE_POINTS = 5


def refuse_fixed_points(config: ExportConfig) -> None:
    """Raise UsageError for a number of points that the caller chose: the profiles of other programs leave it free.

    The default of ``CoreMLConfig`` (8) counts as not chosen.
    """
    if config.points not in (None, type(config).points):
        raise UsageError(
            f"profile '{config.profile}' takes any number of points, not {config.points};"
            " leave points out or use profile 'default'"
        )
    if isinstance(config, CoreMLConfig) and config.functions:
        raise UsageError(
            f"profile '{config.profile}' takes any number of points, not functions for {config.functions};"
            " leave functions out or use profile 'default'"
        )


def refuse_contradictions(config: ExportConfig) -> None:
    """Raise UsageError for options that the tensors of the released decoder have no place for."""
    refuse_fixed_points(config)
    if config.candidates != 4:
        raise UsageError(
            f"profile '{config.profile}' returns four masks, not {config.candidates};"
            " leave candidates out or use profile 'default'"
        )
    if config.mask_input:
        raise UsageError(
            f"profile '{config.profile}' has no mask_input; leave it out or use profile 'default' (ONNX: or 'sam6')"
        )


class ScoresThenMasks(nn.Module):
    """The decoder with its outputs in the order of the released files."""

    def __init__(self, model: SamModel, *, score: str) -> None:
        super().__init__()
        self.decoder = DecoderForExport(model, candidates=4, score=score)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores (1, 4) and masks (1, 4, 256, 256) logits; inputs as in ``DecoderForExport.forward``."""
        masks, scores = self.decoder(*inputs)
        return scores, masks


def scores_then_masks(model: SamModel, config: ExportConfig) -> Component:
    """Return the decoder; its number of points is free.

    Raises:
        UsageError: ``points``, ``functions``, ``candidates`` or ``mask_input`` contradict the released files.
    """
    refuse_contradictions(config)
    score = config.score or "stability"
    meaning = "predicted IoU" if score == "iou" else "stability: count(logit > 1) / count(logit > -1)"
    masks = "logits of the mask tokens 0 to 3 in the prompt frame; upsample, crop, then threshold at 0"
    most = COREML_POINTS if isinstance(config, CoreMLConfig) else None
    return Component(
        name="decoder",
        module=ScoresThenMasks(model, score=score),
        inputs=(*embedding_specs(model.info, "fp32"), *prompt_specs("points", config, model.info.frame.prompt_size)),
        outputs=(
            TensorSpec(name="scores", shape=(1, 4), dtype="fp32", description=f"{meaning}, one per mask"),
            TensorSpec(name="masks", shape=(1, 4, LOGITS_SIDE, LOGITS_SIDE), dtype="fp32", description=masks),
        ),
        example=example_prompt(model.info, EXAMPLE_POINTS, config),
        free_dims={"points": most or (1, 64)},
        details={**decoder_details(None, config, score), "points_range": list(most) if most else None},
    )


def encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the encoder; its input is always the normalised tensor, in Core ML too."""
    size = model.info.frame.size
    meaning = f"RGB, longest side resized to {size}, normalised with the contract's mean and std, zeros right and below"
    return Component(
        name="encoder",
        module=EncoderForExport(model, normalise=False),
        inputs=(TensorSpec(name="image", shape=(1, 3, size, size), dtype="fp32", description=meaning),),
        outputs=embedding_specs(model.info, "fp32"),
        example=(torch.zeros(1, 3, size, size),),
        details={"image_input": False, "input_layout": "NCHW", "input_values": "normalised", "padded_by": "caller"},
    )


PROFILES.register("official")(
    Profile(
        name="official",
        summary="drop-in for the files of the EdgeSAM authors: normalised tensor in, free number of points, four masks",
        formats=("coreml", "onnx"),
        encoder=encoder,
        decoder=scores_then_masks,
    )
)
