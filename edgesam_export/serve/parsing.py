"""From the body of a request to values that are checked; a body is whatever a client sends."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from edgesam_export.errors import UsageError
from edgesam_export.imaging.reading import open_image
from edgesam_export.predict.mask_generator import GeneratorConfig
from edgesam_export.serve.predictions import Click
from edgesam_export.serve.sessions import Limits

__all__ = ["click_of", "config_of", "document_of", "image_of", "integer_of", "preview_of", "text_of"]

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
"""Formats of uploads, and HEIC where it can be read: what cameras and browsers write, and no decoder beyond those."""
PREVIEW_SIDE = 2048
PREVIEW_QUALITY = 92


def image_of(content: bytes) -> np.ndarray:
    """Return the upright pixels of an uploaded file. Shapes: returns uint8 (H, W, 3) RGB

    Raises: UsageError when it is no image, damaged or too large.
    """
    if not content:
        raise UsageError("the file is empty; choose an image")
    return open_image(BytesIO(content), FORMATS)


def preview_of(pixels: np.ndarray) -> bytes:
    """Return an image as the page shows it: JPEG, its longest side at most ``PREVIEW_SIDE``."""
    image = Image.fromarray(pixels)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=PREVIEW_QUALITY, subsampling=0)
    return buffer.getvalue()


def document_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body.

    Raises: UsageError when it holds none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise UsageError("the request is not JSON") from None
    if not isinstance(document, dict):
        raise UsageError(f"the request is {type(document).__name__} in JSON; send an object")
    return document


def text_of(document: Mapping[str, Any], name: str) -> str:
    """Return a text of a document.

    Raises: UsageError when it is missing or of another type.
    """
    value = document.get(name)
    if not isinstance(value, str):
        raise UsageError(f"'{name}' is {shown(value)}; send a text")
    return value


def integer_of(document: Mapping[str, Any], name: str, lowest: int, highest: int, default: int | None = None) -> int:
    """Return an integer of a document within bounds, ``default`` where it is missing.

    Raises: UsageError when it is neither.
    """
    value = document.get(name, default)
    if type(value) is not int or not lowest <= value <= highest:
        raise UsageError(f"'{name}' is {shown(value)}; send an integer from {lowest} to {highest}")
    return value


def click_of(document: Mapping[str, Any], limits: Limits) -> Click:
    """Return the prompt of a document: ``points`` as [x, y, label], ``box`` as four numbers or null.

    That they lie in the image and form a prompt is checked where they are used.

    Raises: UsageError for anything else.
    """
    points = document.get("points", [])
    if not isinstance(points, list):
        raise UsageError(f"'points' is {shown(points)}; send a list of [x, y, label]")
    if len(points) > limits.points:
        raise UsageError(f"{len(points)} points; a prompt has at most {limits.points}, undo or clear some")
    if not all(is_numbers(point, 3) and point[2] in (0, 1) for point in points):
        raise UsageError("'points' are not all [x, y, label] with finite numbers and label 1 or 0")
    box = document.get("box")
    if box is not None and not is_numbers(box, 4):
        raise UsageError(f"'box' is {shown(box)}; send four finite numbers x0, y0, x1, y1, or null")
    return Click(
        points=tuple((float(x), float(y)) for x, y, _ in points),
        labels=tuple(int(label) for *_, label in points),
        box=None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
    )


def config_of(document: Mapping[str, Any], limits: Limits) -> GeneratorConfig:
    """Return the options of everything mode in a document: ``grid``, ``min_score``, ``min_stability``, ``min_area``.

    Raises: UsageError for values that cannot be.
    """
    defaults = GeneratorConfig()
    thresholds = {
        "min_score": document.get("min_score", defaults.pred_iou_thresh),
        "min_stability": document.get("min_stability", defaults.stability_score_thresh),
    }
    for name, value in thresholds.items():
        if not is_number(value) or not 0 <= value <= 1:
            raise UsageError(f"'{name}' is {shown(value)}; send a number from 0 to 1")
    return GeneratorConfig(
        points_per_side=integer_of(document, "grid", 1, limits.grid, defaults.points_per_side),
        pred_iou_thresh=thresholds["min_score"],
        stability_score_thresh=thresholds["min_stability"],
        min_mask_region_area=integer_of(document, "min_area", 0, 1 << 30, 0),
    )


def is_numbers(values: Any, count: int) -> bool:
    """Return whether values are a list of so many finite numbers."""
    return isinstance(values, list) and len(values) == count and all(map(is_number, values))


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number that a float holds."""
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def shown(value: Any) -> str:
    """Return a value for a message, shortened."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
