"""EdgeSAM tiny: the same kind of network as EdgeSAM, small enough to be shipped with the code and trained on two cores.

RepViT blocks at half of EdgeSAM's width or less, and SAM's prompt encoder and mask decoder at half their width (128).
The image has 512 x 512 pixels; three stages instead of two are fused, at 1/8 of the image's size, so that the
embedding has EdgeSAM's 64 x 64 cells, the logits 256 x 256, and coordinates live in the frame of 1024.

Trained by this project on drawn scenes (docs/distillation.md): made to show the tool, not for photographs.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgesam_export.families import register_model
from edgesam_export.families.edge_sam import Stages, Upsample2x, UpsampleNeck, embedding_neck, repvit_features
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ImageFrame, ModelInfo

__all__ = ["EdgeSamTinyEncoder"]

STAGES: Stages = (
    (24, (True, False)),
    (48, (False, True, False)),
    (96, (False, True, False, True, False)),
    (192, (False, True, False)),
)
EMBEDDING_DIM = 128
MLP_DIM = 512


class EdgeSamTinyEncoder(nn.Module):
    """RepViT whose last three stages are fused, from the coarsest on, at 1/8 of the image's size."""

    any_size = True
    """Sizes of all maps are proportional to the image's."""

    def __init__(self, stages: Stages = STAGES, dim: int = EMBEDDING_DIM, upsample: str = "bicubic") -> None:
        super().__init__()
        self.features, self.taps = repvit_features(stages)
        self.fuse_stage1 = nn.Conv2d(stages[1][0], dim, kernel_size=1, bias=False)
        self.fuse_stage2 = nn.Conv2d(stages[2][0], dim, kernel_size=1, bias=False)
        self.fuse_stage3 = UpsampleNeck(stages[3][0], upsample, dim)
        self.upsample = Upsample2x(upsample, dim)
        self.neck = embedding_neck(dim)

    def forward(self, image: Tensor) -> Tensor:
        """Embed an image.

        Shapes:
            image (B, 3, S, S), normalised, S a multiple of 32; returns (B, 128, S/8, S/8)
        """
        x = image
        tapped = []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in self.taps[1:]:
                tapped.append(x)
        stage1, stage2, stage3 = tapped
        coarse = self.fuse_stage2(stage2) + self.fuse_stage3(stage3)
        return self.neck(self.fuse_stage1(stage1) + self.upsample(coarse))


@register_model(
    ModelInfo(
        name="edge_sam_tiny",
        family="edge_sam_tiny",
        frame=ImageFrame(size=512),
        embedding_dim=EMBEDDING_DIM,
        description="EdgeSAM at half width and 512 pixels, trained on drawn scenes; bundled",
    )
)
def build(info: ModelInfo) -> SamModel:
    """Return EdgeSAM tiny with PyTorch's random initialisation."""
    return SamModel(
        info=info,
        image_encoder=EdgeSamTinyEncoder(upsample=info.upsample),
        prompt_encoder=PromptEncoder(EMBEDDING_DIM, prompt_size=info.frame.prompt_size),
        mask_decoder=MaskDecoder(EMBEDDING_DIM, mlp_dim=MLP_DIM),
    )
