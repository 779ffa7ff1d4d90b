"""Cutting an ML Program in two where least data crosses: plain edits of its protobuf messages and of its weight file.

Operations keep their names, so what is known about them (modules, ranges, divergences) holds for the parts. What
crosses the cut travels in its own type, FP16 in an FP16 program; coremltools' ``bisect_model`` cuts at half the weights
whatever crosses there, makes it FP32, and loses an image input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

from edgesam_export.errors import ConversionError
from edgesam_export.mil.op_kinds import is_parameter
from edgesam_export.mil.weights import HEADER_BYTES, RECORD_BYTES, VERSION, WeightFile

__all__ = ["copy_weights", "split_model"]

FEATURE_TYPES = {10: (65552, 2), 11: (65568, 4), 23: (131104, 4)}
"""Element type of MIL.proto -> the same in a feature's description, bytes: FP16, FP32 and INT32 can be features."""
NEAR, FAR = 0.1, 0.3
"""How far from half the weights the cut lies where there is a choice, and at most."""
COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Cut:
    """A cut after operation ``index``: ``crossing`` names the values that the second part takes from the first."""

    index: int
    crossing: tuple[str, ...]
    crossing_bytes: int
    share: float
    """Weights before it, of all."""


def split_model(model: Any, weights: WeightFile) -> tuple[Any, Any]:
    """Return two models that give, one after the other, what ``model`` gives; both refer to the weights of ``model``.

    Raises:
        ConversionError: several functions, or no cut where only plain tensors cross.
    """
    if len(model.mlProgram.functions) != 1:
        raise ConversionError("a program of several functions cannot be split")
    cut = best_cut(block_of(model), weights)
    first, second = type(model)(), type(model)()
    for part in (first, second):
        part.CopyFrom(model)
    block = block_of(model)
    values = {value.name: value for op in block.operations for value in op.outputs}
    crossing = [values[name] for name in cut.crossing]

    keep(first, block.operations[: cut.index + 1])
    block_of(first).outputs[:] = cut.crossing
    replace_features(first.description.output, crossing)

    keep(second, block.operations[cut.index + 1 :], constants=block.operations[: cut.index + 1])
    function = function_of(second)
    del function.inputs[:]
    function.inputs.extend(crossing)
    replace_features(second.description.input, crossing)
    return first, second


def function_of(model: Any) -> Any:
    """Return the only function."""
    return next(iter(model.mlProgram.functions.values()))


def block_of(model: Any) -> Any:
    """Return the operations of the only function."""
    function = function_of(model)
    return function.block_specializations[function.opset]


def is_constant(operation: Any) -> bool:
    """Return whether an operation stands for stored weights; such ones go to whichever part uses them."""
    return is_parameter(operation.type)


def names_read(operation: Any) -> Iterator[str]:
    """Yield the values that an operation reads, those that only its blocks read included."""
    for argument in operation.inputs.values():
        yield from (binding.name for binding in argument.arguments if binding.WhichOneof("binding") == "name")
    for block in operation.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from names_read(inner)


def stored_bytes(operation: Any, weights: WeightFile) -> int:
    """Return the size of an operation's values in the weight file."""
    return sum(weights.blob(value.offset).size_bytes for value in file_values(operation))


def file_values(message: Any) -> Iterator[Any]:
    """Yield every reference to the weight file inside a message."""
    if message.DESCRIPTOR.name == "BlobFileValue":
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if hasattr(value, "DESCRIPTOR"):
            yield from file_values(value)
        elif descriptor.message_type.GetOptions().map_entry:
            if descriptor.message_type.fields_by_name["value"].message_type is not None:
                for part in value.values():
                    yield from file_values(part)
        else:
            for part in value:
                yield from file_values(part)


def best_cut(block: Any, weights: WeightFile) -> Cut:
    """Return the cut near half the weights over which the least data passes.

    Raises:
        ConversionError: there is none.
    """
    operations = list(block.operations)
    last_read = {name: index for index, op in enumerate(operations) if not is_constant(op) for name in names_read(op)}
    last_read |= dict.fromkeys(block.outputs, len(operations))
    constants = {value.name: op for op in operations if is_constant(op) for value in op.outputs}
    made = {value.name for op in operations for value in op.outputs}
    counted: set[str] = set()
    alive: dict[str, Any] = {}
    inputs = {name for name in last_read if name not in made}
    passed, candidates = 0, []
    for index, operation in enumerate(operations):
        if is_constant(operation):
            continue
        alive |= {value.name: value for value in operation.outputs}
        alive = {name: value for name, value in alive.items() if last_read.get(name, -1) > index}
        for name in closure(operation, constants) - counted:
            counted.add(name)
            passed += stored_bytes(constants[name], weights)
        if any(last_read[name] > index for name in inputs) or not all(map(can_cross, alive.values())) or not alive:
            continue
        candidates.append((index, tuple(sorted(alive)), sum(map(tensor_bytes, alive.values())), passed))
    cuts = [Cut(index, names, size, before / max(passed, 1)) for index, names, size, before in candidates]
    near = [cut for cut in cuts if abs(cut.share - 0.5) <= NEAR]
    if near:
        return min(near, key=lambda cut: (cut.crossing_bytes, abs(cut.share - 0.5)))
    far = [cut for cut in cuts if abs(cut.share - 0.5) <= FAR]
    if not far:
        raise ConversionError("the encoder cannot be cut near half its weights")
    return min(far, key=lambda cut: abs(cut.share - 0.5))


def closure(operation: Any, constants: dict[str, Any]) -> set[str]:
    """Return the constants that an operation reads, directly and through other constants."""
    found: set[str] = set()
    waiting = [operation]
    while waiting:
        for name in names_read(waiting.pop()):
            if name in constants and name not in found:
                found.add(name)
                waiting.append(constants[name])
    return found


def can_cross(value: Any) -> bool:
    """Return whether a value can be a feature: a tensor of a fixed size and an element type that features have."""
    tensor = value.type.tensorType
    fixed = all(dimension.WhichOneof("dimension") == "constant" for dimension in tensor.dimensions)
    return value.type.WhichOneof("type") == "tensorType" and tensor.dataType in FEATURE_TYPES and fixed


def tensor_bytes(value: Any) -> int:
    """Return the size of a value that can cross."""
    tensor = value.type.tensorType
    elements: int = prod(d.constant.size for d in tensor.dimensions)
    return elements * FEATURE_TYPES[tensor.dataType][1]


def keep(model: Any, operations: Any, constants: Any = ()) -> None:
    """Leave only ``operations`` and the constants they read in a model; ``constants`` adds such of before them."""
    stored = [op for op in constants if is_constant(op)]
    candidates = [*stored, *operations]
    known = {value.name: op for op in candidates if is_constant(op) for value in op.outputs}
    needed = {name for op in operations if not is_constant(op) for name in closure(op, known)}
    block = block_of(model)
    del block.operations[:]
    block.operations.extend(
        op for op in candidates if not is_constant(op) or any(value.name in needed for value in op.outputs)
    )


def replace_features(features: Any, values: list[Any]) -> None:
    """Describe ``values`` as the arrays that a model takes or gives."""
    del features[:]
    for value in values:
        feature = features.add()
        feature.name = value.name
        array = feature.type.multiArrayType
        array.shape.extend(d.constant.size for d in value.type.tensorType.dimensions)
        array.dataType = FEATURE_TYPES[value.type.tensorType.dataType][0]


def copy_weights(model: Any, source: WeightFile, target: Path) -> None:
    """Write the weights that ``model`` refers to into ``target``, and make it refer to their new offsets."""
    references = list(file_values(model.mlProgram))
    moved: dict[int, int] = {}
    with source.path.open("rb") as old, target.open("wb") as new:
        new.write(b"\0" * HEADER_BYTES)
        for reference in references:
            if reference.offset not in moved:
                moved[reference.offset] = copy_record(source, reference.offset, old, new)
            reference.offset = moved[reference.offset]
        new.seek(0)
        new.write(len(moved).to_bytes(4, "little") + VERSION.to_bytes(4, "little"))


def copy_record(source: WeightFile, offset: int, old: Any, new: Any) -> int:
    """Copy one record and its data to the end of ``new``; return where the record now stands."""
    blob = source.blob(offset)
    start = align(new)
    old.seek(offset)
    record = bytearray(old.read(RECORD_BYTES))
    record[16:24] = (start + RECORD_BYTES).to_bytes(8, "little")  # where the data is
    new.write(record)
    old.seek(blob.data_offset)
    left = blob.size_bytes
    while left:
        chunk = old.read(min(left, COPY_BYTES))
        if not chunk:
            raise ConversionError(f"{source.path}: weight file became shorter while in use")
        new.write(chunk)
        left -= len(chunk)
    return start


def align(stream: IO[bytes]) -> int:
    """Fill up to the next record boundary and return it."""
    stream.write(b"\0" * (-stream.tell() % RECORD_BYTES))
    return stream.tell()
