"""Inputs, outputs and states of a program as the caller sees them, and the checks Core ML makes on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgesam_export.errors import ProgramError
from edgesam_export.mil.types import CARRIER_NAMES, StateBox, ValueType

if TYPE_CHECKING:
    import torch

__all__ = ["ARRAY_TYPES", "FeatureKind", "FeatureSpec", "ProgramState", "check_feed", "read_output"]

ARRAY_TYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {"fp16": "f2", "fp32": "f4", "fp64": "f8", "int32": "i4", "int8": "i1"}.items()
}
"""Element type of a multi-array feature -> NumPy type of what comes back."""
COLOURS = {"RGB": 3, "BGR": 3, "GRAYSCALE": 1, "GRAYSCALE_FLOAT16": 1}
"""Colour layout -> channels of the tensor that the program sees."""
IMAGE_MODES = {"RGB": "RGB", "BGR": "RGB", "GRAYSCALE": "L", "GRAYSCALE_FLOAT16": "F"}
"""Colour layout -> mode of a PIL image that fits it."""

FeatureKind = Literal["tensor", "image", "state", "dictionary", "sequence", "string", "int64", "double"]


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """One input, output or state of a program."""

    name: str
    kind: FeatureKind
    dtype: str
    """Element type (``fp16``, ``fp32``, ``fp64``, ``int32``, ``int8``); ``uint8`` or ``fp16`` for an image."""
    shape: tuple[int, ...]
    """Default shape; of an image, that of the tensor: (1, channels, height, width)."""
    ranges: tuple[tuple[int, int | None], ...] | None = None
    """Smallest and largest size of each dimension (None: unbounded) when the shape is flexible."""
    choices: tuple[tuple[int, ...], ...] | None = None
    """The shapes allowed when they are enumerated."""
    colour: str | None = None
    """``RGB``, ``BGR``, ``GRAYSCALE`` or ``GRAYSCALE_FLOAT16`` for an image."""
    optional: bool = False
    default: float | None = None
    """What every element of a left-out optional input is."""
    description: str = ""

    @property
    def is_flexible(self) -> bool:
        return self.ranges is not None or self.choices is not None

    def allows(self, shape: tuple[int, ...]) -> bool:
        """Return whether the program takes an array of this shape."""
        if self.choices is not None:
            return shape in self.choices
        if self.ranges is not None:
            bounds = zip(shape, self.ranges)
            return len(shape) == len(self.ranges) and all(lo <= s and (hi is None or s <= hi) for s, (lo, hi) in bounds)
        return shape == self.shape

    @property
    def expected(self) -> str:
        """The values it takes, in words."""
        if self.kind == "image":
            sizes = (
                sorted({(s[-1], s[-2]) for s in self.choices}) if self.choices else [(self.shape[-1], self.shape[-2])]
            )
            text = " or ".join(f"{width}x{height}" for width, height in sizes)
            if self.ranges is not None:
                text = "x".join(span(low, high) for low, high in (self.ranges[-1], self.ranges[-2]))
            return f"{self.colour} image of {text} pixels (width x height)"
        if self.choices is not None:
            return f"{self.dtype} of shape {' or '.join(map(str, self.choices))}"
        if self.ranges is not None:
            return f"{self.dtype} of shape ({', '.join(span(low, high) for low, high in self.ranges)})"
        return f"{self.dtype} of shape {self.shape}"


def span(low: int, high: int | None) -> str:
    return str(low) if low == high else f"{low}..{'' if high is None else high}"


class ProgramState:
    """What a stateful program remembers between predictions; made by ``Program.make_state``, zero at first."""

    def __init__(self, boxes: Mapping[str, StateBox], dtypes: Mapping[str, str]) -> None:
        self.boxes, self.dtypes = dict(boxes), dict(dtypes)

    def read_state(self, name: str) -> np.ndarray:
        """Return a copy of one state in its declared type."""
        value: np.ndarray = self.box(name).value.cpu().numpy()
        return value.astype(ARRAY_TYPES[self.dtypes[name]])

    def write_state(self, name: str, value: np.ndarray) -> None:
        """Replace one state.

        Raises:
            ProgramError: no such state, or another shape.
        """
        box = self.box(name)
        if tuple(np.shape(value)) != tuple(box.value.shape):
            raise ProgramError(f"state '{name}' has shape {tuple(box.value.shape)}, got {tuple(np.shape(value))}")
        rounded = np.asarray(value, ARRAY_TYPES[self.dtypes[name]])
        box.value = box.value.new_tensor(rounded)

    def box(self, name: str) -> StateBox:
        if name not in self.boxes:
            raise ProgramError(f"no state '{name}'; this program keeps: {', '.join(sorted(self.boxes))}")
        return self.boxes[name]


def check_feed(
    specs: tuple[FeatureSpec, ...], declared: Mapping[str, ValueType], feed: Mapping[str, Any], device: torch.device
) -> dict[str, torch.Tensor]:
    """Return the values of all inputs as tensors on ``device``; the caller's arrays are never written to.

    FP16 arrays become FP16 tensors, perhaps of the same memory, and pixels bytes; all others get their carrier type.

    Raises:
        ProgramError: an input is missing, surplus, or has another shape or type than the program takes.
    """
    names = {spec.name for spec in specs}
    surplus = sorted(str(name) for name in feed if name not in names)
    if surplus:
        raise ProgramError(f"unknown input '{surplus[0]}'; this program takes: {', '.join(sorted(names)) or 'none'}")
    values = {}
    for spec in specs:
        if spec.name in feed:
            array = image_array(spec, feed[spec.name]) if spec.kind == "image" else tensor_array(spec, feed[spec.name])
        elif spec.optional:
            array = np.full(spec.shape, spec.default or 0)
        else:
            raise ProgramError(f"input '{spec.name}' is missing; expected {spec.expected}")
        values[spec.name] = to_carrier(spec, array, declared[spec.name], device)
    return values


def to_carrier(spec: FeatureSpec, array: np.ndarray, declared: ValueType, device: torch.device) -> torch.Tensor:
    import torch

    order: Literal["C", "K"] = "K" if spec.kind == "image" else "C"  # pixels stay together, as convolutions want them
    if array.dtype == np.float16:  # widened later by torch, which is ten times faster than NumPy
        array = np.require(array, requirements=["C", "W"])
    elif spec.kind == "image" and array.dtype == np.uint8:  # likewise
        array = np.array(array, order=order)
    else:
        with np.errstate(over="ignore"):
            array = np.array(array, dtype=CARRIER_NAMES[declared.dtype], order=order)
    tensor = torch.from_numpy(array).to(device)
    if declared.shape == () and tensor.numel() == 1:
        return tensor.reshape(())  # Core ML has no array of rank 0: the feature of a scalar has shape (1,)
    if declared.shape is not None and len(declared.shape) != tensor.dim():
        raise ProgramError(f"input '{spec.name}' has rank {tensor.dim()}, the program declares {declared}")
    return tensor


def tensor_array(spec: FeatureSpec, value: Any) -> np.ndarray:
    """Return a multi-array input as an array of its declared type.

    Raises:
        ProgramError: not numbers, not representable in the declared type, or a wrong shape.
    """
    array = value.detach().cpu().numpy() if hasattr(value, "detach") else as_array(spec, value)
    if array.dtype.kind not in "fiub":
        raise ProgramError(f"input '{spec.name}' has type {array.dtype}; expected {spec.expected}")
    if array.ndim == 0 and spec.shape == (1,):
        array = array.reshape(1)
    if not spec.allows(array.shape):
        raise ProgramError(f"input '{spec.name}' has shape {array.shape}; expected {spec.expected}")
    target = ARRAY_TYPES[spec.dtype]
    if np.issubdtype(target, np.integer) and array.size:
        bounds = np.iinfo(target)
        if array.dtype.kind == "f" and not np.array_equal(array, np.trunc(array)):
            raise ProgramError(f"input '{spec.name}' has fractions or NaN ({array.dtype}); expected {spec.expected}")
        if array.min() < bounds.min or array.max() > bounds.max:
            raise ProgramError(f"input '{spec.name}' leaves the range {bounds.min} to {bounds.max} of {spec.dtype}")
    return array


def as_array(spec: FeatureSpec, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError):
        raise ProgramError(f"input '{spec.name}' is not an array of numbers; expected {spec.expected}") from None


def image_array(spec: FeatureSpec, value: Any) -> np.ndarray:
    """Return an image as the (1, channels, height, width) numbers that the program sees, 0 to 255.

    Shapes:
        value: a PIL image, or an array (height, width, 3) in RGB order, or (height, width) for a grayscale layout
    Raises:
        ProgramError: another kind of value, colour mode or size.
    """
    assert spec.colour is not None
    mode = getattr(value, "mode", None)
    if mode is not None and mode != IMAGE_MODES[spec.colour]:
        raise ProgramError(
            f"input '{spec.name}' is an image of mode {mode}; expected {spec.expected}: "
            f"convert('{IMAGE_MODES[spec.colour]}') it first"
        )
    array = as_array(spec, value)
    channels, gray_float = COLOURS[spec.colour], spec.colour == "GRAYSCALE_FLOAT16"
    if array.dtype.kind not in ("fu" if gray_float else "u") or (not gray_float and array.dtype != np.uint8):
        expected = "float" if gray_float else "uint8"
        raise ProgramError(f"input '{spec.name}' has type {array.dtype}, not {expected}; expected {spec.expected}")
    if array.ndim != (3 if channels == 3 else 2) or (channels == 3 and array.shape[2] != 3):
        raise ProgramError(f"input '{spec.name}' has shape {array.shape}; expected {spec.expected}")
    if not spec.allows((1, channels, *array.shape[:2])):
        raise ProgramError(f"input '{spec.name}' is {array.shape[1]}x{array.shape[0]} pixels; expected {spec.expected}")
    planes: np.ndarray = array[None] if channels == 1 else array.transpose(2, 0, 1)
    return (planes[::-1] if spec.colour == "BGR" else planes)[None]


def read_output(spec: FeatureSpec, value: Any, held_dtype: str) -> Any:
    """Return an output in its declared type: a new array, an image as uint8 (height, width[, 3]) in RGB order, or the
    label and probabilities of a classifier.

    ``held_dtype`` is the element type that numerics left the value in: ``fp32`` numerics keep FP16 outputs as float32.
    """
    if isinstance(value, list):
        items = [value.element(index) for index in range(len(value))] if hasattr(value, "element") else value
        return [item.detach().cpu().tolist() if hasattr(item, "detach") else item for item in items]
    if not hasattr(value, "detach"):  # a string or dict
        return value
    if spec.kind in ("int64", "double"):
        return value.item()
    if spec.kind == "image":
        return read_image(spec, value.detach().cpu().numpy())
    array = new_array(value.detach(), ARRAY_TYPES[held_dtype])
    return array.reshape(spec.shape) if array.ndim == 0 and prod(spec.shape) == 1 else array


def new_array(value: torch.Tensor, dtype: np.dtype[Any]) -> np.ndarray:
    """Return a tensor's numbers as an array of their own, narrowed and rearranged by torch: NumPy is far slower."""
    dense = (value.half() if dtype == np.float16 else value).contiguous().cpu()
    with np.errstate(over="ignore", invalid="ignore"):
        array: np.ndarray = dense.numpy().astype(dtype, copy=dense.data_ptr() == value.data_ptr())
        return array


def read_image(spec: FeatureSpec, array: np.ndarray) -> np.ndarray:
    planes = array.reshape(array.shape[-3:]).transpose(1, 2, 0)
    if spec.colour == "GRAYSCALE_FLOAT16":
        return np.array(planes[..., 0], np.float16)
    planes = np.nan_to_num(planes).clip(0, 255).round().astype(np.uint8)
    if spec.colour == "GRAYSCALE":
        return np.ascontiguousarray(planes[..., 0])
    return np.ascontiguousarray(planes if spec.colour == "RGB" else planes[..., ::-1])
