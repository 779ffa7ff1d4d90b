"""Ops that read and write what lasts from one prediction to the next.

coremltools' ``coreml_update_state`` is saved as a ``write_state`` and a ``read_state``; it never appears in a package.
Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (states).
"""

from __future__ import annotations

from torch import Tensor

from edgesam_export.mil.ops import register_op
from edgesam_export.mil.types import StateBox

__all__ = ["coreml_update_state", "read_state", "write_state"]


@register_op(opset="iOS18", exact=True)
def read_state(input: StateBox) -> Tensor:
    """The state's value at this moment. Source: iOS18."""
    value: Tensor = input.value
    return value


@register_op(opset="iOS18", exact=True)
def write_state(input: StateBox, data: Tensor) -> tuple[()]:
    """Replace the state's value; values read before stay what they were. Source: coremltools' Core ML dialect."""
    input.value = data
    return ()


@register_op(opset="iOS18", exact=True)
def coreml_update_state(state: StateBox, value: Tensor) -> Tensor:
    """``write_state``, then ``read_state``. Source: coremltools' Core ML dialect."""
    state.value = value
    return value
