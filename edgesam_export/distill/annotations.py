"""Annotations of images, read out of untrusted files: JSON documents, polygons, run lengths, images of masks.

Run lengths are decoded here, because pycocotools' C code trusts a file's numbers. Its polygons are used, as nobody
else's cover exactly the pixels that COCO's do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgesam_export.errors import RunnerUnavailableError, UsageError, first_line
from edgesam_export.files import stand_in

__all__ = ["HUGE", "annotated", "check_count", "labelled", "listed", "mask_of", "masks_of", "read_document", "shown"]

MAX_OBJECTS = 2000
"""Most objects of one image; a mask file with more distinct values is a photograph."""
MAX_MASK_BYTES = 2 << 30
"""Most memory for the masks of one image: 2 GiB are 600 objects of 3.5 megapixels."""
MAX_SIDECAR_BYTES = 32 << 20
"""Largest .json beside one image."""
MAX_OUTLINE = 20_000_000
"""Most points of an object's polygons after pycocotools has made them five times finer."""
FINER = 5
HUGE = 1e9
"""No coordinate of any image that can be opened."""
MASK_MODES = {"1", "L", "P", "I;16", "I;16B", "I", "RGB"}


def read_document(path: Path, limit: int) -> dict[str, Any]:
    """Return the object in an untrusted JSON file."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise UsageError(f"'{path}' has {size / 1e6:.0f} MB, more than {limit >> 20} MiB; split it")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"'{path}' {stand_in(path) or f'is not JSON: {first_line(error)}'}") from None
    if not isinstance(document, dict):
        raise UsageError(f"'{path}' holds {shown(document)}, not an object with images and annotations")
    return document


def listed(document: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """Return a list of objects of a document."""
    rows = document.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"'{path}': '{key}' is {shown(rows)}; annotations of objects have a list of objects there")
    return rows


def shown(value: Any) -> str:
    """Return an untrusted value for an error line, cut short."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'dictionary'} of {len(value)}"
    return f"{value!r:.60}"


def annotated(path: Path, size: tuple[int, int], damaged: list[str] | None) -> np.ndarray:
    """Return the masks of a SA-1B file: ``annotations`` with ``segmentation``, crowd left out; see ``masks_of``."""
    rows = listed(read_document(path, MAX_SIDECAR_BYTES), "annotations", path)
    kept = [(n, row) for n, row in enumerate(rows) if not row.get("iscrowd")]
    segments = [(row.get("id", f"number {n}"), row.get("segmentation")) for n, row in kept]
    return masks_of(segments, size, str(path), damaged)


def labelled(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the masks of a PNG whose distinct values or colours, zero and black left out, are the objects."""
    try:
        with Image.open(path) as image:
            if (image.height, image.width) != tuple(size):
                found = f"{image.width}x{image.height}"
                raise UsageError(f"{path}: is {found}, its image {size[1]}x{size[0]}; a mask has the image's size")
            if image.mode not in MASK_MODES:
                raise UsageError(f"{path}: has mode {image.mode}; save masks in grey, with a palette or as RGB")
            values = np.asarray(image).astype(np.int64)
    except UsageError:
        raise
    except Exception as error:  # decoders raise whatever a broken file makes them run into
        raise UsageError(f"{path}: not an image that can be read: {first_line(error)}") from None
    if values.ndim == 3:
        values = values @ np.array([1 << 16, 1 << 8, 1])
    objects = np.unique(values[values != 0])
    check_count(len(objects), size, str(path))
    masks: np.ndarray = values[None] == objects[:, None, None]
    return masks


def masks_of(
    segments: Sequence[tuple[Any, Any]], size: tuple[int, int], where: str, damaged: list[str] | None = None
) -> np.ndarray:
    """Return the masks of annotations (id, segmentation) that cover at least one pixel, bool (K, H, W).

    What is wrong with an annotation that cannot be read goes into ``damaged``; without such a list it is raised.
    """
    check_count(len(segments), size, where)
    kept = []
    for number, segment in segments:
        try:
            mask = mask_of(segment, size, f"{where}: annotation {shown(number)}")
        except UsageError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
        else:
            kept += [mask] if mask.any() else []
    return np.stack(kept) if kept else np.zeros((0, *size), bool)


def check_count(count: int, size: tuple[int, int], where: str) -> None:
    """Raise UsageError for more masks than the limits of number and memory allow."""
    if count > MAX_OBJECTS:
        raise UsageError(f"{where}: {count} objects in one image, at most {MAX_OBJECTS} are read; is it a mask?")
    if count * math.prod(size) > MAX_MASK_BYTES:
        raise UsageError(
            f"{where}: {count} masks of {size[1]}x{size[0]} take more than {MAX_MASK_BYTES >> 30} GiB; "
            "scale image and masks down"
        )


def mask_of(segment: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Return the mask of one annotation: polygons, or run lengths as a list or as COCO's text.

    Shapes: size (H, W) of the image; returns bool (H, W)
    Raises: UsageError, begun with ``where``, for geometry that is malformed or does not fit the image.
    """
    if isinstance(segment, list):
        return polygon_mask(segment, size, where)
    if not isinstance(segment, dict):
        raise UsageError(f"{where}: segmentation is {shown(segment)}; give polygons or run lengths")
    declared, counts = segment.get("size"), segment.get("counts")
    if declared != list(size):
        stated = declared if isinstance(declared, list) and len(declared) == 2 else shown(declared)
        raise UsageError(f"{where}: run lengths have size {stated}, the image {list(size)} (height, width)")
    pixels = math.prod(size)
    if isinstance(counts, str):
        runs = unpacked(counts, where)
    elif isinstance(counts, list) and all(is_integer(run) and 0 <= run <= pixels for run in counts):
        runs = np.array(counts, np.int64)
    else:
        raise UsageError(f"{where}: counts are {shown(counts)}; give integers from 0 to {pixels}, or COCO's text")
    if not len(runs) or runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
        total = int(runs.sum()) if len(runs) else 0
        raise UsageError(f"{where}: run lengths cover {total} pixels, the image has {pixels}; the file is damaged")
    inside_run = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside_run, runs).reshape(size[1], size[0]).T)


def is_integer(value: Any) -> bool:
    """Return whether JSON states an integer, as 3 or as 3.0."""
    return type(value) is int or (type(value) is float and value.is_integer())


def unpacked(text: str, where: str) -> np.ndarray:
    """Return the run lengths in COCO's text.

    Each character from '0' on carries 5 bits, lowest first, and 32 when more of the number follow; 16 in the last
    is the sign. From the fourth on, a number is the difference to the one two before.
    Source: the format of pycocotools' ``rleToString``.
    """
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - ord("0")
    if not len(codes) or codes.min() < 0 or codes.max() >= 64 or codes[-1] & 32 or not text.isascii():
        raise UsageError(f"{where}: counts {shown(text)} are not COCO's run lengths; the file is damaged")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # 35 bits; an image has fewer than 27
        raise UsageError(f"{where}: counts hold a number of {lengths.max()} characters; the file is damaged")
    positions = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * positions), starts)
    runs -= ((codes[ends] & 16) >> 4) << (5 * lengths)
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs


def polygon_mask(polygons: list[Any], size: tuple[int, int], where: str) -> np.ndarray:
    """Return the mask of polygons together, by COCO's rule for pixels at the border."""
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise RunnerUnavailableError(
            "polygons need pycocotools, which is not installed; pip install 'edgesam-export[distill]'"
        ) from None
    height, width = size
    points = 0.0
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise UsageError(f"{where}: a polygon is {shown(polygon)}; give x, y of at least three points")
        if not all(type(value) in (int, float) and abs(value) < HUGE for value in polygon):  # NaN is not
            raise UsageError(f"{where}: a polygon has coordinates that are no numbers of pixels; the file is damaged")
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
    if not polygons or points > MAX_OUTLINE:
        what = f"outlines of {points:.3g} points" if polygons else "no polygon"
        raise UsageError(f"{where}: {what}, at most {MAX_OUTLINE:.3g} are drawn; leave the annotation out")
    drawn = coco.merge(coco.frPyObjects(polygons, height, width))
    return mask_of({"size": [height, width], "counts": drawn["counts"].decode("ascii")}, size, where)
