"""What tests of compressed weights share: what a package's compressed constants decode to, by the executor."""

from __future__ import annotations

import re
from dataclasses import replace

import torch

from edgesam_export.mil import Program
from edgesam_export.mil.interpreter import PreparedFunction
from edgesam_export.mil.numerics import numerics_for


def decoded_weights(program: Program, numerics: str = "fp16") -> dict[str, torch.Tensor]:
    """Return the name of each compressed constant, as it was before, with the values that the executor unpacks."""
    block = program.function.block
    unpacking = [operation for operation in block.operations if operation.type.startswith("constexpr_")]
    # the last of a chain: no other one reads it
    read = {
        name
        for operation in unpacking
        for names in operation.inputs.values()
        for name in names
        if isinstance(name, str)
    }
    names = tuple(o.outputs[0].name for o in unpacking if not read & {output.name for output in o.outputs})
    kept = tuple(operation for operation in block.operations if operation.is_constant or operation in unpacking)
    function = replace(program.function, inputs=(), block=replace(block, operations=kept, outputs=names))
    values = PreparedFunction(function, numerics_for(numerics), torch.device("cpu")).run({})
    return {re.sub("_(quantized|palettized|sparsified)$", "", name): value for name, value in zip(names, values)}
