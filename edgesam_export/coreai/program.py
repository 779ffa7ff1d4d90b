"""A Core AI asset as a ``Program`` of the executor: graphs in the place of their calls, each operation lowered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgesam_export.coreai.graph import CONSTANT, OUTPUT, Graph, Node, load_graphs
from edgesam_export.coreai.lowering import Site, kind_of, lower
from edgesam_export.errors import ProgramError, printable
from edgesam_export.mil.features import ARRAY_TYPES, FeatureSpec
from edgesam_export.mil.graph import Block, Constant, Function, Operation, Output, check_references
from edgesam_export.mil.package import ModelFiles
from edgesam_export.mil.program import Program
from edgesam_export.mil.types import ValueType

__all__ = ["load_asset", "operation_name"]

INVOKE = "coreai.invoke"
OPSET = "iOS26"
"""Op set whose bodies are taken: the newest, which has every operation that an asset can be lowered to."""
LANGUAGE = "CoreAI"
DEFAULT = "main"


def operation_name(kind: str, number: int) -> str:
    """Return the name of an operation in a loaded asset: its kind, and its number in the program."""
    return f"{kind_of(kind)}_{number}"


class AssetProgram(Program):
    """A function of an asset; the op set of the bodies that execute it is not the program's."""

    @property
    def opset(self) -> str:
        return LANGUAGE


def load_asset(path: str | Path, *, function: str | None = None) -> Program:
    """Return the program of an ``.aimodel``; ``function`` names one of several.

    Raises:
        ProgramError: no such asset, damaged, or a program that does not hold together.
        UnsupportedOpError: an operation that the executor does not have.
        RunnerUnavailableError: Apple's reader is not installed.
    """
    path = Path(path)
    graphs = load_graphs(path)
    functions = tuple(sorted(name for name, graph in graphs.items() if not graph.private))
    name = function or (DEFAULT if DEFAULT in functions else functions[0])
    if name not in functions:
        raise ProgramError(f"{path}: no function '{printable(name)}'; it has {', '.join(map(printable, functions))}")
    try:
        lowered = Inlining(graphs).function(graphs[name])
        features = features_of(lowered, graphs[name])
    except ProgramError as error:
        raise type(error)(f"{path}: {error}") from None
    return AssetProgram(
        files=ModelFiles(path=path, model=path, root=path),
        function=lowered,
        features=features,
        functions=functions,
        metadata={},
    )


class Inlining:
    """Lowers one function; names of values are unique in all of it."""

    def __init__(self, graphs: Mapping[str, Graph]) -> None:
        self.graphs = graphs
        self.types: dict[str, ValueType] = {}
        self.constants: dict[str, Constant] = {}

    def function(self, graph: Graph) -> Function:
        """Return a graph as a function whose outputs have the names that the asset gives them.

        Raises:
            ProgramError: it returns nothing, or does not hold together.
            UnsupportedOpError: an operation that the executor does not have.
        """
        if len(graph.returned) != len(graph.outputs) or not graph.outputs:
            raise ProgramError(f"function '{printable(graph.name)}' returns {len(graph.returned)} values")
        inputs = tuple(Output(name, value.type) for name, value in graph.inputs)
        self.types.update((value.name, value.type) for value in inputs)
        wanted = dict(zip(graph.returned, graph.outputs))
        operations: list[Operation] = []
        returned = self.inline(graph, [value.name for value in inputs], operations, (), wanted)
        for name, output in zip(returned, graph.outputs):
            if name != output:
                copy = (Output(output, self.types[name]),)
                operations.append(Operation("identity", output, graph.name, {"x": (name,)}, {}, copy))
        function = Function(graph.name, OPSET, inputs, Block((), tuple(operations), graph.outputs))
        check_references(function)
        return function

    def inline(
        self,
        graph: Graph,
        arguments: Sequence[str],
        operations: list[Operation],
        callers: tuple[str, ...],
        wanted: Mapping[int, str],
    ) -> list[str]:
        """Append the operations of a graph called with values by name; return the names of what it returns.

        ``wanted`` has the names that some of its values get; the others are called by their operation.
        """
        names = {value.number: name for (_, value), name in zip(graph.inputs, arguments, strict=True)}
        for node in graph.nodes:
            if node.kind == OUTPUT:
                break
            operands = [self.operand(graph, names, number) for number in node.operands]
            if node.kind == INVOKE:
                inner = self.called(node, graph, callers)
                found: Sequence[str] = self.inline(inner, operands, operations, (*callers, graph.name), {})
            else:
                found = list(self.results(node, wanted))
                operations.extend(self.lowered(node, graph, operands, found))
            names.update(zip((value.number for value in node.results), found, strict=True))
            self.types.update(zip(found, (value.type for value in node.results)))
        return [names[number] for number in graph.returned]

    def operand(self, graph: Graph, names: Mapping[int, str], number: int) -> str:
        if number not in names:
            raise ProgramError(f"graph '{printable(graph.name)}' uses a value before it is defined")
        return names[number]

    def called(self, node: Node, graph: Graph, callers: tuple[str, ...]) -> Graph:
        """Return the graph that a node calls.

        Raises:
            ProgramError: there is none, it calls itself, or takes or returns another number of values.
        """
        name = node.attributes.get("callee", "").partition("@")[2].partition(">")[0].strip('"')
        inner = self.graphs.get(name)
        if inner is None or name in (*callers, graph.name):
            problem = "is not there" if inner is None else "calls itself"
            raise ProgramError(f"graph '{printable(graph.name)}' calls '{printable(name)}', which {problem}")
        if len(inner.inputs) != len(node.operands) or len(inner.returned) != len(node.results):
            raise ProgramError(
                f"graph '{printable(graph.name)}' calls '{printable(name)}' with other values than it has"
            )
        return inner

    def results(self, node: Node, wanted: Mapping[int, str]) -> Iterator[str]:
        """Yield a free name for each result of a node."""
        base = kind_of(node.kind) if node.number is None else operation_name(node.kind, node.number)
        for index, value in enumerate(node.results):
            stem = wanted.get(value.number, base if len(node.results) == 1 else f"{base}_{index}")
            name, count = stem, 1
            while name in self.types:
                count += 1
                name = f"{stem}_{count}"
            self.types[name] = value.type
            yield name

    def lowered(
        self, node: Node, graph: Graph, operands: Sequence[str], results: Sequence[str]
    ) -> tuple[Operation, ...]:
        """Return a node as operations of the executor; a constant stays one."""
        name = results[0] if node.number is None and results else operation_name(node.kind, node.number or 0)
        location = f"{graph.name}/{node.kind}"
        if node.kind == CONSTANT and node.constant is not None:
            self.constants[results[0]] = node.constant
            outputs = (Output(results[0], node.constant.type),)
            return (Operation("const", name, location, {}, {"val": node.constant}, outputs),)
        for value in node.results:
            if not value.type.is_tensor:
                raise ProgramError(f"{node.kind} '{name}' gives {printable(value.type.dtype)}, which is not known here")
        return lower(
            Site(
                node=node,
                name=name,
                location=location,
                operands=tuple(operands),
                types=self.types,
                constants=self.constants,
                results=tuple(results),
            )
        )


def features_of(function: Function, graph: Graph) -> dict[str, tuple[FeatureSpec, ...]]:
    """Return inputs and outputs as the caller sees them.

    Raises:
        ProgramError: one of a type that no array of the caller has.
    """
    returned = [node.results for node in graph.nodes]
    types = {value.number: value.type for results in returned for value in results}
    types.update((value.number, value.type) for _, value in graph.inputs)
    outputs = [Output(name, types[number]) for name, number in zip(graph.outputs, graph.returned)]
    return {
        "input": tuple(map(feature, function.inputs)),
        "output": tuple(map(feature, outputs)),
        "state": (),
    }


def feature(value: Output) -> FeatureSpec:
    """Return an input or output; a size that is free may be anything from 1."""
    shape = value.type.shape
    if value.type.dtype not in ARRAY_TYPES or shape is None:
        raise ProgramError(
            f"'{printable(value.name)}' is {value.type}; only arrays of {', '.join(ARRAY_TYPES)} are known"
        )
    ranges = tuple((1, None) if size is None else (size, size) for size in shape) if None in shape else None
    return FeatureSpec(
        name=value.name,
        kind="tensor",
        dtype=value.type.dtype,
        shape=tuple(size or 1 for size in shape),
        ranges=ranges,
    )
