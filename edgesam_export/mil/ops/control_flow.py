"""Ops that choose, repeat and keep lists.

Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (control_flow).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.carriers import CARRIERS
from edgesam_export.mil.ops import register_op
from edgesam_export.mil.ops.tensor_operation import require_size

__all__ = [
    "MAX_LENGTH",
    "TensorList",
    "cond",
    "list_gather",
    "list_length",
    "list_read",
    "list_scatter",
    "list_write",
    "make_list",
    "select",
    "while_loop",
]

Block = Callable[..., tuple[Any, ...]]
MAX_LENGTH = 2**24
"""Longest list that a program may make."""


class TensorList(list[Tensor | None]):
    """Value of a MIL list: equally shaped tensors, None where nothing was written; writing makes a new list."""

    def __init__(
        self, items: Iterable[Tensor | None], *, shape: tuple[int | str, ...], dtype: torch.dtype, dynamic: bool
    ) -> None:
        """``shape`` is an element's; a string names a size that the first element settles. ``dynamic`` lists grow."""
        super().__init__(items)
        self.shape, self.dtype, self.dynamic = shape, dtype, dynamic

    def element(self, index: int) -> Tensor:
        """Return the tensor at ``index``, zeros where nothing was written."""
        self.require(index, len(self))
        element = self[index]
        return torch.zeros(self.element_shape(), dtype=self.dtype) if element is None else element

    def element_shape(self) -> tuple[int, ...]:
        """Return the sizes of an element; sizes that are still open are taken from one that was written."""
        sizes = [size for size in self.shape if isinstance(size, int)]
        if len(sizes) == len(self.shape):
            return require_size(sizes, self.dtype)
        written = next((item for item in self if item is not None), None)
        if written is None:
            raise ProgramError(f"list of elements {self.shape} is read before anything was written to it")
        return tuple(written.shape)

    def written(self, indices: list[int], values: list[Tensor]) -> TensorList:
        """Return a list that holds ``values`` at ``indices``; a dynamic list grows to take them."""
        items = list(self)
        for index, value in zip(indices, values):
            self.require(index, MAX_LENGTH if self.dynamic else len(items))
            items += [None] * (index + 1 - len(items))
            items[index] = value
        return TensorList(items, shape=self.shape, dtype=self.dtype, dynamic=self.dynamic)

    def require(self, index: int, length: int) -> None:
        """Raise ProgramError unless ``index`` is in ``[0, length)``."""
        if not 0 <= index < length:
            raise ProgramError(f"index {index} is outside a list of length {len(self)}")


@register_op(exact=True)
def cond(pred: Tensor, *, blocks: tuple[Block, ...]) -> tuple[Any, ...]:
    """Run the first block if ``pred``, else the second. Source: iOS15."""
    return blocks[0 if bool(pred) else 1]()


@register_op(exact=True)
def while_loop(loop_vars: list[Any], *, blocks: tuple[Block, ...]) -> tuple[Any, ...]:
    """Feed the variables through the second block as long as the first says true. Source: iOS15."""
    condition, body = blocks
    variables = tuple(loop_vars)
    while bool(condition(*variables)[0]):
        variables = body(*variables)
    return variables


@register_op(exact=True)
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``a`` where ``cond`` is true, else ``b``; shapes broadcast. Source: iOS15."""
    return torch.where(cond, a, b)


@register_op(exact=True)
def make_list(
    *, elem_shape: list[int | str], init_length: int = 1, dynamic_length: bool = True, dtype: str = "fp32"
) -> TensorList:
    """A list of ``init_length`` elements that nobody has written yet. Source: iOS15."""
    if not 0 <= init_length <= MAX_LENGTH:
        raise ProgramError(f"make_list of length {init_length}; the limit is {MAX_LENGTH}")
    items = [None] * init_length
    return TensorList(items, shape=tuple(elem_shape), dtype=CARRIERS[dtype], dynamic=dynamic_length)


@register_op(exact=True)
def list_length(ls: TensorList) -> Tensor:
    """Number of elements. Source: iOS15."""
    return torch.tensor(len(ls), dtype=torch.int32)


@register_op(exact=True)
def list_read(ls: TensorList, *, index: int) -> Tensor:
    """The element at ``index``. Source: iOS15."""
    return ls.element(index)


@register_op(exact=True)
def list_write(ls: TensorList, value: Tensor, *, index: int) -> TensorList:
    """The list with ``value`` at ``index``. Source: iOS15."""
    return ls.written([index], [value])


@register_op(exact=True)
def list_gather(ls: TensorList, *, indices: list[int]) -> Tensor:
    """The elements at ``indices``, packed along a new first axis. Source: iOS15."""
    elements = [ls.element(index) for index in indices]
    return torch.stack(elements) if elements else torch.zeros((0, *ls.element_shape()), dtype=ls.dtype)


@register_op(exact=True)
def list_scatter(ls: TensorList, value: Tensor, *, indices: list[int]) -> TensorList:
    """The list with ``value[i]`` at ``indices[i]``. Source: iOS15."""
    return ls.written(indices, list(value.unbind(0)))
