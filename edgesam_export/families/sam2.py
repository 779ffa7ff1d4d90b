"""SAM 2 and SAM 2.1 on single images: a Hiera trunk, the neck and the mask decoder of ``modeling.pyramid``.

Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos", https://arxiv.org/abs/2408.00714

The releases of July (``sam2_hiera_*``) and September 2024 (``sam2.1_hiera_*``) are one network on single images, with
other weights: keys and shapes of this part are the same.  The video part is not read.
"""

from __future__ import annotations

from torch import Tensor

from edgesam_export.families import register_model
from edgesam_export.modeling.hiera import Hiera, HieraConfig, from_quads
from edgesam_export.modeling.pyramid import (
    EMBEDDING_DIM,
    FINE_DIM,
    FURTHER_MAPS,
    MIDDLE_DIM,
    ClampingPromptEncoder,
    FoldedNeck,
    ImageEncoder,
    PyramidMaskDecoder,
    PyramidNeck,
)
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ImageFrame, ModelInfo

__all__ = ["CONFIGS", "FoldedHieraEncoder", "HieraEncoder"]

CONFIGS = {
    "tiny": HieraConfig(width=96, heads=1, depths=(1, 2, 7, 2), global_blocks=(5, 7, 9)),
    "small": HieraConfig(width=96, heads=1, depths=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "base_plus": HieraConfig(width=112, heads=2, depths=(2, 3, 16, 3), global_blocks=(12, 16, 20), background=14),
    "large": HieraConfig(width=144, heads=2, depths=(2, 6, 36, 4), global_blocks=(23, 33, 43), windows=(8, 4, 16, 8)),
}
RELEASES = {"sam2": "SAM 2 (July 2024)", "sam2.1": "SAM 2.1"}


class HieraEncoder(ImageEncoder):
    """Hiera and the neck."""

    def __init__(self, config: HieraConfig) -> None:
        super().__init__(Hiera(config), config.widths)

    def folded(self) -> FoldedHieraEncoder:
        """Return an equal encoder whose neck acts before windows are put together: a third of the channels move."""
        return FoldedHieraEncoder(self)


class FoldedHieraEncoder(ImageEncoder):
    """``HieraEncoder`` for export."""

    trunk: Hiera
    neck: FoldedNeck

    def __init__(self, encoder: HieraEncoder) -> None:
        super(ImageEncoder, self).__init__()
        trunk, neck = encoder.get_submodule("trunk"), encoder.get_submodule("neck")
        assert isinstance(trunk, Hiera) and isinstance(neck, PyramidNeck)
        self.trunk = trunk.folded()
        self.neck = FoldedNeck(neck)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed an image, see ``ImageEncoder.forward``."""
        fine, middle, coarse, windows = self.trunk.stages(image)
        coarsest = self.trunk.joined(self.neck.coarsest(windows), EMBEDDING_DIM)
        embedding = self.neck.embedding(coarse, coarsest)
        return (
            embedding,
            from_quads(self.neck.fine(fine), 3, FINE_DIM),
            from_quads(self.neck.middle(middle), 2, MIDDLE_DIM),
        )


def build(info: ModelInfo) -> SamModel:
    """Return the image part with PyTorch's random initialisation."""
    return SamModel(
        info=info,
        image_encoder=HieraEncoder(CONFIGS[info.name.partition("_hiera_")[2]]),
        prompt_encoder=ClampingPromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=PyramidMaskDecoder(),
    )


for release, title in RELEASES.items():
    for size in CONFIGS:
        register_model(
            ModelInfo(
                name=f"{release}_hiera_{size}",
                family="sam2",
                frame=ImageFrame(fit="stretch_antialias", mask_resize="bilinear_direct"),
                padding_point="always",
                further_maps=FURTHER_MAPS,
                description=f"{title}, Hiera {size.replace('_', ' ')}, image mode",
            )
        )(build)
