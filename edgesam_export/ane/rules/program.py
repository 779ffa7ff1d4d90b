"""Rules about the program as a whole: its interface, its size, and where it is cut."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.ane.segments import find_segments
from edgesam_export.hardware import Limits
from edgesam_export.mil.op_kinds import ops_with


@rule(
    id="A32",
    severity="info",
    evidence="measured",
    concerns="speed",
    source="sbryngelson/ane-guide parts 3/09 and 5/17",
    flags="""
    x: fp16[1, 128, 256, 256]
    w: fp16[64, 128, 1, 1] = const()
    y: fp16[1, 64, 256, 256] = conv(x=x, weight=w)  # flagged
    """,
    passes="""
    x: fp16[1, 32, 64, 64]
    w: fp16[64, 32, 1, 1] = const()
    y: fp16[1, 64, 64, 64] = conv(x=x, weight=w)
    """,
)
def beyond_working_set(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Counts the convolutions whose input or output exceeds the on-chip working set; names the largest.

    Why: They are tiled and streamed through main memory, which bounds large images.

    Instead: Fewer channels or an earlier stride in the first layers.
    """
    large: list[tuple[int, Node]] = []
    for node in graph.of(*ops_with("convolution")):
        size = max(value.bytes for value in [node.output, *graph.data_inputs(node)])
        if size > limits.large_bytes:
            large.append((size, node))
    if large:
        size, node = max(large, key=lambda item: item[0])
        yield Hit(node, f"{len(large)} convolutions work on more than {limits.large_bytes} bytes, at most {size} here")


@rule(
    id="P01",
    severity="warning",
    evidence="documented",
    concerns="interface",
    source="apple/coremltools guide, image-inputs.md and model-input-and-output-types.md",
    flags="""
    x: fp32[1, 3, 256, 256]
    a: fp16[1, 3, 256, 256] = cast(x=x, dtype="fp16")
    y: fp16[1, 3, 256, 256] = relu(x=a)
    # flagged: the program
    """,
    passes=(
        """
        x: fp32[1, 3, 256, 256] = feature(kind="image", dtype="uint8")
        a: fp16[1, 3, 256, 256] = cast(x=x, dtype="fp16")
        y: fp16[1, 3, 256, 256] = relu(x=a)
        """,
        """
        opset = "iOS15"
        x: fp32[1, 3, 256, 256]
        a: fp16[1, 3, 256, 256] = cast(x=x, dtype="fp16")
        y: fp16[1, 3, 256, 256] = relu(x=a)
        """,
    ),
)
def fp32_interface(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds large FP32 arrays as inputs and outputs.

    Why: Every prediction converts them, which takes time and memory.

    Instead: FP16 arrays (iOS 16 and later), or an image as input.
    """
    if graph.opset == "iOS15":  # FP16 arrays came with iOS 16
        return
    for feature in graph.features:
        value = feature.value
        if feature.kind == "tensor" and value.dtype in ("fp32", "fp64") and value.bytes > limits.negligible_bytes:
            yield Hit(None, f"{feature.direction} '{value.name}' {value}; use FP16 or an image")


@rule(
    id="P02",
    severity="error",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md; sbryngelson/ane-guide part 5/18; Anemll/anemll-profile",
    needs_placements=True,
    flags="""
    x: fp16[1, 64, 32, 32]
    a: fp16[1, 64, 32, 32] = relu(x=x)
    b: fp16[1, 64, 32, 32] = abs(x=a)
    c: fp16[1, 64, 32, 32] = relu(x=b)
    off = ["b"]
    # flagged: the program
    """,
    passes="""
    x: fp16[1, 64, 32, 32]
    a: fp16[1, 64, 32, 32] = abs(x=x)
    b: fp16[1, 64, 32, 32] = relu(x=a)
    c: fp16[1, 64, 32, 32] = relu(x=b)
    off = ["a"]
    """,
)
def cut_in_pieces(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Counts the segments that remain for the engine; more than one is an error.

    Why: Each segment is dispatched on its own, and what crosses its edges is copied. In small models that is most of
    the time.

    Instead: Move what leaves the engine to the beginning or end of the program, or out of it.
    """
    pieces = [segment for segment in find_segments(graph) if segment.on_ane]
    if len(pieces) > 1:
        crossing = sum(segment.bytes_in for segment in pieces[1:]) + sum(segment.bytes_out for segment in pieces[:-1])
        between = ", ".join(f"'{segment.last}'" for segment in pieces[:-1][:3])
        yield Hit(None, f"{len(pieces)} segments for the ANE, cut after {between}; {crossing} bytes cross")


@rule(
    id="P03",
    severity="info",
    evidence="measured",
    concerns="speed",
    source="sbryngelson/ane-guide part 3/09 (dispatch floor); vx-lang/Vx#435 to #437 (M4); chrishayuk/larql#312",
    flags="""
    x: fp16[1, 64, 32, 32]
    w: fp16[64, 64, 1, 1] = const()
    y: fp16[1, 64, 32, 32] = conv(x=x, weight=w)
    # flagged: the program
    """,
    passes="""
    x: fp16[1, 128, 64, 64]
    w: fp16[128, 128, 3, 3] = const()
    y: fp16[1, 128, 64, 64] = conv(x=x, weight=w, pad_type="same")
    """,
)
def tiny_program(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds programs with less work than one dispatch to the engine costs, which Core ML may run on the CPU.

    Why: The engine gains nothing there. It is no prediction: on one M4 products moved between 57 M and 134 M
    multiply-adds, attention between 2 G and 9 G, and a step of a small language model stayed on the engine.

    Instead: Nothing; or join it with the program before or after.
    """
    work = sum(graph.multiply_adds(node) for node in graph.nodes)
    if work < limits.tiny_multiply_adds:
        yield Hit(
            None,
            f"{work} multiply-adds are less than a dispatch ({limits.tiny_multiply_adds}); Core ML may choose the CPU",
        )


@rule(
    id="P04",
    severity="warning",
    evidence="folklore",
    concerns="speed",
    source="sbryngelson/ane-guide part 7/22",
    flags="""
    x: fp16[1, 8, 4, 32]
    y: fp16[1, 96, 4, 32] = concat(values=[x, x, x, x, x, x, x, x, x, x, x, x], axis=1)  # flagged
    """,
    passes="""
    x: fp16[1, 8, 4, 32]
    y: fp16[1, 32, 4, 32] = concat(values=[x, x, x, x], axis=1)
    """,
)
def many_branches(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds concatenations and sums of a dozen branches and more.

    Why: Compile time is said to grow faster than the number of branches; splitting attention by head makes them.

    Instead: Groups of heads, joined in two steps.
    """
    for node in graph.of("concat", "stack"):
        count = len(node.inputs.get("values", ()))
        if count >= limits.many_branches:
            yield Hit(node, f"{node.type} of {count} branches; join them in groups")
    for node in graph.of("add"):
        if not any(reader.type == "add" for reader in graph.after(node)):
            count = terms(graph, node)
            if count >= limits.many_branches:
                yield Hit(node, f"a sum of {count} terms; add them in groups")


def terms(graph: GraphView, node: Node) -> int:
    """Return how many values a chain of additions sums up that nothing else reads in between."""
    count, waiting = 0, [node]
    while waiting:
        for name in waiting.pop().input_names:
            maker = graph.producer(name)
            if maker is not None and maker.type == "add" and len(graph.consumers(name)) == 1:
                waiting.append(maker)
            else:
                count += 1
    return count
