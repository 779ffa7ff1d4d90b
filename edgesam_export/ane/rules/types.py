"""Rules about element types: what is not FP16."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits

INTEGERS = frozenset({"int32", "int64", "uint32", "uint64"})
COVERED_BY_OTHER_RULES = frozenset(
    {
        *("argsort", "gather", "gather_along_axis", "gather_nd", "non_zero", "one_hot", "range_1d", "reduce_argmax"),
        *("reduce_argmin", "scatter", "scatter_along_axis", "scatter_nd", "shape", "topk", "non_maximum_suppression"),
        *("while_loop", "cond", "list_gather", "list_length", "list_read", "list_scatter", "list_write", "make_list"),
    }
)
"""Integers belong to these operations; they have rules of their own (A07, A09, A10, A13, A14)."""


def fp32_regions(graph: GraphView) -> list[list[Node]]:
    """Return the connected groups of FP32 operations, with the casts at their edges, each in program order."""
    region_of: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if not graph.is_fp32(node):
            continue
        merged = [node]
        for before in graph.before(node):
            group = region_of.get(before.index)
            if group is not None and group is not merged:
                merged = group + merged
                for member in merged:
                    region_of[member.index] = merged
        for member in merged:
            region_of[member.index] = merged
    regions = {id(region): region for region in region_of.values()}
    return [with_casts(graph, region) for region in sorted(regions.values(), key=lambda r: min(n.index for n in r))]


def with_casts(graph: GraphView, region: list[Node]) -> list[Node]:
    members = {node.index: node for node in region}
    for node in region:
        for neighbour in [*graph.before(node), *graph.after(node)]:
            if neighbour.type == "cast":
                members[neighbour.index] = neighbour
    return [members[index] for index in sorted(members)]


def sides(graph: GraphView) -> tuple[set[int], set[int]]:
    """Return the nodes that depend on an operation of 16 bits, and those that one depends on."""
    below: set[int] = set()
    above: set[int] = set()
    for reached, nodes, neighbours in ((below, graph.nodes, graph.before), (above, graph.nodes[::-1], graph.after)):
        for node in nodes:
            around = neighbours(node)
            if any(other.index in reached or not (graph.is_fp32(other) or other.type == "cast") for other in around):
                reached.add(node.index)
    return below, above


def border_regions(graph: GraphView, limits: Limits) -> list[list[Node]]:
    """Return the FP32 regions that split no work: a small prologue or epilogue that little data crosses."""
    below, above = sides(graph)
    regions = fp32_regions(graph)
    edge = [r for r in regions if not any(n.index in below for n in r) or not any(n.index in above for n in r)]
    edge = [region for region in edge if crossing_bytes(graph, region) <= limits.negligible_bytes]
    work = {node.index: graph.multiply_adds(node) + sum(v.elements for v in node.outputs) for node in graph.nodes}
    held = sum(work[node.index] for region in edge for node in region)
    return edge if held <= limits.border_work_share * sum(work.values()) else []


def crossing_bytes(graph: GraphView, region: list[Node]) -> int:
    """Return the bytes that other operations give to a region or take from it."""
    inside = {node.index for node in region}
    crossing = {}
    for node in region:
        for value in graph.data_inputs(node):
            maker = graph.producer(value.name)
            if maker is not None and maker.index not in inside:
                crossing[value.name] = value.bytes
        for value in node.outputs:
            if any(reader.index not in inside for reader in graph.consumers(value.name)):
                crossing[value.name] = value.bytes
    return sum(crossing.values())


NAMED = 4
"""Kinds of operation that a message names."""


def kinds_of(region: list[Node]) -> str:
    kinds = list(dict.fromkeys(node.type for node in region if node.type != "cast"))
    return ", ".join(kinds[:NAMED]) + (", ..." if len(kinds) > NAMED else "")


@rule(
    id="A03",
    severity="error",
    evidence="documented",
    concerns="placement",
    source="coremltools guide, typed-execution.md; apple/coreai-models, neural_engine_rules.md",
    flags="""
    x: fp16[1, 64, 32, 32]
    z: fp32[1, 4, 32, 32]
    y: fp32[1, 4, 32, 32] = relu(x=z)  # flagged
    v: fp16[1, 64, 32, 32] = relu(x=x)
    """,
    passes="""
    x: fp16[1, 64, 32, 32]
    y: fp16[1, 64, 32, 32] = relu(x=x)
    """,
)
def fp32_operation(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds connected groups of operations on FP32 values.

    Why: Types in an ML Program are the least precision Core ML may use, and the engine computes in FP16, so an FP32
    operation never runs there. In the middle of a program it cuts the engine's work in two. A small FP32 beginning or
    end is a warning: it is off the engine too, but it interrupts nothing; positions of prompts need it.

    Instead: Convert with FP16 compute precision. Rescale what overflows, keep FP32 at the program's border.
    """
    border = {node.index for region in border_regions(graph, limits) for node in region}
    for region in fp32_regions(graph):
        if widened_by(graph, region):
            continue  # A39
        computing = [node for node in region if node.type != "cast"]
        text = f"{len(computing)} FP32 operations ({kinds_of(region)}), {crossing_bytes(graph, region)} bytes cross"
        if region[0].index in border:
            note = f"{text}; at the program's border, where they interrupt nothing"
            yield Hit(computing[0], note, severity="warning", covers=tuple(region), off=True)
        else:
            yield Hit(computing[0], f"{text}; compute in FP16", covers=tuple(region))


def widened_by(graph: GraphView, region: list[Node]) -> list[str]:
    """Return the FP32 numbers because of which a region is FP32; none unless nothing else asks for it."""
    computing = [node for node in region if node.type != "cast"]
    scalars = [[n for n in node.input_names if is_fp32_scalar(graph, n)] for node in computing]
    operands = [value for node in computing for value in graph.data_inputs(node)]
    makers = [graph.producer(value.name) for value in operands]
    readers = [reader for node in computing for reader in graph.after(node)]
    inside = {node.index for node in region}
    enclosed = all(maker is not None and maker.index in inside for maker in makers)
    ends = any(value.name in graph.outputs for node in computing for value in node.outputs)
    if not all(scalars) or not enclosed or ends or not all(reader.index in inside for reader in readers):
        return []
    return [name for names in scalars for name in names]


def is_fp32_scalar(graph: GraphView, name: str) -> bool:
    value = graph.values[name] if name in graph.weights else None
    return value is not None and value.dtype == "fp32" and value.elements == 1


@rule(
    id="A39",
    severity="error",
    evidence="documented",
    concerns="placement",
    source="apple/coreai-models, neural_engine_rules.md",
    flags="""
    x: fp16[1, 64, 32, 32]
    a: fp32[1, 64, 32, 32] = cast(x=x, dtype="fp32")
    b: fp32[1, 64, 32, 32] = mul(x=a, y=0.5)  # flagged
    c: fp16[1, 64, 32, 32] = cast(x=b, dtype="fp16")
    """,
    passes="""
    x: fp16[1, 64, 32, 32]
    b: fp16[1, 64, 32, 32] = mul(x=x, y=0.5)
    """,
)
def fp32_literal(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds FP16 values that are computed in FP32 only because of an FP32 number.

    Why: A number of the source, such as 0.5, enters a program as FP32 and takes the values that it meets with it; the
    engine does not compute them, and the casts around them end its segments.

    Instead: Give the number the type of the values: a tensor of FP16, or a buffer of the module that is converted.
    """
    for region in fp32_regions(graph):
        if names := widened_by(graph, region):
            first = next(node for node in region if node.type != "cast")
            yield Hit(first, f"FP32 only because of {len(names)} FP32 number(s); store as FP16", covers=tuple(region))


@rule(
    id="A04",
    severity="warning",
    evidence="documented",
    concerns="placement",
    source="apple/coreai-models, neural_engine_rules.md and common_issues.md; smpanaro/more-ane-transformers, NOTES",
    flags="""
    x: fp16[1, 64, 32, 32]
    a: fp16[1, 64, 32, 32] = relu(x=x)
    b: fp32[1, 64, 32, 32] = cast(x=a, dtype="fp32")  # flagged
    c: fp16[1, 64, 32, 32] = cast(x=b, dtype="fp16")  # flagged
    d: fp16[1, 64, 32, 32] = relu(x=c)
    off = ["d"]
    """,
    passes="""
    x: fp32[1, 16, 32, 32]
    a: fp16[1, 16, 32, 32] = cast(x=x, dtype="fp16")
    b: fp16[1, 16, 32, 32] = relu(x=a)
    """,
)
def cast_inside(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds casts between FP16 and FP32 that stand neither at an input or output nor at an FP32 border.

    Why: Each is a copy, and usually the end of a segment.

    Instead: Keep one type from input to output; give FP32 literals of the model as FP16.
    """
    inputs = {value.name for value in graph.inputs}
    for node in graph.of("cast"):
        x = graph.operand(node, "x")
        if x is None or {x.dtype, node.output.dtype} != {"fp16", "fp32"} or x.name in inputs:
            continue
        if node.label not in graph.outputs:
            yield Hit(node, f"casts {x} to {node.output.dtype} inside the program; keep one type throughout", off=True)


@rule(
    id="A05",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="Anemll/anemll-profile, README (reason given by the system); sbryngelson/ane-guide part 5/17",
    flags="""
    x: fp16[1, 64, 32]
    i: int32[1, 64, 32]
    a: fp16[1, 64, 32] = relu(x=x)
    b: int32[1, 64, 32] = add(x=i, y=1)  # flagged
    """,
    passes="""
    x: fp16[1, 64, 32]
    a: fp16[1, 64, 32] = add(x=x, y=1.0)
    """,
)
def integer_arithmetic(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds operations on 32- or 64-bit integers that depend on the inputs.

    Why: The engine has no such type.

    Instead: Pass numbers as FP16 or FP32, compare and multiply instead of indexing. A cast right at an input is only
    a warning.
    """
    ends = {value.name for value in graph.inputs} | set(graph.outputs)
    for node in graph.of():
        integers = [v for v in [*graph.data_inputs(node), *node.outputs] if v.dtype in INTEGERS]
        if not integers or node.type in COVERED_BY_OTHER_RULES:
            continue
        at_end = node.type == "cast" and integers[0].name in ends
        text = f"{node.type} of {integers[0]}; use floating point"
        yield Hit(node, text, severity="warning", off=True) if at_end else Hit(node, text)


@rule(
    id="A06",
    severity="warning",
    evidence="folklore",
    concerns="placement",
    source="ANEForge docs/op-catalog.md",
    flags="""
    x: fp16[1, 64, 32]
    a: bool[1, 64, 32] = greater(x=x, y=0.0)
    b: bool[1, 64, 32] = greater(x=x, y=1.0)
    c: bool[1, 64, 32] = logical_and(x=a, y=b)  # flagged
    d: fp16[1, 64, 32] = select(cond=c, a=x, b=0.0)
    """,
    passes="""
    x: fp16[1, 64, 32]
    a: bool[1, 64, 32] = greater(x=x, y=0.0)
    d: fp16[1, 64, 32] = select(cond=a, a=x, b=0.0)
    """,
)
def boolean_flow(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds logical operations, and Boolean inputs and outputs.

    Why: Comparisons are said to work inside a program, but and, or, xor and not to have no path, nor Booleans at the
    program's ends.

    Instead: Cast the comparison to FP16; multiply for and, take the maximum for or.
    """
    for value in graph.inputs:
        if value.dtype == "bool":
            yield Hit(None, f"input '{value.name}' is Boolean; take it as FP16")
    for node in graph.of():
        if node.type.startswith("logical_"):
            yield Hit(node, f"{node.type} of {node.output}; use arithmetic on FP16 masks")
        elif node.label in graph.outputs and node.output.dtype == "bool":
            yield Hit(node, f"output '{node.label}' is Boolean; cast it to FP16")
