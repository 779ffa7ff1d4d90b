"""Protobuf messages of a Core ML model -> plain data. Nothing of the file is believed before it is checked.

The messages come from ``program.py``, the only module here that knows coremltools; this one relies on field names only.
"""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np

from edgesam_export.errors import ProgramError, printable
from edgesam_export.mil.graph import Argument, Block, Constant, Function, Operation, Output, check_references
from edgesam_export.mil.package import ModelFiles
from edgesam_export.mil.types import BITS, ValueType
from edgesam_export.mil.weights import STORED, WeightFile, decode_bytes

__all__ = ["MAX_VALUE_BYTES", "Decoder", "decode_type"]

MAX_VALUE_BYTES = 16 << 30
"""A program that declares a larger value is refused before anything is allocated: no phone could run it."""
MAX_BLOCK_DEPTH = 16
MAX_TYPE_DEPTH = 8
MAX_RANK = 64
MAX_NAME_LENGTH = 1000
OPSET_NAMES = {"CoreML5": "iOS15", "CoreML6": "iOS16", "CoreML7": "iOS17", "CoreML8": "iOS18", "CoreML9": "iOS26"}
ELEMENT_TYPES = {
    1: "bool",
    2: "string",
    10: "fp16",
    11: "fp32",
    12: "fp64",
    13: "bf16",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    25: "int4",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    34: "uint64",
    35: "uint4",
    36: "uint2",
    37: "uint1",
    38: "uint6",
    39: "uint3",
}
"""``DataType`` of MIL.proto -> element type. Its two 8-bit floats have no op yet."""


def decode_type(message: Any, where: str, depth: int = 0) -> ValueType:
    """Return a declared type.

    Raises:
        ProgramError: unknown element type, impossible shape, or a value larger than ``MAX_VALUE_BYTES``.
    """
    kind = message.WhichOneof("type")
    if depth > MAX_TYPE_DEPTH:
        raise ProgramError(f"{where}: types are nested more than {MAX_TYPE_DEPTH} deep")
    if kind == "tensorType":
        return decode_tensor_type(message.tensorType, where)
    if kind == "listType":
        length = decode_dimension(message.listType.length, where)
        return ValueType("list", (length,), decode_type(message.listType.type, where, depth + 1))
    if kind == "stateType":
        return ValueType("state", (), decode_type(message.stateType.wrappedType, where, depth + 1))
    if kind == "dictionaryType":
        return ValueType("dict", (), decode_type(message.dictionaryType.valueType, where, depth + 1))
    if kind == "tupleType":
        return ValueType("tuple", (len(message.tupleType.types),))
    raise ProgramError(f"{where}: value without a type")


def decode_tensor_type(message: Any, where: str) -> ValueType:
    dtype = ELEMENT_TYPES.get(message.dataType)
    if dtype is None:
        raise ProgramError(f"{where}: element type number {message.dataType} is not known to this version")
    if message.rank < 0 or any(
        d.WhichOneof("dimension") == "unknown" and d.unknown.variadic for d in message.dimensions
    ):
        return ValueType(dtype, None)
    if message.rank != len(message.dimensions) or message.rank > MAX_RANK:
        raise ProgramError(f"{where}: rank {message.rank} declared with {len(message.dimensions)} sizes")
    shape = tuple(decode_dimension(d, where) for d in message.dimensions)
    if dtype != "string" and prod(s for s in shape if s) * BITS[dtype] > 8 * MAX_VALUE_BYTES:
        raise ProgramError(f"{where}: {ValueType(dtype, shape)} would take more than {MAX_VALUE_BYTES >> 30} GiB")
    return ValueType(dtype, shape)


def decode_dimension(message: Any, where: str) -> int | None:
    kind = message.WhichOneof("dimension")
    if kind is None:
        raise ProgramError(f"{where}: a dimension without a size")
    return message.constant.size if kind == "constant" else None


class Decoder:
    """Decodes the functions of one program; weight files are opened once, missing ones an error if required."""

    def __init__(self, files: ModelFiles, *, require_weights: bool = True) -> None:
        self.files = files
        self.require_weights = require_weights
        self.weight_files: dict[str, WeightFile] = {}

    def function(self, name: str, message: Any) -> Function:
        """Return one function, its references and constants checked.

        Raises:
            ProgramError: unknown op set, damaged operation, undefined names, wrong weight.
        """
        opset = OPSET_NAMES.get(message.opset)
        if opset is None:
            raise ProgramError(
                f"{self.files.path}: function '{name}' is written for op set '{printable(message.opset)}'; "
                f"this version knows {', '.join(OPSET_NAMES)}"
            )
        if message.opset not in message.block_specializations:
            raise ProgramError(f"{self.files.path}: function '{name}' has no block for its op set {message.opset}")
        inputs = tuple(self.named(value, f"input of function '{name}'") for value in message.inputs)
        block = self.block(message.block_specializations[message.opset], name, 0)
        function = Function(name=name, opset=opset, inputs=inputs, block=block)
        check_references(function)
        return function

    def named(self, message: Any, where: str) -> Output:
        check_name(message.name, where)
        return Output(message.name, decode_type(message.type, f"{where} '{message.name}'"))

    def block(self, message: Any, where: str, depth: int) -> Block:
        if depth > MAX_BLOCK_DEPTH:
            raise ProgramError(f"{where}: blocks are nested more than {MAX_BLOCK_DEPTH} deep")
        for name in message.outputs:
            check_name(name, f"{where}: block output")
        operations = (self.operation(op, f"{where}/op {i}", depth) for i, op in enumerate(message.operations))
        return Block(
            inputs=tuple(self.named(value, f"{where}: block input") for value in message.inputs),
            operations=tuple(operations),
            outputs=tuple(message.outputs),
        )

    def operation(self, message: Any, location: str, depth: int) -> Operation:
        where = f"{printable(message.type)} at {location}"
        for text in (message.type, *message.inputs, *message.attributes):
            check_name(text, where)
        outputs = tuple(self.named(value, f"{where}: output") for value in message.outputs)
        attributes = {key: self.constant(value, f"{where}: '{key}'") for key, value in message.attributes.items()}
        inputs = {
            key: tuple(self.argument(binding, f"{where}: input '{key}'") for binding in value.arguments)
            for key, value in sorted(message.inputs.items())  # a protobuf map has no order of its own
        }
        blocks = (self.block(b, f"{location}/block {i}", depth + 1) for i, b in enumerate(message.blocks))
        stated = attributes.pop("name", None)
        name = stated.value if stated is not None and isinstance(stated.value, str) else ""
        operation = Operation(
            type=message.type,
            name=name or (outputs[0].name if outputs else ""),
            location=location,
            inputs=inputs,
            attributes=attributes,
            outputs=outputs,
            blocks=tuple(blocks),
        )
        if operation.is_constant:
            check_const(operation)
        return operation

    def argument(self, message: Any, where: str) -> Argument:
        kind = message.WhichOneof("binding")
        if kind is None:
            raise ProgramError(f"{where} is bound to nothing")
        if kind == "value":
            return self.constant(message.value, where)
        name: str = message.name
        check_name(name, where)
        return name

    def constant(self, message: Any, where: str) -> Constant:
        declared = decode_type(message.type, where)
        kind = message.WhichOneof("value")
        if kind == "blobFileValue":
            return self.blob(declared, message.blobFileValue, where)
        if kind is None:
            raise ProgramError(f"{where}: a constant without a value")
        return Constant(declared, decode_immediate(declared, message.immediateValue, where))

    def blob(self, declared: ValueType, message: Any, where: str) -> Constant:
        count = fixed_count(declared, where)
        try:
            if message.fileName not in self.weight_files:
                path = self.files.resolve(message.fileName)
                if not self.require_weights and not os.path.exists(path):  # false for a name that is too long
                    return Constant(declared)
                self.weight_files[message.fileName] = WeightFile(path)
            file = self.weight_files[message.fileName]
            file.check(message.offset, declared.dtype, count)
        except ProgramError as error:
            raise ProgramError(f"{where}: {error}") from None
        return Constant(declared, file=file, offset=message.offset)


def check_name(name: str, where: str) -> None:
    """Raise ``ProgramError`` for a name that is no part of a line: names end up in messages, reports and tables."""
    if len(name) > MAX_NAME_LENGTH:
        raise ProgramError(f"{where}: the name '{printable(name)}...' has more than {MAX_NAME_LENGTH} characters")
    if not name.isprintable():
        raise ProgramError(f"{where}: the name '{printable(name)}' contains control characters")


def check_const(operation: Operation) -> None:
    value = operation.attributes.get("val")
    if value is None or len(operation.outputs) != 1:
        raise ProgramError(f"{operation}: a const needs one output and a value, this one has {len(operation.outputs)}")
    declared = operation.outputs[0].type
    if declared.is_tensor and value.type != declared:
        raise ProgramError(f"{operation}: declared {declared}, but its value is {value.type}")


def fixed_count(declared: ValueType, where: str) -> int:
    """Return the number of elements of a tensor constant.

    Raises:
        ProgramError: no tensor, or a size is left open.
    """
    if not declared.is_tensor or declared.fixed_shape is None:
        raise ProgramError(f"{where}: a constant of type {declared}; it must be a tensor of known shape")
    return prod(declared.fixed_shape)


def decode_immediate(declared: ValueType, message: Any, where: str) -> Any:
    kind = message.WhichOneof("value")
    if kind == "tensor" and declared.dtype == "string":
        return decode_strings(declared, message.tensor, where)
    if kind == "tensor":
        return decode_tensor(declared, message.tensor, where)
    if kind in ("list", "tuple"):
        return [decode_item(value, where) for value in getattr(message, kind).values]
    if kind == "dictionary":
        return {decode_item(p.key, where): decode_item(p.value, where) for p in message.dictionary.values}
    raise ProgramError(f"{where}: a constant without a value")


def decode_item(message: Any, where: str) -> Any:
    """Return an element of a list constant: a Python scalar or an array.

    Raises:
        ProgramError: it is neither.
    """
    if message.WhichOneof("value") != "immediateValue" or message.immediateValue.WhichOneof("value") != "tensor":
        raise ProgramError(f"{where}: an element of a list constant is not a plain value")
    value = decode_immediate(decode_type(message.type, where), message.immediateValue, where)
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def decode_strings(declared: ValueType, message: Any, where: str) -> str | list[str]:
    values: list[str] = list(message.strings.values)
    if declared.shape == () and len(values) == 1:
        return values[0]
    if declared.fixed_shape is None or prod(declared.fixed_shape) != len(values):
        raise ProgramError(f"{where}: {len(values)} strings for a constant of type {declared}")
    return values


def decode_tensor(declared: ValueType, message: Any, where: str) -> np.ndarray:
    count, kind = fixed_count(declared, where), message.WhichOneof("value")
    if kind == "bytes":
        raw = np.frombuffer(message.bytes.values, np.uint8)
        if raw.size != (count * BITS[declared.dtype] + 7) // 8:
            raise ProgramError(f"{where}: {raw.size} bytes for a constant of type {declared}")
        values = decode_bytes(raw, declared.dtype, count)
    elif kind in ("floats", "doubles", "ints", "longInts", "bools") and declared.dtype in STORED:
        values = np.array(getattr(message, kind).values, dtype_of_field(kind))
        if declared.dtype not in FIELD_HOLDS[kind]:
            raise ProgramError(f"{where}: a constant of type {declared} cannot be stored as {kind}")
        with np.errstate(over="ignore"):
            values = values.astype(STORED[declared.dtype])
    elif kind is None and count == 0:
        values = np.empty(0, STORED.get(declared.dtype, "u1"))
    else:
        raise ProgramError(f"{where}: a constant of type {declared} cannot be stored as {kind or 'nothing'}")
    if values.size != count:
        raise ProgramError(f"{where}: {values.size} elements for a constant of type {declared}")
    return values.reshape(declared.fixed_shape or ())


FIELD_HOLDS = {
    "floats": {"fp16", "fp32"},
    "doubles": {"fp64"},
    "ints": {"int8", "int16", "int32", "uint8", "uint16"},
    "longInts": {"int64", "uint64", "uint32"},
    "bools": {"bool"},
}
"""Field of ``TensorValue`` -> element types that it may hold."""


def dtype_of_field(kind: str) -> str:
    return {"floats": "f4", "doubles": "f8", "ints": "i4", "longInts": "i8", "bools": "?"}[kind]
