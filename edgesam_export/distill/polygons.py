"""Polygons of annotations, out of untrusted files: checked, then drawn by COCO's rule for pixels at the border."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgesam_export.errors import RunnerUnavailableError, UsageError

__all__ = ["HUGE", "outline", "polygon_runs", "shown"]

HUGE = 1e9
"""No coordinate of any image that can be opened."""
MAX_OUTLINE = 20_000_000
"""Most points of an object's polygons after pycocotools has made them five times finer."""
FINER = 5
POLYGON = "x, y of at least three points, as x, y, x, y, ... in one list"


def shown(value: Any) -> str:
    """Return an untrusted value for an error line, cut short."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'dictionary'} of {len(value)}"
    return f"{value!r:.60}"


def outline(shape: dict[str, Any]) -> Any:
    """Return the polygon of one of labelme's shapes as COCO has it; of another kind a text that says which."""
    points, kind = shape.get("points"), shape.get("shape_type") or "polygon"
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        return f"points are {shown(points)}, not pairs of x and y"
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return [x0, y0, x1, y0, x1, y1, x0, y1]
    return [value for point in points for value in point] if kind == "polygon" else f"a shape of kind {shown(kind)}"


def polygon_runs(polygons: list[Any], size: tuple[int, int], where: str) -> dict[str, Any]:
    """Return the run lengths of polygons together, as COCO's text.

    A single polygon may stand without the list around it, and pieces of one or two points, which have no area, are left
    out beside others.

    Raises:
        UsageError: begun with ``where``, for polygons that are malformed or not of an image of this size.
    """
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise RunnerUnavailableError(
            "polygons need pycocotools, which is not installed; pip install 'edgesam-export[distill]'"
        ) from None
    if not polygons:
        raise UsageError(f"{where}: it has no polygon; a box alone is no mask")
    if all(is_number(value) for value in polygons):
        polygons = [polygons]
    for polygon in polygons:
        check_numbers(polygon, where)
    areas = [polygon for polygon in polygons if len(polygon) >= 6]
    if not areas:
        raise UsageError(f"{where}: a polygon is {shown(polygons[0])}; give {POLYGON}")
    check_place(areas, size, where)
    drawn = coco.merge(coco.frPyObjects(areas, *size))
    return {"size": list(size), "counts": drawn["counts"].decode("ascii")}


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


def check_numbers(polygon: Any, where: str) -> None:
    """Raise UsageError unless a polygon is a list of x and y in turns."""
    if isinstance(polygon, str):
        raise UsageError(f"{where}: {polygon}; polygons and rectangles are read")
    if not isinstance(polygon, list) or len(polygon) % 2 or any(isinstance(value, list) for value in polygon):
        raise UsageError(f"{where}: a polygon is {shown(polygon)}; give {POLYGON}")
    if not all(is_number(value) and abs(value) < HUGE for value in polygon):  # NaN is not
        raise UsageError(f"{where}: a polygon has coordinates that are no numbers of pixels; the file is damaged")


def check_place(polygons: list[list[float]], size: tuple[int, int], where: str) -> None:
    """Raise UsageError for polygons that are not of the image, or too long to be drawn."""
    height, width = size
    points = 0.0
    for polygon in polygons:
        # A little outside is common; far outside, C's integers overflow.
        for values, side, axis in ((polygon[::2], width, "x"), (polygon[1::2], height, "y")):
            if min(values) < -side or max(values) > 2 * side:
                raise UsageError(
                    f"{where}: a polygon reaches from {axis} {min(values):.6g} to {max(values):.6g}, far outside the "
                    f"image of {width}x{height} pixels"
                )
        corners = np.array(polygon, np.float64).reshape(-1, 2)
        steps = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1)
        points += float((FINER * steps + 2).sum())
    if points > MAX_OUTLINE:
        raise UsageError(
            f"{where}: outlines of {points:.3g} points, at most {MAX_OUTLINE:.3g} are drawn; leave the annotation out"
        )
    values = [value for polygon in polygons for value in polygon]
    if min(size) > 2 and min(values) >= 0 and max(values) <= 1 and any(value % 1 for value in values):
        raise UsageError(
            f"{where}: its coordinates lie between 0 and 1, shares of the image as it seems; multiply x by {width} and"
            f" y by {height}"
        )
