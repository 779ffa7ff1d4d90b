"""The six-input contract of segment-anything's ONNX model, which most programs that run SAM read.

Decoder (segment-anything, ``utils/onnx.py`` and ``scripts/export_onnx_model.py``): ``image_embeddings``,
``point_coords`` (1, N, 2), ``point_labels`` (1, N), ``mask_input`` (1, 1, 256, 256), ``has_mask_input`` (1),
``orig_im_size`` (2) as height, width -> ``masks`` (1, M, H, W) logits at that size, ``iou_predictions`` (1, M),
``low_res_masks`` (1, M, 256, 256); all float32.  Encoder (samexporter, ``--use-preprocess``): ``input_image`` (H, W, 3)
float32 RGB 0..255, longest side at most 1024, neither normalised nor padded -> ``image_embeddings``.

What each program needs:

- samexporter, AnyLabeling and X-AnyLabeling's Segment Anything model: encoder and decoder as they are.  They add SAM's
  padding point (0, 0) with label -1 and show the first mask, so export with ``candidates=1``.
- Programs written for segment-anything's own decoder file: the decoder as it is; they embed the image themselves and
  may take profile ``official``'s encoder for that.
- CVAT's SAM plugin (``cvat-ui/plugins/sam``, ``inference.worker.ts``) feeds the same six inputs, but reads a box as
  outputs ``xtl``, ``ytl``, ``xbr``, ``ybr`` and ``masks`` as bytes, which segment-anything's contract does not have:
  this decoder is no drop-in for it.

``candidates=1`` returns one mask by segment-anything's rule: (number of points - 2.5) * 1000 is added to the score of
token 0, and the best score wins.  So one click and its padding point, or a bare box, choose among tokens 1 to 3; from
three points on, padding included, it is token 0.  Empty slots (label -2) are not counted.  ``candidates=4`` returns all
four tokens.  ``iou_predictions`` holds the family's default score unless ``score`` says otherwise: stability for
EdgeSAM, whose IoU head was not distilled.  ``points`` must be left free.

A network that takes 512 pixels gets the image resized in the graph, from any size.

Unlike files traced by segment-anything's script, the crop of the padding follows ``orig_im_size`` in the graph.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import nn
from torch.nn.functional import interpolate

from edgesam_export.errors import UsageError
from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.wrappers import DecoderForExport, ExactPrompt, NormaliseAndPad
from edgesam_export.profiles import (
    EXAMPLE_POINTS,
    PROFILES,
    Component,
    Profile,
    decoder_details,
    embedding_specs,
    example_prompt,
    prompt_specs,
    refuse_fixed_points,
    refuse_stretched,
    score_meaning,
    unpadded_details,
    unpadded_meaning,
)
from edgesam_export.spec import EMPTY_SLOT, MASK_SIDE, ExportConfig, TensorSpec

__all__ = ["BestMask", "EncoderOfRows", "MasksAtSource", "SixInputDecoder"]

EXAMPLE_SOURCE = (900.0, 1200.0)


class BestMask(nn.Module):
    """The one mask that segment-anything's ONNX model returns; see the top of this module."""

    fp32_formats = ("onnx",)
    weight: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([[1000.0, 0.0, 0.0, 0.0]]))

    def forward(
        self, masks: torch.Tensor, scores: torch.Tensor, point_labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return masks (1, 1, 256, 256) and scores (1, 1) of the best of four, labels (1, N)."""
        count = (1.0 - ExactPrompt.indicator(point_labels, float(EMPTY_SLOT))).sum(1, keepdim=True)
        best = (scores + (count - 2.5) * self.weight).argmax(1)
        return masks.index_select(1, best), scores.index_select(1, best)


class MasksAtSource(nn.Module):
    """Logits at the size of the source image: to the prompt frame, crop the padding, to source size, all bilinear.

    Sizes are computed in double precision, as ``ResizeLongestSide`` of segment-anything does on the host.
    """

    fp32_formats = ("onnx",)

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, logits: torch.Tensor, orig_im_size: torch.Tensor) -> torch.Tensor:
        """Return (1, M, h, w) from (1, M, 256, 256) and (2,) floats h, w."""
        exact = orig_im_size.to(torch.float64)
        inside = torch.floor(exact * (float(self.side) / exact.max()) + 0.5).clamp(min=1.0).to(torch.int64)
        frame = interpolate(logits, (self.side, self.side), mode="bilinear", align_corners=False)
        cropped = frame[:, :, : inside[0], : inside[1]]
        height, width = orig_im_size.to(torch.int64).unbind()
        size = cast(tuple[int, int], (height, width))  # tensors, so that the sizes stay in the graph
        return interpolate(cropped, size, mode="bilinear", align_corners=False)


class SixInputDecoder(nn.Module):
    """Prompt encoder, mask decoder and post-processing behind segment-anything's six inputs."""

    def __init__(self, model: SamModel, *, single: bool, score: str) -> None:
        super().__init__()
        self.decoder = DecoderForExport(model, candidates=4, score=score)
        self.best = BestMask() if single else None
        self.at_source = MasksAtSource(model.info.frame.prompt_size)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return masks (1, M, h, w), scores (1, M) and low-resolution masks (1, M, 256, 256).

        Shapes of the inputs:
            those of ``DecoderForExport.forward``, with a mask; then orig_im_size (2) height, width
        """
        *common, orig_im_size = inputs
        masks, scores = self.decoder(*common)
        if self.best is not None:
            masks, scores = self.best(masks, scores, common[-3])  # labels stand before the two of the mask
        return self.at_source(masks, orig_im_size), scores, masks


class EncoderOfRows(nn.Module):
    """The image encoder for an image as rows of RGB pixels, normalisation and padding in front."""

    def __init__(self, model: SamModel) -> None:
        super().__init__()
        self.prepare = NormaliseAndPad(model.info.frame)
        self.image_encoder = model.image_encoder

    def forward(self, input_image: torch.Tensor) -> torch.Tensor:
        """Return embeddings (1, D, 64, 64) from values 0..255 (H, W, 3)."""
        return self.image_encoder(self.prepare(input_image.permute(2, 0, 1).unsqueeze(0)))


def encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the encoder of unpadded images, channels last."""
    refuse_stretched(model.info, config)
    size = model.info.frame.prompt_size
    meaning = f"RGB 0..255, {unpadded_meaning(model.info)}"
    return Component(
        name="encoder",
        module=EncoderOfRows(model),
        inputs=(TensorSpec(name="input_image", shape=("height", "width", 3), dtype="fp32", description=meaning),),
        outputs=embedding_specs(model.info, "fp32"),
        example=(torch.zeros(size * 3 // 4, size, 3),),
        free_dims={"height": (1, size), "width": (1, size)},
        details=unpadded_details(model.info, "HWC"),
    )


def output_specs(count: int, score: str) -> tuple[TensorSpec, ...]:
    """Return the three outputs of a decoder that returns ``count`` masks."""
    return (
        TensorSpec(
            name="masks",
            shape=(1, count, "mask_height", "mask_width"),
            dtype="fp32",
            description="mask logits at orig_im_size; threshold at 0",
        ),
        TensorSpec(name="iou_predictions", shape=(1, count), dtype="fp32", description=score_meaning(score)),
        TensorSpec(
            name="low_res_masks",
            shape=(1, count, MASK_SIDE, MASK_SIDE),
            dtype="fp32",
            description="mask logits of the prompt frame, for mask_input of the next call",
        ),
    )


def decoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the decoder; its number of points and the size of its masks are free.

    Raises:
        UsageError: ``points`` is fixed, or ``candidates`` is neither 4 nor 1.
    """
    refuse_fixed_points(config)
    if config.candidates not in (4, 1):
        raise UsageError(
            f"profile '{config.profile}' returns 4 masks or the best 1, not {config.candidates};"
            " choose candidates 4 or 1, or use profile 'default'"
        )
    config = replace(config, mask_input=True, precision="fp32")  # float32 outside, whatever the arithmetic
    score = config.score or model.info.default_score
    count = 1 if config.candidates == 1 else 4
    single = count == 1
    source = TensorSpec(
        name="orig_im_size", shape=(2,), dtype="fp32", description="height and width of the source image, pixels"
    )
    return Component(
        name="decoder",
        module=SixInputDecoder(model, single=single, score=score),
        inputs=(
            *embedding_specs(model.info, "fp32"),
            *prompt_specs("points", config, model.info.frame.prompt_size),
            source,
        ),
        outputs=output_specs(count, score),
        example=(*example_prompt(model.info, EXAMPLE_POINTS, config), torch.tensor(EXAMPLE_SOURCE)),
        free_dims={"points": (1, 64)},
        details={
            **decoder_details(None, config, score),
            "candidates": [0, 1, 2, 3],
            "outputs_of": {"masks": "low_res_masks", "scores": "iou_predictions"},
            "selection": "best of the candidates, (points - 2.5) * 1000 added to token 0" if single else "all",
        },
    )


PROFILES.register("sam6")(
    Profile(
        name="sam6",
        summary="segment-anything's six inputs, as samexporter and AnyLabeling expect: masks at source size",
        formats=("onnx",),
        encoder=encoder,
        decoder=decoder,
    )
)
