"""Core AI's operations by literal cases, and whole graphs: what is called, named, refused. None of Apple's code."""

from __future__ import annotations

import numpy as np
import pytest
from operations import CASES, Case, f, s

from edgesam_export.coreai.graph import CONSTANT, OUTPUT, TYPES, Graph, Node, TypedValue
from edgesam_export.coreai.lowering import KINDS, kind_of
from edgesam_export.coreai.program import INVOKE, Inlining
from edgesam_export.errors import ProgramError, UnsupportedOpError
from edgesam_export.mil.graph import Constant, Function
from edgesam_export.mil.interpreter import PreparedFunction, check_supported
from edgesam_export.mil.numerics import numerics_for
from edgesam_export.mil.types import ValueType

NAMES = {"float16": "fp16", "float32": "fp32"}


def typed(number: int, array: np.ndarray) -> TypedValue:
    return TypedValue(number, ValueType(NAMES.get(array.dtype.name, array.dtype.name), np.shape(array)))


class Drawing:
    """A graph under construction; values are numbers."""

    def __init__(self, name: str = "main", private: bool = False) -> None:
        self.name, self.private = name, private
        self.inputs: list[tuple[str, TypedValue]] = []
        self.nodes: list[Node] = []
        self.count = 0

    def number(self) -> int:
        self.count += 1
        return self.count - 1

    def input(self, name: str, array: np.ndarray) -> int:
        self.inputs.append((name, typed(self.number(), array)))
        return self.count - 1

    def constant(self, array: np.ndarray) -> int:
        value = typed(self.number(), np.asarray(array))
        self.nodes.append(Node(CONSTANT, None, (), {}, (value,), 0, Constant(value.type, np.asarray(array))))
        return value.number

    def node(self, kind: str, operands: tuple[int, ...], *results: np.ndarray, number: int | None = None, **attributes):
        made = tuple(typed(self.number(), array) for array in results)
        self.nodes.append(Node(f"coreai.{kind}", number, operands, attributes, made, 0))
        return made[0].number if len(made) == 1 else tuple(value.number for value in made)

    def finish(self, outputs: dict[str, int]) -> Graph:
        self.nodes.append(Node(OUTPUT, None, tuple(outputs.values()), {}, (), 0))
        return Graph(self.name, self.private, tuple(self.inputs), tuple(outputs), tuple(self.nodes))


def lowered(*graphs: Graph) -> Function:
    return Inlining({graph.name: graph for graph in graphs}).function(graphs[0])


def executed(function: Function, feed: dict[str, np.ndarray], numerics: str = "fp32") -> list[np.ndarray]:
    import torch

    prepared = PreparedFunction(function, numerics_for(numerics), torch.device("cpu"))
    values = prepared.run({name: torch.from_numpy(np.array(array)) for name, array in feed.items()})
    return [value.numpy() for value in values]


def graph_of(case: Case) -> tuple[Graph, dict[str, np.ndarray]]:
    drawing = Drawing()
    feed = {f"x{index}": np.asarray(array) for index, array in enumerate(case.data)}
    data = tuple(drawing.input(name, array) for name, array in feed.items())
    known = tuple(drawing.constant(np.asarray(array)) for array in case.known)
    made = drawing.node(
        case.kind, known + data if case.known_first else data + known, *case.results, number=7, **case.attributes
    )
    numbers = made if isinstance(made, tuple) else (made,)
    return drawing.finish({f"out{index}": number for index, number in enumerate(numbers)}), feed


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_operation_gives_the_literal_result(case):
    graph, feed = graph_of(case)
    found = executed(lowered(graph), feed)
    for actual, expected in zip(found, case.results, strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)


def test_every_kind_has_a_case_and_every_case_a_kind():
    assert {kind_of(f"coreai.{case.kind}") for case in CASES} == set(KINDS)


def test_every_operation_is_one_of_the_executor():
    for case in CASES:
        check_supported(lowered(graph_of(case)[0]))


def test_an_unknown_operation_is_named_before_anything_runs():
    drawing = Drawing()
    x = drawing.input("x", f(1))
    drawing.node("modulo", (x, x), f(1), number=12)
    with pytest.raises(
        UnsupportedOpError, match=r"operation 'coreai.modulo' cannot be executed here, at main.*modulo_12"
    ):
        lowered(drawing.finish({"y": 1}))


@pytest.mark.parametrize(
    ("kind", "message"),
    [("slice", "its start is computed"), ("max_pool_2d", "its dilation is computed")],
)
def test_an_operand_that_must_be_known_is_named(kind, message):
    drawing = Drawing()
    x = drawing.input("x", f([1, 2]))
    computed = [drawing.input(f"p{index}", s(0, 0)) for index in range(4)]
    drawing.node(kind, (x, *computed[: 3 if kind == "slice" else 4]), f([1]))
    with pytest.raises(UnsupportedOpError, match=message):
        lowered(drawing.finish({"y": drawing.count - 1}))


def test_options_that_the_executor_lacks_are_named():
    for mode in ("symmetric", "circular"):
        drawing = Drawing()
        x, pads, value = drawing.input("x", f(1)), drawing.constant(s(1, 1)), drawing.constant(np.float32(0))
        drawing.node("pad", (x, pads, value), f(1, 1, 1), padding_mode=f"<{mode}>")
        with pytest.raises(UnsupportedOpError, match=f"padding_mode is {mode}; known are constant, reflect, replicate"):
            lowered(drawing.finish({"y": 3}))
    drawing = Drawing()
    known = (np.zeros((1, 1), np.int8), f([1]), np.zeros((1, 1), np.int8), f([2]))
    drawing.node("blockwise_shift_scale", tuple(drawing.constant(array) for array in known), f([1]))
    with pytest.raises(UnsupportedOpError, match="second offset is not zero"):
        lowered(drawing.finish({"y": 4}))


def test_an_operation_with_the_wrong_number_of_operands_is_an_error_of_the_program():
    drawing = Drawing()
    drawing.node("exp", (drawing.input("x", f(1)), drawing.input("y", f(1))), f(1))
    with pytest.raises(ProgramError, match=r"coreai\.exp.*operands that it cannot have"):
        lowered(drawing.finish({"z": 2}))


def twice(name: str = "twice") -> Graph:
    inner = Drawing(name, private=True)
    x = inner.input("input", f(1))
    return inner.finish({"output": inner.node("add", (x, x), f(1), number=3)})


def caller(*callees: str, results: int = 1) -> Graph:
    drawing = Drawing()
    value = drawing.input("x", f(1))
    for callee in callees:
        made = tuple(typed(drawing.number(), f(1)) for _ in range(results))
        attributes = {"callee": f"#param.constant<@{callee}> : !param.symbol"}
        drawing.nodes.append(Node(INVOKE, None, (value,), attributes, made, 0))
        value = made[0].number
    return drawing.finish({"y": value})


def test_called_graphs_are_put_in_the_place_of_the_calls():
    function = lowered(caller("twice", "twice"), twice())
    assert [operation.type for operation in function.block.operations] == ["add", "add", "identity"]
    assert [operation.label for operation in function.block.operations] == ["add_3", "add_3_2", "y"]
    assert executed(function, {"x": f(5)})[0] == 20


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        ((caller("absent"),), "calls 'absent', which is not there"),
        ((caller("main"),), "calls 'main', which calls itself"),
        ((caller("twice", results=2), twice()), "with other values than it has"),
    ],
    ids=["missing", "circle", "number of values"],
)
def test_a_call_that_cannot_be_is_an_error(graphs, message):
    with pytest.raises(ProgramError, match=message):
        lowered(*graphs)


def test_a_value_is_called_by_its_operation_and_an_output_by_its_own_name():
    drawing = Drawing()
    x = drawing.input("x", f(1))
    first = drawing.node("exp", (x,), f(1), number=4)
    second = drawing.node("exp", (first,), f(1), number=9)
    function = lowered(drawing.finish({"masks": second, "twice": second, "same": x}))
    assert [(op.type, op.name, op.label) for op in function.block.operations] == [
        ("exp", "exp_4", "exp_4"),
        ("exp", "exp_9", "twice"),
        ("identity", "masks", "masks"),
        ("identity", "same", "same"),
    ]
    assert function.block.outputs == ("masks", "twice", "same")


def test_half_precision_is_rounded_once_for_each_operation():
    drawing = Drawing()
    one, other = np.float16([1.001]), np.float16([3.003])
    x, y = drawing.input("x", one), drawing.input("y", other)
    product = drawing.node("mul", (x, y), one)
    graph = drawing.finish({"z": drawing.node("sub", (product, y), one)})
    feed = {"x": one.astype(np.float32), "y": other.astype(np.float32)}
    half = (one * other) - other  # NumPy rounds each of the two
    assert executed(lowered(graph), feed, "fp16")[0] == half.astype(np.float32)
    exact = feed["x"] * feed["y"] - feed["y"]
    assert executed(lowered(graph), feed, "fp32")[0] == exact != half.astype(np.float32)


def test_every_element_type_has_a_carrier():
    assert all(ValueType(name, ()).is_tensor for name in TYPES.values())
