"""LiteMedSAM: MobileSAM's network on images of 256 x 256 pixels, distilled from MedSAM for medical images and boxes.

Ma et al. 2024, "Segment anything in medical images", https://arxiv.org/abs/2304.12306, and its branch LiteMedSAM,
https://github.com/bowang-lab/MedSAM/tree/LiteMedSAM

The image is embedded at its own size, by 1x1 convolutions, so that the four stages of TinyViT-5M see the grids of
MobileSAM: 256, 128, 64 and 64 cells. The logits have the size of the image frame, which is the prompt frame too.

Pixels are scaled to 0..1 and nothing else. Upstream's training data were 8-bit images stretched to 0..255 by their
own percentiles, then again by minimum and maximum after resizing, which for such an image is a division by 255.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgesam_export.families import register_model
from edgesam_export.families.mobile_sam import STAGES, PatchEmbedding, embedding_neck, stages_on
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ImageFrame, ModelInfo

__all__ = ["LiteMedSamEncoder"]

SIZE = 256


class LiteMedSamEncoder(nn.Module):
    """TinyViT-5M whose patches are single pixels, without a classifier, and SAM's neck."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(STAGES[0].width, kernel=1, stride=1)
        self.layers = stages_on(size)
        self.neck = embedding_neck(STAGES[-1].width)

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image.

        Shapes:
            image (B, 3, S, S), 0..1; returns (B, 256, S/4, S/4)
        """
        x = self.patch_embed(image)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)


@register_model(
    ModelInfo(
        name="lite_medsam",
        family="lite_medsam",
        frame=ImageFrame(size=SIZE, prompt_size=SIZE, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)),
        default_score="iou",
        description="LiteMedSAM, TinyViT-5M at 256 pixels, for boxes on medical images",
        trained_prompts=("box",),
        image_domain="medical images, grey or colour, scaled to 0..255 by their own percentiles",
        sample_images="phantoms",
    )
)
def build(info: ModelInfo) -> SamModel:
    """Return LiteMedSAM with PyTorch's random initialisation."""
    return SamModel(
        info=info,
        image_encoder=LiteMedSamEncoder(info.frame.size),
        prompt_encoder=PromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=MaskDecoder(),
    )
