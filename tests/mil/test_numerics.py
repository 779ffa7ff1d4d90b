"""The three numerics: rounding to FP16, what FP32 leaves alone, what is reported of the ANE."""

import numpy as np
import pytest
import torch

from edgesam_export.errors import UsageError
from edgesam_export.mil.memory import CHUNK
from edgesam_export.mil.numerics import numerics_for
from edgesam_export.mil.types import ValueType

FP16 = ValueType("fp16", (None,))
# nearest FP16 number of each float32, by the format: 11 significant bits, largest 65504, smallest 2^-24, ties to even
LITERALS = [
    (1 + 2**-11, 1.0),  # tie, even below
    (1 + 3 * 2**-11, 1 + 2**-9),  # tie, even above
    (1 + 2**-11 + 2**-20, 1 + 2**-10),
    (65519.0, 65504.0),
    (65520.0, np.inf),
    (-65520.0, -np.inf),
    (2**-24, 2**-24),
    (2**-25, 0.0),  # tie, even below
    (3 * 2**-25, 2**-23),  # tie, even above
    (-0.1, -0.0999755859375),
]


def rounded(mode: str, values: list[float], op: str = "add", declared: ValueType = FP16) -> list[float]:
    value = torch.tensor(values, dtype=torch.float32)
    return numerics_for(mode).round(op, value, declared, fresh=True).tolist()


@pytest.mark.parametrize(("value", "expected"), LITERALS)
def test_fp16_rounds_to_nearest_even(value: float, expected: float) -> None:
    assert rounded("fp16", [value]) == [expected]


def test_fp16_keeps_nan_and_infinities() -> None:
    result = rounded("fp16", [np.nan, np.inf, -np.inf])
    assert np.isnan(result[0]) and result[1:] == [np.inf, -np.inf]


def test_fp32_rounds_nothing() -> None:
    assert rounded("fp32", [1 + 2**-20, 1e9]) == [1 + 2**-20, 1e9]


@pytest.mark.parametrize("dtype", ["fp32", "fp64", "int32", "bool"])
def test_fp16_leaves_other_declared_types_alone(dtype: str) -> None:
    assert rounded("fp16", [1 + 2**-20, 1e9], declared=ValueType(dtype, (2,))) == [1 + 2**-20, 1e9]


def test_bf16_is_rounded_to_eight_bits() -> None:
    assert rounded("fp16", [1 + 2**-8, 1 + 3 * 2**-8], declared=ValueType("bf16", (2,))) == [1.0, 1 + 2**-6]


def test_ane_flushes_subnormals_and_keeps_the_smallest_normal() -> None:
    assert rounded("ane", [2**-14, 2**-15, -(2**-20), -(2**-14)]) == [2**-14, 0, 0, -(2**-14)]
    assert rounded("fp16", [2**-15]) == [2**-15]


def test_ane_saturates_products_at_two_to_the_fifteen() -> None:
    values = [32752.0, 32768.0, -32768.0, -40000.0]
    assert rounded("ane", values, op="conv") == [32752, np.inf, -np.inf, -np.inf]
    assert rounded("ane", values, op="matmul")[1] == np.inf
    assert rounded("ane", values, op="add") == values
    assert rounded("fp16", values, op="conv") == values


def test_ane_keeps_nan_visible() -> None:
    assert np.isnan(rounded("ane", [np.nan], op="conv")[0])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rounding_in_place_of_a_large_tensor_equals_numpy(layout: torch.memory_format) -> None:
    value = torch.randn(1, 5, 600, 801).contiguous(memory_format=layout) * 100
    assert value.numel() > 2 * CHUNK
    expected = value.numpy().astype(np.float16).astype(np.float32)
    address, strides = value.data_ptr(), value.stride()
    result = numerics_for("fp16").round("conv", value, FP16, fresh=True)
    np.testing.assert_array_equal(result.numpy(), expected)
    assert (result.data_ptr(), result.stride()) == (address, strides)


@pytest.mark.parametrize("view", [lambda t: t.expand(4, 3), lambda t: t[:, ::2], lambda t: t.t()])
def test_views_are_rounded_without_touching_what_they_view(view) -> None:
    base = torch.full((1, 3), 1 + 2**-20)
    result = numerics_for("fp16").round("add", view(base), FP16, fresh=False)
    assert torch.equal(result, torch.ones_like(view(base)))
    assert torch.equal(base, torch.full((1, 3), 1 + 2**-20))


def test_fresh_expanded_value_is_rounded() -> None:
    value = torch.full((1, 1), 1 + 2**-20).expand(4, 3)
    assert torch.equal(numerics_for("fp16").round("add", value, FP16, fresh=True), torch.ones(4, 3))


def test_buffer_made_while_inferring_serves_outside_too() -> None:
    def rounded_large(value: torch.Tensor) -> torch.Tensor:
        return numerics_for("fp16").round("add", value, FP16, fresh=True)

    with torch.inference_mode():
        rounded_large(torch.ones(CHUNK + 1))
    assert rounded_large(torch.full((CHUNK + 1,), 1 + 2**-20))[-1] == 1


def test_unknown_numerics_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown numerics 'int8'; choose one of: fp32, fp16, ane"):
        numerics_for("int8")


@pytest.mark.parametrize("op", ["conv", "add"])
def test_ane_changes_every_fp16_number_as_reported(op: str) -> None:
    numbers = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    expected = np.where(np.abs(numbers) < 2.0**-14, 0, numbers)
    if op == "conv":
        expected = np.where(np.abs(expected) >= 2.0**15, np.copysign(np.float32(np.inf), expected), expected)
    np.testing.assert_array_equal(np.float32(rounded("ane", numbers.tolist(), op=op)), expected)


def test_a_dense_permuted_value_is_rounded_in_its_own_memory() -> None:
    value = torch.full((2, 3, 4), 1 + 2**-20).permute(2, 0, 1)
    result = numerics_for("fp16").round("matmul", value, FP16, fresh=True)
    assert result.data_ptr() == value.data_ptr() and torch.equal(result, torch.ones(4, 2, 3))
