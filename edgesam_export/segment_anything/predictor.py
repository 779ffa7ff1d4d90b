"""``Sam`` and ``SamPredictor`` with the methods of segment-anything, over any runner."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgesam_export.errors import UsageError
from edgesam_export.imaging.geometry import PreparedImage, framed, prepare
from edgesam_export.imaging.masks import masks_to_source
from edgesam_export.imaging.prompts import arranged, kind_of, warn_if_untrained
from edgesam_export.imaging.reading import any_image
from edgesam_export.predict.mask_generator import columns_of
from edgesam_export.runners import Embedding, Runner, open_runner
from edgesam_export.segment_anything.transforms import ResizeLongestSide
from edgesam_export.spec import EMPTY_SLOT, MASK_SIDE

__all__ = ["Sam", "SamPredictor", "as_sam"]

LABELS = (-1, 0, 1, 2, 3)
"""Not a point, background, foreground, a box's corners."""
PROMPT_KEYS = ("point_coords", "point_labels", "boxes", "mask_inputs")
"""Of what ``Sam`` is called with."""


class Sam:
    """A model or exported files, with what programs use of segment-anything's class of this name."""

    mask_threshold = 0.0
    image_format = "RGB"

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.device = torch.device("cpu")
        self.image_encoder = SimpleNamespace(img_size=runner.info.frame.prompt_size)

    def to(self, device: str | torch.device) -> Sam:
        """Move the model to a device; exported files stay on the CPU.

        Raises: UsageError for files and another device.
        """
        device = torch.device(device)
        if self.runner.model is not None:
            self.runner = open_runner(self.runner.model, device=str(device))
        elif device.type != "cpu":
            raise UsageError(f"{self.runner.name} runs on the CPU, not on {device}; leave .to() out")
        self.device = device
        return self

    def eval(self) -> Sam:
        """Return itself: it always is in evaluation mode."""
        return self

    def __call__(self, batched_input: list[dict[str, Any]], multimask_output: bool) -> list[dict[str, Tensor]]:
        """Return masks of several images, each with prompts of its own.

        Shapes, of each image:
            image (3, h, w) resized, 0..255; original_size (H, W); optional point_coords (B, N, 2) and boxes (B, 4) in
            pixels of the prompt frame, point_labels (B, N), mask_inputs (B, 1, 256, 256)
            returns masks bool (B, C, H, W), iou_predictions (B, C), low_res_logits (B, C, 256, 256)
        """
        results = []
        predictor = SamPredictor(self)
        for record in batched_input:
            predictor.set_torch_image(record["image"][None], record["original_size"])
            points, labels, boxes, mask = (record.get(key) for key in PROMPT_KEYS)
            masks, scores, logits = predictor.predict_torch(points, labels, boxes, mask, multimask_output)
            results.append({"masks": masks, "iou_predictions": scores, "low_res_logits": logits})
        return results


def as_sam(model: Any) -> Sam:
    """Return a ``Sam`` for one, for a runner, or for whatever ``open_runner`` takes: a model, files, a folder."""
    if isinstance(model, Sam):
        return model
    return Sam(model if isinstance(model, Runner) else open_runner(model))


class SamPredictor:
    """Masks for prompts on one image at a time.

    ``sam_model`` is a ``Sam``, a loaded model, exported files or their folder.
    """

    def __init__(self, sam_model: Any) -> None:
        self.model = as_sam(sam_model)
        frame = self.model.runner.info.frame
        self.transform = ResizeLongestSide(frame.prompt_size, frame=frame)
        self.reset_image()

    @property
    def device(self) -> torch.device:
        """Device of the model, on which results are."""
        return self.model.device

    def reset_image(self) -> None:
        """Forget the current image."""
        self.prepared: PreparedImage | None = None
        self.embedding: Embedding = {}
        self.is_image_set = False
        self.original_size: tuple[int, int] | None = None
        self.input_size: tuple[int, int] | None = None

    def set_image(self, image: np.ndarray, image_format: str = "RGB") -> None:
        """Encode an image.

        Shapes: image uint8 (H, W, 3), ``image_format`` RGB or BGR
        Raises: UsageError when it is no image.
        """
        if image_format not in ("RGB", "BGR"):
            raise UsageError(f"image_format is '{image_format}'; choose RGB or BGR")
        pixels = any_image(image)
        if image_format != self.model.image_format:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        self.encode(prepare(pixels, self.model.runner.info.frame))

    def set_torch_image(self, transformed_image: Tensor, original_image_size: tuple[int, ...]) -> None:
        """Encode an image that ``transform`` has resized.

        Shapes: transformed_image (1, 3, h, w) RGB, 0..255; original_image_size H, W before
        Raises: UsageError when it has another size.
        """
        if transformed_image.ndim != 4 or transformed_image.shape[0] != 1:
            raise UsageError(f"transformed_image is {tuple(transformed_image.shape)}; pass (1, 3, h, w)")
        height, width = original_image_size
        resized = transformed_image[0].permute(1, 2, 0).cpu().numpy()
        self.encode(framed(resized, (int(height), int(width)), self.model.runner.info.frame))

    def encode(self, prepared: PreparedImage) -> None:
        """Embed a prepared image, which becomes the current one."""
        self.reset_image()
        self.embedding = self.model.runner.encode(prepared)
        self.prepared, self.is_image_set = prepared, True
        self.original_size, self.input_size = prepared.source_size, prepared.scaled_size

    def current(self) -> PreparedImage:
        """Return the current image, or raise UsageError."""
        if self.prepared is None:
            raise UsageError("no image yet; call set_image first")
        return self.prepared

    def get_image_embedding(self) -> Tensor:
        """Return the embedding of the current image, (1, D, 64, 64); of several maps the first."""
        self.current()
        first, *_ = self.embedding.values()
        return torch.from_numpy(first).to(self.device)

    def predict(
        self,
        point_coords: np.ndarray | None = None,
        point_labels: np.ndarray | None = None,
        box: np.ndarray | None = None,
        mask_input: np.ndarray | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return masks of one prompt at the image's size, their scores, and small logits for a next ``mask_input``.

        Shapes:
            point_coords (N, 2) x, y in pixels of the image; point_labels (N,) 1 foreground, 0 background
            box (4,) x0, y0, x1, y1; mask_input (1, 256, 256)
            returns bool (or float32 with ``return_logits``) (C, H, W), float32 (C,), float32 (C, 256, 256)
        Raises: UsageError before ``set_image``, and as ``predict_torch``.
        """
        size = self.current().source_size
        coords = None if point_coords is None else self.transform.apply_coords(point_coords, size)[None]
        boxes = None if box is None else self.transform.apply_boxes(box, size)
        labels = None if point_labels is None else np.asarray(point_labels)[None]
        mask = None if mask_input is None else np.asarray(mask_input)[None]
        points, kinds, corners, earlier = (
            None if part is None else torch.as_tensor(part) for part in (coords, labels, boxes, mask)
        )
        results = self.predict_torch(points, kinds, corners, earlier, multimask_output, return_logits)
        masks, scores, logits = (part[0].cpu().numpy() for part in results)
        return masks, scores, logits

    def predict_torch(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return masks, scores and small logits of B prompts whose coordinates ``transform`` has moved.

        Shapes:
            point_coords (B, N, 2), point_labels (B, N), boxes (B, 4), mask_input (B, 1, 256, 256)
            returns (B, C, H, W), (B, C), (B, C, 256, 256); C is 3, or 1 without ``multimask_output``
        Raises: UsageError for a prompt that is missing or malformed, or that the decoder does not take or answer.
        """
        prepared, runner = self.current(), self.model.runner
        columns = columns_of(runner, multimask=multimask_output)
        coords, labels, masks = packed(point_coords, point_labels, boxes, mask_input, runner)
        warn_if_untrained(runner.info, kind_of(labels[:1], has_mask=masks is not None))
        logits, scores, _ = runner.decode_many(self.embedding, coords, labels, masks)
        logits, scores = logits[:, columns], scores[:, columns]
        large = masks_to_source(logits.reshape(-1, MASK_SIDE, MASK_SIDE), prepared)
        large = large.reshape(*logits.shape[:2], *prepared.source_size)
        results = (large if return_logits else large > self.model.mask_threshold, scores, logits)
        moved = [torch.from_numpy(np.ascontiguousarray(part)).to(self.device) for part in results]
        return moved[0], moved[1], moved[2]


def packed(
    points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, masks: Tensor | None, runner: Runner
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the inputs of ``Runner.decode_many`` for prompts as ``SamPredictor.predict_torch`` takes them.

    Raises: UsageError for a prompt that is missing or malformed.
    """
    given = [len(part) for part in (points, labels, boxes, masks) if part is not None and part.ndim]
    if not given:
        raise UsageError("no prompt: give at least one point, a box or a mask")
    count = given[0]
    coords = checked(points, "point_coords", (count, None, 2))
    kinds = checked(labels, "point_labels", (count, None))
    corners = checked(boxes, "boxes", (count, 4)).reshape(count, -1, 2)
    mask = None if masks is None else checked(masks, "mask_input", (count, 1, MASK_SIDE, MASK_SIDE))
    if coords.shape[:2] != kinds.shape:
        raise UsageError(f"{coords.shape[1]} points but {kinds.shape[1]} labels; give one label for each point")
    if not np.isin(kinds, LABELS).all():
        raise UsageError(f"point_labels holds {sorted({*kinds.flat} - {*LABELS})[0]:g}; labels are {LABELS}")
    if not coords.shape[1] and not corners.shape[1]:  # a mask alone: no token, as in segment-anything
        return np.zeros((count, 1, 2), np.float32), np.full((count, 1), EMPTY_SLOT, np.float32), mask
    return (*arranged(coords, kinds, corners, padding_point=runner.info.padding_point), mask)


def checked(part: Tensor | None, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return one part of B prompts as float32 of a shape, in which None is any length; without it, of no entries.

    Raises: UsageError when it has another shape, or holds NaN or infinity.
    """
    if part is None:
        return np.zeros([0 if at == 1 else length or 0 for at, length in enumerate(shape)], np.float32)
    array: np.ndarray = part.detach().cpu().numpy().astype(np.float32)
    fits = array.ndim == len(shape) and all(length in (None, found) for length, found in zip(shape, array.shape))
    if not fits:
        expected = str(shape).replace("None", "N")
        raise UsageError(f"{name} has shape {array.shape}; expected {expected}")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds NaN or infinite values")
    return array
