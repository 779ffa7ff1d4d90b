"""Rules about resizing, padding and rearranging in space."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits

RESIZES = ("affine", "crop", "crop_resize", "resample", "resize", "resize_bilinear", "resize_nearest_neighbor")
UPSAMPLES = ("upsample_bilinear", "upsample_nearest_neighbor")
SPATIAL_AMOUNTS = 4
"""Begin and end of height and width, the last of pad's amounts."""
FACTORS = {
    "batch_to_space": "block_shape",
    "depth_to_space": "block_size",
    "pixel_shuffle": "upscale_factor",
    "pixel_unshuffle": "downscale_factor",
    "space_to_batch": "block_shape",
    "space_to_depth": "block_size",
    "tile": "reps",
}


@rule(
    id="A11",
    severity="warning",
    evidence="measured",
    concerns="placement",
    source="sbryngelson/ane-guide parts 5/17 and 7/24; apple/coremltools issue 1875 (resample on the CPU)",
    families=("H13",),
    flags="""
    x: fp16[1, 8, 32, 32]
    y: fp16[1, 8, 64, 64] = upsample_bilinear(x=x, scale_factor_height=2.0, scale_factor_width=2.0)  # flagged
    """,
    passes="""
    x: fp16[1, 32, 32, 32]
    y: fp16[1, 8, 64, 64] = pixel_shuffle(x=x, upscale_factor=2)
    """,
)
def texture_unit(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds resizing, sampling and mirrored padding on families without a texture unit.

    Why: H13 rewrites them as transposed convolutions or products, rounding differently, or leaves them to others.

    Instead: A constant interpolation matrix, a transposed convolution with constant weights, or a pixel shuffle.
    """
    if limits.native_texture:
        return
    for node in graph.of(*RESIZES, *UPSAMPLES, "pad"):
        if node.type != "pad" or graph.text(node, "mode", "constant") != "constant":
            yield Hit(node, f"{node.type} needs a texture unit; use a constant matrix or transposed convolution")


@rule(
    id="A22",
    severity="warning",
    evidence="measured",
    concerns="placement",
    source="sbryngelson/ane-guide part 1/04",
    flags="""
    x: fp16[1, 8, 32, 32]
    y: fp16[1, 16, 32, 32] = pad(x=x, pad=[0, 0, 0, 8, 0, 0, 0, 0], mode="constant", constant_val=0.0)  # flagged
    """,
    passes="""
    x: fp16[1, 8, 30, 30]
    y: fp16[1, 8, 32, 32] = pad(x=x, pad=[0, 0, 0, 0, 1, 1, 1, 1], mode="constant", constant_val=0.0)
    """,
)
def padded_channels(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds padding of another axis than height and width.

    Why: The engine pads in space only; the rest is decomposed or leaves it.

    Instead: Concatenate with a constant, or give the layer before more channels.
    """
    for node in graph.of("pad"):
        amounts = graph.numbers(node, "pad")
        if any(amounts[: max(len(amounts) - SPATIAL_AMOUNTS, 0)]):
            yield Hit(node, f"pads by {amounts}, not only height and width; concatenate a constant")


@rule(
    id="A23",
    severity="warning",
    evidence="folklore",
    concerns="speed",
    source="ANEForge op catalogue; sbryngelson/ane-guide part 7/24",
    flags="""
    x: fp16[1, 25, 32, 32]
    y: fp16[1, 1, 160, 160] = pixel_shuffle(x=x, upscale_factor=5)  # flagged
    """,
    passes="""
    x: fp16[1, 16, 32, 32]
    y: fp16[1, 1, 128, 128] = pixel_shuffle(x=x, upscale_factor=4)
    """,
)
def awkward_factor(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds tiling and pixel shuffles by another factor than 2, 3, 4 or 8.

    Why: Only these are said to be native.

    Instead: Two steps with native factors; broadcasting instead of tile.
    """
    for node in graph.of(*FACTORS):
        factors = graph.numbers(node, FACTORS[node.type])
        if any(factor not in limits.native_block_factors for factor in factors):
            yield Hit(node, f"{node.type} by {factors}; native are {limits.native_block_factors}")
