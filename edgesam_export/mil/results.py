"""What an op returned, held to what the program declares; errors that name their operation."""

from __future__ import annotations

from typing import Any

import torch

from edgesam_export.errors import ProgramError
from edgesam_export.mil.carriers import CARRIERS
from edgesam_export.mil.graph import Operation
from edgesam_export.mil.types import StateBox, ValueType

__all__ = ["as_tuple", "conform", "fits", "is_fresh", "while_executing"]

PYTHON_TYPES = {"string": str, "list": list, "dict": dict, "state": StateBox, "tuple": tuple}


class LocatedError(ProgramError):
    """An error that names its operation already: the operations around it add nothing."""


class while_executing:  # lower case: it reads as a statement
    """Turn any error inside into a one-line ``ProgramError`` that names the operation."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, LocatedError):
            return
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LocatedError(f"{self.operation}: {reason}") from error


def as_tuple(results: Any, count: int) -> tuple[Any, ...]:
    if count == 0:
        return ()
    if isinstance(results, tuple) or (isinstance(results, list) and count > 1):
        if len(results) != count:
            raise ProgramError(f"the op gives {len(results)} outputs, the program declares {count}")
        return tuple(results)
    if count != 1:
        raise ProgramError(f"the op gives one output, the program declares {count}")
    return (results,)


def conform(value: Any, declared: ValueType, name: str) -> Any:
    """Return ``value`` with the carrier type of ``declared``.

    Raises:
        ProgramError: another kind of value, or another shape: the program's types do not match its ops.
    """
    carrier = CARRIERS.get(declared.dtype)
    if isinstance(value, torch.Tensor) and value.dtype == carrier and value.shape == declared.shape:
        return value
    if carrier is None:
        if not isinstance(value, PYTHON_TYPES[declared.dtype]) and not (declared.dtype == "string" and declared.shape):
            raise ProgramError(f"output '{name}' is a {type(value).__name__}, the program declares {declared}")
        return value
    if isinstance(value, int) and declared.shape == ():
        value = torch.tensor(value)  # the label of a classifier whose classes are integers
    if not isinstance(value, torch.Tensor):
        raise ProgramError(f"output '{name}' is a {type(value).__name__}, the program declares {declared}")
    if value.dtype != carrier:
        if kind_of(value.dtype) != kind_of(carrier):
            actual = str(value.dtype).removeprefix("torch.")
            raise ProgramError(f"output '{name}' has element type {actual}, the program declares {declared}")
        value = value.to(carrier)
    if not fits(tuple(value.shape), declared.shape):
        raise ProgramError(f"output '{name}' has shape {tuple(value.shape)}, the program declares {declared}")
    return value


def fits(shape: tuple[int, ...], declared: tuple[int | None, ...] | None) -> bool:
    """Return whether ``shape`` is one that the declaration allows."""
    if shape == declared or declared is None:
        return True
    return len(shape) == len(declared) and all(d is None or s == d for s, d in zip(shape, declared))


def kind_of(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "bool"
    return "float" if dtype.is_floating_point else "complex" if dtype.is_complex else "int"


def is_fresh(value: torch.Tensor, arguments: list[Any]) -> bool:
    """Return whether the op made new memory for ``value``: it shares none with an argument."""
    address = value.untyped_storage().data_ptr()
    for argument in arguments:
        items = argument if isinstance(argument, (list, tuple)) else (argument,)
        for item in items:
            if isinstance(item, StateBox):
                item = item.value
            if isinstance(item, torch.Tensor) and item.untyped_storage().data_ptr() == address:
                return False
    return True
