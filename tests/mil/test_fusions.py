"""Fusions: every registered pattern gives the bits of the plain operations, and is left when it could not."""

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import count
from pathlib import Path

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil.mil import Builder as mb

from edgesam_export.mil import Program, load_program, memory
from edgesam_export.mil.fusions import FUSIONS
from edgesam_export.spec import NUMERICS

SHAPE = (1, 6, 9, 7)
CALLS = count()


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def weight(outputs: int, inputs: int, kernel: int = 1) -> np.ndarray:
    """A new one at each call: coremltools makes one operation of two that are the same."""
    return normal(outputs, inputs, kernel, kernel) + np.float32(next(CALLS) / 64)


def conv(x, outputs: int = 6, **options):
    inputs, kernel = options.pop("inputs", 6), options.pop("kernel", 1)
    options.setdefault("bias", normal(outputs))
    return mb.conv(x=x, weight=weight(outputs, inputs, kernel), **options)


def residual(x):
    return mb.add(x=x, y=conv(x))


def depthwise(x):
    return mb.gelu(x=mb.conv(x=x, weight=weight(6, 1, 3), groups=6, pad_type="same"), mode="EXACT")


def strided(x):
    return mb.relu(x=conv(x, 8, kernel=3, strides=[2, 2], pad=[1, 1, 1, 1], pad_type="custom"))


def uneven(x):
    return mb.gelu(x=conv(x, 8, kernel=2, pad=[0, 1, 0, 1], pad_type="custom"), mode="EXACT")


def block(x):
    """Two convolutions of single pixels; the value between them is the largest."""
    return mb.add(x=x, y=conv(mb.gelu(x=conv(x, 12), mode="EXACT"), inputs=12))


def overwritten(x):
    """A residual that dies in the sum, one that lives on in a view, and one that the convolution itself reads."""
    first = conv(x)
    second = mb.add(x=first, y=conv(mb.gelu(x=conv(first), mode="EXACT")))
    view = mb.reshape(x=second, shape=[1, 6, 63])
    third = mb.add(x=conv(second), y=second)
    return mb.add(x=mb.reshape(x=third, shape=[1, 6, 63]), y=view)


def over_its_residual(x):
    """The residual dies in the block: bands are written over it."""
    first = conv(x)
    return mb.add(x=conv(mb.gelu(x=conv(first, 12), mode="EXACT"), inputs=12), y=first)


def squeezed(x):
    """A value that a mean reads, and then a product for the last time."""
    y = conv(x)
    return mb.mul(x=y, y=mb.sigmoid(x=mb.reduce_mean(x=y, axes=[2, 3], keep_dims=True)))


def normalised(x):
    """Constants of a channel each, which are laid out as a row of pixels for the convolution behind."""
    mean, scale, shift = (normal(1, 6, 1, 1) + np.float32(index) for index in (1, 2, 3))
    return conv(mb.sub(x=mb.mul(x=mb.sub(x=x, y=mean), y=scale), y=shift))


def gated(x):
    """A gate of one number for each channel, and an operation on all values."""
    y = conv(x)
    gate = mb.sigmoid(x=mb.reduce_mean(x=y, axes=[2, 3], keep_dims=True))
    return mb.relu(x=mb.mul(x=gate, y=y))


def read_again(x):
    """The operand of the first operation is read once more, by the second one."""
    y = conv(x)
    scale = mb.sigmoid(x=mb.reduce_mean(x=y, axes=[2, 3], keep_dims=True))
    return mb.add(x=mb.mul(x=y, y=scale), y=y)


def of_one_element(x):
    """A value of one element dies in a product with a number; the sum behind has another operand of that shape."""
    first, second = (mb.reduce_mean(x=conv(x), axes=[1, 2, 3], keep_dims=True) for _ in range(2))
    return mb.mul(x=x, y=mb.add(x=mb.mul(x=mb.add(x=first, y=second), y=np.float32(3)), y=second))


def of_the_mean(operation: Callable, axes: list[int]) -> Callable:
    return lambda x: operation(x=conv(x), y=mb.reduce_mean(x=x, axes=axes, keep_dims=True))


PATTERNS: dict[str, tuple[Callable, str]] = {
    # a program, and the operations of a step that its plan must have
    "gelu": (lambda x: mb.gelu(x=conv(x), mode="EXACT"), "conv+gelu"),
    "relu": (lambda x: mb.relu(x=conv(x)), "conv+relu"),
    "no bias": (lambda x: mb.relu(x=conv(x, bias=None)), "conv+relu"),
    "depthwise": (depthwise, "conv+gelu"),
    "strided": (strided, "conv+relu"),
    "uneven padding": (uneven, "conv+gelu"),
    "residual": (residual, "conv+add"),
    "residual, rectified": (lambda x: mb.relu(x=mb.add(x=conv(x), y=x)), "conv+add"),
    "product": (lambda x: mb.mul(x=conv(x), y=x), "conv+mul"),
    "difference": (lambda x: mb.sub(x=conv(x), y=x), "conv+sub"),
    "subtracted": (lambda x: mb.sub(x=x, y=conv(x)), "conv+sub"),
    "broadcast": (of_the_mean(mb.add, [2, 3]), "conv+add"),
    "number": (of_the_mean(mb.mul, [1, 2, 3]), "conv+mul"),
    "constant": (lambda x: mb.add(x=conv(x), y=normal(1, 6, 9, 7)), "conv+add"),
    "overwritten": (overwritten, "conv+add"),
    "block by rows": (block, "conv+gelu+conv+add"),
    "block over its residual": (over_its_residual, "conv+gelu+conv+add"),
    "squeezed": (squeezed, "mul"),
    "read again": (read_again, "mul+add"),
    "one element": (of_one_element, "add+mul+add"),
    "normalised": (normalised, "sub+mul+sub"),
    "gated": (gated, "mul+relu"),
    "elementwise": (lambda x: mb.maximum(x=mb.sub(x=mb.add(x=x, y=x), y=np.float32(1)), y=x), "add+sub+maximum"),
    "norm": (lambda x: mb.gelu(x=mb.layer_norm(x=x, axes=[1]), mode="EXACT"), "layer_norm+gelu"),
    "matmul": (lambda x: mb.add(x=mb.matmul(x=x, y=x, transpose_y=True), y=np.float32(2)), "matmul+add"),
}


def program_of(bodies: dict[str, Callable], folder: Path) -> Program:
    """A program with an output for each body."""

    @mb.program(input_specs=[mb.TensorSpec(SHAPE)], opset_version=ct.target.iOS16)
    def program(x):
        return tuple(mb.identity(x=body(x), name=name) for name, body in bodies.items())

    path = folder / "model.mlpackage"
    ct.convert(program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16).save(str(path))
    return load_program(path)


def identifier(name: str) -> str:
    return name.replace(",", "").replace(" ", "_")


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """All patterns; pieces and bands are so small that there are several, the last one smaller."""
    bodies = {identifier(name): body for name, (body, _) in PATTERNS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "CHUNK", 80)
        patch.setattr(import_module("edgesam_export.mil.fusions.by_rows"), "CHUNK", 200)
        patch.setattr(import_module("edgesam_export.mil.fusions.one_pass"), "LARGE", 1)
        yield program_of(bodies, tmp_path_factory.mktemp("patterns"))


def fused_kinds(program: Program, numerics: str) -> list[str]:
    steps = program.prepare(numerics).block.fused
    return ["+".join(member.operation.type for member in step.members) for step in steps if step.members]


def both_plans(program: Program, feed: dict, numerics: str) -> tuple[dict, dict]:
    """Outputs of the fused plan, and of the plain one that a probe watches."""
    fused = program.predict(feed, numerics=numerics)
    return fused, program.predict(feed, numerics=numerics, probe=lambda *_: None)


@pytest.mark.parametrize("numerics", NUMERICS)
def test_fused_steps_give_the_bits_of_the_plain_operations(patterns: Program, numerics: str) -> None:
    kinds = fused_kinds(patterns, numerics)
    fused, plain = both_plans(patterns, {"x": normal(*SHAPE) * 3}, numerics)
    for name, (_, expected) in PATTERNS.items():
        value = plain[identifier(name)]
        assert any(kind.startswith(expected) for kind in kinds), name
        np.testing.assert_array_equal(fused[identifier(name)], value, err_msg=name)
        assert np.isfinite(value).all() and np.ptp(value) > 0, name


@pytest.mark.parametrize("numerics", NUMERICS)
def test_values_that_are_not_finite_stay_so(patterns: Program, numerics: str) -> None:
    x = normal(*SHAPE)
    x[0, :, 0, 0], x[0, :, 1, 1], x[0, 2, 2, 2], x[0, 3, 3, 3] = np.nan, 6e4, -6e4, np.inf
    fused, plain = both_plans(patterns, {"x": x}, numerics)
    for name in plain:
        np.testing.assert_array_equal(fused[name], plain[name], err_msg=name)
    for name in ("gelu", "relu", "residual_rectified"):
        assert np.isnan(fused[name][0, :, 0, 0]).all(), name


def test_a_probe_sees_every_value(patterns: Program) -> None:
    seen: set[str] = set()
    patterns.predict({"x": normal(*SHAPE)}, probe=lambda _, name, value: seen.add(name))
    assert seen == {output.name for op in patterns.operations if not op.is_constant for output in op.outputs}


def test_a_value_that_two_operations_read_is_not_fused_away(tmp_path: Path) -> None:
    def shared(x):
        y = conv(x)
        return mb.add(x=mb.gelu(x=y, mode="EXACT"), y=mb.sigmoid(x=y))

    assert "conv+gelu" not in fused_kinds(program_of({"out": shared}, tmp_path), "fp32")


def test_neither_feed_nor_constants_are_overwritten(patterns: Program) -> None:
    x = normal(*SHAPE)
    first = patterns.predict({"x": x}, numerics="fp32")
    second = patterns.predict({"x": x}, numerics="fp32")
    np.testing.assert_array_equal(x, normal(*SHAPE))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_every_registered_fusion_is_in_a_pattern() -> None:
    kinds = [kind.split("+") for _, kind in PATTERNS.values()]
    for name in FUSIONS:
        fusion = FUSIONS[name]
        assert any(kind[0] in fusion.heads and set(kind[1:]) <= fusion.tails for kind in kinds), name
