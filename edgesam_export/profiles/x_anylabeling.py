"""Drop-in files for the EdgeSAM model of X-AnyLabeling (``EdgeSAMONNX`` in ``auto_labeling/__base__/sam.py``).

What that program does, and what these files therefore take and return:

- encoder: it asks the file for the name of its first input and feeds uint8 RGB (1, 3, H, W), longest side resized to
  1024, neither normalised nor padded; both happen in the graph here;
- decoder: ``image_embeddings``, ``point_coords``, ``point_labels`` as in profile ``official``; outputs are read by
  position, scores then masks.  It recomputes the scores from the logits, adds no padding point and sends a box as
  labels 2 and 3.

A network that takes 512 pixels gets the image resized in the graph, whatever its size. For the others an image larger
than the frame loses what lies beyond its right and lower edge.
"""

from __future__ import annotations

import torch
from torch import nn

from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.wrappers import NormaliseAndPad
from edgesam_export.profiles import (
    PROFILES,
    Component,
    Profile,
    embedding_specs,
    refuse_stretched,
    scores_then_masks,
    unpadded_details,
    unpadded_meaning,
)
from edgesam_export.spec import ExportConfig, TensorSpec

__all__ = ["EncoderOfPixels"]


class EncoderOfPixels(nn.Module):
    """The image encoder with normalisation and padding in front."""

    def __init__(self, model: SamModel) -> None:
        super().__init__()
        self.prepare = NormaliseAndPad(model.info.frame)
        self.image_encoder = model.image_encoder

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return embeddings (1, D, 64, 64) from values 0..255 (1, 3, H, W)."""
        return self.image_encoder(self.prepare(image))


def encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the encoder of unpadded 8-bit images."""
    refuse_stretched(model.info, config)
    size = model.info.frame.prompt_size
    meaning = f"8-bit RGB, {unpadded_meaning(model.info)}"
    return Component(
        name="encoder",
        module=EncoderOfPixels(model),
        inputs=(TensorSpec(name="image", shape=(1, 3, "height", "width"), dtype="uint8", description=meaning),),
        outputs=embedding_specs(model.info, "fp32"),
        example=(torch.zeros(1, 3, size * 3 // 4, size, dtype=torch.uint8),),
        free_dims={"height": (1, size), "width": (1, size)},
        details=unpadded_details(model.info, "NCHW"),
    )


PROFILES.register("x-anylabeling")(
    Profile(
        name="x-anylabeling",
        summary="drop-in for X-AnyLabeling's EdgeSAM: unpadded 8-bit image in, scores then four masks out",
        formats=("onnx",),
        encoder=encoder,
        decoder=scores_then_masks,
    )
)
