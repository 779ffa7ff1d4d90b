"""What is done to a converted program in memory, by Apple's bindings: stable names, and where operations come from.

The way to a program's operations has an underscore at each step; coreai-torch's own debugging tools take it too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
import torch

from edgesam_export.coreai.program import operation_name
from edgesam_export.formats.coreai.precision import module_of

__all__ = ["make_reproducible", "module_paths"]

RESOURCE_ALIGNMENT = 16
"""As the converter has it; a program with more is refused where it is read into memory that is aligned less."""
IDENTIFIERS = re.compile(r'identifiers = \["([^"]+)"')
"""Name of the node that an operation was converted from, in the text of its location in DEBUG mode."""


def graphs(program: Any) -> Iterator[Any]:
    """Yield the graphs of a program: its functions, and the private ones that they invoke."""
    yield from program._module._mlir_module.body.operations


def operations(graph: Any) -> Iterator[Any]:
    """Yield the operations of a graph, in order."""
    yield from (operation.operation for operation in graph.regions[0].blocks[0].operations)


def make_reproducible(program: Any) -> int:
    """Name private graphs and large constants by number, where the converter takes random letters and addresses.

    Returns the bytes of these constants.
    """
    with program._module._mlir_module.context:
        rename_private_graphs(program)
        return rename_constants(program)


def rename_private_graphs(program: Any) -> None:
    """Replace the random letters at the end of private graphs' names by numbers."""
    from coreai._compiler.ir import Attribute, StringAttr

    names: dict[str, str] = {}
    for graph in graphs(program):
        if "priv" in graph.attributes:
            old = StringAttr(graph.attributes["sym_name"]).value
            names[old] = f"{old.rpartition('_')[0]}_{len(names)}"
            graph.attributes["sym_name"] = StringAttr.get(names[old])
    for graph in graphs(program):
        for operation in operations(graph):
            if operation.name == "coreai.invoke":
                callee = str(operation.attributes["callee"])  # @name in the text of an attribute
                renamed = re.sub(r"@(\w+)", lambda found: f"@{names[found[1]]}", callee)
                operation.attributes["callee"] = Attribute.parse(renamed)


def rename_constants(program: Any) -> int:
    """Number the constants that lie outside the text of the program; equal ones become one. Returns their bytes."""
    from coreai._compiler.ir import DenseResourceElementsAttr

    made: dict[tuple[bytes, str], Any] = {}
    total = 0
    for graph in graphs(program):
        for operation in operations(graph):
            if operation.name != "coreai.constant":
                continue
            old = operation.attributes["value"]
            if not DenseResourceElementsAttr.isinstance(old):
                continue
            stored = stored_bytes(operation)
            key = hashlib.sha256(stored.tobytes()).digest(), str(old.type)
            if key not in made:
                total += len(stored)
                made[key] = DenseResourceElementsAttr.get_from_buffer(
                    stored, f"constant_{len(made)}", old.type, alignment=RESOURCE_ALIGNMENT
                )
            operation.attributes["value"] = made[key]
    return total


def stored_bytes(constant: Any) -> np.ndarray:
    """Return the bytes of a constant's elements."""
    from coreai._compiler._mlir_libs._coreaiIR._bindings.compiler import copy_constant_value_to_array

    tensor = constant.results[0].type
    bits = int("".join(filter(str.isdigit, str(tensor.element_type))))
    stored = np.zeros(-(-prod(tensor.shape) * bits // 8), np.uint8)
    copy_constant_value_to_array(constant_op=constant, destination=stored)
    return stored


def module_paths(program: Any, debug: Any, captured: Mapping[str, torch.export.ExportedProgram]) -> dict[str, str]:
    """Return operation name -> dotted torch module path, for every operation of ``program`` that computes.

    ``debug`` is the same program converted in DEBUG mode, whose operations say which node of ``captured`` they are
    made of; nothing where the two are not the same.
    """
    from coreai._compiler._mlir_libs._coreaiIR._bindings.mlir import get_operation_id

    modules = {
        # a compressed weight is made in a module inside its layer
        node.name: module_of(node).partition(".parametrizations.")[0]
        for part in captured.values()
        for node in part.graph.nodes
    }
    pairs = [
        pair
        for graph, twin in zip(graphs(program), graphs(debug), strict=True)
        for pair in zip(operations(graph), operations(twin), strict=True)
    ]
    found = {}
    for operation, twin in pairs:
        identity = get_operation_id(operation.location)
        node = IDENTIFIERS.search(str(twin.location))
        if operation.name != twin.name:
            return {}
        if operation.name != "coreai.constant" and identity is not None and node is not None:
            found[operation_name(operation.name, identity.value)] = modules.get(node[1], "")
    return {name: path for name, path in found.items() if path}
