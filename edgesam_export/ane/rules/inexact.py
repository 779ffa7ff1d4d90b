"""Rules about patterns that gave other numbers on the engine than elsewhere, for causes that nobody knows."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits


def is_depthwise(graph: GraphView, node: Node) -> bool:
    """Return whether a convolution treats every channel on its own, and has more than one."""
    x = graph.operand(node, "x")
    return x is not None and x.rank > 2 and 1 < graph.number(node, "groups", 1) == x.sizes[1]


@rule(
    id="N09",
    severity="warning",
    evidence="measured",
    concerns="numerics",
    source="apple/coremltools issue 2625",
    flags="""
    x: fp16[1, 32, 32, 32]
    g: fp16[1, 32, 32, 32] = sigmoid_hard(x=x, alpha=0.16, beta=0.5)
    h: fp16[1, 32, 32, 32] = mul(x=x, y=g)
    w: fp16[32, 1, 3, 3] = const()
    y: fp16[1, 32, 32, 32] = conv(x=h, weight=w, groups=32, pad_type="same")  # flagged
    """,
    passes="""
    x: fp16[1, 32, 32, 32]
    h: fp16[1, 32, 32, 32] = relu(x=x)
    w: fp16[32, 1, 3, 3] = const()
    y: fp16[1, 32, 32, 32] = conv(x=h, weight=w, groups=32, pad_type="same")
    """,
)
def hardswish_before_depthwise(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds a hard swish whose result goes into a depthwise convolution.

    Why: Errors of 0.19 to 0.26 were reported on the engine, 0.06 to 0.09 on the CPU.

    Instead: ReLU or GELU; at least a look at the device's numbers.
    """
    gates = ("sigmoid_hard", "relu6", "clip")
    for node in graph.of("conv"):
        if not is_depthwise(graph, node):
            continue
        products = [maker for maker in graph.before(node) if maker.type in ("mul", "real_div")]
        around = [*products, *(before for product in products for before in graph.before(product))]
        if any(maker.type in gates for near in around for maker in graph.before(near)):
            yield Hit(node, "a depthwise convolution after a hard swish was inexact on the ANE; check on the device")


@rule(
    id="N10",
    severity="warning",
    evidence="measured",
    concerns="numerics",
    source="Apple developer forum 720810 (iPhone 13 and 14, iOS 16)",
    families=("H14",),
    flags="""
    x: fp16[1, 1024, 8, 32]
    z: fp16[1, 1024, 8, 32]
    c: fp16[1, 2048, 8, 32] = concat(values=[x, z], axis=1)
    w: fp16[2048, 1, 3, 3] = const()
    y: fp16[1, 2048, 8, 32] = conv(x=c, weight=w, groups=2048, pad_type="same")  # flagged
    """,
    passes="""
    x: fp16[1, 256, 8, 32]
    z: fp16[1, 256, 8, 32]
    c: fp16[1, 512, 8, 32] = concat(values=[x, z], axis=1)
    w: fp16[512, 1, 3, 3] = const()
    y: fp16[1, 512, 8, 32] = conv(x=c, weight=w, groups=512, pad_type="same")
    """,
)
def depthwise_after_concat(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds depthwise convolutions of a concatenation along many channels.

    Why: With 1600 channels the result was the same number everywhere, on two chips of this family.

    Instead: A depthwise convolution for each part and the concatenation after them: the numbers are the same.
    """
    for node in graph.of("conv"):
        x = graph.operand(node, "x")
        maker = graph.producer(x.name) if x else None
        if x is None or maker is None or maker.type != "concat" or not is_depthwise(graph, node):
            continue
        if graph.number(maker, "axis", 0) % x.rank == 1 and x.sizes[1] > limits.wide_concat_channels:
            yield Hit(node, f"a depthwise convolution of {x.sizes[1]} concatenated channels was wrong; do it by part")


@rule(
    id="N11",
    severity="warning",
    evidence="measured",
    concerns="numerics",
    source="niw, The Hunt for the iOS 18 Neural Engine Bug (iPhone 15 Pro, iOS 18.0; on GPU and CPU, in FP16 and with "
    "earlier systems the same networks were right)",
    needs_placements=True,
    flags="""
    x: fp16[1, 8, 32, 32]
    a: fp16[1, 8, 32, 32] = relu(x=x)
    y: fp32[1, 8, 32, 32] = cast(x=a, dtype="fp32")  # flagged
    """,
    passes="""
    x: fp16[1, 8, 32, 32]
    y: fp16[1, 8, 32, 32] = relu(x=x)
    """,
)
def fp32_output(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds FP32 outputs whose values are computed in FP16, where the engine may compute them.

    Why: With iOS 18.0 such outputs came out broken, whatever the deployment target; whether a later system mends it was
    not reported. An output that FP32 operations compute is not concerned: these run elsewhere.

    Instead: FP16 outputs (iOS 16 and later), converted by the app.
    """
    for node in graph.of("cast"):
        wide = node.output.dtype == "fp32" and node.label in graph.outputs
        if wide and any(maker.index not in graph.off and is_narrow(maker) for maker in graph.before(node)):
            yield Hit(node, f"output '{node.label}' is FP32, computed in FP16; return FP16")


def is_narrow(node: Node) -> bool:
    return node.output.dtype == "fp16"
