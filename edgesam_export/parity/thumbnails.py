"""The masks of both sides over a thumbnail of the image, for reports that one looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from edgesam_export.parity.report import MaskImage, ParityRow, Prompt

__all__ = ["mask_image"]


def mask_image(pixels: np.ndarray, prompt: Prompt, row: ParityRow, logits: Sequence[np.ndarray]) -> MaskImage:
    """Return the best mask of reference and candidate over a thumbnail of their size.

    Shapes: pixels uint8 (H, W, 3), logits both (h, w)
    """
    height, width = logits[0].shape
    x_scale, y_scale = width / pixels.shape[1], height / pixels.shape[0]
    box = prompt.box
    if box is not None:
        box = (box[0] * x_scale, box[1] * y_scale, box[2] * x_scale, box[3] * y_scale)
    thumbnail = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return MaskImage(
        runner=row.candidate,
        image=row.image,
        prompt=replace(prompt, points=tuple((x * x_scale, y * y_scale) for x, y in prompt.points), box=box),
        source=np.asarray(thumbnail),
        reference=logits[0] > 0,
        candidate=np.asarray(logits[1]) > 0,
        iou=row.metrics["best_mask_iou"],
        passed=row.passed,
    )
