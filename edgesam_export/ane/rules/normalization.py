"""Rules about normalisation and activations written out by hand."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits


def is_square(graph: GraphView, node: Node) -> bool:
    """Return whether a node squares one FP16 activation."""
    if node.type == "square":
        return True
    if node.type == "pow":
        exponent = graph.number(node, "y", None)
        return isinstance(exponent, float) and exponent.is_integer() and exponent > 1
    names = node.input_names
    return node.type == "mul" and len(names) == 2 and names[0] == names[1]


def squares_behind(graph: GraphView, node: Node) -> list[Node]:
    """Return the squares behind a square root, across a mean or sum and an added epsilon."""
    steps = [node]
    for kinds in (("add", "reduce_mean", "reduce_sum", "maximum"), ("reduce_mean", "reduce_sum"), ()):
        before = [maker for step in steps for maker in graph.before(step)]
        squares = [maker for maker in before if is_square(graph, maker)]
        if squares:
            return squares
        steps = [maker for maker in before if maker.type in kinds]
    return []


def roots(graph: GraphView) -> Iterator[tuple[Node, list[Node]]]:
    """Yield each square root that ends a variance, with its squares."""
    for node in graph.of("rsqrt", "sqrt", "pow"):
        exponent = graph.number(node, "y", 0.0) if node.type == "pow" else None
        if exponent is not None and not (isinstance(exponent, float) and abs(exponent) < 1):
            continue
        squares = squares_behind(graph, node)
        if squares:
            yield node, squares


@rule(
    id="A33",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md; coremltools, optimize_normalization.py (pattern 5)",
    flags=(
        """
        x: fp16[1, 64, 1, 32]
        a: fp16[1, 64, 1, 32] = mul(x=x, y=0.7071)
        b: fp16[1, 64, 1, 32] = erf(x=a)  # flagged
        c: fp16[1, 64, 1, 32] = add(x=b, y=1.0)
        d: fp16[1, 64, 1, 32] = mul(x=x, y=c)
        """,
        """
        x: fp16[1, 64, 1, 32]
        m: fp16[1, 1, 1, 32] = reduce_mean(x=x, axes=[1], keep_dims=True)
        c: fp16[1, 64, 1, 32] = sub(x=x, y=m)
        s: fp16[1, 64, 1, 32] = square(x=c)
        v: fp16[1, 1, 1, 32] = reduce_mean(x=s, axes=[1], keep_dims=True)
        e: fp16[1, 1, 1, 32] = add(x=v, y=0.001)
        r: fp16[1, 1, 1, 32] = rsqrt(x=e, epsilon=0.001)  # flagged
        y: fp16[1, 64, 1, 32] = mul(x=c, y=r)
        """,
    ),
    passes="""
    x: fp16[1, 64, 1, 32]
    n: fp16[1, 64, 1, 32] = layer_norm(x=x, axes=[1], epsilon=0.0001)
    y: fp16[1, 64, 1, 32] = gelu(x=n, mode="EXACT")
    """,
)
def written_out_norm(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds layer norms, RMS norms and GELUs as chains of elementary operations.

    Why: The single operation maps better, and the square in the chain overflows FP16 from a magnitude of 256 on.

    Instead: torch's own layer_norm and gelu; or the order mean, sub, x * x, mean, add eps, rsqrt, mul, add, mul, which
    coremltools recognises with channels first.
    """
    for node, squares in roots(graph):
        centred = any(maker.type == "sub" for square in squares for maker in graph.before(square))
        kind = "layer norm" if centred else "RMS or L2 norm"
        yield Hit(node, f"a {kind} written out, its square at '{squares[0].label}'; use layer_norm or scale before")
    for node in graph.of("erf", "tanh"):
        scaled = any(maker.type in ("mul", "real_div") for maker in graph.before(node))
        if scaled and any(reader.type == "add" for reader in graph.after(node)):
            yield Hit(node, f"a GELU written out with {node.type}; use the gelu operation")


@rule(
    id="A34",
    severity="warning",
    evidence="documented",
    concerns="placement",
    source="apple/coreai-models, sam3 for iOS (rank 4 by hand); FluidAudio, ANE_Profiler.md (instance norms on an M5)",
    flags=(
        """
        x: fp16[1, 64, 32, 32]
        y: fp16[1, 64, 32, 32] = instance_norm(x=x, epsilon=0.001)  # flagged
        """,
        """
        x: fp16[1, 16, 2, 32]
        a: fp16[1, 8, 2, 2, 32] = reshape(x=x, shape=[1, 8, 2, 2, 32])
        m: fp16[1, 8, 1, 1, 1] = reduce_mean(x=a, axes=[2, 3, 4], keep_dims=True)  # flagged
        y: fp16[1, 8, 2, 2, 32] = sub(x=a, y=m)
        """,
    ),
    passes="""
    x: fp16[1, 64, 32, 32]
    y: fp16[1, 64, 32, 32] = layer_norm(x=x, axes=[1], epsilon=0.001)
    """,
)
def group_norm(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds instance norms and group norms of five axes.

    Why: Group norm is said not to be native on some families; Apple writes it by hand with four axes. From H14 on
    networks full of them stay on the engine, so there it is about speed; nobody has looked on H13.

    Instead: Merge height and width, so that groups, channels of a group and positions are left.
    """
    off = False if limits.native_group_norm else None
    for node in graph.of("instance_norm"):
        yield Hit(node, "instance_norm (group norm) is not native on some families; write it with four axes", off=off)
    for node in graph.of("reduce_mean", "layer_norm"):
        reshaped = any(maker.type == "reshape" for maker in graph.before(node))
        if reshaped and any(value.rank >= limits.max_rank for value in graph.data_inputs(node)):
            yield Hit(node, f"{node.type} over groups of {node.output.rank} axes; write it with four", off=off)
