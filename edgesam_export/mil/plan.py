"""The plan of a block: steps that are ready to run, and how long each value is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

from edgesam_export.mil.binding import Call
from edgesam_export.mil.graph import Operation
from edgesam_export.mil.op_kinds import ops_with
from edgesam_export.mil.ops import OpVersion
from edgesam_export.mil.types import ValueType

__all__ = ["PreparedBlock", "Step", "mark_last_uses", "mark_owned"]

ELEMENTWISE = {"add", "gelu", "maximum", "minimum", "mul", "real_div", "relu", "sub"}
NEW_MEMORY = ops_with("product") | ELEMENTWISE | {"reduce_mean"}
"""Operations that never return an operand or a view of one."""


@dataclass
class Step:
    """One operation, ready to run."""

    operation: Operation
    version: OpVersion
    fn: Callable[..., Any]
    """The op's function, or a faster one made for this operation."""
    call: Call
    outputs: list[tuple[int, str, ValueType]]
    """(slot, name, declared type)."""
    rounds: list[bool]
    """Per output, whether numerics have anything to do with it."""
    blocks: list[PreparedBlock] = field(default_factory=list)
    frees: list[int] = field(default_factory=list)
    """Slots that nobody reads after this step."""
    members: tuple[Step, ...] = ()
    """The operations of a fused step, the first of which is ``operation``."""
    owned: set[int] = field(default_factory=set)
    """Slots whose memory nobody else has or will read: the step may overwrite it."""

    @cached_property
    def makes_new_memory(self) -> bool:
        """Return whether the step never returns an operand or a view of one."""
        return not self.blocks and all(member.operation.type in NEW_MEMORY for member in self.members or (self,))


@dataclass
class PreparedBlock:
    """A block whose names are slots."""

    inputs: list[int]
    steps: list[Step]
    outputs: list[int]
    frees: list[int]
    """Outputs that live in this block alone."""
    fused: list[Step]
    """The same computation in fewer steps, for a run that nobody probes."""

    @cached_property
    def mean_elements(self) -> float:
        """Elements of a value of this block on average, of those whose shape is fixed."""
        shapes = [declared.fixed_shape for step in self.fused for _, _, declared in step.outputs]
        sizes = [prod(shape) for shape in shapes if shape is not None]
        return sum(sizes) / max(1, len(sizes))

    def plan(self, *, probed: bool) -> Iterable[Step]:
        """Return the steps to run: a probe sees every value of the program."""
        return self.steps if probed else self.fused


def mark_last_uses(steps: list[Step], reads: list[set[int]], own: set[int]) -> None:
    """Set for every step which of the slots in ``own`` nobody reads after it."""
    alive = set(own)
    for step, read in zip(reversed(steps), reversed(reads)):
        last = (read | {slot for slot, _, _ in step.outputs}) & alive
        step.frees = sorted(last)
        alive -= last


def mark_owned(steps: list[Step], reads: list[set[int]]) -> None:
    """Set for every step which slots it alone still uses, after ``mark_last_uses``.

    Such a value was made by an operation that returns new memory, and no operation that read it returned a view of it.
    """
    unshared: set[int] = set()
    for step, read in zip(steps, reads):
        if step.makes_new_memory:
            step.owned.update(unshared & read & set(step.frees))
            unshared.update(slot for slot, _, _ in step.outputs)
        else:
            unshared -= read
