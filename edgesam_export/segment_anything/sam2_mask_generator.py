"""``SAM2AutomaticMaskGenerator`` with the arguments and results of sam2, over any runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesam_export.predict.mask_generator import GeneratorConfig
from edgesam_export.segment_anything.mask_generator import SamAutomaticMaskGenerator, known_mode
from edgesam_export.segment_anything.sam2_models import build_sam2_hf
from edgesam_export.segment_anything.sam2_predictor import SAM2ImagePredictor

__all__ = ["SAM2AutomaticMaskGenerator"]


class SAM2AutomaticMaskGenerator(SamAutomaticMaskGenerator):
    """All masks of an image; ``model`` is whatever ``SAM2ImagePredictor`` takes, ``GeneratorConfig`` has the options.

    ``output_mode`` as of ``SamAutomaticMaskGenerator``. As in sam2, further keywords have no effect.

    Raises:
        UsageError: an option that cannot be.
    """

    def __init__(
        self,
        model: Any,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        **kwargs: Any,
    ) -> None:
        self.predictor, self.output_mode = SAM2ImagePredictor(model), known_mode(output_mode)
        self.config = GeneratorConfig(
            points_per_side=points_per_side,
            points_per_batch=points_per_batch,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            mask_threshold=mask_threshold,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            crop_nms_thresh=crop_nms_thresh,
            crop_overlap_ratio=crop_overlap_ratio,
            crop_n_points_downscale_factor=crop_n_points_downscale_factor,
            point_grids=point_grids,
            min_mask_region_area=min_mask_region_area,
            use_m2m=use_m2m,
            multimask_output=multimask_output,
            by_stability=self.predictor.model.by_stability,
        )

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2AutomaticMaskGenerator:
        """Return a generator with the published weights of a repository; keywords as of ``build_sam2`` and the class.

        Raises: UsageError for another repository, or an option that cannot be; else as ``build_sam2``.
        """
        return cls(build_sam2_hf(model_id, **kwargs), **kwargs)
