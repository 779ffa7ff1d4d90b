"""The names that programs import from ``segment_anything``, over checkpoints and exported files alike.

Arguments and results are those of segment-anything 1.0; docs/everything.md has the differences.
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
from edgesam_export.segment_anything.replacement import replace_segment_anything
from edgesam_export.segment_anything.transforms import ResizeLongestSide

__all__ = [
    "ResizeLongestSide",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "replace_segment_anything",
    "sam_model_registry",
]
