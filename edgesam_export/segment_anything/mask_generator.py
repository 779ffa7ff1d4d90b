"""``SamAutomaticMaskGenerator`` with the arguments and results of segment-anything, over any runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.imaging.mask_runs import MaskRuns
from edgesam_export.imaging.reading import any_image
from edgesam_export.predict.mask_generator import GeneratedMask, GeneratorConfig, generate_masks
from edgesam_export.segment_anything.predictor import SamPredictor

__all__ = ["SamAutomaticMaskGenerator", "known_mode"]

MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


def known_mode(output_mode: str) -> str:
    """Return it. Raises: UsageError when it is none of ``MODES``."""
    if output_mode not in MODES:
        raise UsageError(f"output_mode is '{output_mode}'; choose one of: {', '.join(MODES)}")
    return output_mode


class SamAutomaticMaskGenerator:
    """All masks of an image; ``model`` is whatever ``SamPredictor`` takes, ``GeneratorConfig`` has the options.

    ``output_mode`` says what ``segmentation`` is: a bool array, or COCO's run lengths as numbers or as text.

    Raises:
        UsageError: an option that cannot be.
    """

    def __init__(
        self,
        model: Any,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        self.predictor: Any = SamPredictor(model)
        self.output_mode = known_mode(output_mode)
        self.config = GeneratorConfig(
            points_per_side=points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=point_grids,
            min_mask_region_area=min_mask_region_area,
        )

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Return the masks of an image, each as a dictionary.

        ``segmentation``, ``area`` in pixels, ``bbox`` and ``crop_box`` as x, y, width, height (of ``bbox`` from the
        first to the last pixel, one less than COCO counts), ``predicted_iou``, ``stability_score``, ``point_coords``.

        Shapes: image uint8 (H, W, 3) RGB
        Raises: UsageError when it is no image, or too small for the crops.
        """
        runner = self.predictor.model.runner
        return [self.record(mask) for mask in generate_masks(runner, any_image(image), self.config)]

    def record(self, mask: GeneratedMask) -> dict[str, Any]:
        """Return one mask as a dictionary."""
        (x0, y0, x1, y1), (left, top, right, bottom) = mask.corners, mask.crop_box
        return {
            "segmentation": self.segmentation(mask.runs),
            "area": mask.runs.area,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "predicted_iou": mask.predicted_iou,
            "point_coords": [list(mask.point)],
            "stability_score": mask.stability_score,
            "crop_box": [float(value) for value in (left, top, right - left, bottom - top)],
        }

    def segmentation(self, runs: MaskRuns) -> Any:
        """Return a mask in the chosen form."""
        if self.output_mode == "binary_mask":
            return runs.mask()
        return runs.coco() if self.output_mode == "coco_rle" else {"size": list(runs.size), "counts": runs.counts}
