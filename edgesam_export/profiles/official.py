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

from edgesam_export.modeling.sam import SamModel
from edgesam_export.modeling.wrappers import EncoderForExport
from edgesam_export.profiles import PROFILES, Component, Profile, embedding_specs, refuse_stretched, scores_then_masks
from edgesam_export.spec import ExportConfig, TensorSpec

__all__ = ["encoder"]


def encoder(model: SamModel, config: ExportConfig) -> Component:
    """Return the encoder; its input is always the normalised tensor, in Core ML too."""
    refuse_stretched(model.info, config)
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
