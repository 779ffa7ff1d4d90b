"""Programs in a few lines of text: the examples of the rules, which are their tests."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgesam_export.ane.graph import Feature, GraphView, Node, StoredValue, Value
from edgesam_export.mil.op_kinds import is_decompression

__all__ = ["read_example"]


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
        if content is not None and not isinstance(content, str):
            content = np.broadcast_to(np.asarray(content), value.sizes)
        self.constants[value.name] = StoredValue(value, None if content is None else lambda: content)

    def add_node(self, word: str, value: Value, keywords: Sequence[ast.keyword]) -> None:
        home = self.decompressions if is_decompression(word) else self.nodes
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
