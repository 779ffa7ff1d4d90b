"""An image with a mask and its prompts drawn over it."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from edgesam_export.errors import UsageError
from edgesam_export.imaging.mask_runs import MaskRuns

__all__ = ["coloured_overlay", "overlay"]

Colour = tuple[int, int, int]
MASK_COLOUR: Colour = (30, 120, 255)
BOX_COLOUR: Colour = (255, 176, 0)
FOREGROUND_COLOUR: Colour = (22, 176, 84)
BACKGROUND_COLOUR: Colour = (226, 48, 48)
WHITE: Colour = (255, 255, 255)
DARK: Colour = (0, 0, 0)

# Lengths in pixels of an image whose longest side is 1000; they grow with it, but shrink no further than MIN_UNIT.
LINE = 2.6
HALO = 1.5
MARKER = 13.0
MIN_UNIT = 0.6
TINT = 0.42
"""Opacity of the mask's area."""
STRONG_TINT = 0.6
"""The same where masks are told apart by their colours."""
SMOOTHING = 4
"""Passes of a 1-2-1 filter over the contour's distance, enough to hide single-pixel stairs."""
SUPERSAMPLING = 8
TILE = 256


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    *,
    points: Sequence[Sequence[float]] | np.ndarray = (),
    labels: Sequence[int] | np.ndarray = (),
    box: Sequence[float] | np.ndarray | None = None,
    colour: Colour = MASK_COLOUR,
) -> np.ndarray:
    """Return the image with the mask over it: tinted area, smooth contour with a white halo, and the prompts.

    Foreground points are green stars, background points red discs with a bar. Line widths and markers grow with the
    image. Contours do not follow the image's own border.

    Shapes:
        image uint8 (H, W, 3); mask bool (H, W); points (N, 2) x, y; labels (N,), foreground by default
        box x0, y0, x1, y1; returns uint8 (H, W, 3), the input is left as it is
    Raises: UsageError when the mask has another size than the image, or points and labels differ in number.
    """
    if mask.shape != image.shape[:2]:
        raise UsageError(f"mask has shape {mask.shape} but the image {image.shape[:2]}; give a mask at image size")
    labels = labels if len(labels) else [1] * len(points)
    if len(labels) != len(points):
        raise UsageError(f"{len(points)} points but {len(labels)} labels; give one label for each point")
    unit = max(MIN_UNIT, max(mask.shape) / 1000)
    canvas: np.ndarray = image.copy()
    draw_mask(canvas, np.asarray(mask, bool), unit, colour)
    if box is not None:
        draw_box(canvas, box, unit)
    for (x, y), label in zip(points, labels):
        draw_marker(canvas, (float(x), float(y)), unit, foreground=label == 1)
    return canvas


def coloured_overlay(image: np.ndarray, masks: Sequence[MaskRuns]) -> np.ndarray:
    """Return the image with every mask in a colour of its own, the large ones below the small ones.

    Shapes: image uint8 (H, W, 3); returns the same, the input is left as it is
    Raises: UsageError when a mask is of an image of another size.
    """
    canvas: np.ndarray = image.copy()
    unit = max(MIN_UNIT, max(image.shape[:2]) / 1000)
    for number, mask in enumerate(sorted(masks, key=lambda mask: -mask.area)):
        if mask.size != image.shape[:2]:
            raise UsageError(f"mask of an image of {mask.size}, this one has {image.shape[:2]} (height, width)")
        if mask.bounds is not None:
            x0, y0, x1, y1 = widened(mask.bounds, int(np.ceil(4 * unit)), mask.size)
            part = mask.window((x0, y0, x1, y1))
            draw_mask(canvas[y0:y1, x0:x1], part, unit, distinct_colour(number), STRONG_TINT)
    return canvas


def widened(bounds: tuple[int, int, int, int], margin: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return bounds with a margin, inside an image of ``size`` (height, width)."""
    x0, y0, x1, y1 = bounds
    return max(0, x0 - margin), max(0, y0 - margin), min(size[1], x1 + margin), min(size[0], y1 + margin)


def distinct_colour(number: int) -> Colour:
    """Return a strong colour whose hue is far from those of the numbers before."""
    hue = (0.92 + number * 0.618034) % 1  # steps of the golden ratio never come close to each other soon
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 0.65 + 0.3 * (number % 3 != 1)))
    return red, green, blue


def draw_mask(canvas: np.ndarray, mask: np.ndarray, unit: float, colour: Colour, tint: float = TINT) -> None:
    """Tint and contour, tile by tile, so that memory stays small and tiles without a contour cost nothing."""
    line, halo = LINE * unit / 2, LINE * unit / 2 + HALO * unit
    reach = int(np.ceil(halo + SMOOTHING + 1))
    margin = reach + SMOOTHING
    padded = np.pad(mask, margin, mode="edge")
    for top in range(0, mask.shape[0], TILE):
        for left in range(0, mask.shape[1], TILE):
            around = padded[top : top + TILE + 2 * margin, left : left + TILE + 2 * margin]
            if not around.any():
                continue
            tile = canvas[top : top + TILE, left : left + TILE]
            if around.all():
                blend(tile, colour, np.float32(tint))
                continue
            depth = contour_distance(around, reach)[margin:-margin, margin:-margin]
            blend(tile, colour, tint * np.clip(depth + 0.5, 0, 1))
            blend(tile, WHITE, 0.9 * np.clip(halo + 0.5 - np.abs(depth), 0, 1))
            blend(tile, colour, np.clip(line + 0.5 - np.abs(depth), 0, 1))


def contour_distance(mask: np.ndarray, reach: int) -> np.ndarray:
    """Return each pixel centre's distance to the mask's contour, positive inside, exact up to ``reach``, smoothed.

    Smoothing the distance rather than the mask removes the stairs of a pixel contour and keeps lines sharp.
    """
    distance = np.where(mask, nearest(~mask, reach) - 0.5, 0.5 - nearest(mask, reach))
    for axis in (0, 1):
        for _ in range(SMOOTHING):
            before, after = (shifted(distance, step, axis) for step in (-1, 1))
            distance = 0.25 * before + 0.5 * distance + 0.25 * after
    return distance


def nearest(target: np.ndarray, reach: int) -> np.ndarray:
    """Return the Euclidean distance to the nearest True pixel, at most ``reach + 1``; columns first, then rows."""
    far = np.float32((reach + 1) ** 2)
    squared = np.where(target, np.float32(0), far)
    for axis in (0, 1):
        best = squared
        for step in range(1, reach + 1):
            for signed in (-step, step):
                best = np.minimum(best, shifted(squared, signed, axis) + np.float32(step * step))
        squared = best
    distance: np.ndarray = np.sqrt(np.minimum(squared, far))
    return distance


def shifted(values: np.ndarray, step: int, axis: int) -> np.ndarray:
    """Return values moved by ``step`` pixels along an axis, the edge repeated."""
    index = np.clip(np.arange(values.shape[axis]) + step, 0, values.shape[axis] - 1)
    return np.take(values, index, axis=axis)


def draw_box(canvas: np.ndarray, box: Sequence[float] | np.ndarray, unit: float) -> None:
    """Outline with rounded corners and a white halo, only the strip around the outline is touched."""
    x0, y0, x1, y1 = (float(value) for value in box)
    line, halo = LINE * unit / 2, LINE * unit / 2 + HALO * unit
    margin = int(np.ceil(halo + 1))
    height, width = canvas.shape[:2]
    left, right = max(0, int(x0) - margin), min(width, int(x1) + margin + 1)
    top, bottom = max(0, int(y0) - margin), min(height, int(y1) + margin + 1)
    inner_top, inner_bottom = min(bottom, int(y0) + margin + 1), max(top, int(y1) - margin)
    inner_bottom = max(inner_top, inner_bottom)
    bands = [(top, inner_top, left, right), (inner_bottom, bottom, left, right)]
    split = max(left, min(right, int(x0) + margin + 1)), max(left, int(x1) - margin)
    bands += [(inner_top, inner_bottom, left, split[0]), (inner_top, inner_bottom, max(split), right)]
    for band_top, band_bottom, band_left, band_right in bands:
        y = np.arange(band_top, band_bottom, dtype=np.float32)[:, None] + 0.5
        x = np.arange(band_left, band_right, dtype=np.float32)[None, :] + 0.5
        beyond_x, beyond_y = np.maximum(x0 - x, x - x1), np.maximum(y0 - y, y - y1)
        outside = np.hypot(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0))
        distance = np.abs(outside + np.minimum(np.maximum(beyond_x, beyond_y), 0))
        strip = canvas[band_top:band_bottom, band_left:band_right]
        blend(strip, WHITE, 0.9 * np.clip(halo + 0.5 - distance, 0, 1))
        blend(strip, BOX_COLOUR, np.clip(line + 0.5 - distance, 0, 1))


def draw_marker(canvas: np.ndarray, centre: tuple[float, float], unit: float, *, foreground: bool) -> None:
    """Star or disc with a white rim and a soft dark edge, drawn ``SUPERSAMPLING`` times larger and averaged down."""
    radius = MARKER * unit
    half = int(np.ceil(radius * 1.3 + 2))
    x, y = int(np.floor(centre[0])), int(np.floor(centre[1]))
    shapes = marker_shapes(centre[0] - x + half, centre[1] - y + half, radius, foreground=foreground)
    height, width = canvas.shape[:2]
    top, bottom, left, right = max(0, y - half), min(height, y + half), max(0, x - half), min(width, x + half)
    tile = canvas[top:bottom, left:right]
    for polygon, colour, opacity in shapes:
        large = Image.new("L", (2 * half * SUPERSAMPLING,) * 2)
        ImageDraw.Draw(large).polygon([(px * SUPERSAMPLING, py * SUPERSAMPLING) for px, py in polygon], fill=255)
        cover = np.asarray(large.resize((2 * half, 2 * half), Image.Resampling.BOX), np.float32) * (opacity / 255)
        blend(tile, colour, cover[top - y + half : bottom - y + half, left - x + half : right - x + half])


def marker_shapes(
    x: float, y: float, radius: float, *, foreground: bool
) -> list[tuple[list[tuple[float, float]], Colour, float]]:
    """Return polygons, colours and opacities of one marker, back to front."""

    def ring(outer: float, inner: float, corners: int) -> list[tuple[float, float]]:
        angles = [np.pi * step / corners - np.pi / 2 for step in range(2 * corners)]
        radii = [outer, inner] * corners
        return [(x + length * np.cos(angle), y + length * np.sin(angle)) for angle, length in zip(angles, radii)]

    if foreground:
        scales = ((1.42, DARK, 0.35), (1.3, WHITE, 1.0), (0.92, FOREGROUND_COLOUR, 1.0))
        return [(ring(radius * s, radius * (s * 0.42 + 0.06), 5), colour, alpha) for s, colour, alpha in scales]
    scales = ((0.98, DARK, 0.35), (0.9, WHITE, 1.0), (0.66, BACKGROUND_COLOUR, 1.0))
    discs = [(ring(radius * s, radius * s, 32), colour, alpha) for s, colour, alpha in scales]
    wide, high = radius * 0.38, radius * 0.11
    bar = [(x - wide, y - high), (x + wide, y - high), (x + wide, y + high), (x - wide, y + high)]
    return [*discs, (bar, WHITE, 1.0)]


def blend(tile: np.ndarray, colour: Colour, opacity: np.ndarray | np.float32) -> None:
    """Paint a colour over part of an image in place.

    Shapes: tile uint8 (h, w, 3); opacity (h, w) or one number, 0 to 1
    """
    weight = np.asarray(opacity, np.float32)[..., None]
    painted = tile + weight * (np.array(colour, np.float32) - tile)
    tile[:] = np.floor(painted + 0.5).astype(np.uint8)
