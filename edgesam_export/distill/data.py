"""Images with the masks of their objects, one at a time: drawn scenes, COCO files, folders.

Files are untrusted. Sizes are compared with the image before anything is allocated, and nothing outside the folder is
read. Strict data raises for whatever is damaged. Other data raises for a damaged image when that is asked for, so that
a reader of many can pass over it (``Skipped``), and leaves a damaged annotation out and notes it in the sample.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from edgesam_export.distill.annotations import annotated, labelled, listed, mask_of, masks_of, read_document
from edgesam_export.distill.polygons import HUGE, shown
from edgesam_export.distill.samples import Data, Reading, Sample, shortened
from edgesam_export.errors import UsageError, first_line, warn
from edgesam_export.files import lies_inside
from edgesam_export.imaging.orientation import UPRIGHT
from edgesam_export.imaging.reading import IMAGE_SUFFIXES, image_files
from edgesam_export.parity.instances import is_crowd

__all__ = [
    "ENDLESS",
    "CocoData",
    "Data",
    "FolderData",
    "Reading",
    "Sample",
    "SceneData",
    "mask_of",
    "open_data",
    "scenes_of",
    "shortened",
]

ENDLESS = 1 << 31
"""Length of data that never ends."""
MAX_SEED = (1 << 32) - 1
MAX_INDEX_BYTES = 1 << 30
"""Largest COCO file; that of COCO's training set has 450 MB."""
MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
"""Of images of masks; a JPEG is refused with the reason."""
SCENES = re.compile(r"scenes:(\d{1,10})(?::(\d{1,10}))?(?::(.+))?", re.ASCII | re.DOTALL)


def open_data(text: str, *, size: int = 512, reading: Reading | None = None) -> Data:
    """Return the data that a specification names.

    ``scenes:SEED:COUNT`` are drawn scenes of ``size`` pixels, ``scenes:SEED`` never ends, ``:FOLDER`` after either
    takes surfaces from the photographs of a folder; a ``.json`` is a COCO instances file with its images beside it, in
    ``images/``, or laid out as COCO's are; a folder holds images, each with ``NAME.json`` as in SA-1B or of labelme,
    with ``NAME_mask.png`` or ``masks/NAME.png`` (or TIFF, BMP), or with nothing (no objects). ``reading`` says how
    files are read, strictly by default.

    Raises: UsageError when it is none of these, its index cannot be read, or a folder of photographs holds none.
    """
    if text.startswith("scenes:"):
        return SceneData(*scenes_of(text), size=size)
    path = Path(text)
    if path.is_dir():
        return FolderData(path, reading or Reading())
    if path.suffix.lower() == ".json":
        return CocoData(path, reading or Reading())
    raise UsageError(f"data '{text}' is neither scenes:SEED:COUNT, nor an existing folder, nor a COCO .json file")


def scenes_of(text: str) -> tuple[int, int, str | None]:
    """Return seed, count and folder of photographs of ``scenes:SEED[:COUNT][:FOLDER]``, or raise UsageError."""
    found = SCENES.fullmatch(text)
    seed, count, folder = (int(found[1]), int(found[2] or ENDLESS), found[3]) if found else (0, 0, None)
    if not 1 <= count <= ENDLESS or seed > MAX_SEED:
        raise UsageError(
            f"data '{text}': write scenes:SEED:COUNT, for example scenes:1000:100, with a seed of 0 to {MAX_SEED} and a"
            f" count of 1 to {ENDLESS}, or scenes:SEED for data without end; a folder of photographs may follow"
        )
    return seed, count, folder


def checked_index(index: int, length: int) -> int:
    """Return the index, or end an iteration."""
    if not 0 <= index < length:
        raise IndexError(f"sample {index} of {length}")
    return index


# --------------------------------------------------------------------------------------------------------------- scenes


class SceneData:
    """Procedural scenes; the same ones for the same seed and the same photographs."""

    def __init__(self, seed: int, count: int = ENDLESS, folder: str | None = None, *, size: int = 512) -> None:
        from edgesam_export.distill.scene_photographs import Photographs

        self.seed, self.count, self.size = seed, count, size
        self.photographs = Photographs(Path(folder).expanduser()) if folder else None
        self.name = f"scenes:{seed}" + (f":{count}" if count != ENDLESS else "") + (f":{folder}" if folder else "")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        from edgesam_export.distill.scenes import draw_scene

        scene = draw_scene(self.seed, checked_index(index, self.count), self.size, self.photographs)
        return Sample(f"scene {self.seed}:{index}", scene.image, scene.masks)


# ------------------------------------------------------------------------------------------------------------ the files


class CocoData:
    """A COCO instances file. Crowd annotations are left out, and so are those that cover no pixel.

    Only the index stays in memory: file names, sizes, and each annotation's geometry as JSON text, a quarter of what
    Python's numbers take.
    """

    def __init__(self, path: Path, reading: Reading) -> None:
        self.path, self.name, self.reading = path, path.name, reading
        document = read_document(path, MAX_INDEX_BYTES)
        images, annotations = (listed(document, key, path) for key in ("images", "annotations"))
        self.images: list[tuple[str, tuple[int, int]] | str] = []
        """Name and size of each image, or what is wrong with its entry."""
        self.geometry: list[list[tuple[Any, str]]] = [[] for _ in images]
        indexes: dict[Any, int] = {}
        for row in enumerate(images):
            self.images.append(self.or_raised(self.entry, *row, indexes))
        strays = [line for row in enumerate(annotations) if (line := self.or_raised(self.place, *row, indexes))]
        if strays:
            warn(f"{path.name}: {len(strays)} annotations belong to no image and were left out: {shortened(strays)}")
        crowds = sum(map(is_crowd, annotations))
        if 2 * crowds > len(annotations):
            warn(
                f"{path.name}: {crowds} of {len(annotations)} annotations are left out as crowds (iscrowd 1); some"
                " programs (CVAT) mark every painted mask so: set iscrowd to 0 where an annotation is one object"
            )
        self.beside = FilesBeside([entry[0] for entry in self.images if not isinstance(entry, str)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        entry = self.images[checked_index(index, len(self))]
        if isinstance(entry, str):
            raise UsageError(entry)
        name, size = entry
        image, orientation, found = self.reading.sizes(self.find(name))
        if found != size:
            raise UsageError(self.other_size(name, size, found, orientation))
        segments = [(number, json.loads(text)) for number, text in self.geometry[index]]
        damaged: list[str] = []
        masks = masks_of(segments, size, f"{self.path}", None if self.reading.strict else damaged)
        return self.reading.sample(name, image, orientation, masks, damaged)

    def or_raised(self, read: Callable[..., Any], *operands: Any) -> Any:
        """Return what ``read`` returns, or, unless the reading is strict, the line that it raises."""
        if self.reading.strict:
            return read(*operands)
        return self.or_line(read, *operands)

    def or_line(self, read: Callable[..., Any], *operands: Any) -> Any:
        """Return what ``read`` returns, or the line that it raises."""
        try:
            return read(*operands)
        except UsageError as error:
            return str(error)

    def find(self, name: str) -> Path:
        """Return the path of an image: the one named, or the only file that is called so, whatever folder is named."""
        folder = self.path.parent
        folders = [folder, folder / "images"]
        split = re.fullmatch(r"instances_(\w+)", self.path.stem)
        if split:  # COCO's own layout: annotations/instances_val2017.json, val2017/
            folders += [folder.parent / split[1], folder.parent / "images" / split[1]]
        if folder.name == "annotations":
            folders += [folder.parent, folder.parent / "images"]
        names = dict.fromkeys([name, name.replace("\\", "/")])  # as Windows writes it
        tried = [self.or_line(inside, candidate, spelled, str(self.path)) for candidate in folders for spelled in names]
        paths = [path for path in tried if isinstance(path, Path)]
        found = next((path for path in paths if os.path.isfile(path)), None)  # False for a name too long
        if found is None and (other := self.beside.called(name, folders)):
            found = inside(other.parent, other.name, str(self.path))
            warn(f"{self.path}: image {shown(name)} is taken to be '{other}', the only file that is called so")
        if found is None:
            looked = ", ".join(f"'{candidate}'" for candidate in folders)
            lines = [line for line in tried if isinstance(line, str)]
            raise UsageError(lines[0] if lines else f"{self.path}: image {shown(name)} is in none of {looked}")
        return found

    def entry(self, index: int, image: dict[str, Any], indexes: dict[Any, int]) -> tuple[str, tuple[int, int]]:
        """Return name and size of an image, and note its index by its id."""
        number = image.get("id")
        where = f"{self.path}: image {shown(image.get('id', f'number {index}'))}"
        if not isinstance(number, int | float | str) or number in indexes:
            raise UsageError(f"{where}: its id is missing or used twice; give every image one of its own")
        indexes[number] = index
        if not isinstance(image.get("file_name"), str):
            raise UsageError(f"{where}: file_name is {shown(image.get('file_name'))}; give the image's name")
        return image["file_name"], declared_size(image, where)

    def place(self, index: int, annotation: dict[str, Any], indexes: dict[Any, int]) -> None:
        """Keep an annotation with its image."""
        number, owner = annotation.get("id", f"number {index}"), annotation.get("image_id")
        if not isinstance(owner, int | float | str) or owner not in indexes:
            raise UsageError(f"{self.path}: annotation {shown(number)}: image_id {shown(owner)} is none of the images")
        if not is_crowd(annotation):
            text = json.dumps(annotation.get("segmentation"), separators=(",", ":"))
            self.geometry[indexes[owner]].append((number, text))

    def other_size(self, name: str, size: tuple[int, int], found: tuple[int, int], orientation: int) -> str:
        """Return the message for an image that has another size than its entry."""
        text = (
            f"{self.path}: {shown(name)} is declared as {size[1]}x{size[0]}, but the image is "
            f"{found[1]}x{found[0]}; annotations must belong to the image as it is"
        )
        if orientation == UPRIGHT or found[::-1] != size:
            return text
        now, other = ("as stored", "upright") if self.reading.frame == "raw" else ("upright", "raw")
        return (
            f"{text}, which is {now}: its EXIF orientation is {orientation}; give --annotations-frame {other} if its"
            " annotations are of the other pixels"
        )


class FilesBeside:
    """Files by what is left of their names when folders, case, escapes and forms of accents are set aside.

    Programs write the path that an image had on another machine. ``names`` are those of a document: one whose last
    part is not its own alone stands for no file.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.counts = Counter(map(plain, names))
        self.files: dict[Path, dict[str, list[Path]]] = {}

    def called(self, name: str, folders: Iterable[Path]) -> Path | None:
        """Return the only file of the first of some folders that has files called so; None without one."""
        if self.counts[plain(name)] != 1:
            return None
        found = next((files for folder in folders if (files := self.listed(folder).get(plain(name)))), [])
        return found[0] if len(found) == 1 else None

    def listed(self, folder: Path) -> dict[str, list[Path]]:
        """Return a folder's files by their plain names; nothing where it cannot be read."""
        if folder not in self.files:
            self.files[folder] = {}
            with suppress(OSError):
                for path in sorted(folder.iterdir()):
                    self.files[folder].setdefault(plain(path.name), []).append(path)
        return self.files[folder]


def plain(name: str) -> str:
    """Return the last part of a path or an address, unescaped, in one form of accents and of case."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return unicodedata.normalize("NFC", unquote(last)).casefold()


class FolderData:
    """A folder of images, sorted by name, and what lies beside them: see ``open_data``."""

    def __init__(self, folder: Path, reading: Reading) -> None:
        self.folder, self.name, self.reading = folder, folder.resolve().name, reading
        names = [path.name for path in image_files(folder)]
        self.images = [name for name in names if not Path(name).stem.endswith("_mask")]
        if not self.images:
            raise UsageError(f"'{folder}' holds no images ({', '.join(IMAGE_SUFFIXES)}); give another folder")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        name = self.images[checked_index(index, len(self))]
        stem = Path(name).stem
        image, orientation, size = self.reading.sizes(inside(self.folder, name, str(self.folder)))
        damaged: list[str] = []
        masks_beside = [f"{place}{suffix}" for place in (f"{stem}_mask", f"masks/{stem}") for suffix in MASK_SUFFIXES]
        for beside in (f"{stem}.json", *masks_beside):
            path = inside(self.folder, beside, str(self.folder))
            if path.is_file():
                found = None if self.reading.strict else damaged
                masks = annotated(path, size, found) if path.suffix == ".json" else labelled(path, size)
                return self.reading.sample(name, image, orientation, masks, damaged)
        return Sample(name, image, np.zeros((0, *image.shape[:2]), bool))


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


def declared_size(image: dict[str, Any], where: str) -> tuple[int, int]:
    """Return the height and width that a file declares; of floats the integer part, as pycocotools takes it."""
    height, width = image.get("height"), image.get("width")
    sides = [
        int(side)
        for side in (height, width)
        if isinstance(side, int | float) and type(side) is not bool and 1 <= side < HUGE
    ]
    if len(sides) == 2:
        return sides[0], sides[1]
    raise UsageError(f"{where}: height {shown(height)} and width {shown(width)} are no sizes in pixels")
