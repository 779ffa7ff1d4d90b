"""An exported program in FP16, but for the modules that ask for FP32: types and thin casts in its graph.

Core AI's converter takes the types that the graph has. What coremltools and onnxruntime do while they convert is done
here on the nodes that ``torch.export`` gives: each stands in a module, and that decides its arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils import _pytree as pytree

from edgesam_export.export.trace import within
from edgesam_export.spec import TensorSpec

__all__ = ["module_of", "to_fp16"]

HALF, FULL = torch.float16, torch.float32
TORCH_TYPES = {"fp16": HALF, "fp32": FULL}
CAST = torch.ops.aten._to_copy.default


def to_fp16(
    program: ExportedProgram,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    fp32_modules: Iterable[str],
) -> ExportedProgram:
    """Return ``program``, changed in place: FP16 outside ``fp32_modules``, inputs and outputs as declared.

    Its weights are new tensors, the old ones belong to the model that was exported.
    """
    exact = tuple(fp32_modules)
    graph = program.graph
    declared = iter(inputs)
    kinds = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None}
    for node in list(graph.nodes):
        if node.op == "placeholder" and node.name in kinds:
            store_weight(program, node, kinds[node.name], exact)
        elif node.op == "placeholder":
            retype(node, TORCH_TYPES.get(next(declared).dtype, FULL))
        elif node.op == "call_function" and "val" not in node.meta:
            graph.erase_node(node)  # asserts the type that a value had
        elif node.op == "call_function":
            compute(node, FULL if within(module_of(node), exact) else HALF)
        elif node.op == "output":
            values = [cast_to(value, TORCH_TYPES[spec.dtype], node) for value, spec in zip(node.args[0], outputs)]
            node.args = (tuple(values),)
    tidy_casts(graph)
    rename_outputs(program)
    graph.lint()
    program.graph_module.recompile()
    return program


def module_of(node: Node) -> str:
    """Return the dotted path of the module that a node was captured in, empty for the outermost."""
    stack = node.meta.get("nn_module_stack") or {}
    path: str = next(reversed(list(stack.values())))[0] if stack else ""
    return path


def store_weight(program: ExportedProgram, node: Node, name: str, exact: tuple[str, ...]) -> None:
    """Store a weight in FP16 unless a module that stays FP32 reads it."""
    held: dict[str, Any] = program.state_dict if name in program.state_dict else program.constants
    value = held[name]
    if value.dtype != FULL or any(within(module_of(user), exact) for user in node.users):
        return
    half = value.detach().to(HALF)
    held[name] = nn.Parameter(half, requires_grad=False) if isinstance(value, nn.Parameter) else half
    retype(node, HALF)


def compute(node: Node, dtype: torch.dtype) -> None:
    """Give a node that computes with floating-point values the type ``dtype``."""
    if node.target is CAST and node.kwargs.get("dtype") not in (HALF, FULL):
        return
    if not is_float(node) and not any(is_float(argument) for argument in node.all_input_nodes):
        return
    if node.kwargs.get("dtype") in (HALF, FULL):
        node.kwargs = {**node.kwargs, "dtype": dtype}
    if node.target is not CAST:
        change: Callable[[Any], Any] = lambda value: cast_to(value, dtype, node)  # noqa: E731
        node.args, node.kwargs = (pytree.tree_map(change, part) for part in (node.args, node.kwargs))
    retype(node, dtype)


def is_float(node: Node) -> bool:
    """Return whether a node's value, or one of its values, is FP16 or FP32."""
    return any(
        isinstance(value, Tensor) and value.dtype in (HALF, FULL) for value in pytree.tree_leaves(node.meta["val"])
    )


def retype(node: Node, dtype: torch.dtype) -> None:
    """Declare the floating-point values of a node to be of a type."""
    change = lambda value: value.to(dtype) if isinstance(value, Tensor) and value.dtype in (HALF, FULL) else value  # noqa: E731
    node.meta["val"] = pytree.tree_map(change, node.meta["val"])


def cast_to(value: Any, dtype: torch.dtype, reader: Node) -> Any:
    """Return ``value`` for ``reader``: behind a cast where it is a node of another floating-point type."""
    if not isinstance(value, Node) or not isinstance(value.meta["val"], Tensor):
        return value
    if value.meta["val"].dtype not in (HALF, FULL) or value.meta["val"].dtype == dtype:
        return value
    for user in value.users:  # one cast for all readers
        if user.target is CAST and user.kwargs == {"dtype": dtype}:
            return user
    with reader.graph.inserting_after(value):
        cast: Node = reader.graph.call_function(CAST, (value,), {"dtype": dtype})
    cast.meta = {
        key: kept for key, kept in value.meta.items() if key in ("nn_module_stack", "from_node", "stack_trace")
    }
    cast.meta["val"] = value.meta["val"].to(dtype)
    return cast


def tidy_casts(graph: torch.fx.Graph) -> None:
    """Remove casts that change nothing, and those to FP16 and back between two operations in FP32."""
    for node in list(graph.nodes):
        if node.target is not CAST or node.kwargs.get("dtype") not in (HALF, FULL):
            continue
        source = node.args[0]
        if source.meta["val"].dtype == node.kwargs["dtype"]:
            node.replace_all_uses_with(source)
        elif node.kwargs["dtype"] == FULL and source.target is CAST and source.args[0].meta["val"].dtype == FULL:
            node.replace_all_uses_with(source.args[0])
    for node in reversed(list(graph.nodes)):
        if node.target is CAST and not node.users:
            graph.erase_node(node)


def rename_outputs(program: ExportedProgram) -> None:
    """Let the signature name the nodes that are returned now."""
    returned = next(node for node in program.graph.nodes if node.op == "output").args[0]
    for spec, node in zip(program.graph_signature.output_specs, returned):
        spec.arg.name = node.name
