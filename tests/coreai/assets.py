"""Core AI assets written by hand, from the text of MLIR; needs Apple's package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from operations import Case

from edgesam_export.coreai.availability import why_unavailable

needs_apple = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))

ELEMENTS = {
    "float32": "f32",
    "float16": "f16",
    "bool": "i1",
    "int32": "si32",
    "uint32": "ui32",
    "int16": "si16",
    "int8": "si8",
}
ELEMENTS |= {"uint8": "ui8"}


def type_text(array: np.ndarray) -> str:
    sizes = "".join(f"{size}x" for size in np.shape(array))
    return f"tensor<{sizes}{ELEMENTS[np.asarray(array).dtype.name]}>"


def literal(array: np.ndarray) -> str:
    """Return a constant's elements; every digit of a number."""
    array = np.asarray(array)
    if array.dtype.kind == "f":
        bits = array.view(f"u{array.dtype.itemsize}")
        text = np.vectorize(lambda number: f"0x{number:0{2 * array.dtype.itemsize}X}", otypes=[object])(bits).tolist()
    else:
        text = array.tolist()
    return str(text).replace("'", "").replace("True", "true").replace("False", "false")


def graph_text(cases: Sequence[Case], name: str = "main") -> str:
    """Return a graph with every case, whose inputs are ``c0_x0`` and so on, its outputs ``c0_y0`` and so on."""
    arguments, results, lines, returned = [], [], [], []
    for index, case in enumerate(cases):
        data = [f"%c{index}_x{position}" for position in range(len(case.data))]
        known = [f"%c{index}_k{position}" for position in range(len(case.known))]
        types = [type_text(array) for array in (*case.data, *case.known)]
        operands = list(zip(data + known, types))
        arguments += [f'{value}: {kind} {{coreai.name = "{value[1:]}"}}' for value, kind in operands[: len(data)]]
        constants = zip(operands[len(data) :], case.known)
        lines += [f"{value} = coreai.constant dense<{literal(a)}> : {kind}" for (value, kind), a in constants]
        ordered = operands[len(data) :] + operands[: len(data)] if case.known_first else operands
        made = [f"%c{index}_y{position}" for position in range(len(case.results))]
        kinds = [type_text(array) for array in case.results]
        attributes = ", ".join(f"{key} = {value}" for key, value in case.attributes.items())
        properties = f" <{{{attributes}}}>" if attributes else ""
        lines.append(
            f'{", ".join(made)} = "coreai.{case.kind}"({", ".join(value for value, _ in ordered)}){properties} : '
            f"({', '.join(kind for _, kind in ordered)}) -> ({', '.join(kinds)})"
        )
        results += [f'{kind} {{coreai.name = "{value[1:]}"}}' for value, kind in zip(made, kinds)]
        returned += list(zip(made, kinds))
    output = f"coreai.output {', '.join(v for v, _ in returned)} : {', '.join(kind for _, kind in returned)}"
    body = "\n  ".join([*lines, output])
    return f"coreai.graph @{name}({', '.join(arguments)}) -> ({', '.join(results)}) {{\n  {body}\n}}"


def feed_of(cases: Sequence[Case]) -> dict[str, np.ndarray]:
    return {f"c{i}_x{j}": np.asarray(array) for i, case in enumerate(cases) for j, array in enumerate(case.data)}


def save(path: Path, *graphs: str) -> Path:
    """Write an asset with these graphs."""
    from coreai._compiler.ir import Module
    from coreai.authoring.asset import AIProgram
    from coreai.authoring.context import Context

    text = "module {\n" + "\n".join(graphs) + "\n}"
    AIProgram._from_mlir_module(Module.parse(text, context=Context()._mlir_context)).save_asset(path)
    return path
