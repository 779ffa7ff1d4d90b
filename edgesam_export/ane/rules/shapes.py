"""Rules about sizes: how many axes, how long, and whether they are known."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits

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


@rule(
    id="A07",
    severity="error",
    evidence="documented",
    concerns="placement",
    source="apple/coreai-models, neural_engine_rules.md; coremltools guide, flexible-inputs.md and faqs.md; "
    "apple/coremltools issues 1764 and 1909",
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
    source="sbryngelson/ane-guide part 5/17; smpanaro/more-ane-transformers, NOTES; apple/coremltools issue 2247",
    flags="""
    x: fp16[1, 4, 32]
    y: fp16[1, 32, 131072]
    z: fp16[1, 4, 131072] = matmul(x=x, y=y)  # flagged
    """,
    passes="""
    x: fp16[1, 4, 4, 32]
    y: fp16[1, 4, 32, 16384]
    z: fp16[1, 4, 4, 16384] = matmul(x=x, y=y)
    """,
)
def too_long_axis(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds values with an axis that is longer than the engine allows.

    Why: Compilation for the engine fails. SAM's mask product over 256 x 256 pixels as one axis is such a case.

    Instead: Keep height and width apart, or cut the axis into chunks on the channel axis.
    """
    for node in graph.of():
        value = node.output
        if value.dtype in ("int32", "int64"):
            continue
        spatial = max(value.sizes[-2:], default=1)
        leading = max(value.sizes[:-2], default=1)
        if spatial > limits.max_spatial_extent:
            yield Hit(node, f"{value}: an axis of {spatial}, the ANE takes {limits.max_spatial_extent}; cut it")
        elif leading > limits.max_channel_extent:
            yield Hit(node, f"{value}: a leading axis of {leading}, the ANE takes {limits.max_channel_extent}; cut it")
