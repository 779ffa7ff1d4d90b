"""Rules about sizes: how many axes, how long, and whether they are known."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from edgesam_export.ane.graph import GraphView, Node, Value
from edgesam_export.ane.report import Severity
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.ane.rules.states import is_state_write
from edgesam_export.ane.rules.types import INTEGERS
from edgesam_export.hardware import Limits
from edgesam_export.mil.op_kinds import ops_with

SHAPE_INPUTS = ("shape", "begin", "end", "size", "reps", "perm", "target_size_height", "target_size_width")


@rule(
    id="A01",
    severity="error",
    evidence="documented",
    concerns="placement",
    source="apple/coreai-models, neural_engine_rules.md; Apple ML research, Attention-Based Vision Transformers",
    flags="""
    x: fp16[1, 64, 32, 32]
    y: fp16[1, 8, 8, 4, 8, 32] = reshape(x=x, shape=[1, 8, 8, 4, 8, 32])  # flagged
    """,
    passes="""
    x: fp16[1, 64, 32, 32]
    y: fp16[64, 4, 8, 1, 32] = reshape(x=x, shape=[64, 4, 8, 1, 32])
    """,
)
def too_many_axes(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds values with more axes than the engine has.

    Why: An intermediate of higher rank is rejected, so the operations that make and read it leave the engine. Window
    partition in one reshape to six axes is the usual case. coremltools refuses to write such programs, other tools do.

    Instead: Partition in two steps of at most five axes, one spatial axis at a time.
    """
    for node in graph.of():
        for value in node.outputs:
            if value.rank > limits.max_rank:
                yield Hit(node, f"{value} has {value.rank} axes, the ANE takes {limits.max_rank}; split the reshape")


@rule(
    id="A02",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="sbryngelson/ane-guide parts 5/17 and 1/04",
    flags="""
    x: fp16[1, 2, 4, 32, 32]
    y: fp16[1, 2, 4, 32, 32]
    z: fp16[1, 2, 4, 32, 32] = matmul(x=x, y=y)  # flagged
    """,
    passes="""
    x: fp16[1, 8, 32, 32]
    y: fp16[1, 8, 32, 32]
    z: fp16[1, 8, 32, 32] = matmul(x=x, y=y)
    """,
)
def matmul_with_depth(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds matrix products of operands with five axes or more.

    Why: The depth axis of a product must be 1.

    Instead: Merge the leading axes, so that batch, heads, rows and columns are left.
    """
    for node in graph.of("matmul", "linear"):
        rank = max((value.rank for value in graph.data_inputs(node)), default=0)
        if rank > limits.matmul_rank:
            yield Hit(node, f"{node.type} of {rank} axes, the ANE takes {limits.matmul_rank}; merge the leading axes")


def is_dynamic(node: Node, graph: GraphView) -> bool:
    return any(not value.is_static for value in [*node.outputs, *graph.data_inputs(node)])


def computed_sizes(graph: GraphView, node: Node) -> list[str]:
    """Return the inputs for sizes and positions that the program computes."""
    return [key for key in SHAPE_INPUTS if any(graph.is_activation(name) for name in node.inputs.get(key, ()))]


def has_computed_position(graph: GraphView, node: Node) -> bool:
    """Return whether the program computes where a node writes."""
    names = (name for key in ("begin", "end", "indices") for name in node.inputs.get(key, ()))
    return any(graph.is_activation(name) for name in names)


@rule(
    id="A07",
    severity="error",
    evidence="documented",
    concerns="placement",
    source="apple/coreai-models, neural_engine_rules.md; coremltools guide, flexible-inputs.md and faqs.md; "
    "apple/coremltools issues 1764 and 1909; FluidInference/mobius#77 (state written at a computed position)",
    flags=(
        """
        x: fp16[1, 64, None] = feature(flexible="range")
        y: fp16[1, 64, None] = relu(x=x)
        # flagged: the program
        """,
        """
        x: fp16[1, 64, 32]
        n: int32[3] = shape(x=x)  # flagged
        """,
        """
        opset = "iOS18"
        k: fp16[1, 8, 64, 32] = feature(kind="state")
        b: uint16[4]
        u: fp16[1, 8, 1, 32]
        r: fp16[1, 8, 64, 32] = read_state(input=k)
        w: fp16[1, 8, 64, 32] = slice_update(x=r, update=u, begin=b, end=b)  # flagged
        write_state(input=k, data=w)
        y: fp16[1, 8, 1, 32] = relu(x=u)
        output(y)
        """,
    ),
    passes="""
    x: fp16[1, 64, 32]
    y: fp16[1, 64, 32] = relu(x=x)
    """,
)
def dynamic_shape(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds sizes that are known only when the program runs: flexible inputs, the shape operation, computed sizes.

    Why: The engine's programs are compiled for fixed sizes. Whatever works on an open size leaves it, and Core ML may
    prepare the model again whenever the size changes.

    Instead: Fix the size and mark the unused part, or ship one function per size in one package.
    """
    moving = tuple(node for node in graph.nodes if is_dynamic(node, graph))
    kinds = {feature.value.name: feature.flexible for feature in graph.features if feature.direction == "input"}
    open_inputs = [value for value in graph.inputs if not value.is_static and kinds.get(value.name) != "enumerated"]
    for value in open_inputs:
        yield Hit(None, f"input '{value.name}' has no fixed shape: {value}; export with fixed sizes", covers=moving)
    flexible = bool(open_inputs) or "enumerated" in kinds.values()
    for node in graph.of():
        computed = computed_sizes(graph, node)
        born = is_dynamic(node, graph) and all(value.is_static for value in graph.data_inputs(node))
        if node.type == "shape":
            yield Hit(node, "reads the shape at run time; trace with fixed sizes, so that it becomes a constant")
        elif is_state_write(graph, node) and has_computed_position(graph, node):
            note = "writes a state at a computed position; the whole function is rejected over it, not this write alone"
            yield Hit(node, f"{note}: take the cache as input, or write at constant positions", rejects=True)
        elif computed:
            yield Hit(node, f"'{computed[0]}' of {node.type} is computed; make it a constant")
        elif born and not flexible:
            yield Hit(node, f"the size of {node.output} depends on the data; make it fixed")


@rule(
    id="A08",
    severity="warning",
    evidence="measured",
    concerns="placement",
    source="apple/coremltools issues 2370, 1909 and 2730",
    flags="""
    x: fp16[1, 64, None] = feature(flexible="enumerated")
    y: fp16[1, 64, None] = relu(x=x)
    # flagged: the program
    """,
    passes="""
    x: fp16[1, 64, 32]
    y: fp16[1, 64, 32] = relu(x=x)
    """,
)
def enumerated_shapes(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds inputs that allow a list of shapes.

    Why: Such models can stay on the engine, but users saw residency fall from 77 % to 2 % and predictions fail,
    worst with layer_norm in the program.

    Instead: One function per shape in one package.
    """
    norms = sum(1 for _ in graph.of("layer_norm"))
    for feature in graph.features:
        if feature.direction == "input" and feature.flexible == "enumerated":
            more = f", and the program has {norms} layer_norm" if norms else ""
            yield Hit(None, f"input '{feature.value.name}' allows several shapes{more}; use a function per shape")


@rule(
    id="A14",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="sbryngelson/ane-guide part 5/17",
    flags="""
    x: fp16[1, 4096]
    y: int32[1] = reduce_argmax(x=x, axis=-1)  # flagged
    """,
    passes="""
    x: fp16[1, 1024]
    y: int32[1] = reduce_argmax(x=x, axis=-1)
    """,
)
def long_argmax(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds an argmax or argmin along an axis that is too long.

    Why: The engine's validator rejects it.

    Instead: Return the values and look for the largest in the app, or do it in two steps.
    """
    for node in graph.of("reduce_argmax", "reduce_argmin"):
        x = graph.operand(node, "x")
        extent = x.extent(graph.number(node, "axis", -1)) if x else 0
        if extent > limits.max_argmax_extent:
            yield Hit(node, f"{node.type} over {extent} elements, the ANE takes {limits.max_argmax_extent}")


@rule(
    id="A15",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="sbryngelson/ane-guide part 5/17; smpanaro/more-ane-transformers, NOTES; apple/coremltools issue 2247; "
    "FluidInference/mobius#59 and #61; chrishayuk/larql#312 (reduction depth)",
    flags=(
        """
        x: fp16[1, 4, 32]
        y: fp16[1, 32, 131072]
        z: fp16[1, 4, 131072] = matmul(x=x, y=y)  # flagged
        """,
        """
        x: fp16[1, 8, 131072]
        y: fp16[1, 8, 64] = slice_by_size(x=x, begin=[0, 0, 0], size=[1, 8, 64])  # flagged
        """,
    ),
    passes="""
    x: fp16[1, 4, 4, 32]
    y: fp16[1, 4, 32, 16384]
    z: fp16[1, 4, 4, 16384] = matmul(x=x, y=y)
    """,
)
def too_long_axis(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds values, inputs included, with an axis that is longer than the engine allows, and sums of too many products.

    Why: Compilation for the engine fails. SAM's mask product over 256 x 256 pixels as one axis is such a case. The
    features that a linear layer makes are channels, of which there may be more; what it sums up is limited too.

    Instead: Keep height and width apart, or cut the axis into chunks on the channel axis; cut a long sum in two.
    """
    channels = channel_values(graph)
    inputs = {value.name for value in graph.inputs}
    for node in graph.of():
        depth = reduction_depth(graph, node)
        if depth > limits.max_reduction_depth:
            milder: Severity | None = "warning" if node.type == "conv" else None
            note = f"{node.type} sums up {depth} products, the ANE takes {limits.max_reduction_depth}; cut it in two"
            yield Hit(node, note, severity=milder)
            continue
        for value in [node.output, *(v for v in graph.data_inputs(node) if v.name in inputs)]:
            excess = excess_of(value, limits, last_is_channels=value.name in channels)
            if excess:
                name = f"input '{value.name}' " if value.name in inputs else ""
                yield Hit(node, f"{name}{value}: {excess}; cut it")
                break


def excess_of(value: Value, limits: Limits, *, last_is_channels: bool) -> str:
    """Return which axis of a value is too long, in words; empty when none is."""
    if value.dtype in INTEGERS or not value.sizes:
        return ""
    split = -1 if last_is_channels else len(value.sizes)
    leading = max((*value.sizes[:-2], *value.sizes[split:]), default=1)
    spatial = max(value.sizes[-2:split], default=1)
    if spatial > limits.max_spatial_extent:
        return f"an axis of {spatial}, the ANE takes {limits.max_spatial_extent}"
    return (
        f"a leading axis of {leading}, the ANE takes {limits.max_channel_extent}"
        if leading > limits.max_channel_extent
        else ""
    )


def channel_values(graph: GraphView) -> set[str]:
    """Return the values whose last axis holds channels: results of linear layers, and what replaces them in place."""
    found: set[str] = set()
    for node in graph.nodes:
        width = node.output.extent(-1)
        kept = any(v.name in found and v.extent(-1) == width for v in graph.data_inputs(node))
        if is_linear(graph, node) or (kept and not rearranges(node)):
            found.add(node.output.name)
    return found


def is_linear(graph: GraphView, node: Node) -> bool:
    return node.type == "linear" or (node.type == "matmul" and graph.takes_weight(node, "y"))


def rearranges(node: Node) -> bool:
    """Return whether a node may put another axis last; elementwise work, softmax and norms leave the axes alone."""
    return any(node.type in ops_with(trait) for trait in ("layout", "product"))


def reduction_depth(graph: GraphView, node: Node) -> int:
    """Return how many products each element of a product sums up; of a convolution, those of 1 x 1 alone count."""
    if node.type == "conv":
        weight = graph.operand(node, "weight")
        return weight.extent(1) if weight and prod(weight.sizes[2:]) == 1 else 0
    if node.type in ("einsum", "linear", "matmul") and node.output.elements:
        return graph.multiply_adds(node) // node.output.elements
    return 0


@rule(
    id="A37",
    severity="warning",
    evidence="measured",
    concerns="placement",
    source="apple/coremltools#1613 (512 MB of attention scores do not load); vx-lang/Vx#437 (128 MB do)",
    flags="""
    x: fp16[1, 64, 2048, 64]
    z: fp16[1, 64, 1, 64]
    y: fp16[1, 64, 2048, 2048] = einsum(values=[x, x], equation="bhqc,bhkc->bhqk")  # flagged
    s: fp16[1, 64, 1, 2048] = reduce_max(x=y, axes=[2], keep_dims=True)
    """,
    passes="""
    x: fp16[1, 8, 2048, 64]
    y: fp16[1, 8, 2048, 2048] = einsum(values=[x, x], equation="bhqc,bhkc->bhqk")
    s: fp16[1, 8, 1, 2048] = reduce_max(x=y, axes=[2], keep_dims=True)
    """,
)
def huge_value(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds single values of hundreds of megabytes.

    Why: Attention scores of 512 MB kept a program from loading on the engine; 128 MB were taken.

    Instead: Attention by head and in chunks of queries; images in tiles.
    """
    large = [node for node in graph.of() if node.output.bytes > limits.max_value_bytes]
    if large:
        node = max(large, key=lambda node: node.output.bytes)
        note = f"{node.output} takes {node.output.bytes} bytes; programs with values beyond {limits.max_value_bytes}"
        yield Hit(node, f"{note} failed to load: work in chunks", covers=tuple(large), rejects=True)
