"""segment-anything 1.0 around a network of ours: its own prompt encoder, decoder, predictor and mask generator.

Its classes get the very parameters; only the image encoder is ours. Used while ``other_programs`` lets it be imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from other_programs import segment_anything_and
from torch import Tensor, nn

from edgesam_export.families import FAMILIES, load_model
from edgesam_export.modeling.sam import SamModel

SIDE = 512


def one_frame_model() -> SamModel:
    """The bundled model with its prompts in the frame of its image: segment-anything knows one frame only."""
    bundled = load_model("edge_sam_tiny")
    info = replace(bundled.info, frame=replace(bundled.info.frame, prompt_size=SIDE))
    model = FAMILIES[info.name].build(info)
    model.load_state_dict(bundled.state_dict())
    model.provenance = bundled.provenance
    return model


def best_first(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression as it is defined, pair by pair: torchvision's own loads beside a CUDA PyTorch only."""
    kept: list[int] = []
    for index in torch.argsort(scores, descending=True, stable=True).tolist():
        if all(box_iou(boxes[index], boxes[better]) <= iou_threshold for better in kept):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


def box_iou(one: Tensor, other: Tensor) -> float:
    sides = torch.minimum(one[2:], other[2:]) - torch.maximum(one[:2], other[:2])
    shared = float(sides.clamp(min=0).prod())
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (one, other)]
    return shared / (sum(areas) - shared) if sum(areas) > shared else 0.0


class OurEncoder(nn.Module):
    """The image encoder with the attribute that segment-anything reads."""

    def __init__(self, model: SamModel) -> None:
        super().__init__()
        self.encoder, self.img_size = model.image_encoder, model.info.frame.size

    def forward(self, image: Tensor) -> Tensor:
        return self.encoder(image)


def sam_of(model: SamModel) -> Any:
    """Return the original's ``Sam`` with the parameters of a model whose decoder is SAM's, of any width."""
    from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    width, side = model.info.embedding_dim, model.info.frame.size
    mlp_dim = model.mask_decoder.transformer.layers[0].mlp.lin1.out_features
    prompt_encoder = PromptEncoder(
        embed_dim=width, image_embedding_size=(64, 64), input_image_size=(side, side), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=mlp_dim, num_heads=8)
    mask_decoder = MaskDecoder(transformer_dim=width, transformer=transformer, iou_head_hidden_dim=width)
    prompt_encoder.load_state_dict(model.prompt_encoder.state_dict())
    mask_decoder.load_state_dict(model.mask_decoder.state_dict())
    frame = model.info.frame
    sam = Sam(OurEncoder(model), prompt_encoder, mask_decoder, pixel_mean=list(frame.mean), pixel_std=list(frame.std))
    return sam.eval()


@contextmanager
def original() -> Iterator[Any]:
    """Yield the package, or skip the test where it is not installed."""
    with segment_anything_and():
        import segment_anything
        from segment_anything import automatic_mask_generator

        automatic_mask_generator.batched_nms = best_first
        yield segment_anything
