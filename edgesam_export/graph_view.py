"""A program as the ANE rules see it: plain data without constants among the operations; neither torch nor coremltools.

``analyzer.view_program`` makes one from a loaded program, ``read_example`` from a few lines of text.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np

__all__ = ["ALIGNMENT_BYTES", "Feature", "GraphView", "Node", "StoredValue", "Value", "read_example"]

ALIGNMENT_BYTES = 64
"""The last axis of an ANE buffer starts at a multiple of this (apple/coreai-models, neural_engine_rules.md)."""
BYTES = {
    **dict.fromkeys(("fp64", "int64", "uint64"), 8),
    **dict.fromkeys(("fp32", "int32", "uint32"), 4),
    **dict.fromkeys(("fp16", "bf16", "int16", "uint16"), 2),
}
"""Size of one element; 1 for every other type."""
SUB_BYTE_BITS = {"int4": 4, "uint6": 6, "uint4": 4, "uint3": 3, "uint2": 2, "uint1": 1}
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
        """Shape with 1 in place of what is open: a lower bound."""
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
        """What it produces, of several the first; an empty tuple's type when it produces nothing."""
        return self.outputs[0] if self.outputs else Value(self.name, "tuple", None)

    @property
    def label(self) -> str:
        """Name of the value it produces."""
        return self.outputs[0].name if self.outputs else self.name

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        return tuple(name for names in self.inputs.values() for name in names)


@dataclass(frozen=True)
class Feature:
    """An input or output as the app sees it."""

    value: Value
    """As the app passes it: ``value.dtype`` is that of the array, not of the tensor inside the program."""
    direction: Literal["input", "output"]
    kind: str = "tensor"
    """``tensor``, ``image``, ``state`` or another kind of feature."""
    flexible: Literal["range", "enumerated"] | None = None


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
        found = {value.name: value for value in self.inputs}
        found.update((stored.value.name, stored.value) for stored in self.constants.values())
        found.update((value.name, value) for node in self.decompressions + self.nodes for value in node.outputs)
        return found

    @cached_property
    def weights(self) -> frozenset[str]:
        """Names of everything that does not depend on the inputs: constants and decompressed weights."""
        return frozenset(self.constants) | {value.name for node in self.decompressions for value in node.outputs}

    @cached_property
    def producers(self) -> dict[str, Node]:
        return {value.name: node for node in self.nodes for value in node.outputs}

    @cached_property
    def uses(self) -> dict[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input_names):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

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
        """Whether an input is given and is a constant or a decompressed weight."""
        return any(name in self.weights for name in node.inputs.get(key, ()))

    def const(self, node: Node, key: str, default: Any = None) -> Any:
        """Return a constant input as plain Python; ``default`` when left out, computed, or its file is missing."""
        names = node.inputs.get(key, ())
        array = self.array(names[0]) if names else None
        return default if array is None else array.tolist() if isinstance(array, np.ndarray) else array

    def numbers(self, node: Node, key: str, default: Sequence[Any] = ()) -> list[Any]:
        """Return a constant input as a flat list, a scalar as a list of one."""
        found = self.const(node, key)
        return list(default) if found is None or isinstance(found, str) else np.ravel(found).tolist()

    def number(self, node: Node, key: str, default: Any) -> Any:
        """Return a constant input that is one number, ``default`` when it is none."""
        found = self.numbers(node, key)
        return found[0] if len(found) == 1 else default

    def text(self, node: Node, key: str, default: str = "") -> str:
        """Return a constant input that is a word."""
        found = self.const(node, key)
        return found if isinstance(found, str) else default

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
        """Whether an activation it reads or writes is wider than 16 bits of floating point; a cast is neither side."""
        if node.type == "cast":
            return False
        return any(value.dtype in WIDE_FLOATS for value in [*node.outputs, *self.data_inputs(node)])

    def multiply_adds(self, node: Node) -> int:
        """Return the multiply-adds of a convolution or product; 0 for every other operation."""
        count = COUNTERS.get(node.type)
        return count(self, node) if count else 0

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
    "conv_transpose": count_conv_transpose,
    "einsum": count_einsum,
    "linear": count_linear,
    "matmul": count_matmul,
    "scaled_dot_product_attention": count_attention,
}


def read_example(text: str) -> tuple[GraphView, tuple[str | None, ...]]:
    """Return the program that a few lines describe, and the values on lines marked ``# flagged``.

    The lines are Python syntax, never executed: ``x: fp16[1, 3, 8, 8]`` is an input (None: an open size),
    ``w: fp16[8, 3, 3, 3] = const(0.5)`` a weight of that value, ``const()`` one of unknown value,
    ``y: fp16[1, 8, 6, 6] = conv(x=x, weight=w)`` an operation, any other argument a constant written in place.
    ``x: fp16[1, 3, 8, 8] = feature(kind="image")`` says how the app sees an input; ``output(y)`` names outputs, by
    default what nothing reads; ``opset = "iOS18"``, ``ranges = {...}`` and ``off = [...]`` set the rest.
    """
    reader = ExampleReader()
    lines = text.splitlines()
    flagged = []
    for statement in ast.parse(text).body:
        reader.read(statement)
        if "# flagged" in lines[(statement.end_lineno or 1) - 1]:
            flagged.append(ast.unparse(statement.target) if isinstance(statement, ast.AnnAssign) else None)
    if text.rstrip().endswith("# flagged: the program"):
        flagged = [None]
    return reader.finish(), tuple(flagged)


class ExampleReader:
    """Collects the statements of one example."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {"opset": "iOS17", "ranges": {}, "off": []}
        self.inputs: list[Value] = []
        self.outputs: list[str] = []
        self.nodes: list[Node] = []
        self.decompressions: list[Node] = []
        self.constants: dict[str, StoredValue] = {}
        self.features: dict[str, Feature] = {}

    def read(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign):
            self.settings[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            self.outputs = [ast.unparse(argument) for argument in statement.value.args]
        elif isinstance(statement, ast.AnnAssign):
            self.declare(value_of(statement), statement.value)

    def declare(self, value: Value, call: ast.expr | None) -> None:
        if not isinstance(call, ast.Call):
            self.add_input(value, {})
        elif (word := ast.unparse(call.func)) == "feature":
            self.add_input(value, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords})
        elif word == "const":
            self.add_constant(value, ast.literal_eval(call.args[0]) if call.args else None)
        else:
            self.add_node(word, value, call.keywords)

    def add_input(self, value: Value, options: dict[str, str]) -> None:
        self.inputs.append(value)
        seen = Value(value.name, options.get("dtype", value.dtype), value.shape)
        flexible: Any = options.get("flexible")
        self.features[value.name] = Feature(seen, "input", options.get("kind", "tensor"), flexible)

    def add_constant(self, value: Value, content: Any) -> None:
        load = None
        if isinstance(content, str):
            load = lambda: content  # noqa: E731  # a closure over one constant
        elif content is not None:
            load = lambda: np.broadcast_to(np.asarray(content), value.sizes)  # noqa: E731
        self.constants[value.name] = StoredValue(value, load)

    def add_node(self, word: str, value: Value, keywords: Sequence[ast.keyword]) -> None:
        home = self.decompressions if word.startswith("constexpr_") else self.nodes
        inputs = {str(k.arg): tuple(self.bind(value, k, item) for item in items_of(k.value)) for k in keywords}
        home.append(Node(len(home), word, value.name, f"main/op {len(home)}", inputs, (value,)))

    def bind(self, owner: Value, keyword: ast.keyword, item: ast.expr) -> str:
        if isinstance(item, ast.Name):
            return item.id
        content = ast.literal_eval(item)
        name = f"{owner.name}_{keyword.arg}_{len(self.constants)}"
        kinds = {bool: "bool", int: "int32", str: "string"}
        array = np.asarray(content)
        scalar = array.reshape(-1)[0].item() if array.size else 0
        self.add_constant(Value(name, kinds.get(type(scalar), owner.dtype), array.shape), content)
        return name

    def finish(self) -> GraphView:
        read = {name for node in self.nodes for name in node.input_names}
        made = {value.name: value for node in self.nodes for value in node.outputs}
        outputs = self.outputs or [name for name in made if name not in read]
        features = [*self.features.values(), *(Feature(made[n], "output") for n in outputs if n in made)]
        off = frozenset(node.index for node in self.nodes if node.name in self.settings["off"])
        return GraphView(
            opset=self.settings["opset"],
            inputs=tuple(self.inputs),
            outputs=tuple(outputs),
            nodes=tuple(self.nodes),
            decompressions=tuple(self.decompressions),
            constants=self.constants,
            features=tuple(features),
            ranges=self.settings["ranges"],
            off=off,
        )


def value_of(statement: ast.AnnAssign) -> Value:
    annotation = statement.annotation
    if isinstance(annotation, ast.Subscript):
        sizes = ast.literal_eval(annotation.slice)
        shape = sizes if isinstance(sizes, tuple) else (sizes,)
        return Value(ast.unparse(statement.target), ast.unparse(annotation.value), shape)
    return Value(ast.unparse(statement.target), ast.unparse(annotation), ())


def items_of(argument: ast.expr) -> list[ast.expr]:
    """Return the names of a list of values one by one, anything else as it is."""
    if isinstance(argument, ast.List | ast.Tuple) and any(isinstance(item, ast.Name) for item in argument.elts):
        return list(argument.elts)
    return [argument]
