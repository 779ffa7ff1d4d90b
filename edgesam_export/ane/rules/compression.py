"""Rules about weights: how large, how compressed."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node, Value
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits
from edgesam_export.mil.op_kinds import ops_with

NEEDS = {
    "constexpr_blockwise_shift_scale": "iOS18",
    "constexpr_lut_to_sparse": "iOS18",
    "constexpr_sparse_blockwise_shift_scale": "iOS18",
    "constexpr_sparse_to_dense": "iOS16",
    "constexpr_affine_dequantize": "iOS16",
    "constexpr_lut_to_dense": "iOS16",
    "constexpr_cast": "iOS16",
}
OPSET_ORDER = ("iOS15", "iOS16", "iOS17", "iOS18", "iOS26", "CoreAI")
WEIGHTED = ops_with("accumulator") | {"gather"}
"""Operations that read a matrix or kernel of weights."""
NARROW = ("int4", "uint1", "uint2", "uint3", "uint4", "uint6")


def users(graph: GraphView, node: Node) -> list[Node]:
    """Return the operations that read a decompressed weight."""
    return [reader for value in node.outputs for reader in graph.consumers(value.name)]


def kernels(graph: GraphView) -> Iterator[tuple[Node, Value]]:
    """Yield the constant matrices and kernels with the operation that uses them."""
    for node in graph.nodes:
        if node.type in WEIGHTED:
            for name in dict.fromkeys(node.input_names):
                value = graph.values.get(name)
                if name in graph.weights and value and value.rank > 1:
                    yield node, value


def stored_size(graph: GraphView, node: Node) -> int:
    return sum(graph.values[name].bytes for name in node.input_names if name in graph.constants)


@rule(
    id="C01",
    severity="error",
    evidence="documented",
    concerns="size",
    source="apple/coremltools guide, mlmodel-utilities.md; ANEMLL, docs/manual_conversion.md; apple/coremltools#2503",
    flags="""
    x: fp16[1, 1, 1, 32]
    a: fp16[1, 2048, 2048, 32] = const()
    b: fp16[1, 2048, 2048, 32] = const()
    c: fp16[1, 2048, 2048, 32] = const()
    d: fp16[1, 2048, 2048, 32] = const()
    e: fp16[1, 2048, 2048, 32] = const()
    p: fp16[1, 2048, 2048, 32] = add(x=x, y=a)
    q: fp16[1, 2048, 2048, 32] = add(x=p, y=b)
    r: fp16[1, 2048, 2048, 32] = add(x=q, y=c)
    s: fp16[1, 2048, 2048, 32] = add(x=r, y=d)
    t: fp16[1, 2048, 2048, 32] = add(x=s, y=e)
    # flagged: the program
    """,
    passes="""
    x: fp16[1, 1024, 1, 32]
    a: fp16[1024, 1024, 1, 1] = const()
    y: fp16[1, 1024, 1, 32] = conv(x=x, weight=a)
    """,
)
def heavy_package(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds programs with more weight than the engine loads: 1 GB on iPhone and iPad, 2 GB on a Mac.

    Why: The whole function runs elsewhere, or fails to load and takes the app with it. Where the target may be either,
    the limit of phones counts. An iPhone 15 was seen to load what an iPhone 16 refuses, so there it is a warning.

    Instead: Compress the weights, or split the program with coremltools' bisect_model.
    """
    used = {name for node in graph.nodes + graph.decompressions for name in node.input_names}
    size = sum(stored.value.bytes for name, stored in graph.constants.items() if name in used)
    if size > limits.max_package_bytes:
        note = f"{size} bytes of weights, the ANE takes {limits.max_package_bytes}; compress or split"
        yield Hit(None, note, severity=None if limits.rejects_heavy_packages else "warning", rejects=True)


@rule(
    id="C02",
    severity="warning",
    evidence="folklore",
    concerns="speed",
    source="sbryngelson/ane-guide part 7/24",
    flags="""
    x: fp16[1, 4096, 1, 32]
    a: fp16[4096, 4096, 1, 1] = const()
    y: fp16[1, 4096, 1, 32] = conv(x=x, weight=a)  # flagged
    """,
    passes="""
    x: fp16[1, 2048, 1, 32]
    a: fp16[2048, 2048, 1, 1] = const()
    y: fp16[1, 2048, 1, 32] = conv(x=x, weight=a)
    """,
)
def heavy_kernel(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds single weights beyond the size that is said to stream.

    Why: A streamed kernel is said to be limited to 16 MB.

    Instead: Split the layer by output channels, or compress it.
    """
    packed = {value.name: stored_size(graph, node) for node in graph.decompressions for value in node.outputs}
    for node, value in kernels(graph):
        size = packed.get(value.name, value.bytes)
        if size > limits.max_kernel_bytes:
            yield Hit(node, f"its weight takes {size} bytes, {limits.max_kernel_bytes} stream; split the channels")


@rule(
    id="C03",
    severity="error",
    evidence="documented",
    concerns="size",
    source="apple/coremltools guide, opt-whats-new.md",
    flags="""
    opset = "iOS16"
    x: fp16[1, 64, 1, 32]
    q: uint4[64, 64, 1, 1] = const()
    t: fp16[1, 1, 1, 1, 16, 1] = const()
    w: fp16[64, 64, 1, 1] = constexpr_lut_to_dense(indices=q, lut=t)
    y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)  # flagged
    """,
    passes="""
    opset = "iOS18"
    x: fp16[1, 64, 1, 32]
    q: uint4[64, 64, 1, 1] = const()
    t: fp16[1, 1, 1, 1, 16, 1] = const()
    w: fp16[64, 64, 1, 1] = constexpr_lut_to_dense(indices=q, lut=t)
    y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)
    """,
)
def newer_compression(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds compressed weights that need a newer deployment target than the program's.

    Why: The package fails to load on the older system.

    Instead: Raise the target, or compress per tensor.
    """
    for node in graph.decompressions:
        dtypes = {graph.values[name].dtype for name in node.input_names if name in graph.values}
        needed = "iOS18" if dtypes & set(NARROW) else NEEDS.get(node.type, "iOS16")
        if OPSET_ORDER.index(needed) > OPSET_ORDER.index(graph.opset):
            for reader in users(graph, node)[:1]:
                yield Hit(reader, f"its weight ({node.type}) needs {needed}, the program is for {graph.opset}")


@rule(
    id="C04",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coremltools guide, opt-overview.md; cadamcat/llms-on-apple-neural-engine",
    families=("H15", "H16", "H17", "H18"),
    flags="""
    opset = "iOS18"
    x: fp16[1, 64, 1, 32]
    q: int4[64, 64, 1, 1] = const()
    s: fp16[64, 2, 1, 1] = const()
    w: fp16[64, 64, 1, 1] = constexpr_blockwise_shift_scale(data=q, scale=s)
    y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)  # flagged
    """,
    passes="""
    opset = "iOS18"
    x: fp16[1, 64, 1, 32]
    q: int8[64, 64, 1, 1] = const()
    s: fp16[64, 1, 1, 1] = const()
    w: fp16[64, 64, 1, 1] = constexpr_blockwise_shift_scale(data=q, scale=s)
    y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)
    """,
)
def scale_per_block(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds weights with one scale per block of input channels.

    Why: That scheme is for the GPU of a Mac; the engine applies scales per output channel, after the convolution.

    Instead: One scale per channel, or a palette.
    """
    for node in graph.decompressions:
        scale = graph.operand(node, "scale")
        if node.type == "constexpr_blockwise_shift_scale" and scale and scale.rank > 1 and scale.sizes[1] > 1:
            for reader in users(graph, node)[:1]:
                yield Hit(reader, f"its weight has {scale.sizes[1]} scales per output channel; use one, or a palette")


@rule(
    id="C05",
    severity="info",
    evidence="measured",
    concerns="size",
    source="sbryngelson/ane-guide part 2/07",
    families=("H13", "H14"),
    flags=(
        """
        opset = "iOS18"
        x: fp16[1, 64, 1, 32]
        q: int8[64, 64, 1, 1] = const()
        s: fp16[64, 2, 1, 1] = const()
        w: fp16[64, 64, 1, 1] = constexpr_blockwise_shift_scale(data=q, scale=s)
        y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)  # flagged
        """,
    ),
    passes="""
    opset = "iOS18"
    x: fp16[1, 64, 1, 32]
    q: uint4[64, 64, 1, 1] = const()
    t: fp16[1, 1, 1, 1, 16, 1] = const()
    w: fp16[64, 64, 1, 1] = constexpr_lut_to_dense(indices=q, lut=t)
    y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)
    """,
)
def unpacked_at_load(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds weights in a form that a family unpacks before it runs.

    Why: The file is smaller, but nothing gets faster: 8-bit linear weights on H13, scales per block on H13 and H14.

    Instead: A palette, which every family reads as it is.
    """
    for node in graph.decompressions:
        scale = graph.operand(node, "scale")
        blocks = bool(scale and scale.rank > 1 and scale.sizes[1] > 1)
        streams = limits.streams_blockwise if blocks else limits.streams_int8
        if node.type in ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale") and not streams:
            for reader in users(graph, node)[:1]:
                yield Hit(reader, f"its weight ({node.type}) is unpacked at load on this family: smaller, not faster")


@rule(
    id="C06",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coremltools guide, opt-overview.md and opt-quantization-perf.md",
    families=("H13", "H14", "H15"),
    flags="""
    x: fp16[1, 64, 32, 32]
    q: int8[1, 64, 32, 32] = quantize(input=x, scale=0.1, output_dtype="int8")  # flagged
    y: fp16[1, 64, 32, 32] = dequantize(input=q, scale=0.1)
    """,
    passes="""
    x: fp16[1, 64, 32, 32]
    y: fp16[1, 64, 32, 32] = relu(x=x)
    """,
)
def quantized_activations(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds quantised activations for families whose 8-bit arithmetic is no faster.

    Why: The fast path begins with H16; the CPU and GPU get slower.

    Instead: Compress weights only, or ship this package to newer devices.
    """
    if limits.int8_arithmetic:
        return
    for node in graph.of("quantize"):
        yield Hit(node, "quantised activations gain nothing before H16; compress weights only")


@rule(
    id="C07",
    severity="warning",
    evidence="documented",
    concerns="size",
    source="apple/coreai-models, compression_patterns.md",
    flags="""
    opset = "iOS18"
    x: fp16[1, 64, 1, 32]
    q: uint4[64, 64, 1, 1] = const()
    t: fp16[1, 1, 1, 1, 16, 1] = const()
    w: fp16[64, 64, 1, 1] = constexpr_lut_to_dense(indices=q, lut=t)
    v: fp16[60, 64, 1, 1] = const()
    y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)
    z: fp16[1, 60, 1, 32] = conv(x=y, weight=v)
    # flagged: the program
    """,
    passes="""
    opset = "iOS18"
    x: fp16[1, 64, 1, 32]
    q: uint4[64, 64, 1, 1] = const()
    t: fp16[1, 1, 1, 1, 16, 1] = const()
    w: fp16[64, 64, 1, 1] = constexpr_lut_to_dense(indices=q, lut=t)
    y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)
    """,
)
def left_uncompressed(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds large weights that stayed uncompressed in a program whose others are compressed; says how many.

    Why: Compressors skip a layer in silence when the group or block does not divide its channels.

    Instead: A smaller group, or per-channel settings for these layers; leave them out on purpose only.
    """
    unpacked = {value.name for node in graph.decompressions for value in node.outputs}
    values = {value.name: value for _, value in kernels(graph) if value.elements >= limits.compressible_elements}
    plain = [value for name, value in values.items() if name not in unpacked]
    if plain and len(plain) < len(values):
        share = sum(value.elements for value in plain) / sum(value.elements for value in values.values())
        largest = max(plain, key=lambda value: value.elements)
        note = f"{len(plain)} of {len(values)} large weights are not compressed ({share:.0%} of their elements)"
        yield Hit(None, f"{note}, largest '{largest.name}' {largest}")
