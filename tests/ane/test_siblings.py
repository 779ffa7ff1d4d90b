"""Siblings of the reported patterns: other sizes, ranks, chips and types, told by the mechanism of a rule."""

from __future__ import annotations

import pytest

from edgesam_export.ane.analyzer import analyze_graph
from edgesam_export.ane.example import read_example
from edgesam_export.ane.render.summary import placement_counts

STATE = """
opset = "iOS18"
k: fp16[{0}] = feature(kind="state")
r: fp16[{0}] = read_state(input=k)
y: fp16[{0}] = relu(x=r)
"""
CONV = "x: fp16[{x}]\nw: fp16[{w}] = const()\ny: fp16[{y}] = conv(x=x, weight=w, {how})"
LINEAR = "x: fp16[1, {0}]\nw: fp16[{1}, {0}] = const()\ny: fp16[1, {1}] = linear(x=x, weight=w)"
FLAT = "x: {0}[1, 1, 1, {1}]\ny: {0}[1, 1, {2}, 100] = reshape(x=x, shape=[1, 1, {2}, 100])"
ONE = "x: fp16[1, 64, 32, 32]\ny: fp16[1, 64, {1}, {1}] = {0}"
BLOCK = """
x: fp16[1, 5120]
w: fp16[17408, 5120] = const()
v: fp16[5120, 17408] = const()
a: fp16[1, 17408] = linear(x=x, weight=w)
b: fp16[1, 17408] = linear(x=x, weight=w)
s: fp16[1, 17408] = silu(x=a)
m: fp16[1, 17408] = mul(x=s, y=b)
y: fp16[1, 5120] = linear(x=m, weight=v)
"""
UPSAMPLED = "upsample_{0}(x=x, scale_factor_height={1}, scale_factor_width={1})"


def conv(x: str, w: str, y: str, how: str) -> str:
    return CONV.format(x=x, w=w, y=y, how=how)


PLACED = {
    # states
    "state of width 48": ("M4", STATE.format("1, 4, 64, 48"), {"rejected": 2}),
    "state of width 1": ("A17 Pro", STATE.format("1, 4, 64, 1"), {"rejected": 2}),
    "state of width 64": ("M4", STATE.format("1, 4, 64, 64"), {"expected": 2}),
    "state of two axes on a chip nobody tried": ("M3", STATE.format("8, 300"), {"at-risk": 2}),
    # long axes
    "products of activations, depth 20000": (
        "M4", "x: fp16[1, 8, 20000]\nk: fp16[1, 20000, 64]\ny: fp16[1, 8, 64] = matmul(x=x, y=k)", {"off": 1}
    ),
    "einsum of depth 32768": (
        "M4",
        "x: fp16[1, 8, 32768]\nk: fp16[1, 64, 32768]\n"
        'y: fp16[1, 8, 64] = einsum(values=[x, k], equation="bik,bjk->bij")',
        {"off": 1},
    ),
    "depth 16384": ("M1", LINEAR.format(16384, 64), {"expected": 1}),
    "depth 16385": ("M1", LINEAR.format(16385, 64), {"off": 1}),
    "a 1 x 1 convolution of 20000 channels": (
        "M4", conv("1, 20000, 1, 8", "64, 20000, 1, 1", "1, 64, 1, 8", 'pad_type="valid"'), {"at-risk": 1}
    ),
    "a 3 x 3 convolution of 2560 channels": (
        "M4", conv("1, 2560, 8, 8", "1280, 2560, 3, 3", "1, 1280, 8, 8", 'pad_type="same"'), {"expected": 1}
    ),
    "vocabulary of 32000": ("iPhone 14", LINEAR.format(896, 32000), {"expected": 1}),
    "vocabulary of 151936": ("M4", LINEAR.format(896, 151936), {"off": 1}),
    "a gated block of 17408 features": ("M3 Max", BLOCK, {"expected": 4, "off": 1}),
    "input of 20000 on H14": ("iPhone 14", FLAT.format("fp16", 20000, 200), {"off": 1}),
    "input of 20000 on H16": ("M4", FLAT.format("fp16", 20000, 200), {"expected": 1}),
    "input of 240000 on H16": ("M4", FLAT.format("fp16", 240000, 2400), {"off": 1}),
    # kernels
    "patches of 14 on H13": (
        "M1", conv("1, 3, 518, 518", "384, 3, 14, 14", "1, 384, 37, 37", 'strides=[14, 14], pad_type="valid"'),
        {"expected": 1},
    ),
    "patches of 32, no padding written out": (
        "iPhone 14",
        conv("1, 3, 64, 64", "768, 3, 32, 32", "1, 768, 2, 2", 'strides=[32, 32], pad_type="custom", pad=[0, 0, 0, 0]'),
        {"expected": 1},
    ),
    "overlapping patches of 16": (
        "iPhone 14", conv("1, 3, 224, 224", "768, 3, 16, 16", "1, 768, 27, 27", 'strides=[8, 8], pad_type="valid"'),
        {"off": 1},
    ),
    "patches along one axis": (
        "M2", conv("1, 80, 1600", "512, 80, 16", "1, 512, 100", 'strides=[16], pad_type="valid"'), {"expected": 1}
    ),
    "depthwise 31 x 31": (
        "M2", conv("1, 128, 64, 64", "128, 1, 31, 31", "1, 128, 64, 64", 'groups=128, pad_type="same"'), {"off": 1}
    ),
    "transposed 16 by 8": (
        "M4",
        "x: fp16[1, 256, 128]\nw: fp16[256, 128, 16] = const()\n"
        'y: fp16[1, 128, 1024] = conv_transpose(x=x, weight=w, strides=[8], pad_type="custom", pad=[4, 4])',
        {"expected": 1},
    ),
    "transposed 32 by 16": (
        "M4",
        "x: fp16[1, 256, 128]\nw: fp16[256, 128, 32] = const()\n"
        'y: fp16[1, 128, 2048] = conv_transpose(x=x, weight=w, strides=[16], pad_type="custom", pad=[8, 8])',
        {"off": 1},
    ),
    # single operations and families
    "cosine on H14": ("iPhone 14", ONE.format("cos(x=x)", 32), {"off": 1}),
    "cosine on H15": ("iPhone 15", ONE.format("cos(x=x)", 32), {"expected": 1}),
    "ceil on H13": ("M1", ONE.format("ceil(x=x)", 32), {"at-risk": 1}),
    "ceil on H14": ("M2", ONE.format("ceil(x=x)", 32), {"expected": 1}),
    "instance norm on H13": ("iPhone 12", ONE.format("instance_norm(x=x, epsilon=0.001)", 32), {"at-risk": 1}),
    "instance norm on H14": ("iPhone 13", ONE.format("instance_norm(x=x, epsilon=0.001)", 32), {"expected": 1}),
    "nearest by 4 on H13": ("M1", ONE.format(UPSAMPLED.format("nearest_neighbor", 4.0), 128), {"expected": 1}),
    "bilinear by 2 on H13": ("M1", ONE.format(UPSAMPLED.format("bilinear", 2.0), 64), {"expected": 1}),
    "bilinear by 1.5 on H13": ("M1", ONE.format(UPSAMPLED.format("bilinear", 1.5), 48), {"at-risk": 1}),
    # large values
    "scores of 402 MB": (
        "M2", "q: fp16[12, 4096, 64]\nk: fp16[12, 64, 4096]\ns: fp16[12, 4096, 4096] = matmul(x=q, y=k)", {"at-risk": 1}
    ),
    "scores of 90 MB": (
        "M2",
        "q: fp16[20, 1500, 64]\nk: fp16[20, 64, 1500]\ns: fp16[20, 1500, 1500] = matmul(x=q, y=k)",
        {"expected": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACED)
def test_a_sibling_is_placed_as_its_mechanism_says(name):
    target, text, expected = PLACED[name]
    counts = placement_counts(analyze_graph(read_example(text)[0], target=target))
    assert {placement: count for placement, count in counts.items() if count} == expected


NORM = """
x: fp16[1, 128, 1024]
p: fp16[1, 128, 1024] = {square}
m: fp16[1, 128, 1] = reduce_mean(x=p, axes=[-1], keep_dims=True)
a: fp16[1, 128, 1] = add(x=m, y={epsilon})
r: fp16[1, 128, 1] = rsqrt(x=a, epsilon=1e-12)
"""
NUMERICS = {
    "the model's epsilon alone": (NORM.format(square="mul(x=x, y=x)", epsilon=1e-6), [("N02", "a")]),
    "a normal epsilon": (NORM.format(square="pow(x=x, y=2.0)", epsilon=1e-3), []),
    "a root of anything": ("x: fp16[1, 8]\nr: fp16[1, 8] = rsqrt(x=x, epsilon=1e-12)", [("N02", "r")]),
    "a root of what is clipped": (
        "x: fp16[1, 8]\nc: fp16[1, 8] = clip(x=x, alpha=0.01, beta=1e38)\nr: fp16[1, 8] = rsqrt(x=c, epsilon=1e-12)", []
    ),
    "a root of what is added to something negative": (
        "x: fp16[1, 8]\na: fp16[1, 8] = add(x=x, y=-1.0)\nr: fp16[1, 8] = rsqrt(x=a, epsilon=1e-12)", [("N02", "r")]
    ),
    "an infinite bound that bounds nothing": ("x: fp16[1, 8]\nc: fp16[1, 8] = clip(x=x, alpha=0.0, beta=1e39)", []),
    "an infinite mask": ("x: fp16[1, 8]\nc: fp16[1, 8] = add(x=x, y=-1e39)", [("N01", "c")]),
    "batch norm of a known variance": (
        "x: fp16[1, 8, 4, 4]\nv: fp16[8] = const(0.5)\n"
        "y: fp16[1, 8, 4, 4] = batch_norm(x=x, mean=v, variance=v, epsilon=1e-5)", []
    ),
    "batch norm of a vanishing variance": (
        "x: fp16[1, 8, 4, 4]\nv: fp16[8] = const(0.00001)\n"
        "y: fp16[1, 8, 4, 4] = batch_norm(x=x, mean=v, variance=v, epsilon=1e-5)", [("N02", "y")]
    ),
    "an FP32 output of an FP32 tail": (
        "x: fp16[1, 64, 32, 32]\nb: fp16[1, 64, 32, 32] = relu(x=x)\nm: fp16[1, 64] = reduce_max(x=b, axes=[2, 3])\n"
        'c: fp32[1, 64] = cast(x=m, dtype="fp32")\ny: fp32[1, 64] = sigmoid(x=c)', []
    ),
    "an FP32 output of the ANE": (
        'x: fp16[1, 64]\na: fp16[1, 64] = relu(x=x)\ny: fp32[1, 64] = cast(x=a, dtype="fp32")', [("N11", "y")]
    ),
    "an FP32 output of what is off the ANE": (
        'x: fp16[1, 64]\na: fp16[1, 64] = cumsum(x=x, axis=1)\ny: fp32[1, 64] = cast(x=a, dtype="fp32")', []
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMERICS)
def test_a_sibling_of_a_number_that_fp16_lacks_is_told_by_what_it_does(name):
    text, expected = NUMERICS[name]
    findings = analyze_graph(read_example(text)[0], target="M4").findings
    watched = ("N01", "N02", "N11")
    assert [(f.rule, f.operation) for f in findings if f.rule in watched] == expected
    assert all(f.severity == "warning" for f in findings if f.rule == "N02")
