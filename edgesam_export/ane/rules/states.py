"""Rules about states: the tensors that a program keeps from one prediction to the next."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node, Value
from edgesam_export.ane.report import Severity
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits


def states_of(graph: GraphView) -> list[Value]:
    return [feature.value for feature in graph.features if feature.kind == "state"]


def is_state_write(graph: GraphView, node: Node) -> bool:
    """Return whether a node changes a part of a state: it reads one, and what it makes is written back."""
    if node.type != "slice_update" and not node.type.startswith("scatter"):
        return False
    return any(maker.type == "read_state" for maker in graph.before(node)) and any(
        reader.type in ("coreml_update_state", "write_state") for reader in graph.after(node)
    )


@rule(
    id="A35",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="apple/coremltools#2631 (M4, macOS 15.2: width 270 fails, 256 works)",
    flags="""
    opset = "iOS18"
    k: fp16[1, 8, 64, 100] = feature(kind="state")
    r: fp16[1, 8, 64, 100] = read_state(input=k)
    y: fp16[1, 8, 64, 100] = relu(x=r)
    # flagged: the program
    """,
    passes="""
    opset = "iOS18"
    k: fp16[1, 8, 64, 96] = feature(kind="state")
    r: fp16[1, 8, 64, 96] = read_state(input=k)
    y: fp16[1, 8, 64, 96] = relu(x=r)
    """,
)
def uneven_state(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds states whose last axis is no multiple of 32; a warning where nobody has looked.

    Why: A state lives in a buffer whose rows are whole 64 bytes. With another width the engine's compiler refuses the
    function, on an M4; CPU and GPU run it.

    Instead: Pad the last axis to a multiple of 32, or put another axis last.
    """
    known: Severity | None = None if limits.rejects_uneven_states else "warning"
    for value in states_of(graph):
        if value.rank and value.extent(-1) % limits.state_width_multiple:
            note = (
                f"state '{value.name}' {value}: its last axis is no multiple of {limits.state_width_multiple}; pad it"
            )
            yield Hit(None, note, severity=known, rejects=True)


@rule(
    id="A36",
    severity="warning",
    evidence="measured",
    concerns="placement",
    source="Anemll/Anemll#27 = apple/coremltools#2553 (128 rows fail; 16 or 32 rows, four axes and convolutions run)",
    flags="""
    opset = "iOS18"
    k: fp16[16, 256, 64] = feature(kind="state")
    u: fp16[16, 64, 64]
    r: fp16[16, 256, 64] = read_state(input=k)
    w: fp16[16, 256, 64] = slice_update(x=r, update=u, begin=[0, 0, 0], end=[16, 64, 64])  # flagged
    write_state(input=k, data=w)
    """,
    passes="""
    opset = "iOS18"
    k: fp16[16, 256, 64] = feature(kind="state")
    u: fp16[16, 32, 64]
    r: fp16[16, 256, 64] = read_state(input=k)
    w: fp16[16, 256, 64] = slice_update(x=r, update=u, begin=[0, 0, 0], end=[16, 32, 64])
    write_state(input=k, data=w)
    """,
)
def long_state_write(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds writes of more than 32 rows into a part of a state.

    Why: 128 rows of a key-value state at constant positions made the engine fail where CPU and GPU ran; 16 and 32 rows
    worked. Several things differed between the two programs, hence a warning; a state that is replaced whole works.

    Instead: Write fewer rows at a time, or let the app own the cache and return the new rows.
    """
    for node in graph.of("slice_update"):
        update, whole = graph.operand(node, "update"), node.output
        if not is_state_write(graph, node) or update is None or update.sizes == whole.sizes or update.rank < 2:
            continue
        rows = update.extent(-2)
        if rows > limits.max_state_rows:
            yield Hit(
                node, f"writes {rows} rows into a state {whole}; up to {limits.max_state_rows} work", rejects=True
            )
