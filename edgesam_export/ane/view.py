"""A loaded program as the plain data that rules see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from edgesam_export.ane.graph import Direction, Feature, Flexibility, GraphView, Node, StoredValue, Value
from edgesam_export.mil.features import FeatureSpec
from edgesam_export.mil.graph import Constant, Operation
from edgesam_export.mil.op_kinds import is_decompression
from edgesam_export.mil.program import Program
from edgesam_export.mil.types import ValueType

__all__ = ["view_program"]


def view_program(program: Program, *, ranges: Mapping[str, float] | None = None) -> GraphView:
    """Return a program as the rules see it; weights are read when a rule asks for them."""
    constants: dict[str, StoredValue] = {}
    nodes: list[Node] = []
    decompressions: list[Node] = []
    for operation in program.operations:
        if operation.is_constant:
            add_constant(constants, operation.label, operation.attributes["val"])
            continue
        home = decompressions if is_decompression(operation.type) else nodes
        home.append(view_operation(operation, len(home), constants))
    return GraphView(
        opset=program.opset,
        inputs=tuple(view_value(value.name, value.type) for value in program.function.inputs),
        outputs=tuple(program.function.block.outputs),
        nodes=tuple(nodes),
        decompressions=tuple(decompressions),
        constants=constants,
        features=tuple(view_features(program)),
        ranges=dict(ranges or {}),
    )


def view_operation(operation: Operation, index: int, constants: dict[str, StoredValue]) -> Node:
    """Return one operation; constants written in place get names, parameters of old constexpr ops count as inputs."""
    inputs: dict[str, tuple[str, ...]] = {}
    attributes = operation.attributes.items() if is_decompression(operation.type) else ()
    for key, arguments in [*operation.inputs.items(), *((key, (value,)) for key, value in attributes)]:
        names = []
        for position, argument in enumerate(arguments):
            if isinstance(argument, Constant):
                name = f"{operation.location}:{key}[{position}]"
                add_constant(constants, name, argument)
                names.append(name)
            else:
                names.append(argument)
        inputs[key] = tuple(names)
    return Node(
        index=index,
        type=operation.type,
        name=operation.name,
        location=operation.location,
        inputs=inputs,
        outputs=tuple(view_value(output.name, output.type) for output in operation.outputs),
    )


def add_constant(constants: dict[str, StoredValue], name: str, constant: Constant) -> None:
    has_value = constant.in_weight_file or constant.value is not None
    load = lru_cache(maxsize=1)(constant.load) if has_value else None
    constants[name] = StoredValue(view_value(name, constant.type), load)


def view_value(name: str, declared: ValueType) -> Value:
    if declared.element is not None and declared.dtype == "state":
        declared = declared.element
    return Value(name, declared.dtype, declared.shape)


def view_features(program: Program) -> Iterator[Feature]:
    directions: tuple[tuple[Direction, tuple[FeatureSpec, ...]], ...] = (
        ("input", program.inputs),
        ("output", program.outputs),
    )
    for direction, specs in directions:
        for spec in specs:
            flexible = flexibility(spec)
            yield Feature(Value(spec.name, spec.dtype, spec.shape), direction, spec.kind, flexible)
    for value in program.function.inputs:
        if value.type.dtype == "state":
            yield Feature(view_value(value.name, value.type), "input", "state")


def flexibility(spec: FeatureSpec) -> Flexibility | None:
    if spec.choices is not None:
        return "enumerated"
    return "range" if spec.ranges is not None else None
