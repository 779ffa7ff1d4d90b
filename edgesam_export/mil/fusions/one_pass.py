"""An operation and the elementwise ones behind it, rounded as they go: piece by piece while a piece is in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from edgesam_export.mil.fusions import Chain, Fused, register_fusion
from edgesam_export.mil.memory import is_dense, pieces
from edgesam_export.mil.op_kinds import ops_with
from edgesam_export.mil.plan import Step
from edgesam_export.mil.results import is_fresh

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
    """Return the chain that rounds and changes the first operation's value in its own memory."""
    head, *tail = chain.steps
    exact = all(step.call.keyword.get("mode", "EXACT") == "EXACT" for step in chain.steps)
    if not chain.has_one_type or not exact or (not tail and not worth_overwriting(head)):
        return None
    stages = [
        chain.numerics.stages(step.version.name, step.outputs[0][2]) if step.rounds[0] else () for step in chain.steps
    ]

    def compute(arguments: list[list[Any]]) -> Tensor:
        value = overwritable(chain, arguments[0])
        fresh = value is not None or head.makes_new_memory
        if value is None:
            value = chain.value_of(head, arguments[0])
        else:
            IN_PLACE[head.operation.type](*arguments[0], out=value)
        found = [operands(value, positional, link) for positional, link in zip(arguments[1:], chain.links)]
        others = [other for other in found if other is not None]
        if not (fresh or is_fresh(value, arguments[0])) or len(others) < len(tail):
            return chain.finish(value, arguments)
        for index, piece in enumerate(pieces(value)):
            feeds = [other[index] for other in others]
            for stage in stages[0]:
                stage(piece)
            for step, link, feed, after in zip(tail, chain.links, feeds, stages[1:]):
                IN_PLACE[step.operation.type](*feed[:link], piece, *feed[link:], out=piece)
                for stage in after:
                    stage(piece)
        return value

    return compute


def worth_overwriting(step: Step) -> bool:
    """Return whether an elementwise operation is large enough that the memory of its operand, at hand, saves time."""
    shape = step.outputs[0][2].fixed_shape
    return step.operation.type in IN_PLACE and shape is not None and prod(shape) >= LARGE


def overwritable(chain: Chain, positional: Sequence[Any]) -> Tensor | None:
    """Return the operand of the first operation, an elementwise one, that its value may be written over."""
    head, *tail = chain.steps
    if head.operation.type not in IN_PLACE or any(value.dtype != torch.float32 for value in positional):
        return None
    read_later = {slot for step in tail for _, slot in step.call.feeds}
    for position, slot in head.call.feeds:
        operand: Tensor = positional[position]
        same_shape = tuple(operand.shape) == head.outputs[0][2].fixed_shape
        if slot in chain.owned and slot not in read_later and same_shape and is_dense(operand):
            return operand
    return None


def operands(value: Tensor, positional: Sequence[Any], link: int) -> Sequence[Sequence[Tensor]] | None:
    """Return for each piece of a value the other operands' pieces; None if they are not laid out as the value is."""
    if value.dtype != torch.float32 or not is_dense(value):
        return None
    count = len(pieces(value))
    split: list[Sequence[Tensor]] = []
    for position, other in enumerate(positional):
        if position == link:
            continue
        if other.dtype != torch.float32:
            return None
        if other.numel() == 1 and other.ndim <= value.ndim:
            split.append([other.reshape(())] * count)
        elif other.shape == value.shape and other.stride() == value.stride():
            split.append(pieces(other))
        else:
            return None
    return list(zip(*split)) if split else [()] * count
