"""A program as the ANE rules see it: plain data without constants among the operations; neither torch nor coremltools.

``view.view_program`` makes one from a loaded program, ``example.read_example`` from a few lines of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np

__all__ = ["ALIGNMENT_BYTES", "Direction", "Feature", "Flexibility", "GraphView", "Node", "StoredValue", "Value"]

ALIGNMENT_BYTES = 64
"""The last axis of an ANE buffer starts at a multiple of this (apple/coreai-models, neural_engine_rules.md)."""
BYTES = {
    **dict.fromkeys(("fp64", "int64", "uint64"), 8),
    **dict.fromkeys(("fp32", "int32", "uint32"), 4),
    **dict.fromkeys(("fp16", "bf16", "int16", "uint16"), 2),
}
"""Size of one element; 1 for every other type."""
SUB_BYTE_BITS = {"int4": 4, "uint6": 6, "uint4": 4, "uint3": 3, "uint2": 2, "uint1": 1}
INTEGER_WEIGHTS = {"constexpr_affine_dequantize": "quantized_data", "constexpr_blockwise_shift_scale": "data"}
"""Decompressions of linear weights -> their operand that holds the integers."""
Direction = Literal["input", "output"]
Flexibility = Literal["range", "enumerated"]
WIDE_FLOATS = frozenset({"fp32", "fp64"})


@dataclass(frozen=True)
class Value:
    """A tensor with its declared type; ``shape`` holds None for an open size, and is None when the rank is open."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    @property
    def rank(self) -> int:
        return len(self.shape or ())

    def extent(self, axis: int) -> int:
        """Elements along one axis, which may be negative; 1 when there is no such axis or it is open."""
        return self.sizes[axis] if -self.rank <= axis < self.rank else 1

    @property
    def is_static(self) -> bool:
        return self.shape is not None and None not in self.shape

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Shape with 1 for an open size: a lower bound."""
        return tuple(size or 1 for size in self.shape or ())

    @cached_property
    def elements(self) -> int:
        return prod(self.sizes)

    @property
    def bytes(self) -> int:
        """Size as typed, sub-byte types packed."""
        return stored_bytes(self.elements, self.dtype)

    @property
    def padded_bytes(self) -> int:
        """Size with the last axis padded to ``ALIGNMENT_BYTES``."""
        row = stored_bytes(self.sizes[-1] if self.shape else 1, self.dtype)
        return prod(self.sizes[:-1]) * -(-row // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

    def __str__(self) -> str:
        sizes = "..." if self.shape is None else ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype}({sizes})"


def stored_bytes(elements: int, dtype: str) -> int:
    return -(-elements * SUB_BYTE_BITS[dtype] // 8) if dtype in SUB_BYTE_BITS else elements * BYTES.get(dtype, 1)


@dataclass(frozen=True)
class StoredValue:
    """A constant; ``load`` gives its value (array, text, number or list), and is None when its file is missing."""

    value: Value
    load: Callable[[], Any] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class Node:
    """One operation that is no constant."""

    index: int
    type: str
    name: str
    location: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[Value, ...]

    @property
    def output(self) -> Value:
        """The first output; an empty tuple's type when there is none."""
        return self.outputs[0] if self.outputs else Value(self.name, "tuple", None)

    @property
    def label(self) -> str:
        """Name of the first output."""
        return self.outputs[0].name if self.outputs else self.name

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        return tuple(name for names in self.inputs.values() for name in names)


@dataclass(frozen=True)
class Feature:
    """An input or output as the app sees it."""

    value: Value
    """As the app passes it: ``value.dtype`` is that of the array, not of the tensor inside the program."""
    direction: Direction
    kind: str = "tensor"
    """``tensor``, ``image``, ``state`` or another kind of feature."""
    flexible: Flexibility | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class GraphView:
    """Operations in program order with the look-ups that rules need."""

    opset: str
    inputs: tuple[Value, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    decompressions: tuple[Node, ...] = ()
    """The ``constexpr_*`` operations: their outputs are weights, not activations."""
    constants: Mapping[str, StoredValue] = field(default_factory=dict)
    features: tuple[Feature, ...] = ()
    ranges: Mapping[str, float] = field(default_factory=dict)
    """Largest magnitude by operation, measured on sample inputs; of ``exp`` and kin the largest operand."""
    off: frozenset[int] = frozenset()
    """Indices of nodes that are expected off the ANE; filled in before the rules that look at placements."""
    border: frozenset[int] = frozenset()
    """Indices of FP32 nodes in a small prologue or epilogue, off the ANE on purpose: other rules skip them."""

    @cached_property
    def values(self) -> dict[str, Value]:
        by_name = {value.name: value for value in self.inputs}
        by_name.update((stored.value.name, stored.value) for stored in self.constants.values())
        by_name.update((value.name, value) for node in self.decompressions + self.nodes for value in node.outputs)
        return by_name

    @cached_property
    def weights(self) -> frozenset[str]:
        """Names of everything that does not depend on the inputs: constants and decompressed weights."""
        return frozenset(self.constants) | {value.name for node in self.decompressions for value in node.outputs}

    @cached_property
    def unpacking(self) -> dict[str, tuple[Node, ...]]:
        """The decompressions that make each decompressed weight, the last one first: sparse weights take several."""
        chains: dict[str, tuple[Node, ...]] = {}
        for node in self.decompressions:
            earlier = [made for name in node.input_names for made in chains.get(name, ())]
            chain = (node, *dict.fromkeys(earlier))
            chains.update((value.name, chain) for value in node.outputs)
        return chains

    @cached_property
    def producers(self) -> dict[str, Node]:
        return {value.name: node for node in self.nodes for value in node.outputs}

    @cached_property
    def uses(self) -> dict[str, tuple[Node, ...]]:
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input_names):
                readers.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def of(self, *types: str) -> Iterator[Node]:
        """Yield the nodes of these types (all without any), those of the FP32 border left out."""
        for node in self.nodes:
            if (not types or node.type in types) and node.index not in self.border:
                yield node

    def operand(self, node: Node, key: str) -> Value | None:
        """Return the first value bound to an input, None when it is left out."""
        names = node.inputs.get(key, ())
        return self.values.get(names[0]) if names else None

    def data_inputs(self, node: Node) -> list[Value]:
        """Return the operands that are no weights, each once."""
        return [self.values[name] for name in dict.fromkeys(node.input_names) if self.is_activation(name)]

    def is_activation(self, name: str) -> bool:
        return name in self.values and name not in self.weights

    def takes_weight(self, node: Node, key: str) -> bool:
        """Return whether an input is a constant or a decompressed weight."""
        return any(name in self.weights for name in node.inputs.get(key, ()))

    def const(self, node: Node, key: str, default: Any = None) -> Any:
        """Return a constant input as plain Python; ``default`` when left out, computed, or its file is missing."""
        names = node.inputs.get(key, ())
        array = self.array(names[0]) if names else None
        return default if array is None else array.tolist() if isinstance(array, np.ndarray) else array

    def numbers(self, node: Node, key: str, default: Sequence[Any] = ()) -> list[Any]:
        """Return a constant input as a flat list, a scalar as a list of one."""
        value = self.const(node, key)
        return list(default) if value is None or isinstance(value, str) else np.ravel(value).tolist()

    def number(self, node: Node, key: str, default: Any) -> Any:
        """Return a constant input that is one number, ``default`` when it is none."""
        values = self.numbers(node, key)
        return values[0] if len(values) == 1 else default

    def text(self, node: Node, key: str, default: str = "") -> str:
        """Return a constant input that is a word."""
        value = self.const(node, key)
        return value if isinstance(value, str) else default

    def array(self, name: str) -> Any:
        """Return the value of a constant, None when ``name`` is none or its file is missing."""
        stored = self.constants.get(name)
        return None if stored is None or stored.load is None else stored.load()

    def producer(self, name: str) -> Node | None:
        return self.producers.get(name)

    def consumers(self, name: str) -> tuple[Node, ...]:
        return self.uses.get(name, ())

    def before(self, node: Node) -> list[Node]:
        """Return the nodes that produce its operands."""
        return [self.producers[name] for name in dict.fromkeys(node.input_names) if name in self.producers]

    def after(self, node: Node) -> list[Node]:
        """Return the nodes that read what it produces."""
        return [reader for value in node.outputs for reader in self.consumers(value.name)]

    def is_fp32(self, node: Node) -> bool:
        """Return whether it reads or writes FP32 or FP64 activations; a cast belongs to neither side."""
        if node.type == "cast":
            return False
        return any(value.dtype in WIDE_FLOATS for value in [*node.outputs, *self.data_inputs(node)])

    def multiply_adds(self, node: Node) -> int:
        """Return the multiply-adds of a convolution or product; 0 for every other operation."""
        count = COUNTERS.get(node.type)
        return count(self, node) if count else 0

    def is_integer_product(self, node: Node) -> bool:
        """Return whether it reads 8-bit activations and weights of 8 bits with a scale per output channel at most."""
        x, weight = self.operand(node, "x"), self.operand(node, "weight")
        maker = self.producer(x.name) if x else None
        packed = next((one for one in self.decompressions if weight and weight.name == one.output.name), None)
        if maker is None or maker.type != "dequantize" or packed is None or packed.type not in INTEGER_WEIGHTS:
            return False
        stored, scale = self.operand(packed, INTEGER_WEIGHTS[packed.type]), self.operand(packed, "scale")
        per_channel = scale is None or scale.rank < 2 or scale.sizes[1] == 1
        return stored is not None and stored.dtype in ("int8", "uint8") and per_channel

    def moved_bytes(self, node: Node) -> int:
        """Return the bytes of activations it reads and writes, as typed."""
        return sum(value.bytes for value in [*self.data_inputs(node), *node.outputs])


def count_conv(graph: GraphView, node: Node) -> int:
    weight = graph.operand(node, "weight")
    return prod(node.output.sizes[2:]) * node.output.sizes[0] * weight.elements if weight and node.output.rank else 0


def count_conv_transpose(graph: GraphView, node: Node) -> int:
    x, weight = graph.operand(node, "x"), graph.operand(node, "weight")
    return prod(x.sizes[2:]) * x.sizes[0] * weight.elements if x and weight and x.rank else 0


def count_linear(graph: GraphView, node: Node) -> int:
    x = graph.operand(node, "x")
    return node.output.elements * x.sizes[-1] if x and x.rank else 0


def count_matmul(graph: GraphView, node: Node) -> int:
    x = graph.operand(node, "x")
    if x is None or not x.rank:
        return 0
    axis = -2 if graph.number(node, "transpose_x", False) and x.rank > 1 else -1
    return node.output.elements * x.extent(axis)


def count_einsum(graph: GraphView, node: Node) -> int:
    equation = graph.text(node, "equation").replace(" ", "").split("->")[0]
    extents: dict[str, int] = {}
    for letters, name in zip(equation.split(","), node.inputs.get("values", ())):
        extents.update(zip(letters, graph.values[name].sizes))
    return prod(extents.values()) if extents else 0


def count_attention(graph: GraphView, node: Node) -> int:
    query, key, value = (graph.operand(node, name) for name in ("query", "key", "value"))
    if query is None or key is None or value is None:
        return 0
    return (query.elements + prod(query.sizes[:-1]) * value.extent(-1)) * key.extent(-2)


COUNTERS: dict[str, Callable[[GraphView, Node], int]] = {
    "conv": count_conv,
    "conv_quantized": count_conv,
    "conv_transpose": count_conv_transpose,
    "einsum": count_einsum,
    "linear": count_linear,
    "matmul": count_matmul,
    "scaled_dot_product_attention": count_attention,
}
"""How multiply-adds are counted: an entry for every operation with the trait ``product``."""
