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


SCALED = ("constexpr_affine_dequantize", "constexpr_blockwise_shift_scale", "constexpr_sparse_blockwise_shift_scale")


def unpacked_weights(graph: GraphView) -> Iterator[tuple[Node, Value, tuple[Node, ...]]]:
    """Yield every decompressed weight's first reader, the weight, and what makes it, the last operation first."""
    for name, chain in graph.unpacking.items():
        for reader in graph.consumers(name)[:1]:
            yield reader, graph.values[name], chain


def scaling(weight: Value, chain: tuple[Node, ...], graph: GraphView) -> Iterator[tuple[Node, Value | None]]:
    """Yield the operations that scale integers to a weight, with their scales; those of a palette's entries do not."""
    for node in chain:
        scale = graph.operand(node, "scale")
        if node.type in SCALED and (scale is None or scale.rank <= weight.rank):
            yield node, scale


def scales_per_channel(scale: Value | None, reader: Node) -> int:
    """Return how many scales an output channel has, one for each block of input channels."""
    inputs = 0 if reader.type == "conv_transpose" else 1
    return scale.sizes[inputs] if scale is not None and scale.rank > 1 else 1


def kernels(graph: GraphView) -> Iterator[tuple[Node, Value]]:
    """Yield the constant matrices and kernels with the operation that uses them."""
    for node in graph.nodes:
        if node.type in WEIGHTED:
            for name in dict.fromkeys(node.input_names):
                value = graph.values.get(name)
                if name in graph.weights and value and value.rank > 1:
                    yield node, value


def stored_size(graph: GraphView, chain: tuple[Node, ...]) -> int:
    names = dict.fromkeys(name for node in chain for name in node.input_names if name in graph.constants)
    return sum(graph.values[name].bytes for name in names)


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
    packed = {name: stored_size(graph, chain) for name, chain in graph.unpacking.items()}
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
    flags=(
        """
        opset = "iOS16"
        x: fp16[1, 64, 1, 32]
        q: uint4[64, 64, 1, 1] = const()
        t: fp16[1, 1, 1, 1, 16, 1] = const()
        w: fp16[64, 64, 1, 1] = constexpr_lut_to_dense(indices=q, lut=t)
        y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)  # flagged
        """,
        """
        opset = "iOS17"
        x: fp16[1, 64, 1, 32]
        m: uint8[64, 64, 1, 1] = const()
        q: uint8[1024] = const()
        t: fp16[1, 1, 1, 1, 256, 1] = const()
        k: uint8[64, 64, 1, 1] = constexpr_lut_to_sparse(indices_mask=m, indices_nonzero_data=q, lut=t)
        v: fp16[1024] = also(k)
        w: fp16[64, 64, 1, 1] = constexpr_sparse_to_dense(mask=k, nonzero_data=v)
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
def newer_compression(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds compressed weights that need a newer deployment target than the program's.

    Why: The package fails to load on the older system.

    Instead: Raise the target, or compress per tensor.
    """
    for reader, _, chain in unpacked_weights(graph):
        for node in chain:
            dtypes = {graph.values[name].dtype for name in node.input_names if name in graph.values}
            needed = "iOS18" if dtypes & set(NARROW) else NEEDS.get(node.type, "iOS16")
            if OPSET_ORDER.index(needed) > OPSET_ORDER.index(graph.opset):
                yield Hit(reader, f"its weight ({node.type}) needs {needed}, the program is for {graph.opset}")
                break


@rule(
    id="C04",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coremltools guide, opt-overview.md; cadamcat/llms-on-apple-neural-engine",
    families=("H15", "H16", "H17", "H18"),
    flags=(
        """
        opset = "iOS18"
        x: fp16[1, 64, 1, 32]
        q: int4[64, 64, 1, 1] = const()
        s: fp16[64, 2, 1, 1] = const()
        w: fp16[64, 64, 1, 1] = constexpr_blockwise_shift_scale(data=q, scale=s)
        y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)  # flagged
        """,
        """
        opset = "iOS18"
        x: fp16[1, 64, 1, 32]
        q: int4[64, 32, 2, 2] = const()
        s: fp16[2, 32, 1, 1] = const()
        w: fp16[64, 32, 2, 2] = constexpr_blockwise_shift_scale(data=q, scale=s)
        y: fp16[1, 32, 2, 64] = conv_transpose(x=x, weight=w, strides=[2, 2])  # flagged
        """,
    ),
    passes=(
        """
        opset = "iOS18"
        x: fp16[1, 64, 1, 32]
        q: int8[64, 64, 1, 1] = const()
        s: fp16[64, 1, 1, 1] = const()
        w: fp16[64, 64, 1, 1] = constexpr_blockwise_shift_scale(data=q, scale=s)
        y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)
        """,
        """
        opset = "iOS18"
        x: fp16[1, 64, 1, 32]
        q: int8[64, 32, 2, 2] = const()
        s: fp16[1, 32, 1, 1] = const()
        w: fp16[64, 32, 2, 2] = constexpr_blockwise_shift_scale(data=q, scale=s)
        y: fp16[1, 32, 2, 64] = conv_transpose(x=x, weight=w, strides=[2, 2])
        """,
        """
        opset = "iOS18"
        x: fp16[1, 64, 1, 32]
        i: uint4[64, 64, 2, 2] = const()
        e: int8[1, 8, 1, 1, 16, 1] = const()
        s: fp16[1, 8, 1, 1, 1, 1] = const()
        t: fp16[1, 8, 1, 1, 16, 1] = constexpr_blockwise_shift_scale(data=e, scale=s)
        w: fp16[64, 64, 2, 2] = constexpr_lut_to_dense(indices=i, lut=t)
        y: fp16[1, 64, 2, 64] = conv_transpose(x=x, weight=w, strides=[2, 2])
        """,
    ),
)
def scale_per_block(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds weights with one scale per block of input channels.

    Why: That scheme is for the GPU of a Mac; the engine applies scales per output channel, after the convolution.

    Instead: One scale per channel, or a palette.
    """
    for reader, weight, chain in unpacked_weights(graph):
        for _, scale in scaling(weight, chain, graph):
            count = scales_per_channel(scale, reader)
            if count > 1:
                yield Hit(reader, f"its weight has {count} scales per output channel; use one, or a palette")


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
    passes=(
        """
        opset = "iOS18"
        x: fp16[1, 64, 1, 32]
        q: uint4[64, 64, 1, 1] = const()
        t: fp16[1, 1, 1, 1, 16, 1] = const()
        w: fp16[64, 64, 1, 1] = constexpr_lut_to_dense(indices=q, lut=t)
        y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)
        """,
        """
        opset = "iOS18"
        x: fp16[1, 64, 1, 32]
        i: uint4[64, 64, 1, 1] = const()
        e: int8[8, 1, 1, 1, 16, 1] = const()
        s: fp16[8, 1, 1, 1, 1, 1] = const()
        t: fp16[8, 1, 1, 1, 16, 1] = constexpr_blockwise_shift_scale(data=e, scale=s)
        w: fp16[64, 64, 1, 1] = constexpr_lut_to_dense(indices=i, lut=t)
        y: fp16[1, 64, 1, 32] = conv(x=x, weight=w)
        """,
    ),
)
def unpacked_at_load(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds weights in a form that a family unpacks before it runs.

    Why: The file is smaller, but nothing gets faster: 8-bit linear weights on H13, scales per block on H13 and H14.

    Instead: A palette, which every family reads as it is.
    """
    for reader, weight, chain in unpacked_weights(graph):
        for node, scale in scaling(weight, chain, graph):
            streams = limits.streams_int8 if scales_per_channel(scale, reader) == 1 else limits.streams_blockwise
            if not streams:
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
