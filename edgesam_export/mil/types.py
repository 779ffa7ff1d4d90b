"""Types of a MIL program and what carries their values.

FP16 and BF16 values are carried as float32 that holds only representable numbers: the numerics policy rounds, ops
never do.
Unsigned types that torch handles badly are carried by the next wider signed type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["BITS", "CARRIER_NAMES", "FLOATS", "StateBox", "ValueType"]

CARRIER_NAMES = {
    "fp16": "float32",
    "bf16": "float32",
    "fp32": "float32",
    "fp64": "float64",
    "bool": "bool",
    "int4": "int8",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint1": "uint8",
    "uint2": "uint8",
    "uint3": "uint8",
    "uint4": "uint8",
    "uint6": "uint8",
    "uint8": "uint8",
    "uint16": "int32",
    "uint32": "int64",
    "uint64": "int64",
}
"""MIL element type -> name, in torch and in NumPy, of the element type that carries it."""

FLOATS = frozenset({"fp16", "bf16", "fp32", "fp64"})

BITS = {
    "fp16": 16,
    "bf16": 16,
    "fp32": 32,
    "fp64": 64,
    "bool": 8,
    **{name: int(name.lstrip("uint")) for name in CARRIER_NAMES if "int" in name},
}
"""Width of one stored element, bits."""


@dataclass(frozen=True)
class ValueType:
    """Declared type of a value; ``str()`` gives it as coremltools prints it, e.g. ``fp16(1, 3, ?)``."""

    dtype: str
    """Element type of a tensor (a key of ``CARRIER_NAMES`` or ``string``); ``list``, ``state``, ``tuple``, ``dict``."""
    shape: tuple[int | None, ...] | None = ()
    """Sizes, None where the program leaves one open; None altogether when the rank is open. Of a list: its length."""
    element: ValueType | None = None
    """What a list holds or a state wraps; of a dict, its value type."""

    @property
    def is_tensor(self) -> bool:
        return self.dtype in CARRIER_NAMES

    @property
    def fixed_shape(self) -> tuple[int, ...] | None:
        """The sizes, None where one of them or the rank is open."""
        sizes = tuple(size for size in self.shape or () if size is not None)
        return sizes if self.shape is not None and len(sizes) == len(self.shape) else None

    def __str__(self) -> str:
        if self.element is not None:
            return f"{self.dtype}[{self.element}]"
        if self.shape is None:
            return f"{self.dtype}(...)"
        return f"{self.dtype}({', '.join('?' if size is None else str(size) for size in self.shape)})"


class StateBox:
    """A mutable cell: what a ``state`` input holds between predictions."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"StateBox({self.value!r})"
