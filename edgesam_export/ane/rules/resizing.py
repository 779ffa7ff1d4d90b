"""Rules about resizing, padding and rearranging in space."""

from __future__ import annotations

from collections.abc import Iterator

from edgesam_export.ane.graph import GraphView, Node
from edgesam_export.ane.rules import Hit, rule
from edgesam_export.hardware import Limits

RESIZES = ("affine", "crop", "crop_resize", "resample", "resize", "resize_bilinear", "resize_nearest_neighbor")
UPSAMPLES = ("upsample_bilinear", "upsample_nearest_neighbor")
COPYING = ("resize_nearest_neighbor", "upsample_nearest_neighbor")
ENLARGING = (*COPYING, "resize_bilinear", "upsample_bilinear")
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
    source="sbryngelson/ane-guide parts 5/17 and 7/24; apple/coremltools issues 1875 (resample on the CPU) and 2299 "
    "(on the ANE of an M2 with macOS 14, off it with the beta of 15)",
    flags=(
        """
        x: fp16[1, 8, 32, 32]
        y: fp16[1, 8, 64, 64] = upsample_bilinear(x=x, scale_factor_height=2.0, scale_factor_width=2.0)  # flagged
        """,
        """
        x: fp16[1, 8, 32, 32]
        g: fp16[1, 32, 32, 32] = tile(x=x, reps=[1, 4, 1, 1])
        y: fp16[1, 8, 32, 32] = resample(x=x, coordinates=g)  # flagged
        """,
    ),
    passes=(
        """
        x: fp16[1, 32, 32, 32]
        y: fp16[1, 8, 64, 64] = pixel_shuffle(x=x, upscale_factor=2)
        """,
        """
        x: fp16[1, 8, 32, 32]
        y: fp16[1, 8, 64, 64] = upsample_nearest_neighbor(x=x, scale_factor_height=2.0, scale_factor_width=2.0)
        """,
    ),
)
def texture_unit(graph: GraphView, limits: Limits) -> Iterator[Hit]:
    """Finds resizing, sampling and mirrored padding on H13, which has no texture unit; elsewhere a note on sampling.

    Why: H13 rewrites them as transposed convolutions or products, rounding differently, or leaves them to others.
    Enlarging by an integer is such a convolution, and copying each element is exact. Where sampling at computed
    positions goes on later families has changed with the system.

    Instead: A constant interpolation matrix, a transposed convolution with constant weights, or a pixel shuffle.
    """
    if limits.native_texture:
        for node in graph.of("resample"):
            yield Hit(
                node, "resample has been on and off the ANE, depending on the system; look on yours", severity="info"
            )
        return
    for node in graph.of(*RESIZES, *UPSAMPLES, "pad"):
        enlarges = node.type in ENLARGING and enlarges_by_integer(graph, node)
        if enlarges and node.type in COPYING:
            continue
        if node.type != "pad" or graph.text(node, "mode", "constant") != "constant":
            note = f"{node.type} needs a texture unit; use a constant matrix or transposed convolution"
            yield Hit(node, note, off=False if enlarges else None)


def enlarges_by_integer(graph: GraphView, node: Node) -> bool:
    """Return whether the last two axes grow by integers."""
    x = graph.operand(node, "x")
    if x is None or x.rank < 2 or not (x.is_static and node.output.is_static) or node.output.rank != x.rank:
        return False
    return all(size and made % size == 0 for size, made in zip(x.sizes[-2:], node.output.sizes[-2:]))


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
