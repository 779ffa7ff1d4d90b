"""A family whose decoder takes three maps: the one file that adding such a model needs; not a test module.

The finer maps are added while the decoder upscales, which is what models with three maps do.
"""

import torch
from torch import Tensor, nn

from edgesam_export.families import register_model
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ImageFrame, ModelInfo


class PyramidEncoder(nn.Module):
    """Image (1, 3, 1024, 1024), normalised -> maps (1, 256, 64, 64), (1, 32, 256, 256) and (1, 64, 128, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 32, kernel_size=4, stride=4)
        self.middle = nn.Conv2d(32, 64, kernel_size=2, stride=2)
        self.coarse = nn.Conv2d(64, 256, kernel_size=2, stride=2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.fine(image)
        middle = self.middle(torch.relu(fine))
        return self.coarse(torch.relu(middle)), fine, middle


class PyramidDecoder(MaskDecoder):
    """SAM's mask decoder with a finer map added after each of the two upscaling steps."""

    def upscale(self, image: Tensor, *further: Tensor) -> Tensor:
        fine, middle = further
        first, norm, activation, second, last = self.output_upscaling
        return last(second(activation(norm(first(image) + middle))) + fine)


@register_model(
    ModelInfo(
        name="three_maps",
        family="three_maps",
        frame=ImageFrame(fit="stretch"),
        further_maps=((32, 256, 256), (64, 128, 128)),
    )
)
def build(info: ModelInfo) -> SamModel:
    """The network with PyTorch's random initialisation."""
    return SamModel(
        info=info,
        image_encoder=PyramidEncoder(),
        prompt_encoder=PromptEncoder(prompt_size=info.frame.prompt_size),
        mask_decoder=PyramidDecoder(),
    )
