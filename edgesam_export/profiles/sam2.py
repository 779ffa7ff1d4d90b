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

from edgesam_export.profiles import ONE_PROMPT, PROFILES, Profile, sam2_decoder, sam2_encoder

__all__: list[str] = []

PROFILES.register("sam2")(
    Profile(
        name="sam2",
        summary="samexporter's SAM 2 files, as AnyLabeling expects: three maps, padding point in the graph",
        formats=("onnx",),
        encoder=sam2_encoder,
        decoder=sam2_decoder,
        without=ONE_PROMPT,
    )
)
