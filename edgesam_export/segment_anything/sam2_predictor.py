"""``SAM2ImagePredictor`` with the methods of sam2, over any runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgesam_export.errors import UsageError, warn
from edgesam_export.imaging.geometry import PreparedImage, prepare, sizes_alone
from edgesam_export.imaging.reading import image_for_prompts
from edgesam_export.predict.mask_generator import columns_of, single_masks
from edgesam_export.profiles import SAM2_LOGIT_LIMIT
from edgesam_export.runners import Embedding
from edgesam_export.segment_anything.predictor import decoded_parts, enlarged
from edgesam_export.segment_anything.prompts import Parts, as_array, one_mask, packed_parts, points_or_none
from edgesam_export.segment_anything.sam2_models import as_sam2, build_sam2_hf
from edgesam_export.segment_anything.transforms import ResizeLongestSide

__all__ = ["SAM2ImagePredictor"]

Results = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Masks, scores and small logits."""


class SAM2ImagePredictor:
    """Masks for prompts on one image, or on several images each with prompts of its own.

    ``sam_model`` is what ``build_sam2`` returns, a loaded model, exported files or their folder. Holes and specks are
    left as they are, as sam2 does without its CUDA extension. As in sam2, further keywords have no effect.
    """

    def __init__(
        self,
        sam_model: Any,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **kwargs: Any,
    ) -> None:
        for name, area in (("max_hole_area", max_hole_area), ("max_sprinkle_area", max_sprinkle_area)):
            if area:
                warn(f"{name} is {area:g}, but masks are left as they are, as sam2 does without its CUDA extension")
        self.model = as_sam2(sam_model)
        self.mask_threshold = mask_threshold
        frame = self.model.runner.info.frame
        self.transform = ResizeLongestSide(frame.prompt_size, frame=frame)
        self.reset_predictor()

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2ImagePredictor:
        """Return a predictor with the published weights of a repository; keywords as of ``build_sam2`` and the class.

        Raises: UsageError for another repository; else as ``build_sam2``.
        """
        return cls(build_sam2_hf(model_id, **kwargs), **kwargs)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.device

    def reset_predictor(self) -> None:
        """Forget the images."""
        self.images: list[tuple[PreparedImage, Embedding]] = []
        self.is_batch = False

    def set_image(self, image: Any) -> None:
        """Encode an image.

        Shapes: image uint8 (H, W, 3) RGB, or whatever ``Predictor.set_image`` takes
        Raises: UsageError when it is no image.
        """
        self.reset_predictor()
        self.images = [self.encoded(image)]

    def set_image_batch(self, image_list: Sequence[Any]) -> None:
        """Encode several images, one after the other, for ``predict_batch``.

        Raises: UsageError when one is no image, or there are none.
        """
        self.reset_predictor()
        if isinstance(image_list, str | bytes) or not len(image_list):
            raise UsageError("image_list holds no images; give a list of them")
        self.images, self.is_batch = [self.encoded(image) for image in image_list], True

    def encoded(self, image: Any) -> tuple[PreparedImage, Embedding]:
        """Return the sizes of an image, and its embedding."""
        frame = self.model.runner.info.frame
        prepared = prepare(image_for_prompts(image), frame)
        return sizes_alone(prepared.source_size, frame), self.model.runner.encode(prepared)

    def get_image_embedding(self) -> Tensor:
        """Return the embeddings of the images, (images, D, 64, 64); of several maps the first.

        Raises: UsageError before an image is set.
        """
        if not self.images:
            raise UsageError("no image yet; call set_image first")
        maps = [next(iter(embedding.values())) for _, embedding in self.images]
        return torch.from_numpy(np.concatenate(maps)).to(self.device)

    def predict(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        box: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> Results:
        """Return masks at the image's size, their scores, and small logits for a next ``mask_input``.

        ``normalize_coords``: coordinates are pixels of the image; False: shares of its width and height, 0 to 1.

        Shapes:
            one prompt: point_coords (N, 2) x, y; point_labels (N,) 1 foreground, 0 background; box (4,) or (1, 4) x0,
            y0, x1, y1; mask_input (1, 256, 256) or (1, 1, 256, 256)
            B prompts: (B, N, 2), (B, N), (B, 4), and a mask for each (B, 1, 256, 256), or one for all
            returns float32 of one prompt (C, H, W) of 0 and 1, or logits with ``return_logits``; (C,); (C, 256, 256)
            within -32..32; of B prompts with B in front. C is 3, or 1 without ``multimask_output``
        Raises: UsageError before ``set_image``, for a prompt that is missing or malformed, or that the decoder does not
            take or answer.
        """
        if not self.images:
            raise UsageError("no image yet; call set_image first")
        prepared, embedding = self.images[-1]
        parts = self.parts(prepared, (point_coords, point_labels, box, mask_input), normalize_coords)
        return self.answer(prepared, embedding, parts, multimask_output, return_logits)

    def predict_batch(
        self,
        point_coords_batch: Sequence[Any] | None = None,
        point_labels_batch: Sequence[Any] | None = None,
        box_batch: Sequence[Any] | None = None,
        mask_input_batch: Sequence[Any] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Return what ``predict`` does for each image of ``set_image_batch``, as lists.

        Raises: UsageError before ``set_image_batch``, when the prompts are of another number of images, or as
            ``predict``, with the image's number.
        """
        if not self.is_batch:
            raise UsageError("no images yet; call set_image_batch first")
        lists = {
            "point_coords_batch": point_coords_batch,
            "point_labels_batch": point_labels_batch,
            "box_batch": box_batch,
            "mask_input_batch": mask_input_batch,
        }
        for name, values in lists.items():
            if values is not None and len(values) != len(self.images):
                raise UsageError(
                    f"{name} is of {len(values)} images, but {len(self.images)} are set; give one for each"
                )
        results: list[Results] = []
        for index, (prepared, embedding) in enumerate(self.images):
            prompt = tuple(None if values is None else values[index] for values in lists.values())
            try:
                parts = self.parts(prepared, prompt, normalize_coords)
            except UsageError as error:
                raise UsageError(f"image {index}: {error}") from None
            results.append(self.answer(prepared, embedding, parts, multimask_output, return_logits))
        return [one[0] for one in results], [one[1] for one in results], [one[2] for one in results]

    def parts(self, prepared: PreparedImage, prompt: tuple[Any, ...], normalize_coords: bool) -> Parts:
        """Return the parts of B prompts in the prompt frame."""
        coords, labels, box, mask = prompt
        size = prepared.source_size
        scale = np.ones(2) if normalize_coords else np.array(size[::-1])
        points, kinds = points_or_none(coords, "point_coords"), points_or_none(labels, "point_labels")
        if points is not None:
            if points.ndim not in (2, 3) or points.shape[-1] != 2:
                raise UsageError(
                    f"point_coords has shape {points.shape}; give (N, 2) or (B, N, 2), x and y of each point"
                )
            if points.ndim == 2:
                points, kinds = points[None], None if kinds is None else kinds.reshape(1, -1)
            points = self.transform.apply_coords(points * scale, size)
        corners = None if box is None else as_array(box, "box")
        if corners is not None and not corners.size and points is not None:
            corners = None
        if corners is not None:
            if corners.size % 4 or corners.ndim > 3:
                raise UsageError(f"box has shape {corners.shape}; give (4,) or (B, 4), numbers x0, y0, x1, y1")
            corners = self.transform.apply_boxes(corners.reshape(-1, 2, 2) * scale, size)
        masks = None if mask is None else masks_of(mask, points, corners)
        return packed_parts(points, kinds, corners, masks)

    def answer(
        self,
        prepared: PreparedImage,
        embedding: Embedding,
        parts: Parts,
        multimask_output: bool,
        return_logits: bool,
    ) -> Results:
        """Return masks, scores and small logits of B prompts, of one without the first axis."""
        runner = self.model.runner
        columns = columns_of(runner, multimask=True) if multimask_output else []
        decoded = decoded_parts(runner, prepared, embedding, parts)
        if multimask_output:
            logits, scores = decoded.masks[:, columns], decoded.scores[:, columns]
        else:
            logits, scores = single_masks(runner, decoded, by_stability=self.model.by_stability)
        large = enlarged(logits, prepared)
        if not return_logits:
            large = (large > self.mask_threshold).astype(np.float32)
        results = large, scores, logits.clip(-SAM2_LOGIT_LIMIT, SAM2_LOGIT_LIMIT)
        first, second, third = (part[0] if len(part) == 1 else part for part in results)
        return first, second, third


def masks_of(mask: Any, points: np.ndarray | None, corners: np.ndarray | None) -> np.ndarray:
    """Return the masks of B prompts; one serves all of them. Shapes: returns (B, 1, 256, 256)"""
    array = as_array(mask, "mask_input")
    masks = array if array.ndim == 4 else one_mask(array)
    assert masks is not None
    others = points if points is not None else corners
    return np.repeat(masks, len(others), axis=0) if others is not None and len(masks) == 1 else masks
