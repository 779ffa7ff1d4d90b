"""Convolutions against sums written out by hand."""

import pytest
import torch
from case_table import OpCase, case_id, check

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import OPS, PREPARATIONS, SPECIALISATIONS
from edgesam_export.mil.ops.conv import window_pads

SPEC = "MIL spec, conv"
LINE = [[[1, 2, 3, 4]]]  # (1, 1, 4)
SUM2 = [[[1, 10]]]  # kernel: x[i] + 10 x[i+1]
SQUARE = [[[[1, 2], [3, 4]]]]  # (1, 1, 2, 2)
DIGITS = [[[[1, 10], [100, 1000]]]]

CASES = [
    OpCase("conv", "valid 1-D", {"x": LINE, "weight": SUM2}, {}, [[[21, 32, 43]]], SPEC),
    OpCase("conv", "bias", {"x": LINE, "weight": SUM2, "bias": [5]}, {}, [[[26, 37, 48]]], SPEC),
    OpCase("conv", "stride", {"x": LINE, "weight": SUM2}, {"strides": [2]}, [[[21, 43]]], SPEC),
    OpCase("conv", "dilation", {"x": LINE, "weight": SUM2}, {"dilations": [2]}, [[[31, 42]]], SPEC),
    OpCase(
        "conv",
        "same puts the odd element behind",
        {"x": LINE, "weight": SUM2},
        {"pad_type": "same"},
        [[[21, 32, 43, 4]]],
        SPEC,
    ),
    OpCase(
        "conv",
        "same_lower puts the odd element in front",
        {"x": LINE, "weight": SUM2},
        {"pad_type": "same_lower"},
        [[[10, 21, 32, 43]]],
        "MIL spec, conv (iOS16)",
        opset="iOS16",
    ),
    OpCase(
        # ceil(4/2) = 2 windows of 3 need 5 elements: one behind, none in front
        "conv",
        "same with stride",
        {"x": LINE, "weight": [[[1, 10, 100]]]},
        {"pad_type": "same", "strides": [2]},
        [[[321, 43]]],
        SPEC,
    ),
    OpCase(
        "conv",
        "custom symmetric",
        {"x": LINE, "weight": SUM2},
        {"pad_type": "custom", "pad": [1, 1]},
        [[[10, 21, 32, 43, 4]]],
        SPEC,
    ),
    OpCase(
        "conv",
        "custom asymmetric",
        {"x": LINE, "weight": SUM2},
        {"pad_type": "custom", "pad": [0, 2]},
        [[[21, 32, 43, 4, 0]]],
        SPEC,
    ),
    OpCase(
        "conv",
        "pad is ignored unless custom",
        {"x": LINE, "weight": SUM2},
        {"pad_type": "valid", "pad": [1, 1]},
        [[[21, 32, 43]]],
        SPEC,
    ),
    OpCase(
        "conv",
        "groups",
        {"x": [[[1, 2], [3, 4]]], "weight": [[[1]], [[10]], [[100]], [[1000]]]},
        {"groups": 2},
        [[[1, 2], [10, 20], [300, 400], [3000, 4000]]],
        SPEC,
    ),
    OpCase("conv", "channels are summed", {"x": [[[1, 2], [3, 4]]], "weight": [[[1], [10]]]}, {}, [[[31, 42]]], SPEC),
    OpCase("conv", "valid 2-D", {"x": SQUARE, "weight": DIGITS}, {}, [[[[4321]]]], SPEC),
    OpCase(
        "conv", "channels last in memory", {"x": SQUARE, "weight": DIGITS}, {}, [[[[4321]]]], SPEC, permute=(0, 2, 3, 1)
    ),
    OpCase(
        # one row above, one column to the right; row pads come before column pads
        "conv",
        "asymmetric 2-D",
        {"x": SQUARE, "weight": DIGITS},
        {"pad_type": "custom", "pad": [1, 0, 0, 1]},
        [[[[2100, 200], [4321, 402]]]],
        SPEC,
    ),
    OpCase(
        "conv",
        "3-D",
        {"x": [[[[[1, 2]], [[3, 4]]]]], "weight": [[[[[1, 10]], [[100, 1000]]]]]},
        {},
        [[[[[4321]]]]],
        SPEC,
    ),
    OpCase(
        "conv_quantized",
        "linear 8 bit",
        {
            "x": LINE,
            "weight": torch.tensor([[[1, 3]]], dtype=torch.uint8),
            "quant_scale": [2],
            "quant_bias": [-1],
        },
        {"quantization_type": "linear"},
        [[[11, 17, 23]]],
        "MIL spec, conv_quantized: w = 2 q - 1 = 1, 5",
    ),
    OpCase(
        "conv_transpose",
        "valid stride 2",
        {"x": [[[1, 2]]], "weight": [[[1, 10, 100]]]},
        {"strides": [2]},
        [[[1, 10, 102, 20, 200]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "dilation and bias",
        {"x": [[[1, 2]]], "weight": SUM2, "bias": [5]},
        {"dilations": [2]},
        [[[6, 7, 15, 25]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "custom symmetric",
        {"x": [[[1, 2]]], "weight": [[[1, 10, 100]]]},
        {"strides": [2], "pad_type": "custom", "pad": [1, 1]},
        [[[10, 102, 20]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "custom crops only behind",
        {"x": [[[1, 2]]], "weight": [[[1, 10, 100]]]},
        {"strides": [2], "pad_type": "custom", "pad": [0, 2]},
        [[[1, 10, 102]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "custom crops more in front",
        {"x": [[[1, 2]]], "weight": [[[1, 10, 100]]]},
        {"strides": [2], "pad_type": "custom", "pad": [2, 1]},
        [[[102, 20]]],
        SPEC,
    ),
    OpCase(
        # stride * size = 4 of 5: the odd crop is behind
        "conv_transpose",
        "same",
        {"x": [[[1, 2]]], "weight": [[[1, 10, 100]]]},
        {"strides": [2], "pad_type": "same"},
        [[[1, 10, 102, 20]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "same_lower",
        {"x": [[[1, 2]]], "weight": [[[1, 10, 100]]]},
        {"strides": [2], "pad_type": "same_lower"},
        [[[10, 102, 20, 200]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "output_shape crops less behind",
        {"x": [[[1, 2]]], "weight": [[[1, 10, 100]]]},
        {"strides": [2], "pad_type": "custom", "pad": [1, 1], "output_shape": [1, 1, 4]},
        [[[10, 102, 20, 200]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "output_shape beyond the sum is bias",
        {"x": [[[1, 2]]], "weight": [[[1, 10, 100]]], "bias": [5]},
        {"strides": [2], "output_shape": [1, 1, 6]},
        [[[6, 15, 107, 25, 205, 5]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "groups",
        {"x": [[[1, 2], [3, 4]]], "weight": [[[1], [10]], [[100], [1000]]]},
        {"groups": 2},
        [[[1, 2], [10, 20], [300, 400], [3000, 4000]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "2-D stride 2",
        {"x": [[[[1, 2]]]], "weight": DIGITS},
        {"strides": [2, 2]},
        [[[[1, 10, 2, 20], [100, 1000, 200, 2000]]]],
        SPEC,
    ),
    OpCase(
        "conv_transpose",
        "3-D",
        {"x": [[[[[2]]]]], "weight": [[[[[1, 10]], [[100, 1000]]]]]},
        {},
        [[[[[2, 20]], [[200, 2000]]]]],
        SPEC,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_result_is_the_literal(case: OpCase) -> None:
    check(case)


PACKED = [case for case in CASES if case.op == "conv" and torch.tensor(case.inputs["weight"]).ndim == 4]


@pytest.mark.parametrize("case", PACKED, ids=case_id)
def test_packed_convolution_gives_the_same_literal(case: OpCase) -> None:
    inputs = {name: torch.tensor(value).float() for name, value in case.inputs.items()}
    weight, bias = inputs["weight"], inputs.get("bias")
    fast = SPECIALISATIONS["conv"]([None, weight, bias], case.attrs)
    assert fast is not None, "oneDNN is missing: the executor is slower than its figures say"
    expected = torch.tensor(case.expected).float()
    torch.testing.assert_close(fast(inputs["x"], weight, bias, **case.attrs), expected, rtol=1e-6, atol=1e-6)


def test_packed_convolution_takes_inputs_of_several_sizes() -> None:
    weight = torch.ones(1, 1, 1, 2)
    fast = SPECIALISATIONS["conv"]([None, weight, None], {})
    for width in (*range(2, 9), 3):
        row = torch.arange(float(width)).view(1, 1, 1, width)
        assert fast(row.clone(), weight).flatten().tolist() == [2.0 * i + 1 for i in range(width - 1)]


def test_only_constant_two_dimensional_weights_are_packed() -> None:
    specialise = SPECIALISATIONS["conv"]
    assert specialise([None, None, None], {}) is None
    assert specialise([None, torch.ones(1, 1, 2), None], {}) is None


def test_unknown_pad_type_is_refused_by_name() -> None:
    with pytest.raises(ProgramError, match="'full'"):
        window_pads("full", None, [4], [2], [1])


def test_same_padding_is_never_negative() -> None:
    assert window_pads("same", None, [5], [1], [3]) == [(0, 0)]


def test_lookup_table_weights_are_refused() -> None:
    conv_quantized = OPS.lookup("conv_quantized", "iOS15")
    one = torch.ones(1, 1, 1)
    with pytest.raises(ProgramError, match="'lut'"):
        conv_quantized(one, one, one, one, quantization_type="lut")


def test_four_dimensional_weights_are_stored_channels_last() -> None:
    weight = torch.arange(24.0).view(2, 3, 2, 2)
    prepared = PREPARATIONS["conv", "weight"](weight)
    assert prepared.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(prepared, weight)
    assert PREPARATIONS["conv", "weight"](weight[0]).is_contiguous()


def test_two_dimensional_result_is_channels_last() -> None:
    x, weight = torch.ones(1, 3, 4, 4), torch.ones(5, 3, 1, 1)
    for op in ("conv", "conv_transpose"):
        kernel = weight if op == "conv" else weight.transpose(0, 1)
        assert OPS.lookup(op, "iOS15")(x, kernel).is_contiguous(memory_format=torch.channels_last), op
