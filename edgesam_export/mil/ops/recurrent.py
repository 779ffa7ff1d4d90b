"""Ops that carry a state along a sequence.

The input's part of every gate is one product for all steps; the loop computes the state's part. ``reverse`` processes
the last step first, and its outputs stay in that order; the backward half of a bidirectional LSTM is put back in the
order of the input.

Source: https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html (recurrent).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import register_op

__all__ = ["gru", "gru_reset_after", "lstm", "rnn"]

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "linear": lambda x: x,
    "relu": torch.relu,
    "scaled_tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
"""By name, with the default scales of the activation ops: those of ``scaled_tanh`` are 1."""


def activation_of(name: str) -> Activation:
    """Return an activation; ``sigmoid_hard`` is the other name of ``hard_sigmoid``."""
    known = "hard_sigmoid" if name.lower() == "sigmoid_hard" else name.lower()
    if known not in ACTIVATIONS:
        raise ProgramError(f"activation is '{name}'; known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[known]


def in_order(x: Tensor, direction: str) -> Tensor:
    """Return a sequence (S, B, I) in the order in which it is processed."""
    if direction not in ("forward", "reverse"):
        raise ProgramError(f"direction is '{direction}'; known are forward and reverse, and bidirectional of lstm")
    return x.flip(0) if direction == "reverse" else x


def stacked(steps: list[Tensor], output_sequence: bool) -> Tensor:
    """Return the hidden states of all steps (S, B, H), or of the last one (1, B, H)."""
    return torch.stack(steps if output_sequence else steps[-1:])


@register_op()
def rnn(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    *,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """h = activation(W_ih x + W_hh h + bias). Source: iOS15.

    Shapes:
        x (S, B, I); initial_h (B, H); weight_ih (H, I); weight_hh (H, H); bias (H,)
        returns (S, B, H), or (1, B, H) without ``output_sequence``; and (B, H)
    """
    act, h, steps = activation_of(activation), initial_h, []
    for part in torch.nn.functional.linear(in_order(x, direction), weight_ih, bias):
        h = act(part + h @ weight_hh.T)
        steps.append(h)
    return stacked(steps, output_sequence), h


def lstm_steps(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    activations: tuple[Activation, Activation, Activation],
    clip: float | None,
) -> tuple[list[Tensor], Tensor]:
    """Return the hidden states of a sequence in its order, and the last cell state.

    The cell state is limited to ``clip`` before the output gate sees it, as in the layer that Core ML had before.

    Shapes:
        x (S, B, I); h, c (B, H); weights (4H, I), (4H, H), (4H,) of input, forget, output and cell gate, and the
        peephole (3H,) of the first three
    Source: coremltools, NeuralNetwork.proto, UniDirectionalLSTMLayerParams.
    """
    weight_ih, weight_hh, bias, peephole = weights
    gate, cell, act = activations
    zero = c.new_zeros(c.shape[1])
    to_input, to_forget, to_output = (zero, zero, zero) if peephole is None else peephole.chunk(3)
    steps = []
    for part in torch.nn.functional.linear(x, weight_ih, bias):
        i, f, o, z = (part + h @ weight_hh.T).chunk(4, dim=-1)
        c = gate(f + to_forget * c) * c + gate(i + to_input * c) * cell(z)
        c = c if clip is None else c.clamp(-clip, clip)
        h = gate(o + to_output * c) * act(c)
        steps.append(h)
    return steps, c


@register_op()
def lstm(
    x: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    peephole: Tensor | None = None,
    weight_ih_back: Tensor | None = None,
    weight_hh_back: Tensor | None = None,
    bias_back: Tensor | None = None,
    peephole_back: Tensor | None = None,
    *,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """c = f * c + i * cell(z), h = o * activation(c), gates i, f, o by the recurrent activation. Source: iOS15.

    Shapes:
        x (S, B, I); initial_h, initial_c (B, D * H) with D directions; weights as in ``lstm_steps``
        returns (S, B, D * H), or (1, B, D * H) without ``output_sequence``; hidden and cell state (B, D * H)
    """
    activations = activation_of(recurrent_activation), activation_of(cell_activation), activation_of(activation)
    ahead = (weight_ih, weight_hh, bias, peephole)
    if direction != "bidirectional":
        steps, c = lstm_steps(in_order(x, direction), initial_h, initial_c, ahead, activations, clip)
        return stacked(steps, output_sequence), steps[-1], c
    if weight_ih_back is None or weight_hh_back is None:
        raise ProgramError("direction is 'bidirectional', which needs weight_ih_back and weight_hh_back")
    back = (weight_ih_back, weight_hh_back, bias_back, peephole_back)
    (h, h_back), (c, c_back) = initial_h.chunk(2, dim=1), initial_c.chunk(2, dim=1)
    steps, c = lstm_steps(x, h, c, ahead, activations, clip)
    steps_back, c_back = lstm_steps(x.flip(0), h_back, c_back, back, activations, clip)
    last = torch.cat([steps[-1], steps_back[-1]], dim=1)
    both = [torch.cat(pair, dim=1) for pair in zip(steps, reversed(steps_back))]
    return torch.stack(both) if output_sequence else last[None], last, torch.cat([c, c_back], dim=1)


@register_op()
def gru(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    *,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
) -> tuple[Tensor, Tensor]:
    """h = (1 - z) * o + z * h, the state reset before its product with the weights. Source: iOS15.

    Shapes:
        x (S, B, I); initial_h (B, H); weight_ih (3H, I), weight_hh (3H, H) and bias (3H,) of reset, output and update
        returns (S, B, H), or (1, B, H) without ``output_sequence``; and (B, H)
    """
    gate, act, h, steps = activation_of(recurrent_activation), activation_of(activation), initial_h, []
    reset, output, update = weight_hh.chunk(3)
    for part in torch.nn.functional.linear(in_order(x, direction), weight_ih, bias):
        r, o, z = part.chunk(3, dim=-1)
        z = gate(z + h @ update.T)
        h = (1 - z) * act(o + (gate(r + h @ reset.T) * h) @ output.T) + z * h
        steps.append(h)
    return stacked(steps, output_sequence), h


@register_op(opset="iOS18", name="gru")
def gru_reset_after(
    x: Tensor,
    initial_h: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None = None,
    input_bias: Tensor | None = None,
    *,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
) -> tuple[Tensor, Tensor]:
    """As before; ``reset_after`` resets the product of the state instead, its bias included, as PyTorch's GRU does.

    Shapes: as before; input_bias (3H,) is added to the input's part, ``bias`` then to the state's
    Source: iOS18.
    """
    if not reset_after:
        both = bias if input_bias is None else input_bias if bias is None else bias + input_bias
        options = {"recurrent_activation": recurrent_activation, "activation": activation}
        return gru(
            x, initial_h, weight_ih, weight_hh, both, direction=direction, output_sequence=output_sequence, **options
        )
    gate, act, h, steps = activation_of(recurrent_activation), activation_of(activation), initial_h, []
    for part in torch.nn.functional.linear(in_order(x, direction), weight_ih, input_bias):
        (r, o, z), (r_h, o_h, z_h) = part.chunk(3, -1), torch.nn.functional.linear(h, weight_hh, bias).chunk(3, -1)
        z = gate(z + z_h)
        h = (1 - z) * act(o + gate(r + r_h) * o_h) + z * h
        steps.append(h)
    return stacked(steps, output_sequence), h
