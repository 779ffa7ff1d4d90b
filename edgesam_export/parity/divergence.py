"""The operation at which an error enters: one ML Program executed twice, compared value by value.

A value's error is rms(b - a) / rms(a) over all its elements. Every FP16 operation adds a little; the search is for the
operation whose output is wrong although its operands are right. A value is *bad* when its error reaches the
threshold or when it is finite in one run only. From the bad outputs we walk back through bad operands to an operation
whose operands are all good. Walking back, instead of taking the first bad value, leaves out errors that never reach an
output, such as the overflow of a constant that a softmax turns into the zero it stood for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgesam_export.errors import UsageError
from edgesam_export.mil.op_kinds import is_parameter

if TYPE_CHECKING:
    from edgesam_export.mil import Program
    from edgesam_export.mil.graph import Operation

__all__ = ["FP16_MAX", "Divergence", "OpError", "as_array", "first_divergence", "module_of", "names_of"]

THRESHOLDS = {True: 1e-6, False: 1e-2}
"""Default threshold by whether both runs use the same numerics. Same numerics: kernels are deterministic, 1e-6 leaves
room for another order of summation in float32 (2^-24 is 6e-8). Otherwise 1 %, which is 40 dB below the rms value."""
HALF_ROUNDOFF = 2.0**-11
"""Relative error of one rounding to FP16, which a good operand may already carry."""
ROUNDOFF = {("fp32", "fp32"): 2.0**-24, ("fp16", "fp16"): 0.0, ("ane", "ane"): 0.0}
"""Error of good operands when both runs use the same numerics: none, but for another order of summation."""
JUMP = 4.0
"""An operation whose error is this many times its operands' (or one rounding) introduces it; less only passes it on."""
FP16_MAX = 65504.0
MEMORY_BYTES = 1 << 30
"""Values of the first run that are held at once; an EdgeSAM encoder's take 600 MB in float32."""
CHUNK = 1 << 20
SUSPECTS = 5

Kind = Literal["overflow", "not finite", "introduced", "accumulated"]


@dataclass(frozen=True, kw_only=True)
class OpError:
    """Error of one operation's output beside the largest error among its operands."""

    operation: str
    type: str
    index: int
    error: float
    """rms(b - a) / rms(a); infinite when the value is finite in one run only."""
    operand_error: float
    location: str = ""
    module: str = ""

    @property
    def jump(self) -> float:
        """Error over the operands' error, which counts as one FP16 rounding at least."""
        return 1.0 if math.isinf(self.operand_error) else self.error / max(self.operand_error, HALF_ROUNDOFF)


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first operation in program order at which two executions part so that an output is spoiled."""

    operation: str
    type: str
    index: int
    """Position in the program, constants counted, from 0."""
    location: str
    module: str
    """PyTorch module it was converted from, empty when unknown."""
    kind: Kind
    """overflow: finite in the first run, not in the second. not finite: NaN or infinite in the first run already.
    introduced: the error is new here. accumulated: many small errors pass the threshold here, none stands out."""
    error: float
    operand_error: float
    peak: float
    """Largest finite magnitude of the value in the first run."""
    numerics: tuple[str, str]
    suspects: tuple[OpError, ...] = ()
    """Operations on the way to the bad output that raise the error most, the worst first."""
    component: str = ""
    candidate: str = ""

    def __str__(self) -> str:
        origin = f" from {self.module}" if self.module else ""
        what = {
            "overflow": f"overflows, largest value {self.peak:.4g} in {self.numerics[0]}",
            "not finite": f"is not finite in {self.numerics[0]}",
            "introduced": f"error {self.error:.2g} from operands with {self.operand_error:.2g}",
            "accumulated": f"error {self.error:.2g} gathered from many operations",
        }[self.kind]
        return f"op {self.index} '{self.operation}' ({self.type}{origin}): {what}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One value in both runs."""

    error: float
    kind: Literal["ok", "overflow", "not finite"]
    peak: float


def first_divergence(
    program: Program,
    feed: Mapping[str, Any],
    *,
    a: str = "fp32",
    b: str = "fp16",
    other: Program | None = None,
    threshold: float | None = None,
    modules: Mapping[str, str] | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Divergence | None:
    """Return the operation at which run ``b`` leaves run ``a``, or None when no output is off by ``threshold``.

    With equal numerics, which compares two packages, a difference that reaches no output counts too.

    ``other`` executes ``b`` when given: a second package whose values have the same names, for example the same export
    with other weights. ``modules`` maps operation names to PyTorch modules, as ``export.json`` holds them. Both runs
    are repeated when their values do not fit into ``memory_bytes``.

    Raises: UsageError when the two runs have no value in common.
    """
    threshold = THRESHOLDS[a == b] if threshold is None else threshold
    compared = compare_runs(program, other or program, feed, numerics=(a, b), memory_bytes=memory_bytes)
    if not compared:
        raise UsageError("the two runs have no value of the same name; compare programs of one export")
    search = Search(Graph(program), compared, (a, b), modules or {})
    found = search.at(threshold)
    if found is not None and found.kind == "accumulated":
        # The step may lie below the threshold and be carried over it by roundings: look for it a little lower.
        lower = (search.at(threshold / divisor) for divisor in (2, 4, 8))
        return next((nearer for nearer in lower if nearer and nearer.kind != "accumulated"), found)
    return found


class Graph:
    """Producer and readers of each value of a program; constants are parameters of their readers, not operations."""

    def __init__(self, program: Program) -> None:
        # A changed weight is blamed on the operation that uses it.
        self.operations = [op for op in program.operations if op.outputs and not is_parameter(op.type)]
        self.index = {key_of(op): index for index, op in enumerate(program.operations) if op.outputs}
        self.producer = {value: op for op in self.operations for value in names_of(op.outputs)}
        self.operands = {key_of(op): set(names_of(op.inputs)) & set(self.producer) for op in self.operations}
        read = set().union(*self.operands.values())
        declared = set(names_of(program.outputs))
        self.outputs = (set(self.producer) - read) | (declared & set(self.producer))

    def ancestors(self, values: set[str], among: set[str]) -> set[str]:
        """Return ``values`` and every value of ``among`` that leads to one of them through others of ``among``."""
        reached, waiting = set(values), list(values)
        while waiting:
            new = (self.operands[key_of(self.producer[waiting.pop()])] & among) - reached
            reached |= new
            waiting.extend(new)
        return reached


@dataclass(frozen=True)
class Search:
    """The search for the root of the bad outputs in one comparison."""

    graph: Graph
    compared: Mapping[str, Comparison]
    numerics: tuple[str, str]
    modules: Mapping[str, str]

    def at(self, threshold: float) -> Divergence | None:
        """Return the first operation in program order that is bad, has good operands and leads to a bad output."""
        bad = {name for name, found in self.compared.items() if found.kind != "ok" or not found.error < threshold}
        bad &= set(self.graph.producer)
        path = self.graph.ancestors(self.graph.outputs & bad, bad)
        if not path and self.numerics[0] == self.numerics[1]:
            path = bad  # two packages: a difference that no output shows is a difference all the same
        ops = [op for op in self.graph.operations if path & set(names_of(op.outputs))]
        if not ops:
            return None
        root = ops[0]  # operands come before their readers, so those of the first are all good
        everything = self.graph.ancestors(self.graph.outputs & bad, set(self.compared))
        ways = [op for op in self.graph.operations if everything & set(names_of(op.outputs)) & set(self.compared)]
        errors = [row for row in map(self.error_of, ways) if row.jump > 1]
        suspects = sorted(errors, key=lambda row: -row.jump)[:SUSPECTS]
        return self.describe(root, tuple(suspects))

    def kind_of(self, row: OpError, worst: Comparison) -> Kind:
        """Return how an operation came by its error."""
        if worst.kind != "ok":
            return worst.kind
        if row.error < JUMP * max(row.operand_error, ROUNDOFF.get(self.numerics, HALF_ROUNDOFF)):
            return "accumulated"
        # A rounding that saturates instead of giving infinity is an overflow all the same.
        saturated = "fp32" not in self.numerics[1] and worst.peak > FP16_MAX
        return "overflow" if saturated else "introduced"

    def describe(self, root: Operation, suspects: tuple[OpError, ...]) -> Divergence:
        """Return the divergence at a root operation."""
        row, worst = self.error_of(root), self.worst(root)
        return Divergence(
            operation=row.operation,
            type=row.type,
            index=row.index,
            location=row.location,
            module=row.module,
            kind=self.kind_of(row, worst),
            error=row.error,
            operand_error=row.operand_error,
            peak=worst.peak,
            numerics=self.numerics,
            suspects=suspects,
        )

    def worst(self, op: Operation) -> Comparison:
        """Return the comparison of an operation's worst output."""
        outputs = [self.compared[name] for name in names_of(op.outputs) if name in self.compared]
        return max(outputs, key=lambda comparison: comparison.error)

    def error_of(self, op: Operation) -> OpError:
        """Return the error of an operation's worst output and of its worst operand."""
        operands = [self.compared[name].error for name in self.graph.operands[key_of(op)] if name in self.compared]
        return OpError(
            operation=op.name,
            type=op.type,
            index=self.graph.index[key_of(op)],
            error=self.worst(op).error,
            operand_error=max(operands, default=0.0),
            location=str(op.location or ""),
            module=module_of(op, self.modules),
        )


def names_of(values: Any) -> list[str]:
    """Return names in order, repetitions kept, of strings and of objects with a name; constants in place have none."""
    groups = values.values() if isinstance(values, Mapping) else values
    members = [member for group in groups for member in (group if isinstance(group, list | tuple) else (group,))]
    names = (member if isinstance(member, str) else getattr(member, "name", None) for member in members)
    return [name for name in names if name is not None]


def key_of(op: Operation) -> str:
    """Return the name of the first output, which is unique; the name attribute is free and may repeat."""
    return names_of(op.outputs)[0]


def module_of(op: Operation, modules: Mapping[str, str]) -> str:
    """Return the PyTorch module of an operation, whether the map goes by operation or by output."""
    return next((modules[name] for name in (op.name, *names_of(op.outputs)) if name in modules), "")


def compare_runs(
    first: Program, second: Program, feed: Mapping[str, Any], *, numerics: tuple[str, str], memory_bytes: int
) -> dict[str, Comparison]:
    """Return the comparison of every value that both programs compute, by name.

    As many passes are made as the memory bound asks for.
    """
    done: dict[str, Comparison] = {}
    seen: set[str] = set()
    complete = False
    while not complete:
        held: dict[str, np.ndarray] = {}
        complete = hold(first, feed, numerics[0], held, seen, memory_bytes)

        def compare(op: Operation, name: str, value: Any, held: dict[str, np.ndarray] = held) -> None:
            reference = held.pop(name, None)
            array = as_array(value)
            if reference is not None and array is not None:
                done[name] = compare_values(reference, array)

        second.predict(feed, numerics=numerics[1], probe=compare)
    return done


def hold(
    program: Program, feed: Mapping[str, Any], numerics: str, held: dict[str, np.ndarray], seen: set[str], limit: int
) -> bool:
    """Run once and keep the next values that fit in ``held``; return whether none is left for another run."""
    complete, used = True, 0

    def keep(op: Operation, name: str, value: Any) -> None:
        nonlocal complete, used
        if is_parameter(op.type) or name in seen or not complete:
            return
        array = as_array(value)
        if array is None:
            seen.add(name)
        elif held and used + array.nbytes > limit:
            complete = False
        else:
            # A copy: the executor may reuse the buffer once the value has had its last reader.
            held[name] = np.array(array)
            used += array.nbytes
            seen.add(name)

    program.predict(feed, numerics=numerics, probe=keep)
    return complete


def as_array(value: Any) -> np.ndarray | None:
    """Return a probed value as NumPy, halves widened to float32; None unless it is an array of numbers."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "fiub" or not np.size(value):
        return None
    return np.asarray(value, np.float32 if value.dtype == np.float16 else None)


def compare_values(reference: np.ndarray, candidate: np.ndarray) -> Comparison:
    """Return the error of one value; computed in chunks, so that the float64 temporaries stay small."""
    if reference.shape != candidate.shape:
        return Comparison(error=math.inf, kind="not finite", peak=math.nan)
    signal = noise = peak = 0.0
    kind: Literal["ok", "overflow", "not finite"] = "ok"
    flat = reference.reshape(-1), candidate.reshape(-1)
    for start in range(0, flat[0].size, CHUNK):
        left, right = (array[start : start + CHUNK].astype(np.float64) for array in flat)
        same = left == right  # equal infinities are no error: masks of minus infinity stay what they are
        finite = np.isfinite(left)
        if not (finite | same).all():
            kind = "not finite"
        elif kind == "ok" and not (np.isfinite(right) | same).all():
            kind = "overflow"
        signal += float(np.square(left[finite]).sum())
        noise += float(np.square(np.subtract(right, left, where=~same, out=np.zeros_like(left))).sum())
        peak = max(peak, float(np.abs(left[finite]).max(initial=0.0)))
    if kind != "ok":
        return Comparison(error=math.inf, kind=kind, peak=peak)
    error = math.sqrt(noise / signal) if signal else math.inf if noise else 0.0
    return Comparison(error=error, kind="ok", peak=peak)
