"""Fusions: chains of operations that one function computes, with the bits that the operations would give.

A chain is an operation and those that follow it, each of which alone reads the one before. A module of this folder
registers what makes a function for such a chain; the plan that a probe does not watch (``plan.PreparedBlock``) then has
one step in place of the chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from edgesam_export.mil.binding import Call
from edgesam_export.mil.numerics import Numerics
from edgesam_export.mil.plan import Step
from edgesam_export.mil.results import as_tuple, conform, is_fresh, while_executing
from edgesam_export.registry import Registry, import_submodules

__all__ = ["FUSIONS", "Chain", "Fused", "Fusion", "fuse", "fused_whole", "register_fusion"]

Fused = Callable[[list[list[Any]]], "Tensor | None"]
"""Gets the positional arguments of each operation of a chain, None where the operation before gives the value; returns
the value of the last operation, rounded as numerics demand, or None for arguments that it cannot take."""


@dataclass(frozen=True)
class Chain:
    """Operations that follow each other."""

    steps: Sequence[Step]
    links: Sequence[int]
    """For each operation but the first, the position of the operand that the one before it computes."""
    numerics: Numerics
    owned: set[int] = field(default_factory=set)
    """Slots whose memory the chain may overwrite; known when the whole plan is."""

    @property
    def types(self) -> tuple[str, ...]:
        """The operations' types in order."""
        return tuple(step.operation.type for step in self.steps)

    @property
    def has_one_type(self) -> bool:
        """True if all outputs have one declared type: each operation gives one element for one."""
        return len({step.outputs[0][2] for step in self.steps}) == 1

    def compute(self, fused: Fused | None, arguments: list[list[Any]]) -> Tensor:
        """Return the value of the last operation by the fused function, or one by one what that cannot take."""
        value = None if fused is None else fused(arguments)
        return self.finish(self.value_of(self.steps[0], arguments[0]), arguments) if value is None else value

    def value_of(self, step: Step, positional: list[Any]) -> Tensor:
        """Return the value of one operation, before it is rounded.

        Raises:
            ProgramError: the operation failed, or gave something else than the program declares.
        """
        with while_executing(step.operation):
            (result,) = as_tuple(step.fn(*positional, **step.call.keyword), 1)
            _, name, declared = step.outputs[0]
            value: Tensor = conform(result, declared, name)
            return value

    def finish(self, value: Tensor, arguments: list[list[Any]]) -> Tensor:
        """Return the value of the last operation, computed one by one from the first one's, not rounded yet."""
        value = self.rounded(0, value, arguments[0])
        for index, (step, link, positional) in enumerate(zip(self.steps[1:], self.links, arguments[1:]), 1):
            positional[link] = value
            value = self.rounded(index, self.value_of(step, positional), positional)
        return value

    def rounded(self, index: int, value: Tensor, positional: list[Any]) -> Tensor:
        step = self.steps[index]
        if not step.rounds[0]:
            return value
        fresh = step.makes_new_memory or is_fresh(value, positional)
        return self.numerics.round(step.version.name, value, step.outputs[0][2], fresh=fresh)


@dataclass(frozen=True)
class Fusion:
    """A registered pattern: which operations begin and continue a chain, and what makes the function for one."""

    heads: frozenset[str]
    tails: frozenset[str]
    make: Callable[[Chain], Fused | None]


FUSIONS: Registry[Fusion] = Registry("fusion")
"""Of those that take a chain, the one that takes most of it; the first by name of several."""


def register_fusion(*, heads: Sequence[str], tails: Sequence[str]) -> Callable[..., Callable[[Chain], Fused | None]]:
    """Register what makes one function of a chain of operations: of a type in ``heads``, then of types in ``tails``.

    It is called once for each chain, the longest first and the head alone last, and returns None for a chain that it
    does not fuse.
    """

    def store(make: Callable[[Chain], Fused | None]) -> Callable[[Chain], Fused | None]:
        FUSIONS.register(make.__name__)(Fusion(frozenset(heads), frozenset(tails), make))
        return make

    return store


def fuse(
    steps: Sequence[Step], reads: Sequence[set[int]], outputs: set[int], numerics: Numerics
) -> tuple[list[Step], list[set[int]]]:
    """Return the steps of a block with every chain that a fusion takes as one step, and the slots that each reads.

    ``reads`` are the slots that each step reads, its blocks' included; ``outputs`` those that the block returns.
    """
    import_submodules(__name__)
    following = followers(steps, reads, outputs)
    taken: dict[int, tuple[list[int], Step]] = {}
    inside: set[int] = set()
    for first in range(len(steps)):
        found = None if first in inside else fused_from(first, steps, following, inside, numerics)
        if found is not None:
            members, step = found
            taken[members[-1]] = (members, step)
            inside.update(members)
    plan, plan_reads = [], []
    for index, step in enumerate(steps):
        if index in taken:
            members, step = taken[index]
            produced = {steps[member].outputs[0][0] for member in members}
            plan_reads.append(set().union(*(reads[member] for member in members)) - produced)
        elif index in inside:
            continue
        else:
            plan_reads.append(reads[index])
        plan.append(replace(step) if index not in taken else step)  # lifetimes differ between the two plans
    return plan, plan_reads


def followers(steps: Sequence[Step], reads: Sequence[set[int]], outputs: set[int]) -> dict[int, tuple[int, int]]:
    """Return for each step whose value one other alone reads, once: that step, and the position of the operand."""
    counts = Counter(slot for read in reads for slot in read)
    produced = {step.outputs[0][0]: index for index, step in enumerate(steps) if is_link(step)}
    following = {}
    for index, step in enumerate(steps):
        if not is_link(step):
            continue
        slots = Counter(slot for _, slot in step.call.feeds)
        for position, slot in step.call.feeds:
            before = produced.get(slot)
            if before is None or counts[slot] > 1 or slots[slot] > 1 or slot in outputs:
                continue
            following[before] = (index, position)
    return following


def is_link(step: Step) -> bool:
    """Return whether an operation can be part of a chain."""
    return len(step.outputs) == 1 and step.call.is_simple and not step.blocks


def fused_from(
    first: int, steps: Sequence[Step], following: dict[int, tuple[int, int]], inside: set[int], numerics: Numerics
) -> tuple[list[int], Step] | None:
    """Return the operations of the chain that begins with a step, and the step that computes it; None if none does."""
    best: tuple[list[int], Step] | None = None
    for fusion in map(FUSIONS.__getitem__, FUSIONS):
        if steps[first].operation.type not in fusion.heads or not is_link(steps[first]):
            continue
        members, links = [first], []
        while (then := following.get(members[-1])) and steps[then[0]].operation.type in fusion.tails:
            if then[0] in inside:
                break  # another chain ends in it already
            members.append(then[0])
            links.append(then[1])
        for length in range(len(members), len(best[0]) if best else 0, -1):
            chain = Chain([steps[member] for member in members[:length]], links[: length - 1], numerics)
            fused = fusion.make(chain)
            if fused is not None:
                best = members[:length], step_of(chain, fused)
                break
    return best


def fused_whole(chain: Chain) -> Fused | None:
    """Return the function of the first fusion that takes all of a chain, None if none does."""
    for fusion in map(FUSIONS.__getitem__, FUSIONS):
        if chain.types[0] in fusion.heads and set(chain.types[1:]) <= fusion.tails and len(chain.steps) > 1:
            fused = fusion.make(chain)
            if fused is not None:
                return fused
    return None


def step_of(chain: Chain, fused: Fused) -> Step:
    """Return the step that computes a chain by its fused function, or one by one what that cannot take."""
    call, ends = Call(), [0]
    for step, link in zip(chain.steps, (None, *chain.links)):
        call.feeds += [(ends[-1] + position, slot) for position, slot in step.call.feeds if position != link]
        call.positional += step.call.positional
        ends.append(len(call.positional))
    spans = [slice(start, end) for start, end in pairwise(ends)]

    def compute(*flat: Any) -> Tensor:
        return chain.compute(fused, [list(flat[span]) for span in spans])

    head, last = chain.steps[0], chain.steps[-1]
    return replace(
        head, fn=compute, call=call, outputs=last.outputs, rounds=[False], members=tuple(chain.steps), owned=chain.owned
    )
