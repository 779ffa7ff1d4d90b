"""The surfaces of drawn objects: colours, patterns between two colours, light."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

__all__ = ["Frame", "any_colour", "apart", "frame_of", "paint", "shade"]

Rng = np.random.Generator


def any_colour(rng: Rng, grey: bool) -> np.ndarray:
    """Return a colour, vivid or muted. Shapes: -> (3,), 0 to 255"""
    value, hue, saturation = rng.uniform(0.1, 1), rng.uniform(0, 6), rng.beta(1.3, 1.6)
    wheel = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return 255 * value * (1 - (0.0 if grey else saturation) * (1 - wheel))


def apart(colour: np.ndarray, behind: np.ndarray, least: float, exactly: bool = False) -> np.ndarray:
    """Move ``colour`` away from the colour ``behind`` until it is ``least`` apart; a channel out of range is mirrored.

    ``least`` is at most 127, so that one of the two directions is always in range.
    """
    step = colour - behind
    distance = float(np.linalg.norm(step))
    if distance < 1:
        step, distance = np.full(3, 1.0), math.sqrt(3)
    if exactly or distance < least:
        step = step * (least / distance)
    moved = behind + step
    return np.where((moved < 0) | (moved > 255), behind - step, moved)


def lattice(rng: Rng, octaves: Sequence[int]) -> Image.Image:
    """Return noise of several octaves on a 64 x 64 lattice, each half as strong as the one before. Shapes: -> F"""
    total = np.zeros((64, 64), np.float32)
    for strength, side in enumerate(octaves):
        noise = Image.fromarray(rng.random((side, side), dtype=np.float32))
        total += np.asarray(noise.resize((64, 64), Image.Resampling.BICUBIC)) / 2**strength
    total -= total.min()
    return Image.fromarray(total / max(float(total.max()), 1e-6))


@dataclass(frozen=True)
class Frame:
    """The part of the image in which something is drawn, and the coordinates on it.

    Shapes: x (1, w), y (h, 1): -1 to 1 across the thing's longest side
    """

    x: np.ndarray
    y: np.ndarray

    def enlarged(self, noise: Image.Image) -> np.ndarray:
        """Spread noise over (-1, 1) and return this part of it. Shapes: -> (h, w)"""
        width, height = self.x.size, self.y.size
        step = float(self.x[0, 1] - self.x[0, 0])
        left, top = float(self.x[0, 0]) - step / 2, float(self.y[0, 0]) - step / 2
        edges = np.array([left, top, left + step * width, top + step * height])
        window = tuple(np.clip((edges + 1) / 2, 0, 1) * noise.width)
        return np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC, box=window))


def plain(rng: Rng, frame: Frame) -> np.ndarray:
    """One colour."""
    return np.zeros((1, 1), np.float32)


def gradient(rng: Rng, frame: Frame) -> np.ndarray:
    """From one colour to the other in any direction."""
    turn, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0.4, 0.9)
    return np.clip(0.5 + (slope * math.cos(turn)) * frame.x + (slope * math.sin(turn)) * frame.y, 0, 1)


def turned(rng: Rng, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates along two perpendicular directions, sometimes bent. Shapes: -> two (h, w)"""
    turn, bent, bend, waves = rng.uniform(0, 2 * math.pi), rng.random() < 0.3, rng.uniform(0.05, 0.2), rng.uniform(2, 5)
    cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    u, v = cos * frame.x + sin * frame.y, cos * frame.y - sin * frame.x
    return (u + np.float32(bend) * np.sin(np.float32(waves) * v) if bent else u), v


def stripes(rng: Rng, frame: Frame) -> np.ndarray:
    """Soft waves to sharp bars."""
    (u, _), waves, sharp = turned(rng, frame), rng.uniform(6, 26), rng.choice([0.5, 2.0, 6.0])
    amount: np.ndarray = np.clip(rng.uniform(0.2, 0.8) + np.float32(sharp) * np.sin(np.float32(waves) * u), 0, 1)
    return amount


def dots(rng: Rng, frame: Frame) -> np.ndarray:
    """Discs, or the gaps between them, in a grid."""
    (u, v), waves, fill = turned(rng, frame), np.float32(rng.uniform(9, 24)), np.float32(rng.uniform(-2.2, -0.2))
    amount: np.ndarray = np.clip(3 * (np.cos(waves * u) + np.cos(waves * v)) + fill, 0, 1)
    return amount


def checker(rng: Rng, frame: Frame) -> np.ndarray:
    """Squares in turns."""
    (u, v), waves = turned(rng, frame), np.float32(rng.uniform(6, 18))
    amount: np.ndarray = np.clip(0.5 + 8 * np.sin(waves * u) * np.sin(waves * v), 0, 1)
    return amount


def octaves(rng: Rng, frame: Frame) -> np.ndarray:
    """Clouds, coarse to fine."""
    return frame.enlarged(lattice(rng, (3, 6, 12, 24, 48)[int(rng.integers(3)) :]))


def blotches(rng: Rng, frame: Frame) -> np.ndarray:
    """Clouds cut at a level: islands of one colour in the other."""
    noise, level = lattice(rng, (5, 10, 20, 40)[int(rng.integers(2)) :]), np.float32(rng.uniform(0.4, 0.6))
    amount: np.ndarray = np.clip(0.5 + np.float32(12) * (frame.enlarged(noise) - level), 0, 1)
    return amount


TEXTURES: tuple[tuple[Callable[[Rng, Frame], np.ndarray], float, float], ...] = (
    (plain, 0.24, 0.06),
    (gradient, 0.18, 0.22),
    (stripes, 0.12, 0.12),
    (dots, 0.1, 0.04),
    (checker, 0.08, 0.08),
    (octaves, 0.16, 0.28),
    (blotches, 0.12, 0.2),
)
"""Pattern (0 to 1, h x w or broadcast to it), its share among objects, its share among backgrounds."""


def paint(rng: Rng, frame: Frame, first: np.ndarray, second: np.ndarray, *, scenery: bool = False) -> np.ndarray:
    """Return a random texture between two colours. Shapes: -> float32 (3, h, w)"""
    weights = [background if scenery else thing for _, thing, background in TEXTURES]
    amount = TEXTURES[int(rng.choice(len(TEXTURES), p=weights))][0](rng, frame).astype(np.float32, copy=False)
    if rng.random() < 0.35:
        grain = frame.enlarged(lattice(rng, (24, 48)))
        amount = amount + np.float32(rng.uniform(0.1, 0.4)) * (grain - np.float32(0.5))
    low, change = first.astype(np.float32), (second - first).astype(np.float32)
    painted: np.ndarray = low[:, None, None] + change[:, None, None] * amount
    return painted


def frame_of(size: int, rows: slice, columns: slice, centre: np.ndarray, reach: float) -> Frame:
    """Return the coordinates of a part of the image around ``centre`` (fractions), 1 at the distance ``reach``."""
    x = ((np.arange(columns.start, columns.stop) + 0.5) / size - centre[0]) / reach
    y = ((np.arange(rows.start, rows.stop) + 0.5) / size - centre[1]) / reach
    return Frame(x.astype(np.float32)[None, :], y.astype(np.float32)[:, None])


def shade(rng: Rng, frame: Frame, light: np.ndarray) -> np.ndarray:
    """Return the brightness on a thing lit from ``light``: flat, sloping, round, or with a highlight.

    Shapes: light (2,), of length 1; -> (h, w) or (1, 1)
    """
    form, strength = rng.integers(4), np.float32(rng.uniform(0.1, 0.4))
    reach, spot = np.float32(rng.uniform(0.3, 0.6)), np.float32(rng.uniform(3, 8))
    along, down = (np.float32(part) for part in light)
    brightness: np.ndarray = np.ones((1, 1), np.float32)
    if form == 1:
        brightness = 1 + strength * along * frame.x + strength * down * frame.y
    across, below = (frame.x - reach * along) ** 2, (frame.y - reach * down) ** 2
    if form == 2:
        brightness = (1 + strength - strength * across) - strength * below
    if form == 3:
        brightness = 1 + 2 * strength * np.exp(-spot * across) * np.exp(-spot * below)
    return brightness
