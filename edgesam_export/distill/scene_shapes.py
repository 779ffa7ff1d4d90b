"""The outlines of drawn objects: random polygons, and the pixels that they cover."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["KINDS", "SHAPES", "SOLID", "Polygon", "coverage_of", "pose"]

SUPERSAMPLING = 4
"""Subpixels per pixel and axis when a shape is drawn; their mean is the coverage."""
SOLID = 127
"""Coverage of 255 above which a pixel belongs to the object."""

Rng = np.random.Generator
Polygon = tuple[np.ndarray, bool]
"""Corners (N, 2) in any unit, and whether the polygon adds to the shape or cuts a hole."""


def arc(start: float, stop: float, number: int, width: float = 1.0, height: float = 1.0) -> np.ndarray:
    """Return points of an ellipse between two angles. Shapes: -> (number, 2)"""
    angles = np.linspace(start, stop, number)
    return np.stack([width * np.cos(angles), height * np.sin(angles)], axis=1)


def oval(width: float = 1.0, height: float = 1.0) -> np.ndarray:
    """Return a whole ellipse. Shapes: -> (72, 2)"""
    return arc(0, 2 * math.pi, 73, width, height)[:-1]


def box(width: float, height: float, radius: float) -> np.ndarray:
    """Return a rectangle with half sides ``width`` and ``height`` and round corners. Shapes: -> (32, 2)"""
    corners = []
    for quarter, (across, up) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        centre = (across * (width - radius), up * (height - radius))
        corners.append(centre + radius * arc(quarter * math.pi / 2, (quarter + 1) * math.pi / 2, 8))
    return np.concatenate(corners)


def ellipse(rng: Rng) -> list[Polygon]:
    """From a disc to a flat ellipse."""
    return [(oval(1, rng.uniform(0.4, 1)), True)]


def rounded_rectangle(rng: Rng) -> list[Polygon]:
    """From a sharp to an almost round end; sharp corners are more frequent."""
    height = rng.uniform(0.3, 1)
    return [(box(1, height, height * rng.uniform(0.02, 0.9) ** 2), True)]


def regular_polygon(rng: Rng) -> list[Polygon]:
    """Three to eight corners, sometimes squeezed."""
    corners = int(rng.integers(3, 9))
    return [(arc(0, 2 * math.pi, corners + 1, 1, rng.uniform(0.7, 1))[:-1], True)]


def irregular_polygon(rng: Rng) -> list[Polygon]:
    """Corners on an ellipse are convex; gaps stay under half a turn, or the shape would be a sliver."""
    gaps = rng.uniform(0.35, 1, int(rng.integers(4, 9)))
    angles = 2 * math.pi * np.cumsum(gaps) / gaps.sum()
    return [(np.stack([np.cos(angles), rng.uniform(0.5, 1) * np.sin(angles)], axis=1), True)]


def star(rng: Rng) -> list[Polygon]:
    """Four to nine rays, regular or ragged."""
    points = int(rng.integers(4, 10))
    radius = np.where(np.arange(2 * points) % 2, rng.uniform(0.35, 0.7), 1.0)
    radius = radius * rng.uniform(1 - rng.choice([0.02, 0.25]), 1, 2 * points)
    return [(radius[:, None] * arc(0, 2 * math.pi, 2 * points + 1)[:-1], True)]


def blob(rng: Rng) -> list[Polygon]:
    """A closed curve whose radius is a short random Fourier series."""
    angles = np.linspace(0, 2 * math.pi, 97)[:-1]
    waves = np.arange(1, 7)
    heights = rng.normal(size=6) * rng.uniform(0.15, 0.45) / waves**0.8
    radius = 1 + (heights[:, None] * np.cos(waves[:, None] * angles + rng.uniform(0, 2 * math.pi, (6, 1)))).sum(axis=0)
    return [(np.maximum(radius, 0.25)[:, None] * arc(0, 2 * math.pi, 97)[:-1], True)]


def ring(rng: Rng) -> list[Polygon]:
    """An oval or rectangular frame; what is in the hole is not the object."""
    height, hole = rng.uniform(0.55, 1), rng.uniform(0.4, 0.78)
    if rng.random() < 0.3:
        return [(box(1, height, 0.2 * height), True), (box(hole, hole * height, 0.1 * height), False)]
    return [(oval(1, height), True), (oval(hole, hole * height), False)]


def crescent(rng: Rng) -> list[Polygon]:
    """A disc that another one bites into."""
    shift = np.array([rng.uniform(0.3, 0.7), 0.0])
    return [(oval(), True), (oval() * rng.uniform(0.75, 1.0) + shift, False)]


def stroke(rng: Rng) -> list[Polygon]:
    """A thick Bezier curve: boxes from point to point, joined by discs."""
    times = np.linspace(0, 1, 17)[:, None]
    weights = np.concatenate([(1 - times) ** 3, 3 * times * (1 - times) ** 2, 3 * times**2 * (1 - times), times**3], 1)
    handles = np.array([[-1.0, 0], [-0.5, 0], [0.5, 0], [1.0, 0]])
    points = weights @ (handles + rng.uniform(-1, 1, (4, 2)) * [[0.2, 0.4], [0.6, 1.6], [0.6, 1.6], [0.2, 0.4]])
    width = rng.uniform(0.12, 0.3)
    along = np.diff(points, axis=0)
    side = np.stack([-along[:, 1], along[:, 0]], axis=1)
    side *= width / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-6)
    disc = width * arc(0, 2 * math.pi, 21)[:-1]
    boxes = [np.stack([a + s, b + s, b - s, a - s]) for a, b, s in zip(points[:-1], points[1:], side)]
    return [(polygon, True) for polygon in (*boxes, *(disc + point for point in points))]


def glyph(rng: Rng) -> list[Polygon]:
    """Two primitives in one, as T, L, P or a key: a bar, and a bar, disc or ring on it."""
    bar = rng.uniform(0.15, 0.32)
    place = np.array([rng.uniform(-0.15, 0.15) if rng.random() < 0.3 else 0.0, rng.uniform(-0.9, 0.9)])
    parts: list[Polygon] = [(box(bar, 1, rng.uniform(0.02, 0.95) * bar), True)]
    form = rng.integers(3)
    if form == 0:
        reach = rng.uniform(0.4, 0.95)
        shift = rng.choice([-1.0, 0.0, 1.0]) * (reach - bar)
        return [*parts, (box(reach, bar, rng.uniform(0.02, 0.95) * bar) + place * [1, 0.85] + [shift, 0], True)]
    radius = rng.uniform(0.45, 0.75)
    place[0] += rng.choice([-0.6, 0.0, 0.6]) * radius
    parts.append((oval(radius, radius * rng.uniform(0.7, 1)) + place, True))
    return [*parts, (oval() * radius * rng.uniform(0.3, 0.6) + place, False)] if form == 1 else parts


SHAPES: dict[str, Callable[[Rng], list[Polygon]]] = {
    "ellipse": ellipse,
    "rounded rectangle": rounded_rectangle,
    "regular polygon": regular_polygon,
    "irregular polygon": irregular_polygon,
    "star": star,
    "blob": blob,
    "ring": ring,
    "crescent": crescent,
    "stroke": stroke,
    "glyph": glyph,
}
KINDS = tuple(SHAPES)


def pose(shape: list[Polygon], turn: float) -> tuple[list[Polygon], np.ndarray]:
    """Turn a shape and scale its bounding box to the longest side 1 around 0; return it with the box's sides."""
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    turned = [(points @ rotation, adds) for points, adds in shape]
    solid = np.concatenate([points for points, adds in turned if adds])
    low, high = solid.min(axis=0), solid.max(axis=0)
    scale = 1 / max((high - low).max(), 1e-6)
    return [((points - (low + high) / 2) * scale, adds) for points, adds in turned], (high - low) * scale


def coverage_of(shape: list[Polygon], centre: np.ndarray, width: int, height: int, scale: float) -> Image.Image:
    """Draw a posed shape around ``centre`` (pixels), ``scale`` pixels large. Shapes: -> L (height, width)"""
    fine = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    draw = ImageDraw.Draw(fine)
    for points, adds in shape:
        draw.polygon(((points * scale + centre) * SUPERSAMPLING).ravel().tolist(), fill=255 if adds else 0)
    return fine.reduce(SUPERSAMPLING)
