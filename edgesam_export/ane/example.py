"""Programs in a few lines of text: the examples of the rules, which are their tests, and what people reported on."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgesam_export.ane.graph import Feature, GraphView, Node, StoredValue, Value
from edgesam_export.mil.op_kinds import is_decompression

__all__ = ["read_example", "write_example"]

FLOATS = frozenset({"fp16", "fp32"})
WRITTEN_ELEMENTS = 16
"""Constants of more elements are weights: their shape is written, not their content."""


def read_example(text: str) -> tuple[GraphView, tuple[str | None, ...]]:
    """Return the program that a few lines describe, and the values on lines marked ``# flagged``.

    The lines are Python syntax, never executed: ``x: fp16[1, 3, 8, 8]`` is an input (None: an open size),
    ``w: fp16[8, 3, 3, 3] = const(0.5)`` a weight of that value, ``const()`` one of unknown value,
    ``y: fp16[1, 8, 6, 6] = conv(x=x, weight=w)`` an operation, any other argument a constant written in place.
    ``x: fp16[1, 3, 8, 8] = feature(kind="image")`` says how the app sees an input, and ``kind="state"`` that it is a
    state; ``z: fp16[1, 8] = also(y)`` is one more result of the operation that makes ``y``; ``write_state(...)`` alone
    has none. ``output(y)`` names outputs, by default what nothing reads, and ``output(y, dtype="fp32")`` how the app
    sees them; ``opset = "iOS18"``, ``ranges = {...}`` and ``off = [...]`` set the rest.
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
        self.output_type: str | None = None

    def read(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign):
            self.settings[ast.unparse(statement.targets[0])] = ast.literal_eval(statement.value)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            self.call(ast.unparse(statement.value.func), statement.value)
        elif isinstance(statement, ast.AnnAssign):
            self.declare(value_of(statement), statement.value)

    def call(self, word: str, call: ast.Call) -> None:
        if word != "output":
            self.add_node(word, f"{word}_{len(self.nodes)}", (), call.keywords)
            return
        self.outputs = [ast.unparse(argument) for argument in call.args]
        self.output_type = next((ast.literal_eval(k.value) for k in call.keywords if k.arg == "dtype"), None)

    def declare(self, value: Value, call: ast.expr | None) -> None:
        if not isinstance(call, ast.Call):
            self.add_input(value, {})
        elif (word := ast.unparse(call.func)) == "feature":
            self.add_input(value, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords})
        elif word == "const":
            self.add_constant(value, ast.literal_eval(call.args[0]) if call.args else None)
        elif word == "also":
            self.add_output(ast.unparse(call.args[0]), value)
        else:
            self.add_node(word, value.name, (value,), call.keywords)

    def add_input(self, value: Value, options: dict[str, str]) -> None:
        self.inputs.append(value)
        seen = Value(value.name, options.get("dtype", value.dtype), value.shape)
        flexible: Any = options.get("flexible")
        self.features[value.name] = Feature(seen, "input", options.get("kind", "tensor"), flexible)

    def add_constant(self, value: Value, content: Any) -> None:
        if content is not None and not isinstance(content, str):
            content = np.broadcast_to(np.asarray(content), value.sizes)
        self.constants[value.name] = StoredValue(value, None if content is None else lambda: content)

    def add_node(self, word: str, name: str, made: tuple[Value, ...], keywords: Sequence[ast.keyword]) -> None:
        home = self.decompressions if is_decompression(word) else self.nodes
        dtype = made[0].dtype if made else "fp16"
        inputs = {str(k.arg): tuple(self.bind(name, dtype, k, item) for item in items_of(k.value)) for k in keywords}
        home.append(Node(len(home), word, name, f"main/op {len(home)}", inputs, made))

    def add_output(self, first: str, value: Value) -> None:
        for home in (self.decompressions, self.nodes):
            for node in home:
                if node.label == first:
                    home[node.index] = replace(node, outputs=(*node.outputs, value))

    def bind(self, owner: str, dtype: str, keyword: ast.keyword, item: ast.expr) -> str:
        if isinstance(item, ast.Name):
            return item.id
        content = ast.literal_eval(item)
        name = f"{owner}_{keyword.arg}_{len(self.constants)}"
        kinds = {bool: "bool", int: "int32", str: "string"}
        array = np.asarray(content)
        scalar = array.reshape(-1)[0].item() if array.size else 0
        self.add_constant(Value(name, kinds.get(type(scalar), dtype), array.shape), content)
        return name

    def finish(self) -> GraphView:
        read = {name for node in self.nodes for name in node.input_names}
        made = {value.name: value for node in self.nodes for value in node.outputs}
        outputs = self.outputs or [name for name in made if name not in read]
        ends = (replace(made[n], dtype=self.output_type or made[n].dtype) for n in outputs if n in made)
        features = [*self.features.values(), *(Feature(end, "output") for end in ends)]
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


# -------------------------------------------------------------------------------------------------------------- writing
def write_example(graph: GraphView) -> str:
    """Return a program in the text of ``read_example``, with names numbered and weights without their content."""
    return "\n".join(ExampleWriter(graph).lines()) + "\n"


class ExampleWriter:
    """Writes the statements of one program."""

    def __init__(self, graph: GraphView) -> None:
        self.graph = graph
        made = (value.name for node in (*graph.decompressions, *graph.nodes) for value in node.outputs)
        inputs = (value.name for value in graph.inputs)
        self.names = {name: f"v{number}" for number, name in enumerate(dict.fromkeys((*inputs, *made)))}

    def lines(self) -> Iterator[str]:
        graph = self.graph
        yield f'opset = "{graph.opset}"'
        seen = {feature.value.name: feature for feature in graph.features if feature.direction == "input"}
        for value in graph.inputs:
            yield self.declared(value) + self.as_feature(value, seen.get(value.name))
        for node in (*graph.decompressions, *graph.nodes):
            yield from self.operation(node)
        ends = {f.value.name: f.value.dtype for f in graph.features if f.direction == "output"}
        wide = {ends[name] for name in graph.outputs if name in ends and ends[name] != graph.values[name].dtype}
        option = "".join(f', dtype="{dtype}"' for dtype in sorted(wide))
        yield f"output({', '.join(self.names[name] for name in graph.outputs)}{option})"

    def as_feature(self, value: Value, feature: Feature | None) -> str:
        if feature is None:
            return ""
        options = {"kind": feature.kind} if feature.kind != "tensor" else {}
        options |= {"dtype": feature.value.dtype} if feature.value.dtype != value.dtype else {}
        options |= {"flexible": feature.flexible} if feature.flexible else {}
        return f" = feature({', '.join(f'{key}={text!r}' for key, text in options.items())})" if options else ""

    def operation(self, node: Node) -> Iterator[str]:
        arguments = []
        for key, names in node.inputs.items():
            for name in names:
                yield from self.weight(name)
            texts = [self.argument(name) for name in names]
            arguments.append(f"{key}={texts[0] if len(texts) == 1 else '[' + ', '.join(texts) + ']'}")
        call = f"{node.type}({', '.join(arguments)})"
        yield f"{self.declared(node.outputs[0])} = {call}" if node.outputs else call
        for value in node.outputs[1:]:
            yield f"{self.declared(value)} = also({self.names[node.outputs[0].name]})"

    def weight(self, name: str) -> Iterator[str]:
        """Declare a constant that is not written in place, before its first use."""
        if name in self.names or self.written(name) is not None:
            return
        self.names[name] = f"w{len(self.names)}"
        yield f"{self.declared(self.graph.constants[name].value)} = const()"

    def argument(self, name: str) -> str:
        return self.names[name] if name in self.names else str(self.written(name))

    def written(self, name: str) -> str | None:
        """Return a small constant in Python syntax, None for one that has to be declared."""
        stored = self.graph.constants.get(name)
        if stored is None or stored.load is None or stored.value.elements > WRITTEN_ELEMENTS:
            return None
        if stored.value.elements > 1 and stored.value.dtype in FLOATS:  # a bias or a scale
            return None
        content = stored.load()
        content = content.tolist() if isinstance(content, np.ndarray) else content
        text = repr(content)
        return None if stored.value.rank > 1 or "inf" in text or "nan" in text else text

    def declared(self, value: Value) -> str:
        sizes = ", ".join("None" if size is None else str(size) for size in value.shape or ())
        return f"{self.names[value.name]}: {value.dtype}" + (f"[{sizes}]" if value.shape else "")
