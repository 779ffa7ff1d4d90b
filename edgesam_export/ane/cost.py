"""What a program costs on one ANE family: a roofline over predicted segments. For ranking, never a promise of time.

An operation takes the longer of its arithmetic and its memory traffic, plus a fixed issue time; a segment adds a
dispatch and the transfer of what crosses its border; a prediction adds the framework's call. An activation that only
follows a convolution or a product is computed on the way out and is free. Values stay on chip while they fit in the
working set, least recently used out first; a last axis takes up whole 64 bytes. All constants: ``rules/roofline.toml``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from math import prod, sqrt
from pathlib import Path
from typing import Any

from edgesam_export.ane.graph import GraphView, Node, Value
from edgesam_export.ane.report import Bound, CostEstimate, OpCost, OpPlacement
from edgesam_export.ane.segments import schedule
from edgesam_export.errors import UsageError
from edgesam_export.hardware import load_hardware
from edgesam_export.mil.op_kinds import Trait, ops_with
from edgesam_export.resources import read_toml

__all__ = [
    "Demand",
    "Roofline",
    "demands_of",
    "estimate_cost",
    "load_roofline",
    "price",
    "spearman",
]

CONSTANTS = Path(__file__).with_name("rules") / "roofline.toml"
WEIGHT_TYPES = frozenset({"fp16", "fp32", "bf16"})
"""Other constants are parameters of the operation."""
PRODUCTS = frozenset({"dense", "pointwise", "depthwise", "matmul"})


# ------------------------------------------------------------------------------------------------------------ constants
@dataclass(frozen=True, kw_only=True)
class Roofline:
    """The constants of one family, with the fitted factors that all families share."""

    family: str
    peak_tflops: float
    int8_gain: float
    """Rate of products of 8-bit integers, in rates of FP16."""
    dram_gbps: float
    transfer_gbps: float
    working_set_bytes: int
    dispatch_ms: float
    launch_ms: float
    cpu_gflops: float
    call_ms: float
    """One prediction through the framework, whatever the model."""
    op_us: float
    """Issue of one operation."""
    onchip_gbps: float
    dram_share: float
    """Part of the memory bandwidth at which weights arrive."""
    spill_gain: float
    """Rate of activations outside the working set, in memory bandwidths: caches and tiling bring it above 1."""
    efficiency: Mapping[str, float]
    """Part of the peak that each kind of product reaches."""
    calibration: str


@cache
def constants() -> Mapping[str, Any]:
    return read_toml(CONSTANTS)


def load_roofline(family: str) -> Roofline:
    """Return the constants of a family.

    Raises:
        UsageError: the family is unknown.
    """
    facts = constants()
    if family not in facts["families"]:
        raise UsageError(f"no cost constants for family '{family}'; choose one of: {', '.join(facts['families'])}")
    values = {name: entry["value"] for name, entry in (facts["defaults"] | facts["families"][family]).items()}
    fitted = facts["fitted"]
    values["working_set_bytes"] = load_hardware().limits["large_bytes"].of(family)
    values |= {name: fitted[name] for name in ("call_ms", "op_us", "onchip_gbps", "dram_share", "spill_gain")}
    efficiency = {kind: fitted[kind] for kind in sorted(PRODUCTS)}
    return Roofline(family=family, efficiency=efficiency, calibration=calibration(family), **values)


def calibration(family: str) -> str:
    """Return how far the estimate was off, and how many of the figures were of this family."""
    accuracy = constants()["accuracy"]
    own = accuracy["families"].get(family, 0)
    scope = f"{own} of them on {family}" if own else f"none on {family}, whose constants are unchecked"
    return f"{accuracy['summary']}, {scope}; {accuracy['unseen']}"


# --------------------------------------------------------------------------------------------------------------- demand
@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one operation asks of the machine, before any rate is applied."""

    operation: str
    op_type: str
    kind: str
    on_ane: bool
    fused: bool
    """Computed while its only input is written."""
    multiply_adds: int
    integers: bool
    """Of 8 bits, both operands."""
    weight_bytes: int
    """As the operation reads them, compressed ones expanded."""
    spilled_bytes: int
    """Activations read from or written to memory outside the working set."""
    onchip_bytes: int
    transfer_bytes: int
    """Crossing a segment's border at this operation."""
    starts_segment: bool


@dataclass
class WorkingSet:
    """On-chip memory of one segment: which values are there, and what passes its border."""

    capacity: int
    held: OrderedDict[str, int] = field(default_factory=OrderedDict)
    stored: set[str] = field(default_factory=set)
    """Values that memory outside has a copy of."""
    dying: frozenset[str] = frozenset()
    """Values that nobody reads after the current operation: they make room first, without a copy."""

    def read(self, name: str, size: int) -> int:
        """Return the bytes moved to bring a value in."""
        if name in self.held:
            self.held.move_to_end(name)
            return 0
        self.stored.add(name)
        return size + self.hold(name, size)

    def write(self, name: str, size: int) -> int:
        """Return the bytes moved to take a new value in."""
        if size > self.capacity:
            self.stored.add(name)
            return size
        return self.hold(name, size)

    def hold(self, name: str, size: int) -> int:
        """Keep a value if it fits; return the bytes of those that had to be written out for it."""
        if size > self.capacity:
            return 0
        self.held[name] = size
        spilled = 0
        while sum(self.held.values()) > self.capacity:
            other = next((held for held in self.held if held in self.dying), next(iter(self.held)))
            other_size = self.held.pop(other)
            spilled += 0 if other in self.stored | self.dying else other_size
            self.stored.add(other)
        return spilled

    def finish(self) -> None:
        """Forget values that nobody reads again."""
        for name in self.dying:
            self.held.pop(name, None)


def demands_of(graph: GraphView, capacity_bytes: int) -> list[Demand]:
    """Return the demand of each operation, in program order; ``graph.off`` says which leave the ANE."""
    return Walk(graph, capacity_bytes).run()


def find_runs(graph: GraphView) -> list[list[Node]]:
    """Return the operations of each segment, first to run first."""
    plans = [schedule(graph, start) for start in (True, False)]
    return [nodes for _, nodes in min(plans, key=len)]


class Walk:
    """One pass in the order of the segments, with the working set of the current one."""

    def __init__(self, graph: GraphView, capacity_bytes: int) -> None:
        self.graph, self.capacity = graph, capacity_bytes
        self.runs = find_runs(graph)
        self.last_use: dict[str, int] = {}
        self.first_ane_use: dict[str, int] = {}
        for node in chain.from_iterable(self.runs):
            for name in self.names_read(node):
                self.last_use[name] = node.index
                if node.index not in graph.off:
                    self.first_ane_use.setdefault(name, node.index)
        self.last_use |= dict.fromkeys(graph.outputs, -1)

    def run(self) -> list[Demand]:
        by_index: dict[int, Demand] = {}
        for nodes in self.runs:
            memory = WorkingSet(self.capacity)
            for node in nodes:
                memory.dying = frozenset(name for name in self.names_read(node) if self.last_use[name] == node.index)
                by_index[node.index] = self.demand(node, memory, starts=node is nodes[0])
                memory.finish()
        return [by_index[node.index] for node in self.graph.nodes]

    def demand(self, node: Node, memory: WorkingSet, *, starts: bool) -> Demand:
        kind, on_the_way = kind_of(self.graph, node), self.is_read_as_integers(node)
        fused = on_the_way or self.is_fused(node)
        # What is there is used first; and the order in which a file lists operands says nothing.
        reads = sorted(
            map(self.as_stored, self.graph.data_inputs(node)),
            key=lambda value: (value.name not in memory.held, value.name),
        )
        writes = node.outputs
        moved = 0 if fused else sum(memory.read(value.name, value.padded_bytes) for value in reads)
        if not on_the_way and not self.feeds_fused(node):
            moved += sum(memory.write(value.name, value.padded_bytes) for value in writes)
        constants_read = (self.graph.values[name] for name in node.input_names if name in self.graph.weights)
        weights = sum(value.bytes for value in constants_read if value.dtype in WEIGHT_TYPES)
        return Demand(
            operation=node.label,
            op_type=node.type,
            kind=kind,
            on_ane=node.index not in self.graph.off,
            fused=fused,
            multiply_adds=self.graph.multiply_adds(node),
            integers=self.graph.is_integer_product(node),
            weight_bytes=weights,
            spilled_bytes=moved,
            onchip_bytes=0 if fused else sum(value.padded_bytes for value in (*reads, *writes)),
            transfer_bytes=self.crossing(node),
            starts_segment=starts,
        )

    def is_read_as_integers(self, node: Node) -> bool:
        """Return whether this turns integers into numbers that nothing but products reads, which take the integers."""
        readers = self.graph.after(node)
        return node.type == "dequantize" and bool(readers) and all(r.type in ops_with("product") for r in readers)

    def names_read(self, node: Node) -> tuple[str, ...]:
        """Return the names of an operation's operands, and of what is in memory of them."""
        return (*node.input_names, *(self.as_stored(value).name for value in self.graph.data_inputs(node)))

    def as_stored(self, value: Value) -> Value:
        """Return what is in memory of a value that an operation reads: of one read as integers these."""
        maker = self.graph.producer(value.name)
        if maker is None or not self.is_read_as_integers(maker):
            return value
        return self.graph.operand(maker, "input") or value

    def is_fused(self, node: Node) -> bool:
        """Return whether an activation reads one convolution or product that nobody else reads, on its own side."""
        reads = self.graph.data_inputs(node)
        if len(reads) != 1 or kind_of(self.graph, node) != "activation" or reads[0].name in self.graph.outputs:
            return False
        maker = self.graph.producer(reads[0].name)
        if maker is None or kind_of(self.graph, maker) not in PRODUCTS:
            return False
        same_side = (maker.index in self.graph.off) == (node.index in self.graph.off)
        return same_side and len(self.graph.consumers(reads[0].name)) == 1

    def feeds_fused(self, node: Node) -> bool:
        """Return whether an activation takes this result before it is written."""
        return any(self.is_fused(reader) for reader in self.graph.after(node))

    def crossing(self, node: Node) -> int:
        """Return the bytes that enter the ANE here for the first time, or leave it from here."""
        off = self.graph.off
        if node.index in off:
            return 0
        total = 0
        for value in self.graph.data_inputs(node):
            maker = self.graph.producer(value.name)
            outside = maker is None or maker.index in off
            total += self.passed_bytes(value) if outside and self.first_ane_use[value.name] == node.index else 0
        for value in node.outputs:
            leaves = value.name in self.graph.outputs
            leaves |= any(reader.index in off for reader in self.graph.consumers(value.name))
            total += value.bytes if leaves else 0
        return total

    def passed_bytes(self, value: Value) -> int:
        """Return the bytes of a value as it arrives: of an image four a pixel, whatever its type in the program."""
        images = (feature.value for feature in self.graph.features if feature.kind == "image")
        if any(image.name == value.name for image in images) and value.rank == 4:
            return 4 * value.sizes[2] * value.sizes[3]
        return value.bytes


def kind_of(graph: GraphView, node: Node) -> str:
    """Return the class of work: a kind of product, an activation, a reduction, a layout change, or elementwise."""
    if node.type in ops_with("convolution"):
        weight = graph.operand(node, "weight")
        sizes = weight.sizes if weight else ()
        if len(sizes) > 2 and sizes[1] == 1 and graph.const(node, "groups", 1) > 1:
            return "depthwise"
        return "pointwise" if prod(sizes[2:]) == 1 else "dense"
    if node.type in ops_with("product"):
        # A linear layer is a convolution of 1 x 1; the others read two operands that are computed.
        return "pointwise" if node.type == "linear" else "matmul"
    traits: tuple[Trait, ...] = ("activation", "reduction", "layout")
    return next((trait for trait in traits if node.type in ops_with(trait)), "elementwise")


# ---------------------------------------------------------------------------------------------------------------- price
def estimate_cost(graph: GraphView, placements: Sequence[OpPlacement], family: str) -> CostEstimate:
    """Return the estimated cost of one prediction on a family; what is ``off`` or ``rejected`` runs on the CPU.

    Raises:
        UsageError: the family is unknown.
    """
    roofline = load_roofline(family)
    off = {placement.location for placement in placements if placement.placement in ("off", "rejected")}
    graph = replace(graph, off=frozenset(node.index for node in graph.nodes if node.location in off))
    return price(demands_of(graph, roofline.working_set_bytes), roofline)


def price(demands: Sequence[Demand], roofline: Roofline) -> CostEstimate:
    """Return the cost of the operations' demands at the rates of a family."""
    rows = [op_cost(demand, roofline) for demand in demands]
    totals: dict[Bound, float] = {"compute": 0.0, "memory": 0.0, "dispatch": 0.0, "transfer": 0.0}
    for parts in rows:
        for name, time in parts.items():
            totals[name] += time
    totals["dispatch"] += roofline.call_ms * 1e3
    operations = tuple(
        OpCost(
            operation=demand.operation,
            op_type=demand.op_type,
            time_us=sum(parts.values()),
            bound=max(parts, key=parts.__getitem__),
        )
        for demand, parts in zip(demands, rows)
    )
    return CostEstimate(
        family=roofline.family,
        time_ms=sum(totals.values()) / 1e3,
        compute_ms=totals["compute"] / 1e3,
        memory_ms=totals["memory"] / 1e3,
        dispatch_ms=totals["dispatch"] / 1e3,
        transfer_ms=totals["transfer"] / 1e3,
        operations=operations,
        calibration=roofline.calibration,
    )


def op_cost(demand: Demand, roofline: Roofline) -> dict[Bound, float]:
    """Return the microseconds of one operation by bound; of compute and memory only the longer counts."""
    if demand.on_ane:
        share = roofline.efficiency.get(demand.kind, 1.0) * (roofline.int8_gain if demand.integers else 1.0)
        compute = 2e-6 * demand.multiply_adds / (roofline.peak_tflops * share)
        onchip = 1e-3 * demand.onchip_bytes / roofline.onchip_gbps
        offchip = demand.weight_bytes / roofline.dram_share + demand.spilled_bytes / roofline.spill_gain
        memory = max(onchip, 1e-3 * offchip / roofline.dram_gbps)
        start = roofline.dispatch_ms
    else:
        compute = 2e-3 * demand.multiply_adds / roofline.cpu_gflops
        memory = 1e-3 * (demand.weight_bytes + demand.spilled_bytes) / roofline.dram_gbps
        start = roofline.launch_ms
    bound = "compute" if compute >= memory else "memory"
    return {
        "compute": compute if bound == "compute" else 0.0,
        "memory": memory if bound == "memory" else 0.0,
        "dispatch": (0.0 if demand.fused else roofline.op_us) + (start * 1e3 if demand.starts_segment else 0.0),
        "transfer": 1e-3 * demand.transfer_bytes / roofline.transfer_gbps,
    }


# ---------------------------------------------------------------------------------------------------------- correlation
def spearman(estimated: Sequence[float], measured: Sequence[float]) -> float:
    """Return the rank correlation of two series; ties share their mean rank.

    Raises:
        ValueError: fewer than two pairs, or a series without any difference.
    """
    if len(estimated) != len(measured) or len(measured) < 2:
        raise ValueError(f"rank correlation needs pairs, got {len(estimated)} and {len(measured)} values")
    first, second = ranks(estimated), ranks(measured)
    middle = (len(first) + 1) / 2
    spread = [sum((rank - middle) ** 2 for rank in series) for series in (first, second)]
    if 0.0 in spread:
        raise ValueError("rank correlation needs values that differ")
    return sum((a - middle) * (b - middle) for a, b in zip(first, second)) / sqrt(spread[0] * spread[1])


def ranks(values: Sequence[float]) -> list[float]:
    return [sum(other < value for other in values) + (sum(o == value for o in values) + 1) / 2 for value in values]
