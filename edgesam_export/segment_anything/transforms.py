"""Resizing of images and prompts to the frames of a model, with the names of segment-anything."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from edgesam_export.imaging.geometry import fitted_size, prepare, scaled_size
from edgesam_export.spec import ImageFrame

__all__ = ["ResizeLongestSide", "Size"]

Size = tuple[int, ...]


class ResizeLongestSide:
    """Images and coordinates so that the longest side is ``target_length``; with ``frame``, as that model has it.

    Coordinates go into the prompt frame, images into the encoder's, which of some models is another one.
    """

    def __init__(self, target_length: int, *, frame: ImageFrame | None = None) -> None:
        self.target_length = target_length
        self.frame = frame or ImageFrame(size=target_length, prompt_size=target_length)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """Return height and width of an image whose longest side becomes ``long_side_length``."""
        return scaled_size((oldh, oldw), long_side_length)

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Return an image resized for the encoder. Shapes: uint8 (H, W, 3) -> uint8 (h, w, 3)"""
        prepared = prepare(image, self.frame)
        height, width = prepared.scaled_size
        return prepared.pixels[:height, :width]

    def apply_image_torch(self, image: Tensor) -> Tensor:
        """Return images resized for the encoder, nearly as ``apply_image`` does. Shapes: (B, 3, H, W) floats"""
        size = fitted_size((image.shape[2], image.shape[3]), self.frame.size, self.frame.fit)
        return interpolate(image, size, mode="bilinear", align_corners=False, antialias=self.frame.fit != "stretch")

    def factors(self, original_size: Size) -> tuple[float, float]:
        """Return what x and y of an image of ``original_size`` (height, width) are multiplied with."""
        height, width = original_size
        new_height, new_width = fitted_size((height, width), self.frame.prompt_size, self.frame.fit)
        return new_width / width, new_height / height

    def apply_coords(self, coords: np.ndarray, original_size: Size) -> np.ndarray:
        """Return points of an image in the prompt frame. Shapes: (..., 2) x, y; returns float64"""
        moved: np.ndarray = np.asarray(coords, np.float64) * self.factors(original_size)
        return moved

    def apply_boxes(self, boxes: np.ndarray, original_size: Size) -> np.ndarray:
        """Return boxes of an image in the prompt frame. Shapes: (B, 4) x0, y0, x1, y1; returns float64"""
        return self.apply_coords(np.asarray(boxes).reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: Tensor, original_size: Size) -> Tensor:
        """Return points of an image in the prompt frame. Shapes: (..., 2) x, y; returns float32"""
        factors = torch.tensor(self.factors(original_size), dtype=torch.float32, device=coords.device)
        return coords.to(torch.float32) * factors

    def apply_boxes_torch(self, boxes: Tensor, original_size: Size) -> Tensor:
        """Return boxes of an image in the prompt frame. Shapes: (B, 4) x0, y0, x1, y1; returns float32"""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)
