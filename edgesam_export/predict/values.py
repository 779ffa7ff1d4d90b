"""Inputs and outputs of a program as files: arrays and images in; arrays, images, labels and dictionaries out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from edgesam_export.errors import UsageError, warn
from edgesam_export.files import json_text
from edgesam_export.imaging.reading import grey_floats, open_image, read_array, save_png

if TYPE_CHECKING:
    from edgesam_export.mil.features import FeatureSpec

__all__ = ["SavedValue", "ValueFiles", "read_inputs"]

SHOWN_CLASSES = 3
"""Classes of a classifier in a table, the most probable first."""


@dataclass(frozen=True, kw_only=True)
class SavedValue:
    """One value that ``run`` wrote."""

    name: str
    kind: str
    """``output``, ``state`` or ``probe``."""
    dtype: str
    """Element type of an array; ``string``, ``integer``, ``number``, ``dictionary`` or ``list`` of what is none."""
    path: Path
    shape: tuple[int, ...] | None = None
    """None for what is no array."""
    smallest: float | None = None
    largest: float | None = None
    value: Any = None
    """A label, probabilities by class and the like, as JSON data; None for arrays."""
    image: Path | None = None
    """The same as a PNG, of 8-bit images."""

    @property
    def shape_text(self) -> str:
        """Shape for a table."""
        if self.shape is None:
            return f"{len(self.value)} entries" if isinstance(self.value, dict | list) else "one"
        return "x".join(str(size) for size in self.shape) or "scalar"

    @property
    def range_text(self) -> str:
        """Range of the values for a table, or the value itself."""
        if self.smallest is not None and self.largest is not None:
            return f"{self.smallest:.6g} .. {self.largest:.6g}"
        if isinstance(self.value, dict):
            numbers = {name: value for name, value in self.value.items() if isinstance(value, int | float)}
            best = sorted(numbers, key=lambda name: -numbers[name])[:SHOWN_CLASSES]
            return ", ".join(f"{name} {numbers[name]:.4g}" for name in best)
        return "" if self.value is None else str(self.value)[:60]

    def document(self) -> dict[str, Any]:
        """Return the value as JSON data; a number that is not finite becomes text."""
        document = {
            "name": self.name,
            "kind": self.kind,
            "shape": None if self.shape is None else list(self.shape),
            "dtype": self.dtype,
            "smallest": finite(self.smallest),
            "largest": finite(self.largest),
            "path": str(self.path),
        }
        document |= {} if self.shape is not None else {"value": self.value}
        return document | ({} if self.image is None else {"image": str(self.image)})


def finite(value: Any) -> Any:
    """Return a number that JSON can hold, in place of NaN and infinities their names."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


# --------------------------------------------------------------------------------------------------------------- inputs


def read_inputs(texts: Sequence[str], specs: Mapping[str, FeatureSpec]) -> dict[str, Any]:
    """Return arrays and images by name, from ``NAME=FILE``, in the form that each input of a program takes.

    Raises: UsageError when one is not NAME=FILE, comes twice, or its file cannot be read.
    """
    feed: dict[str, Any] = {}
    for text in texts:
        name, separator, file = text.partition("=")
        if not separator or not name or not file:
            raise UsageError(f"input '{text}' is not NAME=FILE, for example image=photo.jpg")
        if name in feed:
            raise UsageError(f"input '{name}' is given twice; give each input once")
        feed[name] = read_input(Path(file), specs.get(name))
    return feed


def read_input(path: Path, spec: FeatureSpec | None) -> np.ndarray:
    """Return the array in a ``.npy``, or an image in the colours of the input.

    Grey is the luma of RGB (ITU-R 601-2, as Pillow has it); of 16-bit float grey the values as they are stored.

    Shapes: of an image (H, W, 3) uint8, (H, W) uint8 or (H, W) float32
    """
    if path.suffix.lower() == ".npy":
        array = read_array(path)
        if spec is not None:
            warn_of_overflow(path, array, spec)
        return array
    colour = spec.colour if spec is not None else None
    if colour == "GRAYSCALE_FLOAT16":
        return grey_floats(path)
    pixels = open_image(path)
    if spec is not None and spec.kind != "image":
        raise UsageError(
            f"'{path}' is an image, input '{spec.name}' takes {spec.expected}; save the array that the program expects,"
            " resized and normalised, as .npy"
        )
    return np.asarray(Image.fromarray(pixels).convert("L")) if colour == "GRAYSCALE" else pixels


def warn_of_overflow(path: Path, array: np.ndarray, spec: FeatureSpec) -> None:
    """Warn of numbers that become infinite in an input's type of floats; integers out of range are refused."""
    target = {"fp16": np.float16, "fp32": np.float32}.get(str(spec.dtype))
    if target is None or array.dtype.kind not in "fiu":
        return
    with np.errstate(over="ignore"):
        lost = int(np.count_nonzero(np.isfinite(array) & ~np.isfinite(array.astype(target))))
    if lost:
        warn(
            f"'{path}': {lost} of {array.size} values are beyond {np.finfo(target).max:.6g}, the largest of"
            f" {spec.dtype}, and become infinite in input '{spec.name}'"
        )


# -------------------------------------------------------------------------------------------------------------- outputs


class ValueFiles:
    """Writes values into a folder, each under a name of its own, and records where they will be."""

    def __init__(self, staging: Path, output: Path) -> None:
        self.staging, self.output = staging, output
        self.taken: set[str] = set()

    def stem(self, name: str) -> str:
        """Return a name without letters that no file name can have, and that no other value has."""
        plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name) or "_"
        stem, number = plain, 1
        while stem.lower() in self.taken:
            number += 1
            stem = f"{plain}_{number}"
        self.taken.add(stem.lower())
        return stem

    def save(self, kind: str, name: str, value: Any, *, is_image: bool = False) -> SavedValue:
        """Write one value: an array as ``.npy``, an 8-bit image as ``.png`` too, anything else as ``.json``."""
        stem = self.stem(name)
        if not isinstance(value, np.ndarray | np.generic):
            return self.save_plain(kind, name, plain_value(value), stem)
        array = np.asarray(value)
        np.save(self.staging / f"{stem}.npy", array, allow_pickle=False)
        png = is_image and array.dtype == np.uint8
        if png:
            save_png(array, self.staging / f"{stem}.png")
        numbers = array.astype(np.float64) if array.size and array.dtype.kind in "biuf" else np.zeros(1)
        if kind == "output" and (broken := int(np.count_nonzero(~np.isfinite(numbers)))):
            warn(f"output '{name}': {broken} of {numbers.size} values are NaN or infinite; --probe shows where from")
        return SavedValue(
            name=name,
            kind=kind,
            shape=array.shape,
            dtype=str(array.dtype),
            smallest=float(numbers.min()),
            largest=float(numbers.max()),
            path=self.output / f"{stem}.npy",
            image=self.output / f"{stem}.png" if png else None,
        )

    def save_plain(self, kind: str, name: str, value: Any, stem: str) -> SavedValue:
        """Write a value that is no array as ``.json``."""
        (self.staging / f"{stem}.json").write_text(json_text(value), encoding="utf-8")
        types = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "dictionary", list: "list"}
        return SavedValue(
            name=name, kind=kind, dtype=types[type(value)], path=self.output / f"{stem}.json", value=value
        )


def plain_value(value: Any) -> Any:
    """Return a label, a dictionary, a sequence or a number as JSON data."""
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain_value(value.tolist())
    return finite(value) if isinstance(value, str | bool | int | float) else str(value)
