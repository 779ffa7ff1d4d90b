"""Static ANE analysis of an ML Program: findings, expected placement, segments, totals. Needs the graph only.

Only the phone decides where an operation runs; the most that is claimed here is that there is no known blocker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgesam_export.ane.cost import estimate_cost
from edgesam_export.ane.evidence import accuracy
from edgesam_export.ane.graph import GraphView
from edgesam_export.ane.measured import find_measurements
from edgesam_export.ane.report import AneReport, CostEstimate, Finding, OpPlacement, Placement, Totals
from edgesam_export.ane.rules import Hit, Rule, all_rules, explain
from edgesam_export.ane.rules.types import border_regions
from edgesam_export.ane.segments import find_segments
from edgesam_export.ane.view import view_program
from edgesam_export.artifacts import load_program
from edgesam_export.errors import UsageError
from edgesam_export.formats import recorded_modules
from edgesam_export.hardware import DeviceClass, Limits, load_hardware, pick_target
from edgesam_export.mil.op_kinds import ops_with
from edgesam_export.mil.program import Program

__all__ = ["analyze", "analyze_graph", "check_graph", "explain", "place", "read_ranges", "total"]

SEVERITIES = ("error", "warning", "info")
FLOAT_WEIGHTS = frozenset({"fp16", "fp32", "fp64", "bf16"})


def analyze(
    source: Program | str | Path,
    *,
    target: str = "all",
    function: str | None = None,
    ranges: Mapping[str, float] | None = None,
    records: Path | None = None,
) -> AneReport:
    """Return the report of the rules and the cost model about one function of a program.

    ``target`` is a device, a chip, a hardware family or ``all``; ``ranges`` the largest magnitude by operation, see
    ``read_ranges``; ``records`` a folder of benchmark records, whose figures of this very file are added. A package
    whose weight file is missing is analysed without the rules that look at weights.

    Raises:
        UsageError: unknown target.
        ProgramError: no readable ML Program.
    """
    program = open_program(source, function)
    digest = program.sha256
    report = analyze_graph(view_program(program, ranges=ranges), target=target, file=program.path.name)
    measured = () if records is None else find_measurements(records, digest, report.families)
    return replace(
        report,
        function=program.function.name,
        artifact_sha256=digest,
        findings=with_modules(report.findings, program, digest),
        measured=measured,
    )


def analyze_graph(graph: GraphView, *, target: str = "all", file: str = "program") -> AneReport:
    """Return the report on a graph that is no package.

    Raises:
        UsageError: unknown target.
    """
    devices = pick_target(target)
    hits = check_graph(graph, devices.families, devices.device_class)
    placements = place(graph, hits)
    graph = replace(graph, off=indices_off(graph, placements))
    return AneReport(
        file=file,
        function="main",
        opset=graph.opset,
        artifact_sha256=None,
        tool_version=tool_version(),
        target=devices.name,
        target_note=devices.note,
        accuracy=accuracy(),
        families=devices.families,
        findings=make_findings(hits, graph.opset),
        placements=placements,
        segments=find_segments(graph),
        totals=total(graph),
        costs=tuple(estimate_costs(graph, hits, devices.families)),
    )


def open_program(source: Program | str | Path, function: str | None) -> Program:
    """Return a function of a package, or the program that is one already; weights may be missing."""
    if not isinstance(source, Program):
        return load_program(source, function=function, require_weights=False)
    if function is not None and function != source.function.name:
        raise UsageError(f"the program is function '{source.function.name}'; load '{function}' instead")
    return source


def tool_version() -> str:
    from importlib.metadata import version

    return version("edgesam-export")


Hits = dict[tuple[Rule, Hit], list[str]]
"""Hit of a rule -> the families it applies to."""


def check_graph(graph: GraphView, families: tuple[str, ...], device_class: DeviceClass | None = None) -> Hits:
    """Return the hits of all rules on a graph, sorted by severity, rule and location."""
    hardware, rules = load_hardware(), all_rules()
    hits: Hits = {}
    limits = {family: hardware.limits_of(family, device_class) for family in families}
    for late in (False, True):
        for family in families:
            view = prepare(graph, limits[family], hits if late else None)
            for rule in rules:
                if rule.needs_placements == late and (rule.families is None or family in rule.families):
                    for hit in rule.check(view, limits[family]):
                        hits.setdefault((rule, hit), []).append(family)
    order = {node.index: position for position, node in enumerate(graph.nodes)}

    def rank(item: tuple[Rule, Hit]) -> tuple[int, str, int]:
        rule, hit = item
        position = -1 if hit.operation is None else order[hit.operation.index]
        return SEVERITIES.index(hit.severity or rule.severity), rule.id, position

    return {item: hits[item] for item in sorted(hits, key=rank)}


def prepare(graph: GraphView, limits: Limits, hits: Hits | None) -> GraphView:
    """Return the graph with its FP32 border marked, and with the operations off the ANE once hits are there."""
    border = frozenset(node.index for region in border_regions(graph, limits) for node in region)
    off = graph.off if hits is None else graph.off | indices_off(graph, place(graph, hits, limits.family))
    return replace(graph, border=border, off=off)


def place(graph: GraphView, hits: Hits, family: str | None = None) -> tuple[OpPlacement, ...]:
    """Return the expected placement of each operation and the rules behind it: on one family, or the worst of all.

    A rule that names a compile failure takes the whole function: what would stay is ``rejected``, or at risk where the
    rule is only a warning.
    """
    causes: dict[Placement, dict[int, set[str]]] = {"off": {}, "rejected": {}, "at-risk": {}}
    for (rule, hit), families in hits.items():
        placement = consequence(rule, hit)
        if placement is None or (family is not None and family not in families):
            continue
        covered = graph.nodes if hit.rejects else hit.covers or ((hit.operation,) if hit.operation else ())
        for node in covered:
            causes[placement].setdefault(node.index, set()).add(rule.id)
    placements = []
    for node in graph.nodes:
        placed: Placement = next((name for name, nodes in causes.items() if node.index in nodes), "expected")
        placements.append(
            OpPlacement(
                operation=node.label,
                op_type=node.type,
                location=node.location,
                placement=placed,
                rules=tuple(sorted(causes[placed][node.index])) if placed != "expected" else (),
            )
        )
    return tuple(placements)


def consequence(rule: Rule, hit: Hit) -> Placement | None:
    """Return what a hit does to the placement of the operations it is about, None for nothing."""
    severity = hit.severity or rule.severity
    if hit.rejects:
        return "rejected" if severity == "error" else "at-risk"
    if rule.concerns != "placement" or hit.off is False:
        return None
    if hit.off or severity == "error":
        return "off"
    return "at-risk" if severity == "warning" else None


def indices_off(graph: GraphView, placements: tuple[OpPlacement, ...]) -> frozenset[int]:
    return frozenset(node.index for node, row in zip(graph.nodes, placements) if row.placement in ("off", "rejected"))


def make_findings(hits: Hits, opset: str) -> tuple[Finding, ...]:
    """Return the hits as findings, unconfirmed where a rule was not made for the language of the program."""
    findings = []
    for (rule, hit), families in hits.items():
        node = hit.operation
        findings.append(
            Finding(
                rule=rule.id,
                name=rule.name,
                severity=hit.severity or rule.severity,
                evidence=rule.evidence if rule.holds_for(opset) else "unconfirmed",
                message=hit.message,
                operation=node.label if node else None,
                op_type=node.type if node else None,
                location=node.location if node else None,
                module=None,
                families=tuple(families),
                source=rule.source,
            )
        )
    return tuple(findings)


def with_modules(findings: tuple[Finding, ...], program: Program, digest: str) -> tuple[Finding, ...]:
    """Return the findings with the torch modules that the export recorded, by the operation's result or its name."""
    modules = recorded_modules(program.path, digest)
    names = {operation.label: operation.name for operation in program.operations}
    return tuple(
        replace(f, module=modules.get(f.operation) or modules.get(names[f.operation])) if f.operation else f
        for f in findings
    )


def total(graph: GraphView) -> Totals:
    """Return the sizes of a program."""
    activations = [value for node in graph.nodes for value in node.outputs]
    used = {name for node in graph.nodes for name in node.input_names}
    unpacked = [v for node in graph.decompressions for v in node.outputs if v.name in used]
    plain = [s.value for name, s in graph.constants.items() if name in used and s.value.dtype in FLOAT_WEIGHTS]
    packed = {name for node in graph.decompressions for name in node.input_names if name in graph.constants}
    compressed = sum(value.elements for value in unpacked)
    parameters = compressed + sum(value.elements for value in plain)
    stored = sum(value.bytes for value in plain) + sum(graph.constants[name].value.bytes for name in packed)
    work = {node.index: graph.multiply_adds(node) for node in graph.nodes}
    in_integers = sum(work[node.index] for node in graph.nodes if graph.is_integer_product(node))
    return Totals(
        operations=len(graph.nodes),
        layout_operations=sum(node.type in ops_with("layout") for node in graph.nodes),
        multiply_adds=sum(work.values()),
        parameters=parameters,
        weight_bytes=stored,
        activation_bytes=sum(value.bytes for value in activations),
        padded_activation_bytes=sum(value.padded_bytes for value in activations),
        compressed_share=compressed / parameters if parameters else 0.0,
        quantized_share=in_integers / sum(work.values()) if in_integers else 0.0,
    )


def estimate_costs(graph: GraphView, hits: Hits, families: tuple[str, ...]) -> Iterator[CostEstimate]:
    """Yield the cost on each family, with the placements expected on that family."""
    for family in families:
        placements = place(graph, hits, family)
        yield estimate_cost(replace(graph, off=indices_off(graph, placements)), placements, family)


def read_ranges(document: Any, component: str | None = None) -> dict[str, float]:
    """Return the largest magnitude by operation from a parity report (its ``ranges``) or rows of a range report.

    ``component`` picks ``encoder`` or ``decoder`` where a report covers both. Infinity stands for an overflow.

    Raises:
        UsageError: the document holds no ranges.
    """
    rows = document.get("ranges") if isinstance(document, Mapping) else document
    if not isinstance(rows, list | tuple):
        raise UsageError("no ranges in the document; give a parity report, or the rows of a range report")
    magnitudes: dict[str, float] = {}
    for row in rows:
        entry = row if isinstance(row, Mapping) else vars(row)
        if "operation" not in entry or "magnitude" not in entry:
            raise UsageError("a row of the ranges has no 'operation' and 'magnitude'")
        if component and entry.get("component") not in (None, "", component):
            continue
        size = entry["magnitude"]
        size = math.inf if size is None or isinstance(size, str) else float(size)
        magnitudes[entry["operation"]] = max(magnitudes.get(entry["operation"], 0.0), size)
    return magnitudes
