"""Key names of other libraries whose parameters are exactly ours under other names, as tables of renamings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

__all__ = ["DIALECTS", "Dialect"]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a library spells our keys: ``renamings`` are applied to a key one after the other, each anywhere in it."""

    name: str | None
    """The library, for messages; None for our own names."""
    renamings: tuple[tuple[str, str], ...] = ()
    """Regular expression and its replacement."""
    repeated: tuple[str, ...] = ()
    """Names that may be there too, of a tensor that is our key ``repeats``."""
    repeats: str = ""

    def spelled(self, key: str) -> str:
        """Return the library's name of our key."""
        return renamed(key, self.renamings)


@cache  # a refusal looks for every model, and most of their keys are the same
def renamed(key: str, renamings: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in renamings:
        key = re.sub(ours, theirs, key)
    return key


OWN = Dialect(name=None)
POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
HEADS = r"output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head"
TRANSFORMERS_DECODER = (
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (f"^{re.escape(POSITIONS)}$", "shared_image_embedding.positional_embedding"),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (rf"\.({HEADS})\.layers\.0\.", r".\1.proj_in."),
    (rf"\.({HEADS})\.layers\.2\.", r".\1.proj_out."),
    (rf"\.({HEADS})\.layers\.1\.", r".\1.layers.0."),
)
"""Prompt encoder and decoder, as transformers' SAM and SAM 2 spell them."""
TRANSFORMERS_TWICE = ("prompt_encoder.shared_embedding.positional_embedding",)
TRANSFORMERS = Dialect(
    name="transformers' SamModel",
    renamings=(
        (r"^image_encoder\.patch_embed\.proj\.", "image_encoder.patch_embed.projection."),
        (r"^image_encoder\.blocks\.", "image_encoder.layers."),
        (r"^image_encoder\.neck\.0\.", "image_encoder.neck.conv1."),
        (r"^image_encoder\.neck\.1\.", "image_encoder.neck.layer_norm1."),
        (r"^image_encoder\.neck\.2\.", "image_encoder.neck.conv2."),
        (r"^image_encoder\.neck\.3\.", "image_encoder.neck.layer_norm2."),
        (r"^image_encoder\.", "vision_encoder."),
        *TRANSFORMERS_DECODER,
    ),
    repeated=TRANSFORMERS_TWICE,
    repeats=POSITIONS,
)
"""Witness: the library itself, tests/checkpoints/test_dialects.py."""
TRANSFORMERS_SAM2 = Dialect(
    name="transformers' Sam2Model",
    renamings=(
        (r"^image_encoder\.trunk\.patch_embed\.proj\.", "image_encoder.trunk.patch_embed.projection."),
        (r"^image_encoder\.trunk\.(blocks\.\d+\.mlp)\.layers\.0\.", r"image_encoder.trunk.\1.proj_in."),
        (r"^image_encoder\.trunk\.(blocks\.\d+\.mlp)\.layers\.1\.", r"image_encoder.trunk.\1.proj_out."),
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^image_encoder\.neck\.(conv_s[01])\.", r"mask_decoder.\1."),
        (r"^image_encoder\.neck\.no_mem_embed$", "no_memory_embedding"),
        (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.lin1\.", r"\1.proj_in."),
        (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.lin2\.", r"\1.proj_out."),
        (r"^(mask_decoder\..*)\.out_proj\.", r"\1.o_proj."),
        *TRANSFORMERS_DECODER,
    ),
    repeated=TRANSFORMERS_TWICE,
    repeats=POSITIONS,
)
"""Witness: the library itself, tests/checkpoints/test_dialects.py."""
SAM2_STYLE = Dialect(
    name="SAM 2's names",
    renamings=(
        (r"^image_encoder\.neck\.(conv_s[01])\.", r"sam_mask_decoder.\1."),
        (r"^image_encoder\.neck\.no_mem_embed$", "no_mem_embed"),
        (r"^prompt_encoder\.", "sam_prompt_encoder."),
        (r"^mask_decoder\.", "sam_mask_decoder."),
        (r"\.transformer\.layers\.(\d+)\.mlp\.lin1\.", r".transformer.layers.\1.mlp.layers.0."),
        (r"\.transformer\.layers\.(\d+)\.mlp\.lin2\.", r".transformer.layers.\1.mlp.layers.1."),
    ),
)
"""Source: sam2/modeling/sam2_base.py and sam2/modeling/sam/transformer.py of facebookresearch/sam2."""
DIALECTS = (OWN, TRANSFORMERS, TRANSFORMERS_SAM2, SAM2_STYLE)
