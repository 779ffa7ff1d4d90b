"""Rules about operations that the engine does not have."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView
from edgesam_export.ane.report import Severity
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits

UNSUPPORTED = (
    *("acos", "asin", "atan", "atanh", "cosh", "sinh", "tan"),
    *("scatter", "scatter_along_axis", "scatter_nd", "non_zero", "one_hot", "cumsum", "band_part", "mod"),
    *("reduce_prod", "reverse_sequence", "sliding_windows"),
    *("random_bernoulli", "random_categorical", "random_normal", "random_uniform"),
    *("gru", "lstm", "rnn", "cond", "while_loop", "non_maximum_suppression"),
    *("list_gather", "list_length", "list_read", "list_scatter", "list_write", "make_list"),
)
ROUNDING = ("ceil", "floor", "round")


@rule(
    id="A09",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="ANEForge capabilities.json; single-operation probe on M4, macOS 27; "
    "coremltools, frontend/torch/ops.py (scatter); fredyshox/ANECompat (floor, cumsum on M1)",
    flags="""
    x: fp16[1, 64, 32]
    y: fp16[1, 64, 32] = cumsum(x=x, axis=-1)  # flagged
    """,
    passes="""
    x: fp16[1, 64, 32]
    y: fp16[1, 64, 32] = relu(x=x)
    """,
)
def unsupported_operation(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds operations without a path on any family: scatter, control flow, recurrence, random numbers and others; a
    warning for rounding on H13.

    Why: They run on the CPU or GPU, and cut the engine's work in two.

    Instead: Replace assignment by multiplication with a mask, cumulative sums by a product with a triangular matrix,
    and move what depends on data into the app.
    """
    for node in graph.of(*UNSUPPORTED):
        yield Hit(node, f"{node.type} has no path on the ANE; replace it or move it to the program's border")
    for node in () if limits.native_rounding else graph.of(*ROUNDING):
        note = f"{node.type} was seen off the ANE of an M1; round in the app, or at the program's end"
        yield Hit(node, note, severity="warning")


@rule(
    id="A10",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="smpanaro/more-ane-transformers, gather_ops_ane.py; roboflow/rf-detr PR 1495; "
    "john-rocky/CoreML-LLM, PROBE_GEMMA4_VISION_ANE (gather_nd returned zeros)",
    flags="""
    x: fp16[1, 64, 32]
    i: int32[1, 64, 32]
    y: fp16[1, 64, 32] = gather_along_axis(x=x, indices=i, axis=-1)  # flagged
    """,
    passes="""
    x: fp16[1, 64, 32]
    y: fp16[1, 64, 8] = slice_by_size(x=x, begin=[0, 0, 0], size=[1, 64, 8])
    """,
)
def gather_from_activation(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds gather operations on activations; plain gather is a warning.

    Why: gather_nd and gather_along_axis left the engine wherever somebody looked. Plain gather used to; an M4 took it.

    Instead: Slice at fixed positions, or multiply with a constant selection matrix.
    """
    for node in graph.of("gather", "gather_nd", "gather_along_axis"):
        milder: Severity | None = "warning" if node.type == "gather" else None
        yield Hit(node, f"{node.type} of {node.output}; slice, or multiply with a selection matrix", severity=milder)


@rule(
    id="A12",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="sbryngelson/ane-guide part 5/17; FluidInference/mobius#61 (M2); FluidAudio, ANE_Profiler.md (M5)",
    flags="""
    x: fp16[1, 8, 128]
    y: fp16[1, 8, 128] = sin(x=x)  # flagged
    """,
    passes="""
    x: fp16[1, 8, 128]
    y: fp16[1, 8, 128] = sigmoid(x=x)
    """,
)
def trigonometry(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds FP16 sine and cosine of activations; a warning about their exactness where the engine has them.

    Why: They are native from H15 on only, and an FP16 angle of 25 rad is off by up to 1/128: so is the result. On an M2
    they cut the program in pieces; a vocoder full of them stays on an M5.

    Instead: Compute positional encodings in FP32 at the program's border, or in the app.
    """
    for node in graph.of("sin", "cos"):
        if graph.is_fp32(node):
            continue
        text = f"{node.type} in FP16; compute it in FP32 at the border or in the app"
        yield Hit(node, text, severity="warning", off=False) if limits.native_trigonometry else Hit(node, text)


@rule(
    id="A13",
    severity="error",
    evidence="measured",
    concerns="placement",
    source="roboflow/rf-detr PR 1495 (left the engine of an M3 Pro); ANEForge op-quirks (H13)",
    flags="""
    x: fp16[1, 1024]
    y: int32[1, 1024] = argsort(x=x, axis=-1)  # flagged
    """,
    passes="""
    x: fp16[1, 1024]
    y: fp16[1, 1] = reduce_max(x=x, axes=[-1], keep_dims=True)
    """,
)
def sorting(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds topk and argsort.

    Why: They leave the engine.

    Instead: Return the scores and sort them in the app.
    """
    for node in graph.of("topk", "argsort"):
        yield Hit(node, f"{node.type} leaves the ANE; return the values and sort them in the app")


@rule(
    id="A38",
    severity="info",
    evidence="measured",
    concerns="placement",
    source="onnxsim/onnxsim#1399 (M4, dynamic shapes)",
    flags="""
    x: fp16[1, 8, 64, 64]
    m: fp16[1, 1, 64, 64]
    c: bool[1, 1, 64, 64] = greater(x=m, y=0.0)
    y: fp16[1, 8, 64, 64] = select(cond=c, a=x, b=0.0)  # flagged
    """,
    passes="""
    x: fp16[1, 8, 64, 64]
    c: bool[1, 8, 64, 64] = greater(x=x, y=1.0)
    y: fp16[1, 8, 64, 64] = select(cond=c, a=x, b=0.0)
    """,
)
def broadcasting_select(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Notes a select whose branches have another shape than the condition.

    Why: A program with one was refused with the engine and ran on the CPU. Its shapes were dynamic, which may be the
    reason; masks of attention are written like this in networks that stay on the engine.

    Instead: Add a mask of numbers, or give the condition the shape of the branches.
    """
    for node in graph.of("select"):
        condition = graph.operand(node, "cond")
        branches = [value for key in ("a", "b") if (value := graph.operand(node, key)) and value.elements > 1]
        if condition and any(value.shape != condition.shape for value in branches):
            yield Hit(node, f"the condition {condition} is broadcast to {node.output}; a mask that is added is safer")
