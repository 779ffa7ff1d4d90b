"""One literal case for each branch of each Core AI operation that is lowered, small enough to check by hand.

``test_lowering.py`` executes them with the executor's bodies, ``test_apple.py`` gives the same cases to Apple's
interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Case:
    """An operation with its operands in Core AI's order: those in ``data`` are computed, ``known`` are constants."""

    kind: str
    data: tuple[np.ndarray, ...]
    expected: np.ndarray | tuple[np.ndarray, ...]
    known: tuple[np.ndarray, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    known_first: bool = False
    """The constants come before the data."""
    note: str = ""

    @property
    def id(self) -> str:
        return f"{self.kind} {self.note}".strip()

    @property
    def results(self) -> tuple[np.ndarray, ...]:
        return self.expected if isinstance(self.expected, tuple) else (self.expected,)


def f(*values) -> np.ndarray:
    return np.array(values, np.float32)


def s(*values) -> np.ndarray:
    """Signed integers: starts, ends, axes."""
    return np.array(values, np.int32)


def u(*values) -> np.ndarray:
    """Unsigned integers: sizes, counts."""
    return np.array(values, np.uint32)


def s0(value) -> np.ndarray:
    return np.array(value, np.int32)


def u0(value) -> np.ndarray:
    return np.array(value, np.uint32)


SQUARE = f([1, 2], [3, 4])
ROW = f([1, 2, 3])
IMAGE = f([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]]).reshape(1, 1, 3, 3)
KERNEL = f([[[1, 0], [0, 2]]]).reshape(1, 1, 2, 2)
HALF_PI = float(np.pi / 2)
E = float(np.e)
WHOLE_AXIS_BACKWARDS = "a whole axis backwards"
TRUTH = np.array([True, True, False, False]), np.array([True, False, True, False])

UNARY = (
    Case("abs", (f(-2, 3),), f(2, 3)),
    Case("acos", (f(1, 0),), f(0, HALF_PI)),
    Case("asin", (f(0, 1),), f(0, HALF_PI)),
    Case("atan", (f(0, 1),), f(0, np.pi / 4)),
    Case("atanh", (f(0, 0.5),), f(0, np.log(3) / 2)),
    Case("cos", (f(0, np.pi),), f(1, -1)),
    Case("cosh", (f(0, 1),), f(1, (E + 1 / E) / 2)),
    Case("erf", (f(0, 1),), f(0, 0.8427008)),
    Case("exp", (f(0, 1),), f(1, E)),
    Case("log", (f(1, E),), f(0, 1)),
    Case("relu", (f(-1, 2),), f(0, 2)),
    Case("round", (f(0.5, 1.5, -0.7),), f(0, 2, -1), note="halves to even"),
    Case("rsqrt", (f(4, 0.25),), f(0.5, 2)),
    Case("sigmoid", (f(0, np.log(3)),), f(0.5, 0.75)),
    Case("silu", (f(0, np.log(3)),), f(0, 0.75 * np.log(3))),
    Case("sin", (f(0, HALF_PI),), f(0, 1)),
    Case("sinh", (f(0, 1),), f(0, (E - 1 / E) / 2)),
    Case("sqrt", (f(4, 2.25),), f(2, 1.5)),
    Case("tan", (f(0, np.pi / 4),), f(0, 1)),
    Case("tanh", (f(0, np.log(2)),), f(0, 0.6)),
    Case("gelu", (f(0, 1),), f(0, 0.8413447), attributes={"approximate": "#coreai.approximate<none>"}),
    Case("gelu", (f(0, 1),), f(0, 0.8411920), attributes={"approximate": "#coreai.approximate<tanh>"}, note="tanh"),
    Case(
        "gelu", (f(0, 1),), f(0, 0.8457958), attributes={"approximate": "#coreai.approximate<sigmoid>"}, note="sigmoid"
    ),
    Case("not", (np.array([True, False]),), np.array([False, True])),
    Case("cast", (f(1.7, -1.7),), s(1, -1), note="to an integer"),
)
BINARY = (
    Case("add", (f(1, 2), f(3, 5)), f(4, 7)),
    Case("decomposable.broadcasting_add", (SQUARE, f(10, 20)), f([11, 22], [13, 24])),
    Case("sub", (f(1, 2), f(3, 5)), f(-2, -3)),
    Case("mul", (f(2, 3), f(4, 5)), f(8, 15)),
    Case("divide", (f(1, 9), f(4, 2)), f(0.25, 4.5)),
    Case("floor_divide", (f(-7, 7), f(2, 2)), f(-4, 3)),
    Case("maximum", (f(1, 5), f(3, 2)), f(3, 5)),
    Case("minimum", (f(1, 5), f(3, 2)), f(1, 2)),
    Case("pow", (f(2, 9), f(3, 0.5)), f(8, 3)),
    Case("equal", (f(1, 2), f(1, 3)), np.array([True, False])),
    Case("not_equal", (f(1, 2), f(1, 3)), np.array([False, True])),
    Case("greater", (f(1, 4), f(1, 3)), np.array([False, True])),
    Case("and", TRUTH, np.array([True, False, False, False])),
    Case("or", TRUTH, np.array([True, True, True, False])),
    Case("xor", TRUTH, np.array([False, True, True, False])),
    Case("where", (np.array([True, False]), f(1, 2), f(3, 4)), f(1, 4)),
)
PRODUCTS = (
    Case("batch_matmul", (SQUARE, f([1, 0], [1, 1])), f([3, 2], [7, 4])),
    Case("decomposable.broadcasting_batch_matmul", (SQUARE[None], SQUARE), f([[7, 10], [15, 22]])),
    Case("conv2d", (IMAGE,), f([[[[11, 14], [20, 23]]]]).reshape(1, 1, 2, 2), (KERNEL, u(1, 1), u(1, 1), u0(1))),
    Case(
        "conv2d",
        (IMAGE,),
        f([[[[19]]]]).reshape(1, 1, 1, 1),
        (KERNEL, u(2, 2), u(2, 2), u0(1)),
        note="strides, dilations",
    ),
    Case(
        "conv2d",
        (f(1, 2).reshape(1, 2, 1, 1),),
        f(3, 8).reshape(1, 2, 1, 1),
        (f(3, 4).reshape(2, 1, 1, 1), u(1, 1), u(1, 1), u0(2)),
        note="groups",
    ),
    Case(
        "conv3d",
        (f(1, 2, 3).reshape(1, 1, 3, 1, 1),),
        f(3, 5).reshape(1, 1, 2, 1, 1),
        (f(1, 1).reshape(1, 1, 2, 1, 1), u(1, 1, 1), u(1, 1, 1), u0(1)),
    ),
    Case(
        "conv_transpose2d",
        (f(1, 2).reshape(1, 1, 1, 2),),
        f([1, 0, 2, 0], [0, 2, 0, 4]).reshape(1, 1, 2, 4),
        (KERNEL, u(2, 2), u(0, 0), u(1, 1), u(0, 0), u0(1)),
    ),
    Case(
        "conv_transpose2d",
        (f(1, 2).reshape(1, 1, 1, 2),),
        f([2, 5, 4, 6]).reshape(1, 1, 1, 4),  # 1 2 5 4 6, less one in front; output_pad keeps the last
        (f(1, 2, 3).reshape(1, 1, 1, 3), u(1, 2), u(0, 1), u(1, 1), u(0, 1), u0(1)),
        note="padding, output_pad",
    ),
    Case(
        "conv_transpose3d",
        (f(3).reshape(1, 1, 1, 1, 1),),
        f(3, 6).reshape(1, 1, 2, 1, 1),
        (f(1, 2).reshape(1, 1, 2, 1, 1), u(1, 1, 1), u(0, 0, 0), u(1, 1, 1), u(0, 0, 0), u0(1)),
    ),
)
REDUCTIONS = (
    Case("reduce_max", (SQUARE,), f([2], [4]), (s(1),)),
    Case("reduce_mean", (SQUARE,), f([2, 3]), (s(0),)),
    Case("reduce_min", (SQUARE,), f([1]), (s(0, 1),), note="both axes"),
    Case("reduce_product", (SQUARE,), f([2], [12]), (s(-1),), note="negative axis"),
    Case("reduce_sum", (SQUARE,), f([4, 6]), (s(0),)),
    Case("argmax", (f([1, 5, 2]),), np.array([[1]], np.uint32), (s0(1),)),
    Case("softmax", (f([0, np.log(3)]),), f([0.25, 0.75]), (s0(1),)),
    Case(
        "interpolate",
        (f(1, 2, 3, 4).reshape(1, 1, 2, 2),),
        f([1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2], [3, 3, 3, 4, 4, 4], [3, 3, 3, 4, 4, 4]).reshape(1, 1, 4, 6),
        (s(1, 1, 4, 6), f(1, 1, 2, 3), f(0, 0, 0, 0)),
        attributes={"interpolation_mode": "#coreai.interpolation_mode<nearest_neighbor>"},
    ),
    Case("max_pool_2d", (IMAGE,), f(5, 6, 8, 9).reshape(1, 1, 2, 2), (u(2, 2), u(1, 1), u(1, 1), np.array(False))),
)
MOVES = (
    Case("reshape", (SQUARE,), f(1, 2, 3, 4), (u(4),)),
    Case("transpose", (SQUARE,), f([1, 3], [2, 4]), (u(1, 0),)),
    Case("expand_dims", (f(1, 2),), f([[1], [2]]), (s(0, 2),)),
    Case("shrink_dims", (f([[1], [2]]),), f(1, 2), (s(0, 2),)),
    Case("reverse", (ROW,), f([3, 2, 1]), (s(1),)),
    Case("concat", (f([1, 2]), f([3, 4])), SQUARE, (s0(0),), known_first=True),
    Case("slice", (ROW,), f([2, 3]), (s(0, 1), s(2**31 - 1, 2**31 - 1), s(1, 1)), note="to the end"),
    Case("slice", (ROW,), f([1, 3]), (s(0, 0), s(1, 3), s(1, 2)), note="every second"),
    Case("slice", (ROW,), f([2]), (s(0, -2), s(1, -1), s(1, 1)), note="from the end"),
    Case("slice", (ROW,), f([3, 2]), (s(0, 2), s(1, 0), s(1, -1)), note="backwards"),
    Case("slice", (ROW,), f([3, 2, 1]), (s(0, 2), s(1, -1), s(1, -1)), note=WHOLE_AXIS_BACKWARDS),
    Case(
        "pad",
        (f([1, 2]),),
        f([7, 1, 2, 7, 7]),
        (u(0, 0, 1, 2), np.float32(7)),
        {"padding_mode": "#coreai.padding_mode<constant>"},
    ),
    Case(
        "pad",
        (ROW,),
        f([2, 1, 2, 3]),
        (u(0, 0, 1, 0), np.float32(0)),
        {"padding_mode": "#coreai.padding_mode<reflect>"},
        note="reflect",
    ),
    Case(
        "pad",
        (ROW,),
        f([1, 1, 2, 3, 3]),
        (u(0, 0, 1, 1), np.float32(0)),
        {"padding_mode": "#coreai.padding_mode<replicate>"},
        note="replicate",
    ),
    Case("split", (ROW,), (f([1]), f([2, 3])), (u(1, 2), s0(1))),
    Case("tile", (f([1, 2]),), f([1, 2, 1, 2]), (u(2),)),
    Case("broadcast_to", (f(1, 2),), f([1, 2], [1, 2], [1, 2]), (u(3, 2),)),
    Case("broadcast_in_dims", (f([1, 2]),), f([1, 2], [1, 2]), (u(2), s(0))),
    Case("gather_nd", (SQUARE,), f(2, 3), (s([0, 1], [1, 0]),)),
    Case("gather_along_axis", (SQUARE,), f([2, 1], [3, 3]), (s([1, 0], [0, 0]), s0(1))),
    Case("get_shape", (ROW,), np.array([1, 3], np.uint32)),
    Case("range", (), s(0, 2, 4), (s0(0), s0(5), s0(2))),
)
WEIGHTS = (
    Case(
        "lut_to_dense",
        (),
        f([0.5, 2], [-1, -1]),
        (np.array([[0, 1], [0, 0]], np.uint8), WIDE := np.zeros((2, 1, 256, 1), np.float32), np.int16(0)),
        note="a palette for each row",
    ),
    Case(
        "blockwise_shift_scale",
        (),
        f([2, 4, -3, 0]),
        (np.array([[6, 7, 3, 4]], np.int8), f([2, 3]), np.array([[5, 4]], np.int8), f([0, 0])),
    ),
)
WIDE[0, 0, :2, 0] = 0.5, 2
WIDE[1, 0, :2, 0] = -1, 9
CASES = (*UNARY, *BINARY, *PRODUCTS, *REDUCTIONS, *MOVES, *WEIGHTS)
