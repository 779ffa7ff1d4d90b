"""Rules about convolutions and pooling."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node, Value
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits
from edgesam_export.mil.op_kinds import ops_with


def made_of(number: int, factors: list[int]) -> bool:
    """Return whether a number is a product of these factors, or 1."""
    for factor in factors:
        while number > 1 and number % factor == 0:
            number //= factor
    return number == 1


def kernel_of(graph: GraphView, node: Node) -> tuple[int, int]:
    """Return height and width of a convolution's kernel; height 1 for a 1-D one."""
    weight = graph.operand(node, "weight")
    return last_two(weight.sizes[2:] if weight else ())


def input_extent(x: Value | None) -> tuple[int, int]:
    return last_two(x.sizes[2:] if x else ())


def last_two(extents: tuple[int, ...]) -> tuple[int, int]:
    """Return the last two extents, 1 where there are fewer."""
    height, width = (1, 1, *extents)[-2:]
    return height, width


@rule(
    id="A16",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="sbryngelson/ane-guide part 5/17 (H13; disputed from H14 on); apple/coreai-models, neural_engine_rules.md; "
    "roboflow/rf-detr#1495 (patches of 16)",
    flags=(
        """
        x: fp16[1, 8, 64, 64]
        w: fp16[8, 8, 1, 31] = const()
        y: fp16[1, 8, 64, 64] = conv(x=x, weight=w, pad_type="same")  # flagged
        """,
        """
        x: fp16[1, 8, 64, 64]
        w: fp16[8, 8, 9, 9] = const()
        y: fp16[1, 8, 64, 64] = conv(x=x, weight=w, pad_type="same")  # flagged
        """,
    ),
    passes=(
        """
        x: fp16[1, 8, 64, 64]
        w: fp16[8, 8, 7, 7] = const()
        y: fp16[1, 8, 64, 64] = conv(x=x, weight=w, pad_type="same")
        """,
        """
        x: fp16[1, 3, 512, 512]
        w: fp16[64, 3, 16, 16] = const()
        y: fp16[1, 64, 32, 32] = conv(x=x, weight=w, strides=[16, 16], pad_type="valid")
        """,
    ),
)
def large_kernel(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds convolution kernels beyond the engine's extent, larger than their input, or (a warning) wide; not those of
    patch embeddings, which are as large as their stride.

    Why: The first two are rejected; kernels wider than seven are slow. With a stride as large as the kernel every
    element is read once: a rearrangement and a product, which stays on the engine with 16 x 16 patches.

    Instead: Two smaller kernels one after the other, or a separable pair.
    """
    for node in graph.of("conv"):
        height, width = kernel_of(graph, node)
        x = graph.operand(node, "x")
        unpadded = graph.text(node, "pad_type") == "valid"
        if is_patch_embedding(graph, node):
            continue
        if width > limits.max_kernel_width or height > limits.max_kernel_height:
            allowed = f"{limits.max_kernel_height} x {limits.max_kernel_width}"
            yield Hit(node, f"kernel {height} x {width}, the ANE takes {allowed}; split it")
        elif x and x.is_static and unpadded and exceeds((height, width), input_extent(x)):
            yield Hit(node, f"kernel {height} x {width} is larger than its input {x}")
        elif width > limits.fast_kernel_width:
            note = f"kernel {height} x {width}: wider than {limits.fast_kernel_width} is slow"
            yield Hit(node, note, severity="warning", off=False)


def is_patch_embedding(graph: GraphView, node: Node) -> bool:
    """Return whether a convolution cuts its input into patches: a stride as large as the kernel, nothing padded."""
    strides = tuple(graph.numbers(node, "strides", [1]))
    kind, extent = graph.text(node, "pad_type", "valid"), input_extent(graph.operand(node, "x"))
    padded = kind.startswith("same") or (kind == "custom" and any(graph.numbers(node, "pad")))
    dense = max(graph.numbers(node, "dilations", [1]), default=1) == 1
    kernel = kernel_of(graph, node)
    cuts = last_two(strides) == kernel and max(kernel) > 1
    return cuts and dense and not padded and not exceeds(kernel, extent)


def exceeds(kernel: tuple[int, int], extent: tuple[int, int]) -> bool:
    return any(size > room for size, room in zip(kernel, extent))


@rule(
    id="A17",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md",
    flags="""
    x: fp16[1, 8, 160, 160]
    w: fp16[8, 8, 5, 5] = const()
    y: fp16[1, 8, 32, 32] = conv(x=x, weight=w, strides=[5, 5], pad_type="same")  # flagged
    """,
    passes="""
    x: fp16[1, 8, 128, 128]
    w: fp16[8, 8, 4, 4] = const()
    y: fp16[1, 8, 32, 32] = conv(x=x, weight=w, strides=[4, 4], pad_type="same")
    """,
)
def awkward_stride(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds convolution strides that are no product of twos and threes, uneven ones, and large ones on look-up tables.

    Why: They are decomposed, or the weights are unpacked first.

    Instead: Strides of 1, 2, 3, 4, the same both ways.
    """
    for node in graph.of("conv"):
        strides = graph.numbers(node, "strides", [1])
        weight = next(iter(node.inputs.get("weight", ())), "")
        palettized = any(maker.type.startswith("constexpr_lut") for maker in graph.unpacking.get(weight, ()))
        if not all(made_of(stride, limits.native_factors) for stride in strides):
            yield Hit(node, f"strides {strides} are no products of 2 and 3")
        elif len(set(strides)) > 1 and max(strides, default=1) > limits.max_uneven_stride:
            yield Hit(node, f"strides {strides} differ; use the same both ways")
        elif palettized and max(strides, default=1) > limits.max_palettized_stride:
            yield Hit(node, f"strides {strides} with a palettized weight; leave this weight in FP16")


@rule(
    id="A18",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md; sbryngelson/ane-guide part 7/24",
    flags="""
    x: fp16[1, 8, 64, 64]
    w: fp16[8, 8, 3, 3] = const()
    y: fp16[1, 8, 64, 64] = conv(x=x, weight=w, dilations=[5, 5], pad_type="same")  # flagged
    """,
    passes="""
    x: fp16[1, 8, 64, 64]
    w: fp16[8, 8, 3, 3] = const()
    y: fp16[1, 8, 64, 64] = conv(x=x, weight=w, dilations=[2, 2], pad_type="same")
    """,
)
def awkward_dilation(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds dilations that are large or no product of twos and threes.

    Why: They are expressed by rearranging the input in space.

    Instead: Dilations of 2 or 3, or a strided convolution before.
    """
    for node in graph.of(*ops_with("convolution")):
        dilations = graph.numbers(node, "dilations", [1])
        if max(dilations, default=1) > limits.max_native_dilation or not all(
            made_of(d, limits.native_factors) for d in dilations
        ):
            yield Hit(node, f"dilations {dilations}; use 2 or 3")


@rule(
    id="A19",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="apple/coremltools issues 2450 and 2281; pytorch/executorch issue 11705; "
    "coremltools, optimize_conv.py (output_shape is always added); FluidAudio, ANE_Profiler.md (20 by 10 on an M5)",
    flags=(
        """
        x: fp16[1, 8, 16, 16]
        w: fp16[8, 8, 16, 16] = const()
        y: fp16[1, 8, 256, 256] = conv_transpose(x=x, weight=w, strides=[16, 16], pad_type="valid")  # flagged
        """,
        """
        x: fp16[1, 8, 32, 32]
        w: fp16[8, 8, 2, 2] = const()
        y: fp16[1, 8, 65, 65] = conv_transpose(x=x, weight=w, strides=[2, 2], pad_type="valid", output_shape=[1, 8, 65, 65])  # flagged
        """,  # noqa: E501
    ),
    passes="""
    x: fp16[1, 8, 32, 32]
    w: fp16[8, 8, 2, 2] = const()
    y: fp16[1, 8, 64, 64] = conv_transpose(x=x, weight=w, strides=[2, 2], pad_type="valid", output_shape=[1, 8, 64, 64])
    """,
)
def awkward_transposed_convolution(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds transposed convolutions with large strides or many taps; a warning for uneven kernels and output padding.

    Why: Stride 16 failed on the engine, output padding failed to compile or gave other numbers there than on the CPU. A
    result has kernel / stride taps along an axis, so that a kernel of 20 with stride 10 is small, and stays.

    Instead: Kernel equal to stride, no output padding; or a 1 x 1 convolution and a pixel shuffle.
    """
    for node in graph.of("conv_transpose"):
        strides = graph.numbers(node, "strides", [1, 1])
        kernel = list(kernel_of(graph, node))[-len(strides) :]
        taps = [-(-size // max(stride, 1)) for size, stride in zip(kernel, strides)]
        if max(strides) > limits.max_transposed_stride or max(taps, default=1) > limits.max_kernel_width:
            yield Hit(node, f"kernel {kernel}, strides {strides}; use smaller steps, or a pixel shuffle")
        elif pads_output(graph, node):
            note = f"output {node.output} is not what kernel and strides give (output padding)"
            yield Hit(node, note, severity="warning")
        elif kernel != strides:
            yield Hit(node, f"kernel {kernel} differs from strides {strides}", severity="warning", off=False)


def pads_output(graph: GraphView, node: Node) -> bool:
    """Return whether the stated output size differs from the one that kernel, strides and padding give."""
    x, weight = graph.operand(node, "x"), graph.operand(node, "weight")
    if x is None or weight is None or not x.is_static or not node.output.is_static:
        return False
    extents, kernel = x.sizes[2:], weight.sizes[2:]
    count = len(extents)
    strides, dilations = graph.numbers(node, "strides", [1] * count), graph.numbers(node, "dilations", [1] * count)
    kind = graph.text(node, "pad_type", "valid")
    pad = graph.numbers(node, "pad", [0] * 2 * count) if kind == "custom" else [0] * 2 * count
    if not len(kernel) == len(strides) == len(dilations) == count == len(pad) // 2:
        return False
    if kind.startswith("same"):
        derived = [extent * stride for extent, stride in zip(extents, strides)]
    else:
        derived = [
            (extents[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 - pad[2 * i] - pad[2 * i + 1]
            for i in range(count)
        ]
    return list(node.output.sizes[2:]) != derived


@rule(
    id="A20",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="sbryngelson/ane-guide parts 5/17 and 1/04",
    flags=(
        """
        x: fp16[1, 8, 4, 32, 32]
        w: fp16[8, 8, 3, 3, 3] = const()
        y: fp16[1, 8, 4, 32, 32] = conv(x=x, weight=w, pad_type="same")  # flagged
        """,
        """
        x: fp16[1, 96, 32, 32]
        w: fp16[96, 32, 3, 3] = const()
        y: fp16[1, 96, 32, 32] = conv(x=x, weight=w, groups=3, pad_type="same")  # flagged
        """,
    ),
    passes="""
    x: fp16[1, 96, 32, 32]
    w: fp16[96, 1, 3, 3] = const()
    y: fp16[1, 96, 32, 32] = conv(x=x, weight=w, groups=96, pad_type="same")
    """,
)
def awkward_convolution(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds 3-D convolutions and groups that do not divide the channels; a warning for uneven groups, computed weights.

    Why: The first two are rejected. Groups that do not share out evenly among the cores leave some idle; a weight that
    is computed cannot be streamed.

    Instead: 2-D convolutions, depthwise ones, or 2, 4, 8, 16 groups.
    """
    for node in graph.of(*ops_with("convolution")):
        x, weight = graph.operand(node, "x"), graph.operand(node, "weight")
        if x is None or weight is None or x.rank < 3 or weight.rank < 2:
            continue
        groups, inner = graph.number(node, "groups", 1), x.sizes[1]
        outer = node.output.extent(1)
        if x.rank > limits.max_conv_rank:
            yield Hit(node, f"{node.type} of {x.rank} axes; use a 2-D convolution")
        elif inner % groups or outer % groups:
            yield Hit(node, f"{groups} groups do not divide {inner} and {outer} channels")
        elif groups != inner and limits.cores % groups:
            note = f"{groups} groups do not share out evenly among {limits.cores} cores"
            yield Hit(node, note, severity="warning", off=False)
        elif not graph.takes_weight(node, "weight") and x.sizes[0] > 1:
            yield Hit(node, "the weight is computed and the batch is larger than 1", severity="warning")


@rule(
    id="A21",
    severity="warning",
    evidence="documented",
    concerns="speed",
    source="apple/coreai-models, neural_engine_rules.md (strides); sbryngelson/ane-guide part 5/17 (windows)",
    flags="""
    x: fp16[1, 8, 96, 96]
    y: fp16[1, 8, 32, 32] = max_pool(x=x, kernel_sizes=[3, 3], strides=[3, 3], pad_type="valid")  # flagged
    """,
    passes="""
    x: fp16[1, 8, 64, 64]
    y: fp16[1, 8, 32, 32] = max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")
    """,
)
def awkward_pool(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds pooling with strides other than 1, 2, 4 or large windows.

    Why: Other strides cost extra passes, large windows may be rejected.

    Instead: Pool in two steps; a mean over everything is reduce_mean.
    """
    for node in graph.of(*ops_with("pool")):
        strides, window = graph.numbers(node, "strides", [1]), graph.numbers(node, "kernel_sizes", [1])
        if max(window, default=1) > limits.max_pool_window:
            yield Hit(node, f"window {window}, the ANE takes {limits.max_pool_window}; pool in steps")
        elif any(stride not in limits.pool_strides for stride in strides):
            yield Hit(node, f"strides {strides}; {limits.pool_strides} have no overhead")
