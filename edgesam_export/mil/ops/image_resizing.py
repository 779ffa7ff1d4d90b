"""Resizing and cropping of the last two dimensions; image_sampling.py has the ops of this chapter that sample anywhere.

A *position* is a real index into an axis, 0 at the centre of the first pixel. The sampling modes only differ in the
positions that they give to the output pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import register_op

__all__ = [
    "crop",
    "resize",
    "resize_bilinear",
    "resize_nearest_neighbor",
    "sample_positions",
    "upsample_bilinear",
    "upsample_bilinear_half_pixel",
    "upsample_nearest_neighbor",
]

ALIGN_CORNERS = {"STRICT_ALIGN_CORNERS": True, "ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}
"""Sampling modes that torch has, and its name for them."""


def sample_positions(length: Tensor | float, count: int, mode: str) -> Tensor:
    """Return the ``count`` positions at which an axis of ``length`` pixels is sampled, float64, within 0 .. length - 1.

    Shapes:
        length a number or (*B, 1); returns (count,) or (*B, count)

    Raises:
        ProgramError: unknown sampling mode.

    Source: MIL spec, image_resizing, resize_bilinear.
    """
    length = torch.as_tensor(length, dtype=torch.float64)
    index = torch.arange(count, dtype=torch.float64)
    if mode == "ALIGN_CORNERS" and count == 1:
        positions = (length - 1) / 2 + index
    elif mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        positions = index * (length - 1) / max(1, count - 1)
    elif mode == "DEFAULT":
        positions = index * length / count
    elif mode == "OFFSET_CORNERS":
        positions = (index + 0.5) * (length - 1).clamp(min=1) / count
    elif mode == "UNALIGN_CORNERS":
        positions = (index + 0.5) * length / count - 0.5
    else:
        raise ProgramError(
            f"unknown sampling_mode '{mode}'; one of DEFAULT, OFFSET_CORNERS, {', '.join(ALIGN_CORNERS)}"
        )
    return positions.clamp(min=0).minimum(length - 1)


def as_images(x: Tensor) -> Tensor:
    """Return ``x`` with exactly four dimensions, the last two untouched."""
    return x if x.ndim == 4 else x.reshape(1, -1, *x.shape[-2:])


def interpolate(x: Tensor, sizes: Sequence[int], mode: str) -> Tensor:
    """Return ``x`` with its last ``len(sizes)`` axes resized, linearly along each."""
    exact = mode != "ALIGN_CORNERS" or 1 not in sizes
    if len(sizes) == 2 and mode in ALIGN_CORNERS and exact and x.is_floating_point():
        y = F.interpolate(as_images(x), tuple(sizes), mode="bilinear", align_corners=ALIGN_CORNERS[mode])
        return y.reshape(*x.shape[:-2], *sizes)
    y = x if x.is_floating_point() else x.double()
    for axis, size in zip(range(-len(sizes), 0), sizes, strict=True):
        positions = sample_positions(x.shape[axis], size, mode)
        low = positions.long()
        high = (low + 1).clamp(max=x.shape[axis] - 1)
        share = (positions - low).to(y.dtype).view(-1, *[1] * (-axis - 1))
        y = torch.lerp(y.index_select(axis, low), y.index_select(axis, high), share)
    return y.to(x.dtype)


def take_nearest(x: Tensor, indices: Sequence[Tensor]) -> Tensor:
    """Return ``x`` with the elements ``indices[i]`` of each of its last axes."""
    sizes, spatial = [len(index) for index in indices], x.shape[-len(indices) :]
    whole = all(size % n == 0 for size, n in zip(sizes, spatial, strict=True))
    if len(sizes) == 2 and whole and x.is_floating_point():  # whole factors: every rule repeats each pixel
        return F.interpolate(as_images(x), tuple(sizes), mode="nearest-exact").reshape(*x.shape[:-2], *sizes)
    for axis, index in zip(range(-len(indices), 0), indices, strict=True):
        x = x.index_select(axis, index)
    return x


def pixel_centre_indices(length: int, count: int) -> Tensor:
    """Return the pixel that holds the centre of each output pixel: floor((i + 1/2) * length / count)."""
    return (2 * torch.arange(count) + 1) * length // (2 * count)


def scaled(length: int, factor: float) -> int:
    """Return floor(length * factor) in single precision, as the converter computes shapes."""
    return int(np.floor(np.float32(factor) * np.float32(length)))


@register_op(exact=True)
def upsample_nearest_neighbor(x: Tensor, *, scale_factor_height: float = 1, scale_factor_width: float = 1) -> Tensor:
    """Resize by factors; output pixel i is input pixel floor(i * size_in / size_out).

    Shapes:
        x (*D, H, W); returns (*D, floor(H * scale_factor_height), floor(W * scale_factor_width))
    Source: MIL spec, image_resizing.
    """
    counts = (scaled(x.shape[-2], scale_factor_height), scaled(x.shape[-1], scale_factor_width))
    return take_nearest(x, [torch.arange(m) * n // m for n, m in zip(x.shape[-2:], counts, strict=True)])


@register_op(exact=True)
def resize_nearest_neighbor(x: Tensor, *, target_size_height: int, target_size_width: int) -> Tensor:
    """Resize; output pixel i is the input pixel under its centre.

    Shapes:
        x (*D, H, W); returns (*D, target_size_height, target_size_width)
    Source: MIL spec, image_resizing; the rule is that of TensorFlow's half-pixel centres, for which converters use it.
    """
    counts = (target_size_height, target_size_width)
    return take_nearest(x, [pixel_centre_indices(n, m) for n, m in zip(x.shape[-2:], counts, strict=True)])


@register_op()
def upsample_bilinear(
    x: Tensor, *, scale_factor_height: float = 1, scale_factor_width: float = 1, align_corners: bool = True
) -> Tensor:
    """Resize by factors, bilinear; without ``align_corners`` pixel edges are aligned.

    Source: MIL spec, image_resizing.
    """
    sizes = (scaled(x.shape[-2], scale_factor_height), scaled(x.shape[-1], scale_factor_width))
    return interpolate(x, sizes, "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS")


@register_op(opset="iOS16", name="upsample_bilinear")
def upsample_bilinear_half_pixel(
    x: Tensor,
    *,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """Resize by factors, bilinear; ``half_pixel_centers`` defaults to the opposite of ``align_corners``.

    Source: MIL spec, image_resizing (iOS16).
    """
    sizes = (scaled(x.shape[-2], scale_factor_height), scaled(x.shape[-1], scale_factor_width))
    if align_corners:
        return interpolate(x, sizes, "STRICT_ALIGN_CORNERS")
    return interpolate(x, sizes, "DEFAULT" if half_pixel_centers is False else "UNALIGN_CORNERS")


@register_op()
def resize_bilinear(
    x: Tensor, *, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Tensor:
    """Resize, bilinear, at the positions of ``sampling_mode``.

    Shapes:
        x (*D, H, W); returns (*D, target_size_height, target_size_width)
    Source: MIL spec, image_resizing.
    """
    return interpolate(x, (target_size_height, target_size_width), sampling_mode)


@register_op(opset="iOS17")
def resize(
    x: Tensor,
    *,
    shape: list[int],
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """Resize the last ``resized_dims`` axes to the last sizes in ``shape``, where 0 keeps the size.

    Source: MIL spec, image_resizing (iOS17); nearest with DEFAULT takes the pixel under the centre.
    """
    kept = x.shape[x.ndim - resized_dims :]
    sizes = [size or old for size, old in zip(shape[len(shape) - resized_dims :], kept, strict=True)]
    if interpolation_mode == "LINEAR":
        return interpolate(x, sizes, sampling_mode)
    if interpolation_mode != "NEAREST_NEIGHBOR":
        raise ProgramError(
            f"resize: unknown interpolation_mode '{interpolation_mode}'; one of LINEAR, NEAREST_NEIGHBOR"
        )
    mode = "UNALIGN_CORNERS" if sampling_mode == "DEFAULT" else sampling_mode
    return take_nearest(x, [(sample_positions(n, m, mode) + 0.5).long() for n, m in zip(kept, sizes, strict=True)])


@register_op(exact=True)
def crop(x: Tensor, *, crop_height: list[int], crop_width: list[int]) -> Tensor:
    """Image without the given numbers of rows (top, bottom) and columns (left, right).

    Source: MIL spec, image_resizing.
    """
    top, bottom = crop_height
    left, right = crop_width
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]
