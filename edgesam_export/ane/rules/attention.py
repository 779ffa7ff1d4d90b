"""Rules about attention and linear layers."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node, stored_bytes
from edgesam_export.ane.report import Severity
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits


def products(graph: GraphView) -> Iterator[Node]:
    """Yield the matrix products of two activations."""
    for node in graph.of("matmul"):
        if not graph.takes_weight(node, "x") and not graph.takes_weight(node, "y"):
            yield node


@rule(
    id="A27",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md; apple/ml-ane-transformers, ffn.py; disputed by "
    "john-rocky/CoreML-LLM, probe_linear_vs_conv2d",
    flags="""
    x: fp16[1, 256, 128]
    w: fp16[256, 128] = const()
    y: fp16[1, 256, 256] = linear(x=x, weight=w)  # flagged
    """,
    passes="""
    x: fp16[1, 128, 1, 64]
    w: fp16[256, 128, 1, 1] = const()
    y: fp16[1, 256, 1, 64] = conv(x=x, weight=w)
    """,
)
def linear_layer(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds linear layers and products with a constant matrix; on a few values, such as prompt tokens, as a note.

    Why: Apple's guidance is that they become several slower operations, which arrange the data around a convolution;
    others measured little difference.

    Instead: A 1 x 1 convolution on (1, channels, 1, positions), and a measurement of both.
    """
    for node in graph.of("linear", "matmul"):
        if node.type == "linear" or any(graph.takes_weight(node, key) for key in ("x", "y")):
            values = [node.output, *graph.data_inputs(node)]
            milder: Severity | None = "info" if max(v.bytes for v in values) < limits.negligible_bytes else None
            note = f"{node.type} with a constant matrix; a 1 x 1 convolution maps better"
            yield Hit(node, note, severity=milder)


@rule(
    id="A28",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md; Apple ML research, both ANE articles",
    flags="""
    q: fp16[1, 16, 512, 32]
    k: fp16[1, 16, 32, 512]
    s: fp16[1, 16, 512, 512] = matmul(x=q, y=k)  # flagged
    """,
    passes="""
    q: fp16[1, 8, 256, 32]
    k: fp16[1, 8, 32, 256]
    s: fp16[1, 8, 256, 256] = matmul(x=q, y=k)
    """,
)
def fused_heads(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds attention of all heads in one product whose scores together exceed the on-chip working set.

    Why: Scores of one head at a time stay on chip; there is no fused attention.

    Instead: One product per head, or per few heads.
    """
    for node in products(graph):
        heads = node.output.sizes[-3] if node.output.rank > 3 else 1
        if heads > 1 and node.output.bytes > limits.large_bytes >= node.output.bytes // heads:
            yield Hit(node, f"scores {node.output} of {heads} heads take {node.output.bytes} bytes; split by head")


@rule(
    id="A29",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/ml-stable-diffusion, attention.py (chunks of 512); apple/coreai-models, sam3 (576); ANEForge",
    flags="""
    q: fp16[1, 1, 4096, 32]
    k: fp16[1, 1, 32, 4096]
    s: fp16[1, 1, 4096, 4096] = matmul(x=q, y=k)  # flagged
    """,
    passes="""
    q: fp16[1, 1, 256, 32]
    k: fp16[1, 1, 32, 4096]
    s: fp16[1, 1, 256, 4096] = matmul(x=q, y=k)
    """,
)
def large_scores(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds attention scores that exceed the on-chip working set for one head alone.

    Why: They go through main memory, there and back. SAM's global attention has 32 MB per head.

    Instead: Process the queries in chunks.
    """
    for node in products(graph):
        size = stored_bytes(node.output.elements, node.output.dtype)
        heads = node.output.sizes[-3] if node.output.rank > 2 else 1
        if size // heads > limits.large_bytes:
            chunk = limits.query_chunk
            yield Hit(node, f"scores {node.output}: {size // heads} bytes per head; chunks of {chunk} queries")


@rule(
    id="A30",
    severity="info",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md; john-rocky/CoreML-LLM, SDPA_FUSION_PROBE",
    flags="""
    opset = "iOS18"
    q: fp16[1, 8, 64, 32]
    k: fp16[1, 8, 64, 32]
    v: fp16[1, 8, 64, 32]
    y: fp16[1, 8, 64, 32] = scaled_dot_product_attention(query=q, key=k, value=v)  # flagged
    """,
    passes="""
    q: fp16[1, 8, 64, 32]
    k: fp16[1, 8, 32, 64]
    s: fp16[1, 8, 64, 64] = matmul(x=q, y=k)
    """,
)
def fused_attention(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds the attention operation of iOS 18.

    Why: It is not fused on the engine, but becomes a product, a softmax and a product.

    Instead: Nothing, or the parts by hand where chunks or another layout help.
    """
    for node in graph.of("scaled_dot_product_attention"):
        yield Hit(node, "not fused on the ANE: it becomes matmul, softmax, matmul")


@rule(
    id="A31",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md; apple/ml-ane-transformers, multihead_attention.py",
    flags="""
    s: fp16[1, 1, 2048, 2048]
    p: fp16[1, 1, 2048, 2048] = softmax(x=s, axis=-1)  # flagged
    """,
    passes="""
    s: fp16[1, 2048, 1, 2048]
    p: fp16[1, 2048, 1, 2048] = softmax(x=s, axis=1)
    """,
)
def softmax_in_space(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds softmax of a large value along height or width.

    Why: It restricts how the work is shared out in space; along channels it does not.

    Instead: Scores as (1, keys, heads, queries), softmax along axis 1.
    """
    for node in graph.of("softmax"):
        rank = node.output.rank
        axis = graph.number(node, "axis", -1) % rank if rank else 0
        if rank > 2 and axis >= rank - 2 and node.output.bytes > limits.large_bytes:
            yield Hit(node, f"softmax of {node.output} along axis {axis}; put the keys on the channel axis")
