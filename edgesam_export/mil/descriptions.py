"""The model description of a file -> ``FeatureSpec``, checked against what the program itself declares."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from edgesam_export.errors import ProgramError, printable
from edgesam_export.mil.decode import MAX_VALUE_BYTES
from edgesam_export.mil.features import COLOURS, FeatureKind, FeatureSpec
from edgesam_export.mil.graph import Function
from edgesam_export.mil.types import ValueType

__all__ = ["decode_features"]

ARRAY_DTYPES = {65552: "fp16", 65568: "fp32", 65600: "fp64", 131104: "int32", 131080: "int8"}
"""``ArrayDataType`` of FeatureTypes.proto -> element type."""
COLOUR_SPACES = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}
OTHER_KINDS: dict[str, FeatureKind] = {
    "int64Type": "int64",
    "doubleType": "double",
    "stringType": "string",
    "dictionaryType": "dictionary",
    "sequenceType": "sequence",
}
NUMBERS = {"int64Type": ("int64", "int32"), "doubleType": ("fp64", "fp32", "fp16")}
"""Kinds that a scalar of the program may be described as, such as the label of a classifier -> its element types."""
MAX_RANK = 64


def decode_features(message: Any, function: Function, path: Path) -> dict[str, tuple[FeatureSpec, ...]]:
    """Return the ``input``, ``output`` and ``state`` features of a function, in the order of the file.

    Raises:
        ProgramError: features and program do not belong together.
    """
    described = next((f for f in message.functions if f.name == function.name), message)
    inputs = {value.name: value.type for value in function.inputs}
    outputs = declared_outputs(function)
    features = {
        "input": tuple(decode_feature(f, inputs, f"{path}: input") for f in described.input),
        "state": tuple(decode_feature(f, inputs, f"{path}: state") for f in described.state),
        "output": tuple(decode_feature(f, outputs, f"{path}: output") for f in described.output),
    }
    names = [spec.name for spec in (*features["input"], *features["state"])]
    undescribed = sorted(inputs.keys() - set(names))
    if undescribed:
        raise ProgramError(f"{path}: the description does not list the program's input '{printable(undescribed[0])}'")
    if len(set(names)) != len(names):
        raise ProgramError(f"{path}: the description lists an input twice")
    return features


def declared_outputs(function: Function) -> dict[str, ValueType]:
    """Return the declared types of what the function returns."""
    types = {value.name: value.type for value in function.inputs}
    types.update({output.name: output.type for op in function.block.operations for output in op.outputs})
    return {name: types[name] for name in function.block.outputs}


def decode_feature(message: Any, declared: dict[str, ValueType], where: str) -> FeatureSpec:
    where = f"{where} '{printable(message.name)}'"
    if message.name not in declared:
        raise ProgramError(f"{where} is described, but the program has none of that name")
    value_type, kind = declared[message.name], message.type.WhichOneof("Type")
    if kind == "stateType":
        if value_type.dtype != "state" or value_type.element is None:
            raise ProgramError(f"{where} is described as a state, the program declares {value_type}")
        spec = array_feature(message, message.type.stateType.arrayType, value_type.element, where, "state")
        if spec.shape != value_type.element.shape:
            raise ProgramError(f"{where} has shape {spec.shape}, the program declares {value_type}")
        return spec
    if value_type.dtype == "state":
        raise ProgramError(f"{where} is described as {kind}, the program declares {value_type}")
    if kind == "multiArrayType":
        return array_feature(message, message.type.multiArrayType, value_type, where, "tensor")
    if kind == "imageType":
        return image_feature(message, message.type.imageType, value_type, where)
    numeric = value_type.shape == () and value_type.dtype in NUMBERS.get(kind or "", ())
    if kind not in OTHER_KINDS or (value_type.is_tensor and not numeric):
        raise ProgramError(f"{where} is described as {kind or 'nothing'}, the program declares {value_type}")
    other = OTHER_KINDS[kind]
    return FeatureSpec(name=message.name, kind=other, dtype=other, shape=(), description=message.shortDescription)


def array_feature(message: Any, array: Any, declared: ValueType, where: str, kind: FeatureKind) -> FeatureSpec:
    dtype = ARRAY_DTYPES.get(array.dataType)
    if dtype is None:
        raise ProgramError(f"{where} has unknown array type {array.dataType}")
    shape = tuple(array.shape) or fallback_shape(declared)
    check_shape(shape, declared, where)
    ranges, choices = None, None
    if array.WhichOneof("ShapeFlexibility") == "shapeRange":
        ranges = tuple(bounds(size) for size in array.shapeRange.sizeRanges)
    elif array.WhichOneof("ShapeFlexibility") == "enumeratedShapes":
        choices = tuple(tuple(entry.shape) for entry in array.enumeratedShapes.shapes)
    default = array.WhichOneof("defaultOptionalValue")
    return FeatureSpec(
        name=message.name,
        kind=kind,
        dtype=dtype,
        shape=shape,
        ranges=ranges,
        choices=choices,
        optional=message.type.isOptional,
        default=getattr(array, default) if default else None,
        description=message.shortDescription,
    )


def image_feature(message: Any, image: Any, declared: ValueType, where: str) -> FeatureSpec:
    colour = COLOUR_SPACES.get(image.colorSpace)
    if colour is None:
        raise ProgramError(f"{where} has unknown colour space {image.colorSpace}")
    channels = COLOURS[colour]
    shape = (1, channels, image.height, image.width)
    check_shape(shape, declared, where)
    ranges, choices = None, None
    if image.WhichOneof("SizeFlexibility") == "imageSizeRange":
        size = image.imageSizeRange
        ranges = ((1, 1), (channels, channels), bounds(size.heightRange), bounds(size.widthRange))
    elif image.WhichOneof("SizeFlexibility") == "enumeratedSizes":
        choices = tuple((1, channels, entry.height, entry.width) for entry in image.enumeratedSizes.sizes)
    return FeatureSpec(
        name=message.name,
        kind="image",
        dtype="fp16" if colour == "GRAYSCALE_FLOAT16" else "uint8",
        shape=shape,
        ranges=ranges,
        choices=choices,
        colour=colour,
        optional=message.type.isOptional,
        description=message.shortDescription,
    )


def bounds(message: Any) -> tuple[int, int | None]:
    """Return smallest and largest size of a dimension; a negative upper bound means none."""
    return message.lowerBound, message.upperBound if message.upperBound >= 0 else None


def fallback_shape(declared: ValueType) -> tuple[int, ...]:
    """Return the program's own shape where the description gives none (outputs of open shape): 1 for an open size."""
    return tuple(1 if size is None else size for size in declared.shape or ()) or (1,)


def check_shape(shape: tuple[int, ...], declared: ValueType, where: str) -> None:
    if not declared.is_tensor or len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise ProgramError(f"{where} is described as an array of shape {shape[:8]}, the program declares {declared}")
    if prod(shape) * 8 > MAX_VALUE_BYTES:
        raise ProgramError(f"{where}: an array of shape {shape} would take more than {MAX_VALUE_BYTES >> 30} GiB")
    if declared.shape is None or (declared.shape == () and prod(shape) == 1):
        return
    agrees = len(shape) == len(declared.shape) and all(d is None or d == s for d, s in zip(declared.shape, shape))
    if not agrees:
        raise ProgramError(f"{where} is described with shape {shape}, the program declares {declared}")
