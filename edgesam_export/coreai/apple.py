"""Apple's code, run as a script in a child process: the reader and the interpreter of Core AI programs.

Only this file of the room imports Apple's packages, and it imports nothing of this one. Two uses:

``apple.py read BYTES PROGRAM FOLDER`` writes ``graph.json`` and ``constants.bin`` of a program into a folder;
``apple.py run BYTES ASSET FUNCTION FOLDER`` writes an empty line when it is ready. It then answers each line it is
sent by one: empty once ``outputs.npz`` lies in the folder, computed of its ``inputs.npz``; else why it does not.

``BYTES`` bounds the memory of the process. A refusal is one line on stderr and exit status 1.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import resource
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

BITS = {"i1": 8, "f8E5M2": 8, "f8E4M3FN": 8}
"""Width of one stored element, where the name's number is not it."""
MAX_TEXT = 400
"""Characters kept of an attribute; those that matter are a few words."""
HEADROOM_BYTES = 256 << 20
EXPANSION = 16
"""Constants that repeat one number are stored as one; all together may be this many times the file."""


class Refusal(Exception):
    """A program that cannot be handed over, with the reason."""


def limit(memory_bytes: int) -> None:
    """Bound the memory of this process, and leave no core file when it is ended."""
    for kind, bound in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        allowed = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        try:
            resource.setrlimit(kind, (allowed, hard))
        except (OSError, ValueError):  # macOS knows no bound of the address space
            continue


def read(program: Path, folder: Path) -> None:
    """Write the graphs of a program as ``graph.json`` and its constants as ``constants.bin``."""
    from coreai._compiler._mlir_libs._coreaiIR._bindings.compiler import load_module_from_bytecode
    from coreai.authoring.context import Context

    module = load_module_from_bytecode(context=Context()._mlir_context, path=program)
    with (folder / "constants.bin").open("wb") as stream:
        constants = Constants(stream, program.stat().st_size * EXPANSION + HEADROOM_BYTES)
        graphs = [Walk(op.operation, constants).document() for op in operations(module.operation)]
    (folder / "graph.json").write_text(json.dumps({"graphs": graphs}))


def operations(operation: Any) -> Iterable[Any]:
    """Yield the operations of the first block of an operation; those of a namespace in its stead."""
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                if inner.operation.name == "udml.namespace":
                    yield from operations(inner.operation)
                else:
                    yield inner
            return


class Constants:
    """The file of all constants, each at an offset of its own."""

    def __init__(self, stream: Any, limit_bytes: int) -> None:
        self.stream = stream
        self.left = limit_bytes

    def write(self, operation: Any, shape: list[int | None], dtype: str) -> dict[str, int]:
        """Return where the elements of a constant lie, and how many bytes they take."""
        from coreai._compiler._mlir_libs._coreaiIR._bindings.compiler import copy_constant_value_to_array

        bits = BITS.get(dtype) or int("".join(filter(str.isdigit, dtype)) or 0)
        count = math.prod(size or 0 for size in shape)
        size = -(-count * bits // 8)
        if not bits or size > self.left:
            raise Refusal(f"a constant of {shape} {dtype} is too large for this file, or of a type that is not known")
        self.left -= size
        elements = np.zeros(size, np.uint8)
        copy_constant_value_to_array(constant_op=operation, destination=elements)
        offset = self.stream.tell()
        self.stream.write(elements.tobytes())
        return {"offset": offset, "bytes": size}


class Walk:
    """One operation of the module, a graph as a rule, as plain data."""

    def __init__(self, graph: Any, constants: Constants) -> None:
        self.graph = graph
        self.constants = constants
        self.numbers: dict[Any, int] = {}

    def document(self) -> dict[str, Any]:
        """Return the graph with its operations; values are numbers."""
        block = self.graph.regions[0].blocks[0] if len(self.graph.regions) else None
        arguments = [] if block is None else list(block.arguments)
        return {
            "kind": self.graph.name,
            "name": text_of(self.graph.attributes, "sym_name").strip('"'),
            "private": "priv" in self.graph.attributes,
            "inputs": [self.declared(a, n) for a, n in zip(arguments, names_of(self.graph, "arg_attrs", "input"))],
            "outputs": names_of(self.graph, "res_attrs", "output"),
            "operations": [] if block is None else [self.operation(op.operation) for op in block.operations],
        }

    def declared(self, value: Any, name: str) -> dict[str, Any]:
        return {"name": name, **self.value(value)}

    def value(self, value: Any) -> dict[str, Any]:
        """Return the number and the type of a value that is defined here."""
        self.numbers[value] = len(self.numbers)
        dtype, shape = type_of(value.type)
        return {"value": self.numbers[value], "dtype": dtype, "shape": shape}

    def operation(self, operation: Any) -> dict[str, Any]:
        """Return one operation; those inside its regions are only counted."""
        from coreai._compiler._mlir_libs._coreaiIR._bindings.mlir import get_operation_id

        number = get_operation_id(operation.location)
        constant = operation.name == "coreai.constant"
        found = {
            "kind": operation.name,
            "number": None if number is None else number_of(number),
            "operands": [self.numbers[operand] for operand in operation.operands],
            "regions": len(operation.regions),
            "attributes": {} if constant else {name: text_of(operation.attributes, name) for name in keys(operation)},
            "results": [self.value(result) for result in operation.results],
        }
        if constant:
            result = found["results"][0]
            found |= {"constant": self.constants.write(operation, result["shape"] or [], result["dtype"])}
        return found


def keys(operation: Any) -> list[str]:
    return [operation.attributes[index].name for index in range(len(operation.attributes))]


def text_of(attributes: Any, name: str) -> str:
    return str(attributes[name])[:MAX_TEXT] if name in attributes else ""


def number_of(identity: Any) -> int | None:
    """Return the number of an operation, None for another kind of identity."""
    value = getattr(identity, "value", None)
    return value if isinstance(value, int) else None


def names_of(graph: Any, attribute: str, word: str) -> list[str]:
    """Return the names of a graph's inputs or outputs; one without a name is called by its number."""
    if attribute not in graph.attributes:
        return []
    names = []
    for index, entry in enumerate(graph.attributes[attribute]):
        names.append(entry["coreai.name"].value if "coreai.name" in entry else f"{word}{index}")
    return names


def type_of(declared: Any) -> tuple[str, list[int | None] | None]:
    """Return element type and sizes of a tensor, None for a free size; of anything else its name and no sizes."""
    from coreai._compiler.ir import RankedTensorType

    if not RankedTensorType.isinstance(declared):
        return str(declared)[:MAX_TEXT], None
    tensor = RankedTensorType(declared)
    sizes = [None if tensor.is_dynamic_dim(axis) else tensor.get_dim_size(axis) for axis in range(tensor.rank)]
    return str(tensor.element_type), sizes


async def run(asset: Path, name: str, folder: Path) -> None:
    """Answer predictions with Apple's interpreter until the input ends."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    tempfile.tempdir = str(folder)  # the lowered program is written there, and goes with it
    async with AIModelAsset.load(asset).executable() as model:
        function = model.load_function(name)
        answer()
        for _ in sys.stdin:
            try:
                with np.load(folder / "inputs.npz", allow_pickle=False) as inputs:
                    outputs = await function({key: NDArray(inputs[key]) for key in inputs.files})
                np.savez(folder / "outputs.npz", **{key: value.numpy() for key, value in outputs.items()})
            except Exception as error:
                answer(reason_of(error))
            else:
                answer()


def answer(problem: str = "") -> None:
    """Write a line that nothing buffers."""
    os.write(1, f"{problem}\n".encode())


def reason_of(error: BaseException) -> str:
    return " ".join(str(error).split())[:MAX_TEXT] or type(error).__name__


def main() -> None:
    use, memory, *rest = sys.argv[1:]
    limit(int(memory))
    try:
        if use == "read":
            read(*map(Path, rest))
        else:
            asyncio.run(run(Path(rest[0]), rest[1], Path(rest[2])))
    except Exception as error:
        sys.exit(reason_of(error))


if __name__ == "__main__":
    main()
