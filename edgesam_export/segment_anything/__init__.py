"""The names that programs import from ``segment_anything`` and ``sam2``, over checkpoints and exported files alike.

Arguments and results are those of segment-anything 1.0, and of sam2 on images; docs/everything.md has the differences.
"""

from edgesam_export.segment_anything.mask_generator import SamAutomaticMaskGenerator
from edgesam_export.segment_anything.model_registry import (
    build_sam,
    build_sam_vit_b,
    build_sam_vit_h,
    build_sam_vit_l,
    sam_model_registry,
)
from edgesam_export.segment_anything.predictor import Sam, SamPredictor
from edgesam_export.segment_anything.replacement import replace_sam2, replace_segment_anything
from edgesam_export.segment_anything.sam2_mask_generator import SAM2AutomaticMaskGenerator
from edgesam_export.segment_anything.sam2_models import build_sam2, build_sam2_hf, build_sam2_video_predictor
from edgesam_export.segment_anything.sam2_predictor import SAM2ImagePredictor
from edgesam_export.segment_anything.transforms import ResizeLongestSide

__all__ = [
    "ResizeLongestSide",
    "SAM2AutomaticMaskGenerator",
    "SAM2ImagePredictor",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam2",
    "build_sam2_hf",
    "build_sam2_video_predictor",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "replace_sam2",
    "replace_segment_anything",
    "sam_model_registry",
]
