"""Prompts that a user gives in a file: our own JSON, or COCO instances, of which each gives a box and a point."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.errors import UsageError, warn
from edgesam_export.files import stand_in
from edgesam_export.imaging.masks import bounding_box
from edgesam_export.imaging.reading import warn_if_turned
from edgesam_export.parity.instances import inner_point, is_crowd, mask_of
from edgesam_export.parity.report import Prompt

__all__ = ["PromptFile", "read_prompts"]

MAX_BYTES = 256 << 20
FIELDS = ("image", "name", "points", "labels", "box", "mask")


@dataclass(frozen=True)
class PromptFile:
    """Prompts by the image that they belong to, as the file names it."""

    path: Path
    by_image: Mapping[str, tuple[Prompt, ...]]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Width and height of images, where the file states them."""

    def images(self, given: Sequence[Path] | None) -> list[tuple[str, Path]]:
        """Return names and paths of the images: those given, or those of the file, beside which they lie.

        Raises: UsageError when an image has no prompts, or prompts no image.
        """
        if given is None:
            chosen = [(name, self.path.parent / name) for name in self.by_image]
        else:
            chosen = self.named(given)
        for name, image in chosen:
            size, stated = warn_if_turned(image), self.sizes.get(name)
            if size and stated and size != stated and size != stated[::-1]:
                warn(
                    f"{image}: has {size[0]}x{size[1]} pixels, '{self.path}' says {stated[0]}x{stated[1]}; its prompts"
                    " are taken as pixels of the image"
                )
        return chosen

    def named(self, given: Sequence[Path]) -> list[tuple[str, Path]]:
        """Return the images given, under the names that the file has for them."""
        names = {Path(name).name: name for name in self.by_image}
        known = [(names.get(image.name, ""), image) for image in given]
        for name, image in known:
            if not name:
                raise UsageError(f"'{self.path}' has no prompt for the image '{image}'; its images: {listed(names)}")
        if missing := sorted(set(self.by_image) - {name for name, _ in known}):
            raise UsageError(f"'{self.path}' has prompts for {listed(missing)}, which --image does not name")
        return known


def read_prompts(path: Path) -> PromptFile:
    """Return the prompts of a file.

    Raises: UsageError when the file cannot be read or holds no prompt, or for a prompt that is none, by its number.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"'{path}' is larger than {MAX_BYTES >> 20} MB; give fewer prompts")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"'{path}' {stand_in(path) or f'is not JSON: {error}'}") from None
    if not isinstance(document, dict) or not {"prompts", "annotations"} & set(document):
        raise UsageError(f"'{path}' holds neither 'prompts' nor COCO's 'annotations'; see docs/parity.md")
    found: dict[str, list[Prompt]] = {}
    read = own_prompts if "prompts" in document else instance_prompts
    for image, prompt in read(document, str(path)):
        known = found.setdefault(image, [])
        if prompt.label in {other.label for other in known}:
            raise UsageError(f"'{path}': image '{image}' has two prompts called '{prompt.label}'; give each a 'name'")
        known.append(prompt)
    if not found:
        raise UsageError(f"'{path}' holds no prompt; comparing nothing proves nothing")
    return PromptFile(path, {image: tuple(prompts) for image, prompts in found.items()}, stated_sizes(document))


def stated_sizes(document: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return width and height of the images of COCO annotations that state them."""
    images = document.get("images") if "prompts" not in document else None
    sizes = {entry["file_name"]: (entry.get("width"), entry.get("height")) for entry in images or ()}
    return {name: size for name, size in sizes.items() if all(type(side) is int for side in size)}


def own_prompts(document: dict[str, Any], where: str) -> Iterator[tuple[str, Prompt]]:
    """Yield image and prompt of each entry of our own schema."""
    for number, entry in enumerate(entries(document, "prompts", where)):
        place = f"{where}: prompt {number}"
        if unknown := sorted(set(entry) - set(FIELDS)):
            raise UsageError(f"{place} has the unknown field '{unknown[0]}'; known are {', '.join(FIELDS)}")
        image, name = entry.get("image"), entry.get("name", "")
        if not isinstance(image, str) or not image or not isinstance(name, str):
            raise UsageError(f"{place}: 'image' is {image!r}, 'name' {name!r}; give a file name, and a text or nothing")
        points = tuple(pair_of(point, place) for point in list_of(entry.get("points", []), "points", place))
        labels = tuple(list_of(entry.get("labels", [1] * len(points)), "labels", place))
        box = entry.get("box")
        corners: Any = None if box is None else numbers(box, 4, "box", place)
        if len(labels) != len(points) or any(label not in (0, 1) for label in labels):
            raise UsageError(f"{place}: labels {list(labels)} for {len(points)} points; give one for each, 1 or 0")
        if corners and not (corners[0] < corners[2] and corners[1] < corners[3]):
            raise UsageError(f"{place}: box {list(corners)} is empty; give x0, y0, x1, y1 in pixels")
        mask = entry.get("mask", False)
        if mask not in (True, False) or (mask and (corners or not points)) or not (points or corners):
            raise UsageError(f"{place} has {len(points)} points, box {box}, mask {mask}; a mask goes with points alone")
        kind = kind_of(points, corners, mask=mask)
        yield image, Prompt(kind=kind, name=name, points=points, labels=labels, box=corners)


def kind_of(points: tuple[Any, ...], box: Any, *, mask: bool) -> Any:
    """Return the kind of a prompt."""
    if mask:
        return "mask"
    if box is not None:
        return "box+point" if points else "box"
    return "point" if len(points) == 1 else "points"


def instance_prompts(document: dict[str, Any], where: str) -> Iterator[tuple[str, Prompt]]:
    """Yield, for each instance of COCO annotations, its box, and a point deep inside it where it has a mask."""
    images: dict[Any, tuple[str, Any]] = {}
    for number, entry in enumerate(entries(document, "images", where)):
        name, size = entry.get("file_name"), (entry.get("height"), entry.get("width"))
        if not isinstance(name, str) or not isinstance(entry.get("id"), int | str):
            raise UsageError(f"{where}: image {number} has no 'id' or no 'file_name'")
        images[entry["id"]] = name, size
    for number, entry in enumerate(entries(document, "annotations", where)):
        place = f"{where}: annotation {number}"
        if is_crowd(entry):
            continue
        key, identity = entry.get("image_id"), entry.get("id", number)
        if not isinstance(key, int | str) or key not in images:
            raise UsageError(f"{place}: image_id {key!r} is no image of the file")
        name, size = images[key]
        mask = mask_of(entry.get("segmentation"), size, place)
        box = instance_box(entry.get("bbox"), mask, place)
        if box is None:
            continue
        yield name, Prompt(kind="box", name=f"box {identity}", box=box)
        if mask is not None and mask.any():
            point = inner_point(mask)
            yield name, Prompt(kind="point", name=f"point {identity}", points=(point,), labels=(1,))


def instance_box(value: Any, mask: np.ndarray | None, place: str) -> tuple[float, float, float, float] | None:
    """Return an instance's box x0, y0, x1, y1, or that of its mask; None for an empty one."""
    if value is not None:
        x, y, width, height = numbers(value, 4, "bbox", place)
        return (x, y, x + width, y + height) if width > 0 and height > 0 else None
    found = bounding_box(mask) if mask is not None else None
    return None if found is None else tuple(map(float, found))  # type: ignore[return-value]  # of four


def entries(document: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    """Return a list of objects."""
    found = document.get(key)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UsageError(f"{where}: '{key}' is no list of objects")
    return found


def list_of(value: Any, name: str, place: str) -> list[Any]:
    """Return a list."""
    if not isinstance(value, list):
        raise UsageError(f"{place}: '{name}' is {value!r}; give a list")
    return value


def pair_of(value: Any, place: str) -> tuple[float, float]:
    """Return a point."""
    x, y = numbers(value, 2, "point", place)
    return x, y


def numbers(value: Any, count: int, name: str, place: str) -> tuple[float, ...]:
    """Return ``count`` finite numbers."""
    items = value if isinstance(value, list) else []
    finite = all(isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item) for item in items)
    if len(items) != count or not finite:
        raise UsageError(f"{place}: '{name}' is {value!r}; give {count} numbers, in pixels of the image")
    return tuple(float(item) for item in items)


def listed(names: Any) -> str:
    """Return the first names of many."""
    shown = [f"'{name}'" for name in list(names)[:3]]
    return ", ".join([*shown, "..."] if len(names) > len(shown) else shown)
