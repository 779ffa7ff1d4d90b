"""A Core AI program as plain data: graphs of operations over numbered values. None of Apple's code, no arithmetic."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.coreai.asset import find_bytecode
from edgesam_export.coreai.child import read_graphs
from edgesam_export.errors import ProgramError
from edgesam_export.mil.graph import Constant
from edgesam_export.mil.types import BITS, ValueType

__all__ = ["CONSTANT", "OUTPUT", "Graph", "Node", "TypedValue", "load_graphs"]

CONSTANT = "coreai.constant"
OUTPUT = "coreai.output"
TYPES = {
    "f16": "fp16",
    "bf16": "bf16",
    "f32": "fp32",
    "f64": "fp64",
    "i1": "bool",
    **{f"si{bits}": f"int{bits}" for bits in (4, 8, 16, 32, 64)},
    **{f"ui{bits}": f"uint{bits}" for bits in (1, 2, 3, 4, 6, 8, 16, 32, 64)},
}
"""Core AI's element type -> MIL's; another one is kept under its own name."""
STORED = {"fp16": "f2", "bf16": "u2", "fp32": "f4", "fp64": "f8", "bool": "?"}
"""MIL type -> NumPy's type of its stored elements, where the name does not say it; BF16 as bit patterns."""


@dataclass(frozen=True)
class TypedValue:
    """A value of a graph: its number there, and its type."""

    number: int
    type: ValueType


@dataclass(frozen=True)
class Node:
    """One operation."""

    kind: str
    """As Core AI calls it, such as ``coreai.conv2d``."""
    number: int | None
    """The program's own number of the operation, which another conversion of the same module repeats."""
    operands: tuple[int, ...]
    attributes: Mapping[str, str]
    results: tuple[TypedValue, ...]
    regions: int
    constant: Constant | None = None


@dataclass(frozen=True)
class Graph:
    """A function, or a part of one that is called by ``coreai.invoke``."""

    name: str
    private: bool
    inputs: tuple[tuple[str, TypedValue], ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]

    @cached_property
    def returned(self) -> tuple[int, ...]:
        """The numbers of the values that it returns, in the order of ``outputs``."""
        return self.nodes[-1].operands if self.nodes and self.nodes[-1].kind == OUTPUT else ()


def load_graphs(path: Path) -> dict[str, Graph]:
    """Return the graphs of an asset by name, its digest checked, as Apple's reader finds them in a child process.

    Raises:
        ProgramError: not an asset, damaged, or not understood.
        RunnerUnavailableError: Apple's package is not installed.
    """
    bytecode = find_bytecode(path)
    with tempfile.TemporaryDirectory(prefix="edgesam-export-coreai-") as name:
        folder = Path(name)
        read_graphs(path, bytecode, folder)
        document = json.loads((folder / "graph.json").read_bytes())
        stored = folder / "constants.bin"
        # Mapped, its content is there when a constant is read and no sooner; the file goes when nothing refers to it.
        elements = np.memmap(stored, np.uint8, mode="r") if stored.stat().st_size else np.zeros(0, np.uint8)
    graphs = [graph_of(entry, elements) for entry in document["graphs"] if entry["kind"] == "coreai.graph"]
    if not any(not graph.private for graph in graphs):
        raise ProgramError(f"{path}: the asset has no function")
    return {graph.name: graph for graph in graphs}


def graph_of(entry: Mapping[str, Any], elements: np.ndarray) -> Graph:
    return Graph(
        name=entry["name"],
        private=entry["private"],
        inputs=tuple((value["name"], typed(value)) for value in entry["inputs"]),
        outputs=tuple(entry["outputs"]),
        nodes=tuple(node_of(node, elements) for node in entry["operations"]),
    )


def typed(entry: Mapping[str, Any]) -> TypedValue:
    shape = entry["shape"]
    dtype = entry["dtype"] if shape is None else TYPES.get(entry["dtype"], entry["dtype"])
    return TypedValue(entry["value"], ValueType(dtype, None if shape is None else tuple(shape)))


def node_of(entry: Mapping[str, Any], elements: np.ndarray) -> Node:
    results = tuple(map(typed, entry["results"]))
    constant = None
    if "constant" in entry:
        start = entry["constant"]["offset"]
        constant = constant_of(results[0].type, elements[start : start + entry["constant"]["bytes"]])
    return Node(
        kind=entry["kind"],
        number=entry["number"],
        operands=tuple(entry["operands"]),
        attributes=entry["attributes"],
        results=results,
        regions=entry["regions"],
        constant=constant,
    )


def constant_of(declared: ValueType, stored: np.ndarray) -> Constant:
    """Return a constant of its stored bytes, sub-byte elements one to a byte.

    Raises:
        ProgramError: a type whose elements are not known.
    """
    if not declared.is_tensor:
        raise ProgramError(f"a constant has element type {declared.dtype}, which is not known here")
    shape = declared.fixed_shape or ()
    if BITS[declared.dtype] < 8:
        return Constant(declared, unpacked(stored, declared.dtype, prod(shape)).reshape(shape))
    return Constant(declared, stored.view(STORED.get(declared.dtype, declared.dtype)).reshape(shape))


def unpacked(stored: np.ndarray, dtype: str, count: int) -> np.ndarray:
    """Return numbers of less than a byte, packed lowest bit first, as one of 8 bits each."""
    bits = BITS[dtype]
    stream = np.unpackbits(stored, bitorder="little")[: count * bits].reshape(count, bits)
    numbers = (stream @ (1 << np.arange(bits))).astype(np.uint8)
    if dtype.startswith("u"):
        return numbers
    negative = numbers >= 1 << (bits - 1)
    return np.where(negative, numbers.astype(np.int16) - (1 << bits), numbers).astype(np.int8)
