"""Images with the masks of their objects, one at a time: drawn scenes, COCO files, folders.

Files are untrusted. Sizes are compared with the image before anything is allocated, nothing outside the folder
is read, and run lengths are decoded here, because pycocotools' C code trusts a file's numbers. Its polygons are used,
as nobody else's cover exactly the pixels that COCO's do.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from edgesam_export.errors import RunnerUnavailableError, UsageError, first_line
from edgesam_export.files import lies_inside
from edgesam_export.imaging.reading import open_image

__all__ = ["ENDLESS", "CocoData", "Data", "FolderData", "Sample", "SceneData", "mask_of", "open_data"]

ENDLESS = 1 << 31
"""Length of data that never ends."""
MAX_SEED = (1 << 32) - 1
MAX_OBJECTS = 2000
"""Most objects of one image; a mask file with more distinct values is a photograph."""
MAX_MASK_BYTES = 2 << 30
"""Most memory for the masks of one image: 2 GiB are 600 objects of 3.5 megapixels."""
MAX_INDEX_BYTES = 1 << 30
"""Largest COCO file; that of COCO's training set has 450 MB."""
MAX_SIDECAR_BYTES = 32 << 20
"""Largest .json beside one image."""
MAX_OUTLINE = 20_000_000
"""Most points of an object's polygons after pycocotools has made them five times finer."""
FINER = 5
HUGE = 1e9
"""No coordinate of any image that can be opened."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MASK_MODES = {"1", "L", "P", "I;16", "I;16B", "I", "RGB"}
SCENES = re.compile(r"scenes:(\d{1,10})(?::(\d{1,10}))?", re.ASCII)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its objects.

    Shapes: image uint8 (H, W, 3) RGB; masks bool (K, H, W), each with at least one pixel, K may be 0
    """

    name: str
    image: np.ndarray
    masks: np.ndarray


class Data(Protocol):
    """A sequence of samples that are made or read when asked for."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def open_data(text: str, *, size: int = 512) -> Data:
    """Return the data that a specification names.

    ``scenes:SEED:COUNT`` are drawn scenes of ``size`` pixels, ``scenes:SEED`` never ends; a ``.json`` is a COCO
    instances file with its images beside it, in ``images/``, or laid out as COCO's are; a folder holds images, each
    with ``NAME.json`` as in SA-1B, with ``NAME_mask.png`` or ``masks/NAME.png``, or with nothing (no objects).

    Raises: UsageError when it is none of these, or its index cannot be read.
    """
    if text.startswith("scenes:"):
        found = SCENES.fullmatch(text)
        seed, count = (int(found[1]), int(found[2] or ENDLESS)) if found else (0, 0)
        if not 1 <= count <= ENDLESS or seed > MAX_SEED:
            raise UsageError(
                f"data '{text}': write scenes:SEED:COUNT, for example scenes:1000:100, with a seed of 0 to {MAX_SEED} "
                f"and a count of 1 to {ENDLESS}, or scenes:SEED for data without end"
            )
        return SceneData(seed, count, size)
    path = Path(text)
    if path.is_dir():
        return FolderData(path)
    if path.suffix.lower() == ".json":
        return CocoData(path)
    raise UsageError(f"data '{text}' is neither scenes:SEED:COUNT, nor an existing folder, nor a COCO .json file")


def checked_index(index: int, length: int) -> int:
    """Return the index, or end an iteration."""
    if not 0 <= index < length:
        raise IndexError(f"sample {index} of {length}")
    return index


# --------------------------------------------------------------------------------------------------------------- scenes


class SceneData:
    """Procedural scenes; the same ones for the same seed."""

    def __init__(self, seed: int, count: int = ENDLESS, size: int = 512) -> None:
        self.seed, self.count, self.size = seed, count, size
        self.name = f"scenes:{seed}" if count == ENDLESS else f"scenes:{seed}:{count}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        from edgesam_export.distill.scenes import draw_scene

        scene = draw_scene(self.seed, checked_index(index, self.count), self.size)
        return Sample(f"scene {self.seed}:{index}", scene.image, scene.masks)


# ------------------------------------------------------------------------------------------------------------ the files


class CocoData:
    """A COCO instances file. Crowd annotations are left out, and so are those that cover no pixel.

    Only the index stays in memory: file names, sizes, and each annotation's geometry as JSON text, a quarter of what
    Python's numbers take.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        document = read_document(path, MAX_INDEX_BYTES)
        images, annotations = (listed(document, key, path) for key in ("images", "annotations"))
        self.images: list[tuple[str, tuple[int, int]]] = []
        self.geometry: list[list[tuple[Any, str]]] = [[] for _ in images]
        indexes: dict[Any, int] = {}
        for index, image in enumerate(images):
            where = f"{path}: image {shown(image.get('id', f'number {index}'))}"
            if not isinstance(image.get("id"), int | str) or image["id"] in indexes:
                raise UsageError(f"{where}: its id is missing or used twice; give every image one of its own")
            if not isinstance(image.get("file_name"), str):
                raise UsageError(f"{where}: file_name is {shown(image.get('file_name'))}; give the image's name")
            indexes[image["id"]] = index
            self.images.append((image["file_name"], declared_size(image, where)))
        for index, annotation in enumerate(annotations):
            number = annotation.get("id", f"number {index}")
            owner = annotation.get("image_id")
            if not isinstance(owner, int | str) or owner not in indexes:
                raise UsageError(f"{path}: annotation {shown(number)}: image_id {shown(owner)} is none of the images")
            if not annotation.get("iscrowd"):
                text = json.dumps(annotation.get("segmentation"), separators=(",", ":"))
                self.geometry[indexes[owner]].append((number, text))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        name, size = self.images[checked_index(index, len(self))]
        image = open_image(self.find(name))
        if image.shape[:2] != size:
            raise UsageError(
                f"{self.path}: {shown(name)} is declared as {size[1]}x{size[0]}, but the image is "
                f"{image.shape[1]}x{image.shape[0]}; annotations must belong to the image as it is"
            )
        segments = [(number, json.loads(text)) for number, text in self.geometry[index]]
        return Sample(name, image, masks_of(segments, size, f"{self.path}"))

    def find(self, name: str) -> Path:
        """Return the path of an image."""
        folder = self.path.parent
        folders = [folder, folder / "images"]
        split = re.fullmatch(r"instances_(\w+)", self.path.stem)
        if split:  # COCO's own layout: annotations/instances_val2017.json, val2017/
            folders += [folder.parent / split[1], folder.parent / "images" / split[1]]
        paths = [inside(candidate, name, str(self.path)) for candidate in folders]
        found = next((path for path in paths if os.path.isfile(path)), None)  # False for a name too long
        if found is None:
            looked = ", ".join(f"'{candidate}'" for candidate in folders)
            raise UsageError(f"{self.path}: image {shown(name)} is in none of {looked}")
        return found


class FolderData:
    """A folder of images, sorted by name, and what lies beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.resolve().name
        try:
            names = sorted(
                entry.name for entry in folder.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()
            )
        except OSError as error:
            raise UsageError(f"cannot read folder '{folder}': {error.strerror or error}") from None
        self.images = [name for name in names if not Path(name).stem.endswith("_mask")]
        if not self.images:
            raise UsageError(f"'{folder}' holds no images ({', '.join(IMAGE_SUFFIXES)}); give another folder")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        name = self.images[checked_index(index, len(self))]
        stem = Path(name).stem
        image = open_image(inside(self.folder, name, str(self.folder)))
        size = image.shape[:2]
        for beside in (f"{stem}.json", f"{stem}_mask.png", f"masks/{stem}.png"):
            path = inside(self.folder, beside, str(self.folder))
            if path.is_file():
                masks = annotated(path, size) if path.suffix == ".json" else labelled(path, size)
                return Sample(name, image, masks)
        return Sample(name, image, np.zeros((0, *size), bool))


def inside(folder: Path, name: str, where: str) -> Path:
    """Return a path below ``folder``, links followed, or refuse one that leaves it (``files.lies_inside``)."""
    try:
        path = (folder / name).resolve()
        leaves = Path(name).is_absolute() or not lies_inside(folder / name, folder)
    except (ValueError, OSError, RuntimeError) as error:
        raise UsageError(f"{where}: {shown(name)} is no file name: {first_line(error)}") from None
    if leaves:
        raise UsageError(f"{where}: {shown(name)} leaves the folder '{folder}'; give names of files inside it")
    return path


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
        raise UsageError(f"'{path}' is not JSON: {first_line(error)}") from None
    if not isinstance(document, dict):
        raise UsageError(f"'{path}' holds {shown(document)}, not an object with images and annotations")
    return document


def listed(document: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """Return a list of objects of a document."""
    rows = document.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"'{path}': '{key}' is {shown(rows)}; annotations of objects have a list of objects there")
    return rows


def declared_size(image: dict[str, Any], where: str) -> tuple[int, int]:
    """Return the height and width that a file declares."""
    height, width = image.get("height"), image.get("width")
    if type(height) is int and type(width) is int and height > 0 and width > 0:
        return height, width
    raise UsageError(f"{where}: height {shown(height)} and width {shown(width)} are no sizes in pixels")


def shown(value: Any) -> str:
    """Return an untrusted value for an error line, cut short."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'dictionary'} of {len(value)}"
    return f"{value!r:.60}"


# ------------------------------------------------------------------------------------------------------------ the masks


def annotated(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the masks of a SA-1B file: ``annotations`` with ``segmentation``, crowd left out."""
    rows = listed(read_document(path, MAX_SIDECAR_BYTES), "annotations", path)
    kept = [(n, row) for n, row in enumerate(rows) if not row.get("iscrowd")]
    return masks_of([(row.get("id", f"number {n}"), row.get("segmentation")) for n, row in kept], size, str(path))


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


def masks_of(segments: Sequence[tuple[Any, Any]], size: tuple[int, int], where: str) -> np.ndarray:
    """Return the masks of annotations (id, segmentation) that cover at least one pixel, bool (K, H, W)."""
    check_count(len(segments), size, where)
    masks = (mask_of(segment, size, f"{where}: annotation {shown(number)}") for number, segment in segments)
    kept = [mask for mask in masks if mask.any()]
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
    elif isinstance(counts, list) and all(type(run) is int and 0 <= run <= pixels for run in counts):
        runs = np.array(counts, np.int64)
    else:
        raise UsageError(f"{where}: counts are {shown(counts)}; give integers from 0 to {pixels}, or COCO's text")
    if not len(runs) or runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
        total = int(runs.sum()) if len(runs) else 0
        raise UsageError(f"{where}: run lengths cover {total} pixels, the image has {pixels}; the file is damaged")
    inside_run = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside_run, runs).reshape(size[1], size[0]).T)


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
