"""Memory layout of what comes into a plan: channels-last where a convolution will want it, chosen once.

Convolutions give channels-last values, and elementwise operations keep the layout of their operands. A constant or an
input in another layout would be rearranged at every operation that mixes the two.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from edgesam_export.mil.memory import channels_last
from edgesam_export.mil.op_kinds import ops_with
from edgesam_export.mil.plan import Step

__all__ = ["choose_layouts"]

Shape = tuple[int | None, ...] | None

LAYOUT_KEEPING = ops_with("activation") | {"add", "cast", "maximum", "minimum", "mul", "real_div", "sub"}
FEW_CHANNELS = 16
"""Up to so many a constant with one number for each is repeated over a row: torch's loops then run over whole rows, not
over the channels of one pixel."""


def choose_layouts(steps: Sequence[Step]) -> set[int]:
    """Return the slots whose values a convolution wants in channels-last memory, directly or through elementwise steps.

    Constants that such a step combines with them are laid out likewise in its arguments, at once.
    """
    wanted: set[int] = set()
    shapes = {slot: declared.shape for step in steps for slot, _, declared in step.outputs}
    for step in reversed(steps):
        if step.operation.type in ops_with("convolution"):
            wanted.update(slot for position, slot in step.call.feeds if position == 0)
        elif step.operation.type in LAYOUT_KEEPING and step.outputs[0][0] in wanted:
            wanted.update(slot for _, slot in step.call.feeds)
            for position, value in enumerate(step.call.positional):
                if isinstance(value, Tensor):
                    step.call.positional[position] = laid_out(value, step.outputs[0][2].fixed_shape)
        elif step.operation.type == "reshape" and step.outputs[0][0] in wanted:
            # A view in either layout where it joins or parts rows and columns.
            reshaped = step.outputs[0][2].shape
            wanted.update(slot for _, slot in step.call.feeds if keeps_channels(shapes.get(slot), reshaped))
    return wanted


def laid_out(constant: Tensor, shape: tuple[int, ...] | None) -> Tensor:
    """Return a constant as it is combined with a channels-last value of a shape, None if that is not fixed."""
    per_channel = constant.ndim == 4 and constant.shape[0] == constant.shape[2] == constant.shape[3] == 1
    if per_channel and shape is not None and len(shape) == 4 and 1 < constant.shape[1] == shape[1] <= FEW_CHANNELS:
        constant = constant.expand(-1, -1, -1, shape[3])
    return channels_last(constant)


def keeps_channels(before: Shape, after: Shape) -> bool:
    """Return whether two shapes of four axes differ in rows and columns alone."""
    if before is None or after is None:
        return False
    return len(before) == len(after) == 4 and before[:2] == after[:2]
