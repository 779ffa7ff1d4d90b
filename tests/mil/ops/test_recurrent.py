"""Recurrent ops: numbers small enough for a sheet of paper, and PyTorch's layers as witness for every mode."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil import load_program
from edgesam_export.mil.ops import OPS

SPEC = "MIL spec, recurrent"
ONE, HALF = [[1.0]], [[0.5]]
STEPS = [[[1.0]], [[2.0]], [[4.0]]]
LINEAR = {"activation": "linear"}
GATES = {"recurrent_activation": "linear", "cell_activation": "linear", "activation": "linear"}


def rnn(about: str, expected: object, *, bias: list | None = None, **attrs: object) -> OpCase:
    inputs = {"x": STEPS, "initial_h": [[8.0]], "weight_ih": ONE, "weight_hh": HALF}
    inputs |= {} if bias is None else {"bias": bias}
    return OpCase("rnn", about, inputs, {**LINEAR, **attrs}, expected, SPEC)


def lstm(about: str, expected: object, inputs: dict | None = None, **attrs: object) -> OpCase:
    # i = x, f = 0.5, o = 2, z = 1 with linear gates: c = 0.5 c + x, h = 2 c
    given = {"x": STEPS, "initial_h": [[0.0]], "initial_c": [[8.0]], "weight_ih": [[1.0], [0.0], [0.0], [0.0]]}
    given |= {"weight_hh": [[0.0]] * 4, "bias": [0.0, 0.5, 2.0, 1.0]} | (inputs or {})
    return OpCase("lstm", about, given, {**GATES, **attrs}, expected, SPEC)


BACK = {
    "weight_ih_back": [[1.0], [0.0], [0.0], [0.0]],
    "weight_hh_back": [[0.0]] * 4,
    "bias_back": [0.0, 0.5, 1.0, 1.0],
}
BOTH = {"initial_h": [[0.0, 0.0]], "initial_c": [[8.0, 0.0]], **BACK}
# r = 0.5, o = x + 4 r h, z = 0.25: h = 0.75 (x + 2 h) + 0.25 h
GRU = {"x": [[[1.0]], [[2.0]]], "initial_h": [[4.0]], "weight_ih": [[0.0], [1.0], [0.0]]}
GRU |= {"weight_hh": [[0.0], [4.0], [0.0]], "bias": [0.5, 0.0, 0.25]}
GRU_ATTRS = {"recurrent_activation": "linear", "activation": "linear"}
CASES = [
    rnn("last step", ([[[6.25]]], [[6.25]])),
    rnn("every step", ([[[5.0]], [[4.5]], [[6.25]]], [[6.25]]), output_sequence=True),
    rnn(
        "reverse stays in its order", ([[[8.0]], [[6.0]], [[4.0]]], [[4.0]]), output_sequence=True, direction="reverse"
    ),
    rnn("bias", ([[[13.25]]], [[13.25]]), bias=[4.0]),
    rnn("relu", ([[[0.0]]], [[0.0]]), bias=[-9.0], activation="RELU"),
    lstm("last step", ([[[12.5]]], [[12.5]], [[6.25]])),
    lstm("every step", ([[[10.0]], [[9.0]], [[12.5]]], [[12.5]], [[6.25]]), output_sequence=True),
    lstm("reverse", ([[[16.0]], [[12.0]], [[8.0]]], [[8.0]], [[4.0]]), output_sequence=True, direction="reverse"),
    lstm("cell state is clipped", ([[[10.0]]], [[10.0]], [[5.0]]), clip=5.0),
    lstm(
        "peephole of the input gate", ([[[46.0]]], [[46.0]], [[23.0]]), {"peephole": [1.0, 0.0, 0.0], "x": [[[11.0]]]}
    ),
    lstm(
        "peephole of the forget gate", ([[[138.0]]], [[138.0]], [[69.0]]), {"peephole": [0.0, 1.0, 0.0], "x": [[[1.0]]]}
    ),
    lstm("peephole of the output gate", ([[[35.0]]], [[35.0]], [[5.0]]), {"peephole": [0.0, 0.0, 1.0], "x": [[[1.0]]]}),
    lstm(
        "bidirectional, backward half in the order of the input",
        ([[[10.0, 3.0]], [[9.0, 4.0]], [[12.5, 4.0]]], [[12.5, 3.0]], [[6.25, 3.0]]),
        BOTH,
        direction="bidirectional",
        output_sequence=True,
    ),
    lstm(
        "bidirectional, last step of each",
        ([[[12.5, 3.0]]], [[12.5, 3.0]], [[6.25, 3.0]]),
        BOTH,
        direction="bidirectional",
    ),
    OpCase(
        "gru", "every step", GRU, {**GRU_ATTRS, "output_sequence": True}, ([[[7.75]], [[15.0625]]], [[15.0625]]), SPEC
    ),
    OpCase("gru", "reverse", GRU, {**GRU_ATTRS, "direction": "reverse"}, ([[[15.625]]], [[15.625]]), SPEC),
    OpCase(
        "gru",
        "two biases before the reset",
        {**GRU, "x": [[[1.0]]], "bias": [0.0, 2.0, 0.0], "input_bias": GRU["bias"]},
        GRU_ATTRS,
        ([[[9.25]]], [[9.25]]),
        SPEC,
        opset="iOS18",
    ),
    OpCase(
        "gru",
        "reset after the product",
        {**GRU, "x": [[[1.0]]], "bias": [0.0, 2.0, 0.0], "input_bias": GRU["bias"]},
        {**GRU_ATTRS, "reset_after": True},
        ([[[8.5]]], [[8.5]]),
        SPEC,
        opset="iOS18",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_op_matches_literal(case: OpCase) -> None:
    check(case)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("linear", 3.0),
        ("relu", 3.0),
        ("sigmoid", 1 / (1 + math.exp(-3))),
        ("sigmoid_hard", 1.0),
        ("hard_sigmoid", 1.0),
        ("scaled_tanh", math.tanh(3)),
        ("tanh", math.tanh(3)),
    ],
)
def test_every_activation(name: str, value: float) -> None:
    inputs = {"x": [[[1.0]]], "initial_h": [[4.0]], "weight_ih": ONE, "weight_hh": HALF}  # it sees 1 + 0.5 * 4
    check(OpCase("rnn", name, inputs, {"activation": name}, ([[[value]]], [[value]]), SPEC))


def reordered(rows: torch.Tensor, order: str, wanted: str) -> torch.Tensor:
    """Return the gates of a weight or bias in another order."""
    gates = dict(zip(order, rows.detach().chunk(len(order))))
    return torch.cat([gates[gate] for gate in wanted])


def half_of(layer: torch.nn.RNNBase, suffix: str, order: str, wanted: str) -> dict[str, torch.Tensor]:
    """Return the weights of one direction of a PyTorch layer under MIL's names; biases joined."""
    state = layer.state_dict()
    parts = {f"weight_{side}": reordered(state[f"weight_{side}_l0{suffix}"], order, wanted) for side in ("ih", "hh")}
    if layer.bias:
        both = state[f"bias_ih_l0{suffix}"] + state[f"bias_hh_l0{suffix}"]
        parts["bias"] = reordered(both, order, wanted)
    return parts


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("output_sequence", [True, False])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm_is_that_of_pytorch(direction: str, output_sequence: bool, bias: bool) -> None:
    torch.manual_seed(3)
    layer = torch.nn.LSTM(5, 4, bias=bias, bidirectional=direction == "bidirectional")
    count = 2 if direction == "bidirectional" else 1
    x, h, c = torch.randn(7, 3, 5), torch.randn(count, 3, 4), torch.randn(count, 3, 4)
    weights = half_of(layer, "", "ifzo", "ifoz")
    if count == 2:
        weights |= {f"{name}_back": value for name, value in half_of(layer, "_reverse", "ifzo", "ifoz").items()}
    with torch.no_grad():
        steps, (last_h, last_c) = layer(x.flip(0) if direction == "reverse" else x, (h, c))
    flat = [torch.cat(list(state), dim=1) for state in (h, c, last_h, last_c)]
    found = OPS.lookup("lstm", "iOS17")(
        x=x, initial_h=flat[0], initial_c=flat[1], direction=direction, output_sequence=output_sequence, **weights
    )
    expected = (steps if output_sequence else flat[2][None], flat[2], flat[3])
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn_is_that_of_pytorch(activation: str, direction: str) -> None:
    torch.manual_seed(4)
    layer = torch.nn.RNN(5, 4, nonlinearity=activation)
    x, h = torch.randn(7, 3, 5), torch.randn(1, 3, 4)
    with torch.no_grad():
        steps, last = layer(x.flip(0) if direction == "reverse" else x, h)
    weights = half_of(layer, "", "h", "h")
    found = OPS.lookup("rnn", "iOS17")(
        x=x, initial_h=h[0], direction=direction, output_sequence=True, activation=activation, **weights
    )
    torch.testing.assert_close(found, (steps, last[0]), rtol=1e-5, atol=1e-6)


def test_gru_that_resets_after_the_product_is_that_of_pytorch() -> None:
    torch.manual_seed(5)
    layer = torch.nn.GRU(5, 4)
    x, h, state = torch.randn(7, 3, 5), torch.randn(1, 3, 4), layer.state_dict()
    with torch.no_grad():
        steps, last = layer(x, h)
    names = {"weight_ih": "weight_ih", "weight_hh": "weight_hh", "input_bias": "bias_ih", "bias": "bias_hh"}
    weights = {mil: reordered(state[f"{name}_l0"], "rzo", "roz") for mil, name in names.items()}
    found = OPS.lookup("gru", "iOS18")(x=x, initial_h=h[0], output_sequence=True, reset_after=True, **weights)
    torch.testing.assert_close(found, (steps, last[0]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "attrs", "said"),
    [
        ("rnn", {"activation": "swish"}, "activation is 'swish'; known are hard_sigmoid, linear"),
        ("rnn", {"direction": "sideways"}, "direction is 'sideways'"),
        ("lstm", {"direction": "bidirectional"}, "needs weight_ih_back and weight_hh_back"),
    ],
)
def test_unknown_modes_are_refused(op: str, attrs: dict, said: str) -> None:
    x, state, weights = torch.zeros(2, 1, 1), torch.zeros(1, 1), torch.zeros(4, 1)
    states = {"initial_h": state} | ({"initial_c": state} if op == "lstm" else {})
    with pytest.raises(ProgramError, match=said):
        OPS.lookup(op, "iOS17")(x=x, **states, weight_ih=weights, weight_hh=weights, **attrs)


class TwoLayers(torch.nn.Module):
    """What people convert: stacked, both directions, batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(8, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.rnn = torch.nn.RNN(16, 6, batch_first=True)
        self.gru = torch.nn.GRU(6, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(self.rnn(self.lstm(x)[0])[0])[0]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_layers_converted_by_coremltools_give_the_values_of_pytorch(converted, precision: str) -> None:
    import coremltools as ct

    torch.manual_seed(6)
    layers = TwoLayers().eval()
    x = torch.randn(2, 7, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # PyTorch's layers check sizes
        traced = torch.jit.trace(layers, x)
    path = converted(
        traced,
        inputs=[ct.TensorType(name="x", shape=x.shape)],
        outputs=[ct.TensorType(name="y", dtype=np.float32)],
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
    )
    program = load_program(path)
    assert {"lstm", "rnn"} <= {operation.type for operation in program.operations}
    with torch.no_grad():
        expected = layers(x).numpy()
    found = program.predict({"x": x.numpy()}, numerics=precision)["y"]
    assert np.abs(found - expected).max() < (1e-5 if precision == "fp32" else 5e-3)
