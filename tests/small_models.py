"""Whole SAM networks of a few milliseconds, for tests in which the family is not the subject; not a test module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from edgesam_export.families import FAMILIES, RegisteredModel, load_model, model_info, model_names
from edgesam_export.modeling.mask_decoder import MaskDecoder
from edgesam_export.modeling.prompt_encoder import PromptEncoder
from edgesam_export.modeling.random_weights import fill_random
from edgesam_export.modeling.sam import SamModel
from edgesam_export.spec import ModelInfo

WIDTH = 32
FURTHER = ((WIDTH // 8, 256, 256), (WIDTH // 4, 128, 128))
SMALL = ModelInfo(name="small", family="small", embedding_dim=WIDTH, description="for tests")
SMALL_MAPS = replace(SMALL, name="small_maps", further_maps=FURTHER)


class PyramidEncoder(nn.Module):
    """Image (1, 3, 1024, 1024) -> embedding (1, 32, 64, 64), alone or with the two finer maps that it is made of."""

    def __init__(self, *, maps: bool) -> None:
        super().__init__()
        self.maps = maps
        self.fine = nn.Conv2d(3, WIDTH // 8, kernel_size=4, stride=4)
        self.middle = nn.Conv2d(WIDTH // 8, WIDTH // 4, kernel_size=2, stride=2)
        self.coarse = nn.Conv2d(WIDTH // 4, WIDTH, kernel_size=2, stride=2)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        fine = self.fine(image)
        middle = self.middle(torch.relu(fine))
        coarse = self.coarse(torch.relu(middle))
        return (coarse, fine, middle) if self.maps else coarse


class PyramidDecoder(MaskDecoder):
    """SAM's decoder, the finer maps added while it upscales; its object score is a number of the first token's."""

    scores_objects = True

    def object_score(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0, :1]

    def upscale(self, image: Tensor, *further: Tensor) -> Tensor:
        fine, middle = further
        first, norm, activation, second, last = self.output_upscaling
        return last(second(activation(norm(first(image) + middle))) + fine)


def build(info: ModelInfo) -> SamModel:
    """A network 32 channels wide, of one map or of three."""
    decoder = PyramidDecoder if info.further_maps else MaskDecoder
    return SamModel(
        info=info,
        image_encoder=PyramidEncoder(maps=bool(info.further_maps)),
        prompt_encoder=PromptEncoder(WIDTH, prompt_size=info.frame.prompt_size),
        mask_decoder=decoder(WIDTH, mlp_dim=WIDTH),
    )


def small_model(info: ModelInfo = SMALL, seed: int = 1) -> SamModel:
    """The network with stand-in weights."""
    model = build(info)
    fill_random(model, seed)
    return model


class TrainedPyramid(nn.Module):
    """The bundled encoder behind SAM 2's square of 1024 pixels, and two finer maps, unknown to its decoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        # all zeros: the decoder then gives the masks it was trained for
        fine = torch.nn.functional.avg_pool2d(image, 4)[:, :1].repeat(1, 16, 1, 1) * 0.0
        middle = torch.nn.functional.avg_pool2d(image, 8)[:, :1].repeat(1, 32, 1, 1) * 0.0
        return self.encoder(torch.nn.functional.avg_pool2d(image, 2)), fine, middle


def trained_model_of_three_maps() -> SamModel:
    """The bundled weights behind the interface of SAM 2.1 large: its name, frame and prompts, and three maps."""
    tiny, sam2 = load_model("edge_sam_tiny"), model_info("sam2.1_hiera_large")
    decoder = PyramidDecoder(128, mlp_dim=512)
    decoder.load_state_dict(tiny.mask_decoder.state_dict())
    return SamModel(
        info=replace(sam2, embedding_dim=128, further_maps=((16, 256, 256), (32, 128, 128))),
        image_encoder=TrainedPyramid(tiny.image_encoder),
        prompt_encoder=tiny.prompt_encoder,
        mask_decoder=decoder,
        provenance=tiny.provenance,
    )


@contextmanager
def registered(info: ModelInfo = SMALL) -> Iterator[None]:
    """While it lasts, commands know the model by its name."""
    model_names()  # the families' own files first
    FAMILIES.entries[info.name] = RegisteredModel(info=info, build=build)
    try:
        yield
    finally:
        del FAMILIES.entries[info.name]
