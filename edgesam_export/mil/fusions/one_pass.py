"""An operation and the elementwise ones behind it, rounded as they go: piece by piece while a piece is in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from edgesam_export.mil.fusions import Chain, Fused, register_fusion
from edgesam_export.mil.memory import CHUNK, flat, is_dense, pieces
from edgesam_export.mil.op_kinds import ops_with
from edgesam_export.mil.plan import Step
from edgesam_export.mil.results import conform, is_fresh, while_executing

__all__ = ["elementwise_in_one_pass"]


LARGE = 1 << 18
"""Elements from which on a lone elementwise operation is worth a step of its own kind."""
IN_PLACE: dict[str, Callable[..., object]] = {
    "add": torch.add,
    "gelu": torch.ops.aten.gelu.out,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "mul": torch.mul,
    "relu": torch.ops.aten.relu.out,
    "sub": torch.sub,
}
"""Operations whose result for an element does not depend on where in memory it is, into given memory; torch's own
exponentials differ in the last place between the vectors of an array and what is left at its end."""


@register_fusion(heads=sorted(ops_with("product") | IN_PLACE.keys() | {"layer_norm"}), tails=list(IN_PLACE))
def elementwise_in_one_pass(chain: Chain) -> Fused | None:
    """Return the chain that rounds and changes the first operation's value in its own memory.

    An elementwise first operation is computed by pieces as well, over an operand that dies in it if there is one.
    """
    head, *tail = chain.steps
    exact = all(step.call.keyword.get("mode", "EXACT") == "EXACT" for step in chain.steps)
    if not chain.has_one_type or not exact or (not tail and not worth_overwriting(head)):
        return None
    stages = [
        chain.numerics.stages(step.version.name, step.outputs[0][2]) if step.rounds[0] else () for step in chain.steps
    ]
    links, row = [None, *chain.links], row_length(chain)
    read_later = {slot for step in tail for _, slot in step.call.feeds}

    def compute(arguments: list[list[Any]]) -> Tensor:
        value, begin = memory_for(head, arguments[0], chain.owned - read_later), 0
        feeds = None if value is None else all_operands(value, arguments, links, row)
        if value is None or feeds is None:
            value, begin = first_value(chain, value, arguments[0]), 1
            fresh = head.makes_new_memory or is_fresh(value, arguments[0])
            feeds = all_operands(value, arguments[1:], chain.links, row) if fresh else None
            if feeds is None:
                return chain.finish(value, arguments)
        computed = list(zip(chain.types[begin:], links[begin:], feeds, stages[begin:], strict=True))
        for index, piece in enumerate(pieces(value, row)):
            for stage in stages[0][: None if begin else 0]:
                stage(piece)
            for kind, link, feed, after in computed:
                others = feed[index]
                given = others if link is None else (*others[:link], piece, *others[link:])
                IN_PLACE[kind](*given, out=piece)
                for stage in after:
                    stage(piece)
        return value

    return compute


def worth_overwriting(step: Step) -> bool:
    """Return whether an elementwise operation is large enough that the memory of its operand, at hand, saves time."""
    shape = step.outputs[0][2].fixed_shape
    return step.operation.type in IN_PLACE and shape is not None and prod(shape) >= LARGE


def memory_for(head: Step, positional: Sequence[Any], dying: set[int]) -> Tensor | None:
    """Return memory for the value of an elementwise operation: that of an operand in a slot that dies in it, else new.

    None if the operation is another one, or no operand has the value's shape.
    """
    if head.operation.type not in IN_PLACE or any(value.dtype != torch.float32 for value in positional):
        return None
    shape = head.outputs[0][2].fixed_shape
    whole = {at: value for at, value in enumerate(positional) if tuple(value.shape) == shape and is_dense(value)}
    overwritten: list[Tensor] = [whole[at] for at, slot in head.call.feeds if slot in dying and at in whole]
    if overwritten:
        return overwritten[0]
    return torch.empty_like(next(iter(whole.values()))) if whole else None


def first_value(chain: Chain, memory: Tensor | None, positional: list[Any]) -> Tensor:
    """Return the value of the first operation by itself, in the memory if there is some."""
    head = chain.steps[0]
    if memory is None:
        return chain.value_of(head, positional)
    with while_executing(head.operation):
        IN_PLACE[head.operation.type](*positional, out=memory)
        _, name, declared = head.outputs[0]
        value: Tensor = conform(memory, declared, name)
        return value


def row_length(chain: Chain) -> int:
    """Return how many elements a constant has that is the same for all rows of the value; 1 if there is none."""
    shape = chain.steps[0].outputs[0][2].fixed_shape
    constants = [other for step in chain.steps for other in step.call.positional if isinstance(other, Tensor)]
    return max((other.numel() for other in constants if is_row(other, shape)), default=1)


def is_row(other: Tensor, shape: tuple[int, ...] | None) -> bool:
    """Return whether an operand is the same for all rows of a channels-last value of this shape."""
    if shape is None or len(shape) != 4 or tuple(other.shape) != (1, shape[1], 1, shape[3]) or shape[2] == 1:
        return False
    return 1 < other.numel() <= CHUNK and other.is_contiguous(memory_format=torch.channels_last)


def all_operands(
    value: Tensor, arguments: Sequence[Sequence[Any]], links: Sequence[int | None], row: int
) -> list[Sequence[Sequence[Tensor]]] | None:
    """Return ``operands`` of each operation, None if it is None for one."""
    found = [operands(value, positional, link, row) for positional, link in zip(arguments, links, strict=True)]
    given = [other for other in found if other is not None]
    return given if len(given) == len(found) else None


def operands(value: Tensor, positional: Sequence[Any], link: int | None, row: int) -> Sequence[Sequence[Tensor]] | None:
    """Return for each piece of a value the other operands' pieces; None if they are not laid out as the value is."""
    if value.dtype != torch.float32 or not is_dense(value):
        return None
    if row > 1 and not (value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)):
        return None
    count = len(pieces(value, row))
    split: list[Sequence[Tensor]] = []
    for position, other in enumerate(positional):
        if position == link:
            continue
        if other.dtype != torch.float32:
            return None
        if other.shape == value.shape and other.stride() == value.stride():
            split.append(pieces(other, row))
        elif other.numel() == 1 and other.ndim <= value.ndim:
            split.append([other.reshape(())] * count)
        elif other.numel() == row and is_row(other, tuple(value.shape)):
            split.append([flat(other)] * count)
        else:
            return None
    return list(zip(*split)) if split else [()] * count
