"""Outlines, COCO's run lengths, overlays, cut-outs and orientations on numbers that the Swift tests read too.

``goldens/mask_shapes.json`` holds what others give: contourpy the outlines, pycocotools the run lengths, Pillow the
orientations, NumPy's formula the colours; fewer corners come from the few lines of ``simplified``. Inputs are not
stored, as in ``test_shared_goldens.py``. ``python tests/test_mask_shapes.py`` writes the file anew.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import contourpy
import numpy as np
import pycocotools.mask
import pytest
from matplotlib.path import Path as Polygon
from PIL import Image, ImageOps

GOLDENS = Path(__file__).parent / "goldens" / "mask_shapes.json"
DRAWN = {
    "one pixel": ["1"],
    "square": ["0000", "0110", "0110", "0000"],
    "full": ["111", "111"],
    "empty": ["000", "000"],
    "ring": ["1111", "1001", "1111"],
    "island in a ring": ["11111", "10001", "10101", "10001", "11111"],
    "diagonal": ["10", "01"],
    "other diagonal": ["01", "10"],
    "holes that touch": ["11111", "10111", "11011", "11111"],
    "stairs": ["1000", "1100", "1110", "1111"],
    "comb": ["10101", "11111", "10101"],
}
BLOBS = {"blobs": (1, 40, 56, 3), "more blobs": (2, 97, 61, 5), "noise": (3, 24, 31, 0)}
"""Name -> seed, height, width, passes of a box filter over noise."""
TOLERANCES = (0.0, 0.75, 1.5)
COLOUR, OPACITY = (30, 120, 255), 0.4


def lcg_bytes(seed: int, count: int) -> np.ndarray:
    """Bits 16 to 23 of the states of the generator s <- 1664525 s + 1013904223 mod 2**32 (Numerical Recipes)."""
    states = []
    for _ in range(count):
        seed = (1664525 * seed + 1013904223) & 0xFFFFFFFF
        states.append(seed >> 16 & 0xFF)
    return np.array(states, np.uint8)


def masks() -> dict[str, np.ndarray]:
    """Return the masks, bool (H, W)."""
    found = {name: np.array([[digit == "1" for digit in row] for row in rows]) for name, rows in DRAWN.items()}
    for name, (seed, height, width, passes) in BLOBS.items():
        values = lcg_bytes(seed, height * width).astype(np.int64).reshape(height, width)
        for _ in range(passes):
            # sums of 3 x 3 pixels, those outside 0: integers, so that both languages get the same
            padded = np.pad(values, 1)
            values = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3)) // 9
        found[name] = values > np.sort(values, axis=None)[values.size // 2]
    return found


def outlines(mask: np.ndarray) -> list[list[np.ndarray]]:
    """Return contourpy's polygons: for each area the exterior, then its holes, without corners on straight lines."""
    height, width = mask.shape
    generator = contourpy.contour_generator(
        # the first sample is the centre of a pixel outside
        np.arange(-1, width + 1) + 0.5,
        np.arange(-1, height + 1) + 0.5,
        np.pad(mask, 1).astype(float),
        name="serial",
        fill_type=contourpy.FillType.OuterOffset,
    )
    points, offsets = generator.filled(0.5, np.inf)
    return [[canonical(p[start : end - 1]) for start, end in pairwise(o)] for p, o in zip(points, offsets)]


def canonical(ring: np.ndarray) -> np.ndarray:
    """Return a ring without corners on straight lines, from its first corner by row and column."""
    before, after = np.roll(ring, 1, axis=0) - ring, np.roll(ring, -1, axis=0) - ring
    ring = ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return np.roll(ring, -min(range(len(ring)), key=lambda i: (ring[i][1], ring[i][0])), axis=0)


def doubled_area(ring: np.ndarray) -> float:
    """Return twice the signed area; positive is clockwise where y goes down."""
    x, y = ring.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def ordered(areas: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """Return areas with exteriors clockwise on a screen and holes the other way, all by their first corners."""

    def first(ring: np.ndarray) -> tuple[float, float]:
        return ring[0][1], ring[0][0]

    turned = []
    for exterior, *holes in areas:
        wanted = [ring if (doubled_area(ring) > 0) == (ring is exterior) else ring[[0, *range(len(ring) - 1, 0, -1)]]
                  for ring in (exterior, *holes)]  # fmt: skip
        turned.append([wanted[0], *sorted(wanted[1:], key=first)])
    return sorted(turned, key=lambda area: first(area[0]))


def simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the corners that Douglas and Peucker (1973) keep, split first at the corner farthest from the first."""
    if tolerance <= 0:
        return ring
    from_first = np.sum((ring - ring[0]) ** 2, axis=1)
    far = int(np.argmax(from_first))
    closed = np.vstack([ring, ring[:1]])
    kept = {0} if from_first[far] <= tolerance**2 else {0, far, *between(closed, 0, far, tolerance)}
    if far in kept:
        kept |= between(closed, far, len(ring), tolerance)
    return ring[sorted(kept - {len(ring)})]


def between(points: np.ndarray, start: int, end: int, tolerance: float) -> set[int]:
    """Return the corners between two kept ones that are needed."""
    if end - start < 2:
        return set()
    line, inner = points[end] - points[start], points[start + 1 : end] - points[start]
    part = np.clip(inner @ line / (line @ line), 0, 1) if line.any() else np.zeros(len(inner))
    distances = np.sum((inner - part[:, None] * line) ** 2, axis=1)
    index = start + 1 + int(np.argmax(distances))
    if distances[index - start - 1] <= tolerance**2:
        return set()
    return {index} | between(points, start, index, tolerance) | between(points, index, end, tolerance)


def simplified_areas(areas: list[list[np.ndarray]], tolerance: float) -> list[list[list[list[float]]]]:
    """Return the areas with fewer corners; rings of less than three are left out."""
    found = [[simplified(ring, tolerance) for ring in area] for area in areas]
    return [[ring.tolist() for ring in area if len(ring) > 2] for area in found if len(area[0]) > 2]


def image_for(mask: np.ndarray) -> np.ndarray:
    """Return an image of a mask's size, uint8 (H, W, 3)."""
    return lcg_bytes(7, mask.size * 3).reshape(*mask.shape, 3)


def digest(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def shape_case(name: str, mask: np.ndarray) -> dict:
    """Return what is expected of one mask."""
    image, (height, width) = image_for(mask), mask.shape
    areas = ordered(outlines(mask))
    blended = np.floor(image * (1 - OPACITY) + np.array(COLOUR) * OPACITY + 0.5).astype(np.uint8)
    encoded = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "name": name,
        "drawn": DRAWN.get(name),
        "seed": BLOBS[name][0] if name in BLOBS else None,
        "passes": BLOBS[name][3] if name in BLOBS else None,
        "size": [height, width],
        "mask_sha256": digest(mask.astype(np.uint8)),
        "outlines": {str(t): simplified_areas(areas, t) for t in TOLERANCES},
        "compressed": encoded["counts"].decode(),
        "overlay_sha256": digest(np.where(mask[..., None], blended, image)),
        "cut_out_sha256": digest(np.dstack([image, mask.astype(np.uint8) * 255])),
    }


def orientation_cases() -> list[dict]:
    """Return what Pillow makes of an image with each of EXIF's orientations."""
    pixels = lcg_bytes(11, 3 * 5 * 3).reshape(3, 5, 3)
    found = []
    for orientation in range(1, 9):
        image = Image.fromarray(pixels)
        image.getexif()[0x0112] = orientation
        upright = np.array(ImageOps.exif_transpose(image))
        found.append({"orientation": orientation, "size": list(upright.shape[:2]), "sha256": digest(upright)})
    return found


def document() -> dict:
    """Return the golden file's content."""
    return {
        "note": "written by tests/test_mask_shapes.py",
        "colour": list(COLOUR),
        "opacity": OPACITY,
        "masks": [shape_case(name, mask) for name, mask in masks().items()],
        "orientations": orientation_cases(),
    }


def test_the_file_holds_what_the_witnesses_give():
    assert json.loads(GOLDENS.read_text()) == json.loads(json.dumps(document()))


@pytest.mark.parametrize("name", masks())
def test_exactly_the_centres_of_the_pixels_set_are_inside(name):
    mask = masks()[name]
    (case,) = (case for case in json.loads(GOLDENS.read_text())["masks"] if case["name"] == name)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    filled = np.zeros(mask.size, bool)
    for area in case["outlines"]["0.0"]:
        for ring in area:
            filled ^= Polygon([*ring, ring[0]], closed=True).contains_points(centres)
    assert (filled.reshape(mask.shape) == mask).all()


@pytest.mark.parametrize("tolerance", TOLERANCES[1:])
def test_no_corner_left_out_is_farther_than_the_tolerance(tolerance):
    for area in ordered(outlines(masks()["more blobs"])):
        for ring in area:
            few = simplified(ring, tolerance)
            closed = np.vstack([few, few[:1]])
            for corner in ring:
                gaps = [segment_distance(corner, a, b) for a, b in pairwise(closed)] or [
                    float(np.hypot(*(corner - few[0])))
                ]
                assert min(gaps) <= tolerance


def segment_distance(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Return the distance of a point from a line segment, by sampling it."""
    samples = start + np.linspace(0, 1, 401)[:, None] * (end - start)
    return float(np.min(np.hypot(*(samples - point).T))) - 1e-2


if __name__ == "__main__":
    # a line for each mask, so that a difference can be read
    lines = ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in document().items())
    GOLDENS.write_text(("{" + lines + "}\n").replace(', {"name"', ',\n {"name"').replace(', {"ori', ',\n {"ori'))
