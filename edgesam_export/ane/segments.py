"""Runs of operations on the same side of the ANE's border, in an order that changes sides as rarely as possible.

How Core ML cuts a program is not published. An FP32 prologue may be spread over the file between operations that do not
depend on it; counting in file order would see many segments where one suffices. So operations are taken in an order
that the data allows, staying on one side as long as anything is ready there, which gives the fewest changes for the
side it starts on; both starts are tried.
"""

from __future__ import annotations

from edgesam_export.ane.graph import GraphView, Node
from edgesam_export.ane.report import Segment

__all__ = ["find_segments"]


def find_segments(graph: GraphView) -> tuple[Segment, ...]:
    """Return the segments, first to run first; ``graph.off`` says what is off the ANE."""
    plans = [schedule(graph, start) for start in (True, False)]
    runs = min(plans, key=len)
    return tuple(make_segment(graph, on_ane, nodes) for on_ane, nodes in runs)


def schedule(graph: GraphView, on_ane: bool) -> list[tuple[bool, list[Node]]]:
    """Return runs of nodes, starting with what can run on one side."""
    # An operation may read several results of one other: that is one to wait for.
    waiting = {node.index: len(dict.fromkeys(graph.before(node))) for node in graph.nodes}
    ready: dict[bool, list[Node]] = {True: [], False: []}
    for node in graph.nodes:
        if not waiting[node.index]:
            ready[node.index not in graph.off].append(node)
    runs: list[tuple[bool, list[Node]]] = []
    while ready[True] or ready[False]:
        run: list[Node] = []
        while ready[on_ane]:
            node = ready[on_ane].pop()
            run.append(node)
            for reader in dict.fromkeys(graph.after(node)):
                waiting[reader.index] -= 1
                if not waiting[reader.index]:
                    ready[reader.index not in graph.off].append(reader)
        if run:
            runs.append((on_ane, sorted(run, key=lambda node: node.index)))
        on_ane = not on_ane
    return runs


def make_segment(graph: GraphView, on_ane: bool, nodes: list[Node]) -> Segment:
    inside = {node.index for node in nodes}
    entering, leaving = {}, {}
    for node in nodes:
        for value in graph.data_inputs(node):
            maker = graph.producer(value.name)
            if maker is None or maker.index not in inside:
                entering[value.name] = value.bytes
        for value in node.outputs:
            readers = graph.consumers(value.name)
            if value.name in graph.outputs or any(reader.index not in inside for reader in readers):
                leaving[value.name] = value.bytes
    return Segment(
        on_ane=on_ane,
        first=nodes[0].label,
        last=nodes[-1].label,
        operations=len(nodes),
        bytes_in=sum(entering.values()),
        bytes_out=sum(leaving.values()),
    )
