"""Annotations of images, read out of untrusted files: JSON documents, polygons, run lengths, images of masks.

Run lengths are decoded here, because pycocotools' C code trusts a file's numbers. Its polygons are used, as nobody
else's cover exactly the pixels that COCO's do (``polygons``).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgesam_export.distill.polygons import outline, polygon_runs, shown
from edgesam_export.errors import UsageError, first_line, warn
from edgesam_export.files import stand_in
from edgesam_export.parity.instances import is_crowd

__all__ = ["annotated", "check_count", "labelled", "listed", "mask_of", "masks_of", "read_document"]

MAX_OBJECTS = 2000
"""Most objects of one image; a mask file with more distinct values is a photograph."""
MAX_MASK_BYTES = 2 << 30
"""Most memory for the masks of one image: 2 GiB are 600 objects of 3.5 megapixels."""
MAX_SIDECAR_BYTES = 32 << 20
"""Largest .json beside one image."""
MASK_MODES = {"1", "L", "P", "I;16", "I;16B", "I", "RGB"}
VOID = 255
"""Index that PASCAL VOC and DAVIS give the border between objects in a palette."""
MOST_THIN = 4
"""Values without a pixel among its own kind that a mask file may have before they count as smoothed edges."""
OTHER_TOOLS = (
    ("shapes", "an annotation of labelme for one image: put it beside that image, and give the folder"),
    ("_via_img_metadata", "a project of VIA: export it as COCO"),
    ("regions", "an annotation of VIA: export it as COCO"),
)
"""Key of a document that is no COCO file, and what it is."""


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
    tool = next((text for mark, text in OTHER_TOOLS if mark in document), None)
    if rows is None and tool is not None:
        raise UsageError(f"'{path}' is {tool}")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"'{path}': '{key}' is {shown(rows)}; annotations of objects have a list of objects there")
    return rows


def annotated(path: Path, size: tuple[int, int], damaged: list[str] | None) -> np.ndarray:
    """Return the masks of a SA-1B file, ``annotations`` with ``segmentation``, crowd left out, or of one of labelme.

    See ``masks_of``.
    """
    document = read_document(path, MAX_SIDECAR_BYTES)
    if "shapes" in document and "annotations" not in document:
        return labelme_masks(document, path, size, damaged)
    rows = listed(document, "annotations", path)
    kept = [(n, row) for n, row in enumerate(rows) if not is_crowd(row)]
    segments = [(row.get("id", f"number {n}"), row.get("segmentation")) for n, row in kept]
    return masks_of(segments, size, str(path), damaged)


def labelme_masks(document: dict[str, Any], path: Path, size: tuple[int, int], damaged: list[str] | None) -> np.ndarray:
    """Return the masks of labelme's shapes: polygons and rectangles, those of one ``group_id`` and label together."""
    stated = (document.get("imageHeight"), document.get("imageWidth"))
    if None not in stated and stated != size:
        raise UsageError(f"{path}: is of an image of {stated[1]}x{stated[0]}, its image has {size[1]}x{size[0]}")
    objects: dict[Any, list[Any]] = {}
    for number, shape in enumerate(listed(document, "shapes", path)):
        group = shape.get("group_id")
        key = f"number {number}" if group is None else f"{shape.get('label')!r} {group!r:.60}"
        objects.setdefault(key, []).append(outline(shape))
    return masks_of(list(objects.items()), size, str(path), damaged)


def labelled(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the masks of a PNG whose distinct values or colours are the objects.

    Zero and black are none, and index 255 of a palette is none beside other objects.
    """
    try:
        with Image.open(path) as image:
            if (image.height, image.width) != tuple(size):
                found = f"{image.width}x{image.height}"
                raise UsageError(f"{path}: is {found}, its image {size[1]}x{size[0]}; a mask has the image's size")
            if image.mode not in MASK_MODES:
                raise UsageError(f"{path}: has mode {image.mode}; save masks in grey, with a palette or as RGB")
            values, lossy = np.asarray(image).astype(np.int64), image.format == "JPEG"
            if image.mode == "P" and ((values != 0) & (values != VOID)).any():
                values[values == VOID] = 0
    except UsageError:
        raise
    except Exception as error:  # decoders raise whatever a broken file makes them run into
        raise UsageError(f"{path}: not an image that can be read: {first_line(error)}") from None
    if values.ndim == 3:
        values = values @ np.array([1 << 16, 1 << 8, 1])
    objects = np.unique(values[values != 0])
    check_count(len(objects), size, str(path))
    if lossy and len(objects) > 1:
        raise UsageError(f"{path}: is a JPEG, whose values are not exact: save masks as PNG")
    check_edges(values, objects, str(path))
    masks: np.ndarray = values[None] == objects[:, None, None]
    return masks


def check_edges(values: np.ndarray, objects: np.ndarray, where: str) -> None:
    """Raise UsageError where most values are the steps of a smoothed edge: none of their pixels lies among its own.

    Shapes: values (H, W); objects (K,)
    """
    same = values[1:-1, 1:-1] != 0
    rows, columns = values.shape
    for dy, dx in itertools.product(range(3), range(3)):
        same &= values[dy : rows - 2 + dy, dx : columns - 2 + dx] == values[1:-1, 1:-1]
    thin = len(objects) - len(np.unique(values[1:-1, 1:-1][same]))
    if thin > MOST_THIN and 2 * thin > len(objects):
        raise UsageError(
            f"{where}: {thin} of its {len(objects)} values are no object but edges: the mask was smoothed, resized, or"
            " saved as JPEG; write one value per object (of a single one, 0 below the middle and 255 above)"
        )


def masks_of(
    segments: Sequence[tuple[Any, Any]], size: tuple[int, int], where: str, damaged: list[str] | None = None
) -> np.ndarray:
    """Return the masks of annotations (id, segmentation) that cover at least one pixel, bool (K, H, W).

    What is wrong with an annotation that cannot be read goes into ``damaged``; without such a list it is raised.
    """
    check_count(len(segments), size, where)
    kept: list[np.ndarray] = []
    empty: list[Any] = []
    for number, segment in segments:
        try:
            mask = mask_of(segment, size, f"{where}: annotation {shown(number)}")
        except UsageError as error:
            if damaged is None:
                raise
            damaged.append(str(error))
        else:
            kept += [mask] if mask.any() else []
            empty += [] if mask.any() else [number]
    if empty:
        warn(f"{where}: annotations that cover no pixel were left out: {len(empty)}, the first is {shown(empty[0])}")
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
        return mask_of(polygon_runs(segment, size, where), size, where)
    if not isinstance(segment, dict):
        raise UsageError(f"{where}: segmentation is {shown(segment)}; give polygons or run lengths")
    declared, counts = segment.get("size"), segment.get("counts")
    if declared != list(size):
        stated = declared if isinstance(declared, list) and len(declared) == 2 else shown(declared)
        raise UsageError(f"{where}: run lengths have size {stated}, the image {list(size)} (height, width)")
    pixels = math.prod(size)
    if isinstance(counts, str) and counts[:2] in ("b'", 'b"'):
        raise UsageError(f"{where}: counts are Python's text of bytes, {shown(counts)}; write counts.decode()")
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
