"""From an op's inputs in the file to the arguments of its function: worked out once, used at every prediction."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from edgesam_export.errors import ProgramError
from edgesam_export.mil.graph import Operation
from edgesam_export.mil.ops import PREPARATIONS, VARIADIC

__all__ = ["Call", "Fixed", "Operand", "Signature", "bind_arguments", "signature_of", "to_python"]

SPECIAL = frozenset({"blocks", "out_types"})


@dataclass(frozen=True)
class Signature:
    """Parameters of an op function under their MIL names; a default marks what may be left out."""

    positional: tuple[str, ...]
    keyword: Mapping[str, str]
    """MIL name -> Python name of the keyword-only parameters."""
    defaults: Mapping[str, Any]
    special: frozenset[str]

    @property
    def names(self) -> list[str]:
        return [*self.positional, *self.keyword]


@cache
def signature_of(fn: Callable[..., Any]) -> Signature:
    """Return the signature of an op function.

    Raises:
        TypeError: it has ``*args`` or ``**kwargs``; an op names its inputs.
    """
    positional, keyword, defaults, special = [], {}, {}, set()
    for name, parameter in inspect.signature(fn).parameters.items():
        mil_name = name.rstrip("_")
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise TypeError(f"op function {fn.__module__}.{fn.__name__} must name its inputs, not take '{parameter}'")
        if name in SPECIAL:
            special.add(name)
            continue
        if parameter.kind is parameter.KEYWORD_ONLY:
            keyword[mil_name] = name
        else:
            positional.append(mil_name)
        if parameter.default is not parameter.empty:
            defaults[mil_name] = parameter.default
    return Signature(tuple(positional), keyword, defaults, frozenset(special))


class Fixed:
    """An operand known before anything runs; tensors are made when first asked for, once per preparation."""

    def __init__(self, *, make: Callable[[], Any], load: Callable[[], Any]) -> None:
        self.make, self.load = make, load
        self.made: dict[Callable[[Any], Any] | None, Any] = {}

    def tensor(self, op_type: str, input_name: str) -> Any:
        """Return the value for a positional parameter, prepared for that input."""
        preparation = PREPARATIONS.get((op_type, input_name))
        if preparation not in self.made:
            base = self.made[None] if None in self.made else self.make()
            self.made[preparation] = base if preparation is None else preparation(base)
        return self.made[preparation]

    def plain(self) -> Any:
        """Return the value for a keyword-only parameter."""
        return to_python(self.load())


Operand = int | Fixed
"""Slot of the environment, or a fixed value."""


@dataclass
class Call:
    """Arguments of one call; what only the run can know is filled in from the environment."""

    positional: list[Any] = field(default_factory=list)
    keyword: dict[str, Any] = field(default_factory=dict)
    feeds: list[tuple[int, int]] = field(default_factory=list)
    """(position, slot) of the single values."""
    list_feeds: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)
    """(position, [(index in the list, slot)]) of the variadic ones."""
    keyword_feeds: list[tuple[str, int]] = field(default_factory=list)
    keyword_list_feeds: list[tuple[str, list[tuple[int, int]]]] = field(default_factory=list)

    @cached_property
    def is_simple(self) -> bool:
        """Return whether single values are all that the run has to fill in, as in most ops."""
        return not (self.list_feeds or self.keyword_feeds or self.keyword_list_feeds)

    def arguments(self, env: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return positional and keyword arguments for the values in ``env``."""
        positional, keyword = self.positional.copy(), self.keyword.copy()
        for position, slot in self.feeds:
            positional[position] = env[slot]
        if self.is_simple:
            return positional, keyword
        for position, feeds in self.list_feeds:
            positional[position] = filled(positional[position], feeds, env)
        for name, slot in self.keyword_feeds:
            keyword[name] = to_python(env[slot])
        for name, feeds in self.keyword_list_feeds:
            keyword[name] = to_python(filled(keyword[name], feeds, env))
        return positional, keyword


def filled(items: list[Any], feeds: list[tuple[int, int]], env: list[Any]) -> list[Any]:
    items = items.copy()
    for index, slot in feeds:
        items[index] = env[slot]
    return items


def bind_arguments(operation: Operation, fn: Callable[..., Any], operands: Mapping[str, list[Operand]]) -> Call:
    """Return the call of ``fn`` for the operands that the program gives.

    Raises:
        ProgramError: a required input is missing, or the op does not have one of them.
    """
    signature = signature_of(fn)
    unknown = sorted(operands.keys() - set(signature.names))
    if unknown:
        raise ProgramError(f"{operation}: unknown input '{unknown[0]}'; it takes {', '.join(signature.names)}")
    call = Call()
    if "out_types" in signature.special:
        call.keyword["out_types"] = tuple(output.type for output in operation.outputs)
    if "blocks" in signature.special:
        call.keyword["blocks"] = ()
    elif operation.blocks:
        raise ProgramError(f"{operation}: has {len(operation.blocks)} blocks, the op takes none")
    for position, name in enumerate(signature.positional):
        call.positional.append(None)
        if name in operands:
            bind_positional(call, position, name, operands[name], operation)
        else:
            call.positional[position] = default_of(signature, name, operation)
    for name, parameter in signature.keyword.items():
        if name in operands:
            bind_keyword(call, parameter, name, operands[name], operation)
        else:
            default_of(signature, name, operation)
    return call


def bind_positional(call: Call, position: int, name: str, operands: list[Operand], operation: Operation) -> None:
    fixed = [operand.tensor(operation.type, name) if isinstance(operand, Fixed) else None for operand in operands]
    slots = [(i, operand) for i, operand in enumerate(operands) if not isinstance(operand, Fixed)]
    if name in VARIADIC:
        call.positional[position] = fixed
        call.list_feeds.append((position, slots))
    else:
        call.positional[position] = only(fixed, name, operation)
        call.feeds.extend((position, slot) for _, slot in slots)


def bind_keyword(call: Call, parameter: str, name: str, operands: list[Operand], operation: Operation) -> None:
    fixed = [operand.plain() if isinstance(operand, Fixed) else None for operand in operands]
    slots = [(i, operand) for i, operand in enumerate(operands) if not isinstance(operand, Fixed)]
    if name in VARIADIC:
        call.keyword[parameter] = fixed
        if slots:
            call.keyword_list_feeds.append((parameter, slots))
    else:
        call.keyword[parameter] = only(fixed, name, operation)
        call.keyword_feeds.extend((parameter, slot) for _, slot in slots)


def only(values: list[Any], name: str, operation: Operation) -> Any:
    if len(values) != 1:
        raise ProgramError(f"{operation}: input '{name}' takes one value, the program gives {len(values)}")
    return values[0]


def default_of(signature: Signature, name: str, operation: Operation) -> Any:
    if name not in signature.defaults:
        raise ProgramError(f"{operation}: required input '{name}' is missing")
    return signature.defaults[name]


def to_python(value: Any) -> Any:
    """Return a value as plain Python: ``int``, ``float``, ``bool``, ``str`` or nested lists of them."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [to_python(item) for item in value]
    return value
