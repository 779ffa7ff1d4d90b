"""Rules about the last axis: padding, and what moves data between axes."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node, Value
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits
from edgesam_export.mil.op_kinds import ops_with


def waste(value: Value) -> int:
    return value.padded_bytes - value.bytes


@rule(
    id="A24",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md; Apple ML research, Deploying Transformers on the ANE",
    flags=(
        """
        x: fp16[1, 4096, 64, 1]
        k: fp16[1, 1, 64, 1] = reduce_max(x=x, axes=[1], keep_dims=True)
        # flagged: the program
        """,
        """
        x: fp16[1, 64, 32, 64]
        y: fp16[1, 64, 32, 33] = slice_by_size(x=x, begin=[0, 0, 0, 0], size=[1, 64, 32, 33])  # flagged
        z: fp16[1, 64, 32, 33] = relu(x=y)
        w: fp16[1, 64] = reduce_max(x=z, axes=[2, 3])
        """,
    ),
    passes="""
    x: fp16[1, 64, 32, 32]
    y: fp16[1, 64, 32, 32] = relu(x=x)
    """,
)
def padded_last_axis(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds large values whose last axis is padded to 64 bytes; an input or output with a last axis of 1 is worst.

    Why: The engine reads and writes the padding too: 32 times the memory for FP16 with a last axis of 1.

    Instead: Put the longest axis last; the image tokens of attention, not the handful of prompt tokens.
    """
    for feature in graph.features:
        value = feature.value
        if feature.kind == "tensor" and value.is_static and waste(value) > limits.negligible_bytes:
            yield Hit(None, f"{feature.direction} '{value.name}' {value} {ratio(value)}; put a longer axis last")
    ends = {feature.value.name for feature in graph.features}
    for node in graph.of():
        value = node.output
        if value.name in ends or value.bytes < limits.negligible_bytes:
            continue
        inherited = any(v.rank and v.sizes[-1] == value.sizes[-1] and waste(v) for v in graph.data_inputs(node))
        if waste(value) > limits.negligible_bytes and not inherited:
            yield Hit(node, f"{value} {ratio(value)}; put a longer axis last")


def ratio(value: Value) -> str:
    return f"takes {value.padded_bytes / value.bytes:.1f} times its {value.bytes} bytes with the last axis padded"


def moves_last_axis(graph: GraphView, node: Node) -> bool:
    x = graph.operand(node, "x")
    if x is None or not x.rank or not node.output.rank:
        return False
    if node.type == "transpose":
        perm = graph.numbers(node, "perm")
        return bool(perm) and perm[-1] % x.rank != x.rank - 1
    return x.sizes[-1] != node.output.sizes[-1]


def is_reshape_in_place(graph: GraphView, node: Node) -> bool:
    """Return whether a reshape leaves every element where it is, because no row is padded on either side."""
    return node.type == "reshape" and not any(waste(value) for value in [*graph.data_inputs(node), node.output])


@rule(
    id="A25",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md; Apple ML research, Deploying Transformers on the ANE",
    flags="""
    x: fp16[1, 64, 32, 64]
    y: fp16[1, 64, 64, 32] = transpose(x=x, perm=[0, 1, 3, 2])  # flagged
    """,
    passes="""
    x: fp16[1, 64, 32, 64]
    y: fp16[1, 32, 64, 64] = transpose(x=x, perm=[0, 2, 1, 3])
    """,
)
def moved_last_axis(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds large transposes and reshapes that change the last axis.

    Why: All data is rewritten, since the last axis is the contiguous, padded one.

    Instead: Keep one layout, channels first and positions last, from one end to the other.
    """
    for node in graph.of("reshape", "transpose"):
        if moves_last_axis(graph, node) and node.output.bytes >= limits.negligible_bytes:
            free = is_reshape_in_place(graph, node)
            note = "rows are whole 64 bytes before and after, so it may be free" if free else "keep the last axis"
            yield Hit(node, f"{node.type} to {node.output} moves {graph.moved_bytes(node)} bytes; {note}")


def cuts_last_axis(graph: GraphView, node: Node) -> bool:
    x = graph.operand(node, "x")
    if x is None or not x.rank or node.output.extent(-1) == x.sizes[-1]:
        return False
    if node.type == "split":
        return bool(graph.number(node, "axis", 0) % x.rank == x.rank - 1)
    begin, mask = graph.numbers(node, "begin", [0]), graph.numbers(node, "begin_mask", [False])
    return bool(begin[-1:] and begin[-1]) and not (mask[-1:] and mask[-1])


@rule(
    id="A26",
    severity="warning",
    evidence="folklore",
    concerns="numerics",
    source="ANEForge docs/numeric-cliffs.md and developer/op-quirks.md",
    families=("H13", "H14"),
    flags="""
    x: fp16[1, 8, 64]
    y: fp16[1, 8, 32] = slice_by_index(x=x, begin=[0, 0, 32], end=[1, 8, 64])  # flagged
    """,
    passes=(
        """
        x: fp16[1, 8, 64]
        y: fp16[1, 4, 64] = slice_by_index(x=x, begin=[0, 4, 0], end=[1, 8, 64])
        """,
        """
        x: fp16[1, 8, 64]
        y: fp16[1, 8, 32] = slice_by_index(x=x, begin=[0, 0, 32], end=[1, 8, 64])
        ranges = {"y": 100.0}
        """,
    ),
)
def slice_of_last_axis(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds slices and splits of the last axis that do not start at 0, unless measured magnitudes are small.

    Why: A fixed-point gain on that path is said to overflow beyond 4094 on H13 and H14, and several such slices put
    together again gave wrong elements.

    Instead: Slice the channel axis; split the layer before in two.
    """
    for node in graph.of(*ops_with("slice")):
        size = graph.ranges.get(node.label, limits.max_fp16)
        if cuts_last_axis(graph, node) and size > limits.fixed_point_gain and node.output.dtype == "fp16":
            yield Hit(node, f"cuts the last axis of {graph.operand(node, 'x')}; slice another axis")
