"""Rules about FP16: what overflows, vanishes or loses precision. Those with a measured range need ``ranges``."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from edgesam_export.ane.graph import GraphView, Node
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.ane.rules.normalization import is_square, roots
from edgesam_export.hardware import Limits
from edgesam_export.mil.op_kinds import ops_with


def peak(graph: GraphView, node: Node) -> float | None:
    """Return the magnitude measured at a node, None when nobody measured it."""
    return graph.ranges.get(node.label, graph.ranges.get(node.name))


def is_fp16(node: Node) -> bool:
    return any(value.dtype == "fp16" for value in node.outputs)


def largest(array: np.ndarray) -> float:
    return float(np.abs(array).max()) if array.size else 0.0


@rule(
    id="N01",
    severity="error",
    evidence="documented",
    concerns="numerics",
    source="coremltools, quantization.py; apple/coreai-models, neural_engine_rules.md and common_issues.md",
    flags="""
    x: fp16[1, 8, 32]
    y: fp16[1, 8, 32] = add(x=x, y=-1e9)  # flagged
    """,
    passes=(
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = add(x=x, y=-10000.0)
        """,
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = clip(x=x, alpha=0.001, beta=1e38)
        """,
    ),
)
def constant_out_of_range(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds constants beyond the FP16 range, infinity included, but for bounds of clip, which bind nothing then.

    Why: coremltools clamps them or skips the operation; minus infinity in an attention mask gives NaN on the engine.

    Instead: -10000 in masks.
    """
    for node in graph.of():
        bounds = [*node.inputs.get("alpha", ()), *node.inputs.get("beta", ())] if node.type == "clip" else []
        for name in node.input_names if is_fp16(node) else ():
            array = None if name in bounds else graph.array(name)
            if isinstance(array, np.ndarray) and array.dtype.kind == "f":
                size = largest(array)
                if not size <= limits.max_fp16:
                    yield Hit(node, f"constant '{name}' holds {size:.4g}, FP16 ends at {limits.max_fp16:.0f}")


@rule(
    id="N02",
    severity="warning",
    evidence="measured",
    concerns="numerics",
    source="sbryngelson/ane-guide part 1/03; john-rocky/CoreML-LLM, PROBE_GEMMA4_VISION_ANE; norms with 1e-6 and 1e-5 "
    "are in use on the ANE (FluidInference/mobius#77, onnxsim/onnxsim#1400): hence a warning",
    flags=(
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = rsqrt(x=x, epsilon=1e-6)  # flagged
        """,
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = layer_norm(x=x, axes=[1], epsilon=1e-6)  # flagged
        """,
    ),
    passes=(
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = layer_norm(x=x, axes=[1], epsilon=0.0001)
        """,
        """
        x: fp16[1, 8, 32]
        a: fp16[1, 8, 32] = add(x=x, y=0.001)
        y: fp16[1, 8, 32] = rsqrt(x=a, epsilon=1e-12)
        """,
    ),
)
def tiny_epsilon(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds single constants below the normal FP16 range, but for an operation's own epsilon that has nothing to do.

    Why: Such numbers may be flushed to zero, so that rsqrt(0 + eps) becomes infinite. Below 6e-8 they are zero already.
    It depends on the values whether that happens. coremltools gives rsqrt and log an epsilon that no model has; behind
    an added constant, a mean of squares or an exponential it does nothing.

    Instead: An epsilon of 1e-4, or a larger scale before the norm and a parity check.
    """
    for node in graph.of():
        if not is_fp16(node):
            continue
        for key, names in node.inputs.items():
            value = graph.array(names[0]) if len(names) == 1 else None
            if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or graph.values[names[0]].elements > 1:
                continue
            size = largest(value)
            if 0 < size < limits.min_normal_fp16 and not (key == "epsilon" and is_idle_epsilon(graph, node)):
                fate = "becomes 0" if size < limits.min_fp16 else "is subnormal"
                yield Hit(node, f"{key} {size:.2g} {fate} in FP16")


def is_idle_epsilon(graph: GraphView, node: Node) -> bool:
    """Return whether the epsilon of an operation has nothing to do: what it is added to stays away from 0."""
    if node.type == "batch_norm":
        variance = graph.array(next(iter(node.inputs.get("variance", ())), ""))
        smallest = float(variance.min(initial=np.inf)) if isinstance(variance, np.ndarray) else 0.0
        return smallest > float(np.finfo(np.float16).tiny)
    if node.type == "log":
        return True  # N05 names logarithms of operands that may be 0, with or without an epsilon
    return node.type in ("inverse", "rsqrt") and any(keeps_off_zero(graph, maker) for maker in graph.before(node))


def keeps_off_zero(graph: GraphView, node: Node) -> bool:
    """Return whether a result stays away from 0: a positive constant is added or bounds it, or it sums up squares."""
    if node.type in ("exp", "exp2", "sigmoid", "softplus", "cosh") or is_square(graph, node):
        return True
    if node.type in ("add", "maximum", "clip"):
        bounds = (graph.number(node, key, 0.0) for key in ("x", "y", "alpha"))
        if any(isinstance(bound, float) and bound > 0 for bound in bounds):
            return True
    if node.type not in ("add", "maximum", "reduce_mean", "reduce_sum", "squeeze", "reshape"):
        return node.type == "reduce_sum_square"
    return any(keeps_off_zero(graph, maker) for maker in graph.before(node))


@rule(
    id="N03",
    severity="warning",
    evidence="documented",
    concerns="numerics",
    source="coremltools, frontend/torch/ops.py (rms_norm); sbryngelson/ane-guide part 1/03",
    flags=(
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = square(x=x)  # flagged
        """,
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = mul(x=x, y=x)  # flagged
        ranges = {"y": 300.0}
        """,
    ),
    passes=(
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = square(x=x)
        ranges = {"y": 20.0}
        """,
        """
        x: fp16[1, 8, 32]
        z: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = mul(x=x, y=z)
        """,
        """
        x: fp16[1, 8, 32]
        m: fp16[1, 8, 1] = reduce_max(x=x, axes=[-1], keep_dims=True)
        d: fp16[1, 8, 32] = sub(x=x, y=m)
        e: fp16[1, 8, 32] = exp(x=d)
        y: fp16[1, 8, 32] = mul(x=e, y=e)
        """,
    ),
)
def bare_square(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds squares of FP16 values, unless these are at most 1, were measured small, or A33 already names the norm.

    Why: They overflow from a magnitude of 256 on.

    Instead: Scale before and after, or use layer_norm.
    """
    named = {square.index for _, squares in roots(graph) for square in squares}
    for node in graph.of("square", "pow", "mul"):
        if is_square(graph, node) and node.index not in named and is_fp16(node) and not is_share(graph, node):
            size = peak(graph, node)
            if size is None or size > limits.max_squarable:
                magnitude = "unknown magnitude" if size is None else f"magnitude {size:.4g}"
                yield Hit(node, f"squares an operand of {magnitude}; FP16 overflows beyond {limits.max_squarable:.0f}")


def is_share(graph: GraphView, node: Node) -> bool:
    """Return whether a node's first operand lies between 0 and 1: a softmax, a sigmoid, or exp(x - max(x))."""
    made = graph.producer(node.input_names[0])
    if made is None or made.type != "exp":
        return made is not None and made.type in ("softmax", "sigmoid")
    shifted = graph.producer(made.input_names[0])
    if shifted is None or shifted.type != "sub":
        return False
    value, shift = graph.operand(shifted, "x"), graph.operand(shifted, "y")
    largest = graph.producer(shift.name) if value is not None and shift is not None else None
    return largest is not None and largest.type == "reduce_max" and graph.operand(largest, "x") == value


@rule(
    id="N04",
    severity="error",
    evidence="measured",
    concerns="numerics",
    source="ANEForge docs/numeric-cliffs.md, M1 to M5",
    flags="""
    x: fp16[1, 8, 32, 32]
    w: fp16[8, 8, 3, 3] = const()
    y: fp16[1, 8, 32, 32] = conv(x=x, weight=w, pad_type="same")  # flagged
    ranges = {"y": 40000.0}
    """,
    passes=(
        """
        x: fp16[1, 8, 32, 32]
        w: fp16[8, 8, 3, 3] = const()
        y: fp16[1, 8, 32, 32] = conv(x=x, weight=w, pad_type="same")
        ranges = {"y": 400.0}
        """,
        """
        x: fp16[1, 8, 32, 32]
        w: fp16[8, 8, 3, 3] = const()
        y: fp16[1, 8, 32, 32] = conv(x=x, weight=w, pad_type="same")
        """,
    ),
)
def saturating_sum(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds convolutions and products whose measured output comes near 2^15. Needs measured ranges.

    Why: The engine's accumulator saturates there, not at 65504.

    Instead: Smaller weights here and a larger scale after.
    """
    for node in graph.of(*ops_with("accumulator")):
        size = peak(graph, node)
        if size is not None and size >= limits.saturation:
            yield Hit(node, f"reaches {size:.5g}; the ANE saturates near {limits.saturation:.0f}")


def is_bounded(graph: GraphView, node: Node) -> bool:
    """Return whether the operand of an exponential is cut off, or has its largest element subtracted."""
    for maker in graph.before(node):
        if maker.type in ("clip", "minimum"):
            return True
        if maker.type == "sub":
            around = [*graph.before(maker), *(before for near in graph.before(maker) for before in graph.before(near))]
            return any(near.type == "reduce_max" for near in around)
    return False


@rule(
    id="N05",
    severity="warning",
    evidence="measured",
    concerns="numerics",
    source="apple/coremltools issues 2687, 2725, 2726, 2728 and 2814; Apple developer forum 831370",
    flags=(
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = exp(x=x)  # flagged
        """,
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = softplus(x=x)  # flagged
        """,
    ),
    passes=(
        """
        x: fp16[1, 8, 32]
        m: fp16[1, 1, 32] = reduce_max(x=x, axes=[1], keep_dims=True)
        d: fp16[1, 8, 32] = sub(x=x, y=m)
        y: fp16[1, 8, 32] = exp(x=d)
        """,
        """
        x: fp16[1, 8, 32]
        y: fp16[1, 8, 32] = exp(x=x)
        ranges = {"y": 3.0}
        """,
    ),
)
def unbounded_exponential(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds exponentials and logarithms of operands that nothing bounds.

    Why: exp overflows FP16 beyond 11.09; softplus and logarithms gave infinity or wrong numbers on the engine. Small
    probabilities of a softmax are 0 in FP16, and their logarithm is minus infinity.

    Instead: Subtract the maximum first, use softmax, clip before the logarithm.
    """
    for node in graph.of(*ops_with("exponential"), "log"):
        if not is_fp16(node):
            continue
        size = peak(graph, node)
        small = size is not None and size <= limits.max_exponent and node.type != "log"
        if small or is_bounded(graph, node):
            continue
        if node.type == "log" and any(maker.type in ("add", "maximum") for maker in graph.before(node)):
            continue
        reached = "" if size is None else f" (measured {size:.4g})"
        yield Hit(node, f"{node.type} of an unbounded operand{reached}; subtract the maximum or clip")


@rule(
    id="N06",
    severity="warning",
    evidence="documented",
    concerns="numerics",
    source="apple/coreai-models, common_issues.md",
    flags="""
    x: fp32[1, 8, 32]
    a: fp16[1, 8, 32] = cast(x=x, dtype="fp16")
    y: fp16[1, 8, 32] = silu(x=a)  # flagged
    """,
    passes="""
    x: fp16[1, 8, 32]
    s: fp16[1, 8, 32] = sigmoid(x=x)
    y: fp16[1, 8, 32] = mul(x=x, y=s)
    """,
)
def activation_between_casts(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds silu and tanh next to casts.

    Why: Their lowering may add FP32 operations.

    Instead: x * sigmoid(x), and 2 * sigmoid(2 x) - 1.
    """
    for node in graph.of("silu", "tanh"):
        if any(near.type == "cast" for near in [*graph.before(node), *graph.after(node)]):
            yield Hit(node, f"{node.type} next to a cast may become FP32; write it with sigmoid")


@rule(
    id="N07",
    severity="info",
    evidence="folklore",
    concerns="numerics",
    source="cadamcat/llms-on-apple-neural-engine",
    flags="""
    s: fp16[1, 8, 16, 4096]
    p: fp16[1, 8, 16, 4096] = softmax(x=s, axis=-1)
    v: fp16[1, 8, 4096, 32]
    y: fp16[1, 8, 16, 32] = matmul(x=p, y=v)  # flagged
    """,
    passes="""
    s: fp16[1, 8, 16, 256]
    p: fp16[1, 8, 16, 256] = softmax(x=s, axis=-1)
    v: fp16[1, 8, 256, 32]
    y: fp16[1, 8, 16, 32] = matmul(x=p, y=v)
    """,
)
def small_probabilities(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds products of values with attention probabilities over thousands of keys.

    Why: Probabilities near 2e-4 were seen to cost about 5 % of the result.

    Instead: Leave out the division of softmax and divide the product, or scale the probabilities by 64.
    """
    for node in graph.of("matmul"):
        for maker in graph.before(node):
            if maker.type == "softmax" and maker.output.rank:
                keys = maker.output.extent(graph.number(maker, "axis", -1))
                if keys >= limits.many_keys:
                    yield Hit(node, f"probabilities over {keys} keys are small in FP16; normalise after the product")


@rule(
    id="N08",
    severity="info",
    evidence="folklore",
    concerns="numerics",
    source="sbryngelson/ane-guide part 1/04",
    flags="""
    x: fp16[1, 8, 64, 64]
    y: fp16[1, 8, 1, 1] = reduce_sum(x=x, axes=[2, 3], keep_dims=True)  # flagged
    """,
    passes="""
    x: fp16[1, 8, 8, 8]
    y: fp16[1, 8, 1, 1] = reduce_mean(x=x, axes=[2, 3], keep_dims=True)
    """,
)
def long_reduction(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds sums and means over many elements.

    Why: The result is FP16 however wide the accumulation is, and long reductions take a tiled route.

    Instead: A mean instead of a sum; in two steps when precision matters.
    """
    for node in graph.of("reduce_sum", "reduce_mean", "reduce_sum_square", "reduce_l1_norm", "reduce_l2_norm"):
        x = graph.operand(node, "x")
        axes = graph.numbers(node, "axes", range(x.rank)) if x else []
        extent = math.prod(x.extent(axis) for axis in axes) if x else 0
        if extent > limits.long_reduction and is_fp16(node):
            yield Hit(node, f"{node.type} over {extent} elements; check the range, or reduce in two steps")
