"""One step more for coremltools' pipeline: slices in a row as one.

PyTorch slices one axis at a time, and coremltools merges paddings, transposes and reshapes in a row, but not slices; a
crop of rows and columns is a layout operation less with it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["pipeline"]

NAME = "edgesam_export::merge_consecutive_slices"


@cache
def register() -> None:
    """Make the pass known to coremltools, once in a process."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.helper import block_context_manager
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    namespace, name = NAME.split("::")

    @register_pass(namespace=namespace, name=name)
    class MergeConsecutiveSlices(AbstractGraphPass):  # type: ignore[misc]  # coremltools has no types
        def apply(self, prog: Any) -> None:
            for function in prog.functions.values():
                merge_in(function)

    @block_context_manager  # type: ignore[untyped-decorator]
    def merge_in(block: Any) -> None:
        for operation in list(block.operations):
            if operation.enclosing_block is not None:  # it was not merged into an earlier one
                merge_from(block, operation)


def pipeline() -> Any:
    """Return coremltools' default pipeline of passes, ours after it."""
    import coremltools as ct

    register()
    passes = ct.PassPipeline.DEFAULT
    passes.append_pass(NAME)
    return passes


def merge_from(block: Any, first: Any) -> None:
    """Replace a slice and the only one that reads it by one slice, as long as there is such a pair."""
    from coremltools.converters.mil.mil import Builder as mb

    while is_plain_slice(first):
        readers = first.outputs[0].child_ops
        if len(readers) != 1 or first.outputs[0] in block.outputs or not is_plain_slice(readers[0]):
            return
        second = readers[0]
        inner, outer = ranges(first), ranges(second)
        begin = [start + offset for (start, _), (offset, _) in zip(inner, outer)]
        end = [start + stop for (start, _), (_, stop) in zip(inner, outer)]
        result = second.outputs[0]
        merged = mb.slice_by_index(x=first.x, begin=begin, end=end, name=result.name, before_op=second)
        block.replace_uses_of_var_after_op(anchor_op=second, old_var=result, new_var=merged)
        block.remove_ops([first, second])
        first = merged.op


def is_plain_slice(operation: Any) -> bool:
    """Return whether an operation keeps a range of constant ends on every axis, with all values in it."""
    if operation.op_type != "slice_by_index" or operation.begin.val is None or operation.end.val is None:
        return False
    stride, squeeze = operation.stride, operation.squeeze_mask
    whole = (stride is None or (stride.val == 1).all()) and (squeeze is None or not squeeze.val.any())
    return bool(whole) and all(isinstance(size, int) for size in operation.x.shape)


def ranges(operation: Any) -> list[tuple[int, int]]:
    """Return where a plain slice begins and ends on each axis, counted from the front."""
    begins, ends = operation.begin.val, operation.end.val
    from_start = [False] * len(begins) if operation.begin_mask is None else operation.begin_mask.val
    to_end = [False] * len(ends) if operation.end_mask is None else operation.end_mask.val
    found = []
    for axis, size in enumerate(operation.x.shape):
        begin, end, _ = slice(
            None if from_start[axis] else int(begins[axis]), None if to_end[axis] else int(ends[axis])
        ).indices(size)
        found.append((begin, end))
    return found
