"""A parsed ML Program as plain data: functions, blocks, operations, constants. No protobuf, no arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from edgesam_export.errors import ProgramError
from edgesam_export.mil.types import ValueType
from edgesam_export.mil.weights import WeightFile

__all__ = ["Argument", "Block", "Constant", "Function", "Operation", "Output", "check_references"]


@dataclass(frozen=True)
class Constant:
    """A value that the file holds: in the program itself, or in a weight file and read on demand."""

    type: ValueType
    value: Any = None
    """NumPy array, ``str``, list or dict; None when ``file`` has it, or the file is missing and was not required."""
    file: WeightFile | None = field(default=None, repr=False)
    offset: int = 0

    @property
    def in_weight_file(self) -> bool:
        return self.file is not None

    def load(self) -> Any:
        """Return the value: arrays in their declared shape, sub-byte types unpacked, BF16 as uint16 bit patterns.

        Raises:
            ProgramError: the weight file is missing, or changed since the program was loaded.
        """
        if self.file is None and self.value is None:
            raise ProgramError(f"a constant of type {self.type} is in a weight file that is missing")
        if self.file is None:
            return self.value
        shape = self.type.fixed_shape
        assert shape is not None  # checked when the program was read
        return self.file.read(self.offset, self.type.dtype, prod(shape)).reshape(shape)


Argument = str | Constant
"""What an input is bound to: the name of a value, or a constant written in place."""


@dataclass(frozen=True)
class Output:
    """A named value with its declared type."""

    name: str
    type: ValueType


@dataclass(frozen=True)
class Operation:
    """One operation of a block."""

    type: str
    name: str
    """The name attribute; of an op without one, its first output's name."""
    location: str
    """Where it stands, e.g. ``main/op 12`` or ``main/op 12/block 1/op 3``."""
    inputs: Mapping[str, tuple[Argument, ...]]
    attributes: Mapping[str, Constant]
    outputs: tuple[Output, ...]
    blocks: tuple[Block, ...] = ()

    @property
    def is_constant(self) -> bool:
        return self.type == "const"

    @property
    def label(self) -> str:
        """First output's name, for messages: what shows up in every viewer."""
        return self.outputs[0].name if self.outputs else self.name

    def __str__(self) -> str:
        return f"{self.type} '{self.label}' at {self.location}"


@dataclass(frozen=True)
class Block:
    """Operations in order; a nested block also has inputs."""

    inputs: tuple[Output, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def walk(self) -> Iterator[Operation]:
        """Yield every operation in program order, the outer one before those of its blocks."""
        for operation in self.operations:
            yield operation
            for block in operation.blocks:
                yield from block.walk()


@dataclass(frozen=True)
class Function:
    """One function of a program, with the block of the op set it was written for."""

    name: str
    opset: str
    """A member of ``ops.OPSETS``, e.g. ``iOS17``."""
    inputs: tuple[Output, ...]
    block: Block


def check_references(function: Function) -> None:
    """Check that every name is defined once, before its first use, in a block that can see it.

    Raises:
        ProgramError: an undefined, cyclic or duplicate name.
    """
    visible: set[str] = set()
    for value in function.inputs:
        define(value.name, visible, f"input of function '{function.name}'")
    everywhere = {output.name for operation in function.block.walk() for output in operation.outputs}
    check_block(function.block, visible, everywhere, function.name)


def check_block(block: Block, visible: set[str], everywhere: set[str], where: str) -> None:
    for operation in block.operations:
        for key, arguments in operation.inputs.items():
            for argument in arguments:
                if isinstance(argument, str) and argument not in visible:
                    reason = "is used before it is defined" if argument in everywhere else "is not defined"
                    raise ProgramError(f"{operation}: input '{key}' refers to '{argument}', which {reason}")
        for index, inner in enumerate(operation.blocks):
            scope = set(visible)
            for value in inner.inputs:
                define(value.name, scope, f"input of block {index} of {operation}")
            check_block(inner, scope, everywhere, f"{operation.location}/block {index}")
        for output in operation.outputs:
            define(output.name, visible, f"{operation}")
    for name in block.outputs:
        if name not in visible:
            raise ProgramError(f"{where}: the block returns '{name}', which is not defined in it")


def define(name: str, visible: set[str], where: str) -> None:
    if name in visible:
        raise ProgramError(f"{where}: the name '{name}' is defined twice")
    visible.add(name)


def carrier_array(constant: Constant, dtype: str) -> np.ndarray:
    """Return a tensor constant as a new array of the NumPy type ``dtype``; BF16 bit patterns become their numbers."""
    array = constant.load()
    if constant.type.dtype == "bf16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return np.array(array, dtype, order="C")
