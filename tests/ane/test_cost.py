"""The cost model against sums done by hand, at rates that are round numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgesam_export.ane.cost import (
    PRODUCTS,
    Roofline,
    constants,
    demands_of,
    estimate_cost,
    load_roofline,
    price,
    spearman,
)
from edgesam_export.ane.example import read_example
from edgesam_export.ane.graph import GraphView
from edgesam_export.ane.report import OpPlacement
from edgesam_export.errors import UsageError
from edgesam_export.hardware import load_hardware

RATES = Roofline(
    family="H13",
    peak_tflops=1.0,
    int8_gain=2.0,
    dram_gbps=10.0,  # 10,000 bytes a microsecond
    transfer_gbps=10.0,
    working_set_bytes=1_000_000,
    dispatch_ms=0.05,
    launch_ms=0.1,
    cpu_gflops=100.0,
    call_ms=0.3,
    op_us=1.0,
    onchip_gbps=100.0,  # 100,000 bytes a microsecond
    dram_share=0.5,
    spill_gain=2.0,
    efficiency=dict.fromkeys(PRODUCTS, 0.5),
    calibration="by hand",
)
MAP = 64 * 32 * 32 * 2
"""Bytes of an fp16[1, 64, 32, 32], whose rows of 32 values fill 64 bytes."""

CONV = """
x: fp16[1, 64, 32, 32]
w: fp16[64, 64, 3, 3] = const()
y: fp16[1, 64, 32, 32] = conv(x=x, weight=w, groups=1)
"""


def graph(text: str) -> GraphView:
    return read_example(text)[0]


def cost(text: str, rates: Roofline = RATES):
    return price(demands_of(graph(text), rates.working_set_bytes), rates)


def test_a_convolution_is_bound_by_its_arithmetic():
    found = cost(CONV)
    arithmetic = 2 * (64 * 64 * 9 * 32 * 32) / 0.5e12 * 1e6  # 2 flop a multiply-add, half of 1 TFLOPS, in us
    weights = 64 * 64 * 9 * 2 / 5_000  # at half the bandwidth
    assert arithmetic > weights + MAP / 20_000
    assert found.operations[0].bound == "compute"
    assert found.compute_ms == pytest.approx(arithmetic / 1e3)
    assert found.memory_ms == 0
    assert found.transfer_ms == pytest.approx(2 * MAP / 10_000 / 1e3)
    assert found.dispatch_ms == pytest.approx(0.3 + 0.05 + 0.001)
    assert found.time_ms == pytest.approx((arithmetic + 2 * MAP / 10_000 + 1) / 1e3 + 0.35)


def test_a_convolution_with_large_weights_and_a_small_map_is_bound_by_memory():
    found = cost("""
x: fp16[1, 512, 1, 32]
w: fp16[512, 512, 1, 1] = const()
y: fp16[1, 512, 1, 32] = conv(x=x, weight=w, groups=1)
""")
    weights = 512 * 512 * 2 / 5_000
    assert found.memory_ms == pytest.approx((weights + 512 * 64 / 20_000) / 1e3)
    assert found.compute_ms == 0
    assert found.operations[0].bound == "memory"


def test_an_elementwise_operation_is_bound_by_memory():
    found = cost("""
x: fp16[1, 64, 32, 32]
y: fp16[1, 64, 32, 32] = exp(x=x)
""")
    # the input comes from outside at twice the bandwidth, the result stays on chip until it is handed over
    assert found.memory_ms == pytest.approx(MAP / 20_000 / 1e3)
    assert found.compute_ms == 0


def test_a_last_axis_of_one_costs_a_whole_row_of_64_bytes():
    wide = demands_of(graph("x: fp16[1, 64, 1, 32]\ny: fp16[1, 64, 1, 32] = exp(x=x)"), 10**6)[0]
    narrow = demands_of(graph("x: fp16[1, 64, 32, 1]\ny: fp16[1, 64, 32, 1] = exp(x=x)"), 10**6)[0]
    assert narrow.onchip_bytes == 32 * wide.onchip_bytes == 2 * 64 * 32 * 64
    assert narrow.transfer_bytes == wide.transfer_bytes


CHAIN = """
x: fp16[1, 64, 32, 32]
a: fp16[1, 64, 32, 32] = exp(x=x)
b: fp16[1, 64, 32, 32] = sqrt(x=a)
c: fp16[1, 64, 32, 32] = exp(x=b)
"""


def spilled(text: str, capacity: int) -> list[int]:
    return [demand.spilled_bytes for demand in demands_of(graph(text), capacity)]


@pytest.mark.parametrize("maps", [1, 2, 3])
def test_values_that_fit_the_working_set_stay_on_chip(maps):
    # an operand that nobody reads again makes room for the result
    assert spilled(CHAIN, maps * MAP) == [MAP, 0, 0]


def test_a_dead_value_is_not_written_out_to_make_room():
    longer = CHAIN + "d: fp16[1, 64, 32, 32] = sqrt(x=c)\ne: fp16[1, 64, 32, 32] = exp(x=d)\n"
    assert spilled(longer, 2 * MAP) == [MAP, 0, 0, 0, 0]
    assert spilled(longer + "f: fp16[3, 64, 32, 32] = tile(x=e)\n", 3 * MAP) == [MAP, 0, 0, 0, 0, 0]


def test_an_input_that_two_operations_read_is_fetched_once():
    twice = "x: fp16[1, 64, 32, 32]\na: fp16[1, 64, 32, 32] = exp(x=x)\nb: fp16[1, 64, 32, 32] = sqrt(x=x)\n"
    assert spilled(twice, 3 * MAP) == [MAP, 0]
    assert spilled(twice, MAP - 1) == [2 * MAP, 2 * MAP]


def test_a_value_just_read_again_stays_and_an_older_one_goes():
    text = """
x: fp16[1, 64, 32, 32]
a: fp16[1, 64, 32, 32] = exp(x=x)
b: fp16[1, 64, 32, 32] = exp(x=a)
c: fp16[1, 64, 32, 32] = sqrt(x=a)
d: fp16[1, 64, 32, 32] = sqrt(x=c)
e: fp16[1, 64, 32, 32] = add(x=a, y=d)
f: fp16[1, 64, 32, 32] = add(x=b, y=c)
"""
    # room for three: d puts b out, not a, which c has just read; e finds a, f fetches b
    assert spilled(text, 3 * MAP) == [MAP, 0, 0, MAP, 0, MAP]


def test_reading_one_value_can_put_another_out():
    text = """
x: fp16[1, 64, 32, 32]
y: fp16[1, 64, 32, 32]
a: fp16[1, 64, 32, 32] = exp(x=x)
b: fp16[1, 64, 32, 32] = exp(x=y)
c: fp16[1, 64, 32, 32] = add(x=a, y=b)
"""
    # room for one map: y comes in, a goes out; then a comes back while b is used up
    assert spilled(text, MAP) == [MAP, 2 * MAP, MAP]


def test_a_large_result_that_an_activation_takes_over_is_written_once():
    with_gelu = CONV + "z: fp16[1, 64, 32, 32] = gelu(x=y)\n"
    assert spilled(with_gelu, MAP - 1) == [MAP, MAP]
    assert spilled(CONV + "z: fp16[1, 64, 32, 32] = exp(x=y)\n", MAP - 1) == [2 * MAP, 2 * MAP]


def test_values_larger_than_the_working_set_are_written_and_read_again():
    assert spilled(CHAIN, MAP - 1) == [2 * MAP, 2 * MAP, 2 * MAP]


def test_the_value_used_longest_ago_makes_room_and_is_read_again():
    residual = CHAIN + "d: fp16[1, 64, 32, 32] = add(x=a, y=c)\n"
    # room for two maps: a and b, then b makes room for c; with room for one, making b puts a out and d reads it again
    assert spilled(residual, 2 * MAP) == [MAP, 0, 0, 0]
    assert spilled(residual, MAP) == [MAP, MAP, 0, MAP]
    assert spilled(residual, 4 * MAP) == [MAP, 0, 0, 0]


def test_the_order_of_operands_does_not_matter():
    for capacity in (MAP, 2 * MAP, 3 * MAP):
        first, second = (
            [d.spilled_bytes for d in demands_of(graph(f"{CHAIN}d: fp16[1, 64, 32, 32] = add({operands})"), capacity)]
            for operands in ("x=a, y=c", "x=c, y=a")
        )
        assert first == second


def test_an_activation_after_a_convolution_is_free():
    plain, with_gelu = cost(CONV), cost(CONV + "z: fp16[1, 64, 32, 32] = gelu(x=y)\n")
    assert with_gelu.time_ms == pytest.approx(plain.time_ms)
    # two activations: only the first follows the convolution
    assert (
        cost(CONV + "z: fp16[1, 64, 32, 32] = gelu(x=y)\nq: fp16[1, 64, 32, 32] = relu(x=z)\n").time_ms > plain.time_ms
    )


@pytest.mark.parametrize(
    "rest",
    [
        "z: fp16[1, 64, 32, 32] = gelu(x=y)\nq: fp16[1, 64, 32, 32] = add(x=y, y=z)\n",
        "z: fp16[1, 64, 32, 32] = gelu(x=y)\noutput(y, z)\n",
        "z: fp16[1, 64, 32, 32] = exp(x=y)\n",
    ],
    ids=["read by another", "an output", "no activation"],
)
def test_what_must_be_written_before_an_activation_is_not_free(rest):
    demand = demands_of(graph(CONV + rest), 10**6)[1]
    assert not demand.fused and demand.onchip_bytes == 2 * MAP


MIXED = """
x: fp16[1, 64, 32, 32]
a: fp16[1, 64, 32, 32] = exp(x=x)
b: fp16[1, 64, 32, 32] = cumsum(x=a)
c: fp16[1, 64, 32, 32] = exp(x=b)
"""


def placed(view: GraphView, off: set[str]) -> list[OpPlacement]:
    return [
        OpPlacement(
            operation=node.label,
            op_type=node.type,
            location=node.location,
            placement="off" if node.label in off else "expected",
            rules=("A09",) if node.label in off else (),
        )
        for node in view.nodes
    ]


def test_an_operation_off_the_ane_pays_launches_and_transfers():
    view = graph(MIXED)
    together = demands_of(view, 10**6)
    apart = demands_of(replace(view, off=frozenset({1})), 10**6)
    assert [demand.transfer_bytes for demand in together] == [MAP, 0, MAP]
    assert [demand.transfer_bytes for demand in apart] == [2 * MAP, 0, 2 * MAP]
    assert [demand.starts_segment for demand in apart] == [True, True, True]
    found = price(apart, RATES)
    assert found.transfer_ms == pytest.approx(4 * MAP / 10_000 / 1e3)
    assert found.dispatch_ms == pytest.approx(0.3 + 2 * 0.05 + 0.1 + 3 * 0.001)  # call, two dispatches, one launch
    assert found.time_ms > price(together, RATES).time_ms


def test_operations_that_need_not_wait_share_a_segment():
    text = """
x: fp16[1, 64, 32, 32]
p: fp16[1, 64, 32, 32] = cumsum(x=x)
q: fp16[1, 64, 32, 32] = exp(x=p)
r: fp16[1, 64, 32, 32] = sqrt(x=x)
s: fp16[1, 64, 32, 32] = add(x=q, y=r)
t: fp16[1, 64, 32, 32] = cumsum(x=x)
u: fp16[1, 64, 32, 32] = add(x=s, y=t)
"""
    found = demands_of(replace(graph(text), off=frozenset({0, 4})), 10**7)
    assert [demand.starts_segment for demand in found] == [True, True, False, False, False, False]


def test_arithmetic_off_the_ane_runs_at_the_rate_of_the_cpu():
    view = graph(CONV)
    (row,) = price(demands_of(replace(view, off=frozenset({0})), 10**6), RATES).operations
    arithmetic = 2 * (64 * 64 * 9 * 32 * 32) / 100e9 * 1e6
    assert row.time_us == pytest.approx(arithmetic + 100 + 1)


def test_a_placement_at_risk_costs_as_on_the_ane():
    view = graph(MIXED)
    risky = [replace(p, placement="at-risk") if p.operation == "b" else p for p in placed(view, set())]
    assert estimate_cost(view, risky, "H14") == estimate_cost(view, placed(view, set()), "H14")
    assert estimate_cost(view, placed(view, {"b"}), "H14").time_ms > estimate_cost(view, risky, "H14").time_ms


def test_parts_add_up_and_operations_keep_their_order():
    view = graph(MIXED + "d: fp16[1, 64, 32, 32] = cumsum(x=x)\ne: fp16[1, 64, 32, 32] = add(x=c, y=d)\n")
    found = estimate_cost(view, placed(view, {"b", "d"}), "H13")
    assert found.time_ms == pytest.approx(found.compute_ms + found.memory_ms + found.dispatch_ms + found.transfer_ms)
    assert [row.operation for row in found.operations] == ["a", "b", "c", "d", "e"]
    call_ms = load_roofline("H13").call_ms
    assert sum(row.time_us for row in found.operations) / 1e3 + call_ms == pytest.approx(found.time_ms)


def test_an_image_arrives_with_four_bytes_a_pixel():
    text = 'x: fp16[1, 3, 16, 16] = feature(kind="{}")\ny: fp16[1, 3, 16, 16] = exp(x=x)\n'
    out = 3 * 16 * 16 * 2
    assert demands_of(graph(text.format("image")), 10**6)[0].transfer_bytes == 16 * 16 * 4 + out
    assert demands_of(graph(text.format("tensor")), 10**6)[0].transfer_bytes == out + out


def test_open_sizes_count_as_one():
    (demand,) = demands_of(graph("x: fp16[1, None, 64]\ny: fp16[1, None, 64] = exp(x=x)"), 10**6)
    assert demand.onchip_bytes == 2 * 64 * 2


def test_a_program_without_operations_costs_the_call():
    found = estimate_cost(graph("x: fp16[1, 4]\noutput(x)"), [], "H13")
    assert found.operations == () and found.time_ms == load_roofline("H13").call_ms


@pytest.mark.parametrize(
    ("weight", "groups", "kind"),
    [("[64, 1, 3, 3]", 64, "depthwise"), ("[64, 64, 1, 1]", 1, "pointwise"), ("[64, 32, 3, 3]", 2, "dense")],
)
def test_convolutions_are_told_apart(weight, groups, kind):
    text = f"x: fp16[1, 64, 8, 8]\nw: fp16{weight} = const()\n"
    view = graph(text + f"y: fp16[1, 64, 8, 8] = conv(x=x, weight=w, groups={groups})")
    assert demands_of(view, 10**6)[0].kind == kind


def test_every_family_has_constants_and_every_constant_a_source():
    facts = constants()
    assert set(facts["families"]) == set(load_hardware().families)
    for family in facts["families"]:
        assert load_roofline(family).peak_tflops > 0
        for name, entry in (facts["defaults"] | facts["families"][family]).items():
            assert set(entry) == {"value", "confidence", "source"}, (family, name)
            assert entry["confidence"] in tuple("HMLD") and len(entry["source"]) > 10, (family, name)
            assert entry["value"] > 0


def test_later_families_are_not_slower():
    view = graph(CONV)
    times = [estimate_cost(view, [], family).time_ms for family in sorted(constants()["families"])]
    assert times == sorted(times, reverse=True) and times[0] > times[-1]


def test_the_calibration_says_when_no_figure_of_the_family_was_seen():
    assert "22 of them on H13" in load_roofline("H13").calibration
    assert "none on H16" in load_roofline("H16").calibration


def test_an_unknown_family_is_a_usage_error():
    with pytest.raises(UsageError, match="no cost constants for family 'H99'; choose one of: H13"):
        load_roofline("H99")


INTEGERS = """
opset = "iOS17"
x: fp16[1, 64, 32, 32]
q: int8[64, 64, 3, 3] = const()
s: fp16[64] = const()
w: fp16[64, 64, 3, 3] = constexpr_affine_dequantize(quantized_data=q, scale=s)
i: int8[1, 64, 32, 32] = quantize(input=x, scale=0.1, output_dtype="int8")
a: fp16[1, 64, 32, 32] = dequantize(input=i, scale=0.1)
y: fp16[1, 64, 32, 32] = conv(x=a, weight=w, groups=1)
"""


def test_products_of_integers_have_a_rate_of_their_own_and_read_the_integers():
    quantize, dequantize, conv = demands_of(graph(INTEGERS), RATES.working_set_bytes)
    assert (quantize.integers, dequantize.integers, conv.integers) == (False, False, True)
    # a row of 32 integers takes up 64 bytes as one of 32 halves does, so the map is as large
    assert quantize.onchip_bytes == 2 * MAP and conv.onchip_bytes == 2 * MAP
    assert dequantize.fused and dequantize.onchip_bytes == dequantize.spilled_bytes == conv.spilled_bytes == 0
    halves = cost(CONV).compute_ms
    assert cost(INTEGERS).compute_ms == pytest.approx(halves / 2)
    assert cost(INTEGERS, replace(RATES, int8_gain=1.0)).compute_ms == pytest.approx(halves)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("constexpr_affine_dequantize(quantized_data=q, scale=s)", "const()"),
        ("conv(x=a", "conv(x=x"),
    ],
)  # fmt: skip
def test_with_one_operand_of_halves_the_rate_is_that_of_halves(old, new):
    text = INTEGERS.replace(old, new)
    assert text != INTEGERS and not any(demand.integers for demand in demands_of(graph(text), 10**6))


def test_integers_that_others_read_as_numbers_are_written_as_such():
    text = INTEGERS + "z: fp16[1, 64, 32, 32] = add(x=a, y=x)\n"
    _, dequantize, conv, _ = demands_of(graph(text), RATES.working_set_bytes)
    assert not dequantize.fused and dequantize.onchip_bytes == 2 * MAP and conv.integers


def test_only_later_families_gain_from_integers():
    assert [load_roofline(family).int8_gain > 1 for family in ("H13", "H14", "H15", "H16", "H17", "H18")] == [
        False, False, False, True, True, True,
    ]  # fmt: skip


def test_rank_correlation_by_hand():
    assert spearman([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert spearman([1, 2, 3], [30, 20, 10]) == pytest.approx(-1)
    # ranks 1 2.5 2.5 4 and 1 3 2 4: covariance 4.5, variances 4.5 and 5
    assert spearman([1, 2, 2, 4], [1, 3, 2, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


@pytest.mark.parametrize("pair", [([1], [2]), ([1, 2], [1]), ([1, 1], [1, 2])])
def test_rank_correlation_of_too_little_is_an_error(pair):
    with pytest.raises(ValueError, match="rank correlation needs"):
        spearman(*pair)
