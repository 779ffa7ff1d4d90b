"""Sampling of images at arbitrary positions: the other half of the chapter image_resizing.

A *position* is a real index into an axis, 0 at the centre of the first pixel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgesam_export.errors import ProgramError
from edgesam_export.mil.ops import register_op
from edgesam_export.mil.ops.image_resizing import sample_positions

__all__ = ["affine", "crop_resize", "crop_resize_boxes", "crop_resize_padded", "resample"]


def fold_positions(position: Tensor, size: int, padding: str) -> Tensor:
    """Return positions moved into an axis of ``size`` pixels by the padding mode; ``constant`` moves nothing."""
    if padding == "constant":
        return position
    if padding == "border":
        return position.clamp(0, size - 1)
    if padding == "reflection":
        period = 2 * max(1, size - 1)
        folded = position.abs() % period
        return folded.minimum(period - folded).clamp(0, size - 1)
    if padding == "symmetric":
        folded = (position + 0.5).abs() % (2 * size)
        return (folded.minimum(2 * size - folded) - 0.5).clamp(0, size - 1)
    raise ProgramError(f"unknown padding_mode '{padding}'; one of constant, border, reflection, symmetric")


def pixels_at(x: Tensor, row: Tensor, column: Tensor, outside: float) -> Tensor:
    """Return the pixels of each image at integer positions, ``outside`` where there is none.

    Shapes:
        x (B, C, H, W); row, column (B, h, w), integers; returns (B, C, h, w)
    """
    height, width = x.shape[-2:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
    index = index.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    pixels = x.flatten(2).gather(2, index).reshape(*x.shape[:2], *row.shape[1:])
    return torch.where(inside.unsqueeze(1), pixels, outside)


def bilinear_at(x: Tensor, row: Tensor, column: Tensor, outside: float) -> Tensor:
    """Return ``x`` at real positions, bilinear between the four pixels around them; shapes as in ``pixels_at``."""
    top, left = row.floor(), column.floor()
    down, right = (row - top).unsqueeze(1).to(x.dtype), (column - left).unsqueeze(1).to(x.dtype)
    upper = torch.lerp(pixels_at(x, top, left, outside), pixels_at(x, top, left + 1, outside), right)
    lower = torch.lerp(pixels_at(x, top + 1, left, outside), pixels_at(x, top + 1, left + 1, outside), right)
    return torch.lerp(upper, lower, down)


def unnormalised(coordinate: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Return coordinates of ``coordinates_mode`` as positions: corner pixels' centres, or edges, are the extremes."""
    if mode == "unnormalized":
        return coordinate
    if mode not in ("normalized_minus_one_to_one", "normalized_zero_to_one"):
        raise ProgramError(
            f"unknown coordinates_mode '{mode}'; "
            "one of unnormalized, normalized_minus_one_to_one, normalized_zero_to_one"
        )
    share = (coordinate + 1) / 2 if mode == "normalized_minus_one_to_one" else coordinate
    return share * (size - 1) if align_corners else share * size - 0.5


@register_op()
def resample(
    x: Tensor,
    coordinates: Tensor,
    *,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Image sampled at arbitrary points.

    Shapes:
        x (B, C, H, W); coordinates (B, h, w, 2) as x, y; returns (B, C, h, w)
    Source: MIL spec, image_resizing.
    """
    positions = coordinates.double()
    column, row = (
        fold_positions(unnormalised(positions[..., i], size, coordinates_mode, align_corners), size, padding_mode)
        for i, size in enumerate((x.shape[-1], x.shape[-2]))
    )
    if sampling_mode == "nearest":
        return pixels_at(x, row.round(), column.round(), padding_value)
    if sampling_mode != "bilinear":
        raise ProgramError(f"unknown sampling_mode '{sampling_mode}'; one of nearest, bilinear")
    return bilinear_at(x, row, column, padding_value)


def unit_coordinates(count: int, align_corners: bool) -> Tensor:
    """Return ``count`` coordinates from -1 to 1, of pixel centres or between pixel edges; a single centre is at 0."""
    index = torch.arange(count, dtype=torch.float64)
    return (2 * index - count + 1) / (max(1, count - 1) if align_corners else count)


@register_op()
def affine(
    x: Tensor,
    transform_matrix: Tensor,
    *,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """Image sampled at the points (x', y') = (a0 x + a1 y + a2, b0 x + b1 y + b2) of the output grid.

    Shapes:
        x (B, C, H, W); transform_matrix (B or 1, 6) as a0 a1 a2 b0 b1 b2; returns (B, C, output_height, output_width)
    Source: MIL spec, image_resizing.
    """
    across, down = (unit_coordinates(count, align_corners) for count in (output_width, output_height))
    grid = torch.stack(
        [*torch.meshgrid(across, down, indexing="xy"), torch.ones(output_height, output_width, dtype=torch.float64)],
        dim=-1,
    )
    positions = torch.einsum("hwk,bik->bhwi", grid, transform_matrix.view(-1, 2, 3).double()).expand(len(x), -1, -1, -1)
    modes = {"sampling_mode": sampling_mode.lower(), "padding_mode": padding_mode.lower()}
    return resample(
        x,
        positions,
        **modes,
        padding_value=padding_value,
        coordinates_mode=coordinates_mode.lower(),
        align_corners=align_corners,
    )


def box_positions(
    boxes: Tensor, size: tuple[int, int], target: tuple[int, int], normalized: bool, mode: str, sampling_mode: str
) -> tuple[Tensor, Tensor]:
    """Return the rows (N, h) and columns (N, w) at which each box is sampled.

    A box of corners a, b covers the pixels a .. b, so its length is |b - a| + 1; with b < a it is read backwards.
    """
    boxes = boxes.double()
    if mode.endswith("WIDTH_FIRST"):
        boxes = boxes[:, [1, 0, 3, 2]]
    first, second = boxes[:, :2], boxes[:, 2:]
    if mode.startswith("CENTER_SIZE"):
        first, second = first - second / 2, first + second / 2
    elif not mode.startswith("CORNERS"):
        raise ProgramError(
            f"unknown box_coordinate_mode '{mode}'; CORNERS_ or CENTER_SIZE_, then HEIGHT_ or WIDTH_FIRST"
        )
    axes = []
    for axis, (length, count) in enumerate(zip(size, target, strict=True)):
        unit = length - 1 if normalized else 1
        start, end = first[:, axis, None] * unit, second[:, axis, None] * unit
        offsets = sample_positions((end - start).abs() + 1, count, sampling_mode)
        axes.append(start + torch.where(end < start, -offsets, offsets))
    return axes[0], axes[1]


@register_op(opset="iOS17", name="crop_resize")
def crop_resize_boxes(
    x: Tensor,
    boxes: Tensor,
    box_indices: Tensor | None = None,
    *,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    """Boxes cut out of the images and resized, bilinear; a point outside the image is ``pad_value``.

    Shapes:
        x (B, C, H, W); boxes (N, 4); box_indices (N,), the image of each box; returns (N, C, h, w)
    Source: MIL spec, image_resizing (iOS17).
    """
    images = x[: len(boxes)] if box_indices is None else x[box_indices.long()]
    size, target = (x.shape[2], x.shape[3]), (target_height, target_width)
    rows, columns = box_positions(
        boxes * spatial_scale, size, target, normalized_coordinates, box_coordinate_mode, sampling_mode
    )
    row = rows.unsqueeze(2).expand(-1, -1, columns.shape[1])
    column = columns.unsqueeze(1).expand(-1, rows.shape[1], -1)
    inside = (row >= 0) & (row <= size[0] - 1) & (column >= 0) & (column <= size[1] - 1)
    values = bilinear_at(images, row.clamp(0, size[0] - 1), column.clamp(0, size[1] - 1), 0.0)
    return torch.where(inside.unsqueeze(1), values, pad_value)


@register_op(opset="iOS16", name="crop_resize")
def crop_resize_padded(
    x: Tensor,
    roi: Tensor,
    *,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    """Boxes cut out of the images and resized: each box of all images, or of the image whose index comes first.

    Shapes:
        x (B, C, H, W); roi (N, 1, 4, 1, 1), returns (N, B, C, h, w), or (N, 1, 5, 1, 1), returns (N, 1, C, h, w)
    Source: MIL spec, image_resizing (iOS16).
    """
    boxes = roi.reshape(roi.shape[0], -1)
    per_box = 1 if boxes.shape[1] == 5 else x.shape[0]
    indices = boxes[:, 0] if boxes.shape[1] == 5 else torch.arange(x.shape[0]).repeat(len(boxes))
    settings: dict[str, Any] = {
        "target_height": target_height,
        "target_width": target_width,
        "spatial_scale": spatial_scale,
    }
    settings |= {"normalized_coordinates": normalized_coordinates, "pad_value": pad_value}
    settings |= {"box_coordinate_mode": box_coordinate_mode, "sampling_mode": sampling_mode}
    crops = crop_resize_boxes(x, boxes[:, -4:].repeat_interleave(per_box, 0), indices, **settings)
    return crops.reshape(len(boxes), per_box, *crops.shape[1:])


@register_op()
def crop_resize(
    x: Tensor,
    roi: Tensor,
    *,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """Boxes cut out of the images and resized; a point outside the image is 0.

    Source: MIL spec, image_resizing; shapes as in iOS16.
    """
    settings: dict[str, Any] = {
        "target_height": target_height,
        "target_width": target_width,
        "spatial_scale": spatial_scale,
    }
    settings |= {"box_coordinate_mode": box_coordinate_mode, "sampling_mode": sampling_mode}
    return crop_resize_padded(x, roi, normalized_coordinates=normalized_coordinates, **settings)
