"""Pairs of quantize and dequantize before layers of a saved package: plain edits of its protobuf messages.

coremltools' ``linear_quantize_activations`` has passes for it, which are not used: they also put a pair behind each
convolution whose activation is not in their list (GELU is not), which costs precision and saves nothing where the next
layer has its own; they write a pair for each reader of a value; and they give the values around new names, so that
nothing known about the operations holds any more. Weights and all other operations stay as they are, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from edgesam_export.export.activations import Quantization, QuantizedLayer

__all__ = ["READERS", "insert_pairs"]

READERS = ("conv", "linear")
"""Operations whose operand ``x`` is quantised. Both operands of a matrix product, sums and pools have no weights that
8-bit arithmetic needs beside them; a transposed convolution is not among coremltools' patterns."""
FP16, STRING, INT8, UINT8 = 10, 2, 21, 31
"""Element types of MIL.proto."""
TYPES = {"int8": INT8, "uint8": UINT8}


def insert_pairs(model: Any, layers: Sequence[QuantizedLayer], readers: dict[str, str]) -> None:
    """Let the operations of ``layers`` read integers; ``readers`` maps a layer's path to its operation's output.

    A value has one pair, before the first operation that reads it through it.
    """
    (function,) = model.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    by_reader = {readers[layer.path]: layer for layer in layers}
    types = {value.name: value.type for operation in block.operations for value in operation.outputs}
    types |= {value.name: value.type for value in function.inputs}
    operations, paired = list(block.operations), set()
    del block.operations[:]
    for operation in operations:
        layer = by_reader.get(operation.outputs[0].name) if operation.outputs else None
        if layer is not None:
            if layer.tensor not in paired:
                paired.add(layer.tensor)
                add_pair(block.operations, layer, types[layer.tensor])
            (argument,) = operation.inputs["x"].arguments
            argument.name = dequantized(layer)
        block.operations.append(operation)


def dequantized(layer: QuantizedLayer) -> str:
    """Return the name of the value that a layer reads instead."""
    return f"{layer.tensor}_dequantized"


def add_pair(operations: Any, layer: QuantizedLayer, type: Any) -> None:
    """Append the pair of a layer's value, whose type is ``type``, with its constants."""
    steps = {"quantize": (layer.tensor, layer.integers), "dequantize": (layer.integers, dequantized(layer))}
    for kind, (source, result) in steps.items():
        inputs = {"input": source, **add_parameters(operations, result, layer.quantization)}
        if kind == "quantize":
            inputs["output_dtype"] = f"{result}_output_dtype"
            add_constant(operations, inputs["output_dtype"], STRING, layer.quantization.dtype)
        operation = operations.add(type=kind)
        for key, name in inputs.items():
            operation.inputs[key].arguments.add().name = name
        output = operation.outputs.add(name=result)
        output.type.CopyFrom(type)
        if kind == "quantize":
            output.type.tensorType.dataType = TYPES[layer.quantization.dtype]
        set_text(operation.attributes["name"], result)


def add_parameters(operations: Any, result: str, quantization: Quantization) -> dict[str, str]:
    """Append scale and, unless it is 0, zero point as constants; return their names by input."""
    names = {"scale": f"{result}_scale"}
    add_constant(operations, names["scale"], FP16, struct.pack("<e", quantization.scale))
    if quantization.zero_point:
        names["zero_point"] = f"{result}_zero_point"
        add_constant(operations, names["zero_point"], INT8, struct.pack("<b", quantization.zero_point))
    return names


def add_constant(operations: Any, name: str, data_type: int, value: str | bytes) -> None:
    """Append a scalar constant; numbers are bytes, little-endian."""
    constant = operations.add(type="const")
    constant.outputs.add(name=name).type.tensorType.dataType = data_type
    attribute = constant.attributes["val"]
    if isinstance(value, str):
        set_text(attribute, value)
    else:
        attribute.type.tensorType.dataType = data_type
        attribute.immediateValue.tensor.bytes.values = value
    set_text(constant.attributes["name"], name)


def set_text(attribute: Any, text: str) -> None:
    """Make an attribute a string."""
    attribute.type.tensorType.dataType = STRING
    attribute.immediateValue.tensor.strings.values.append(text)
