"""Drawn grey images in the manner of medical scanners, for models that were trained on such and not on photographs.

Neutral ones: no patient, no data set. Each of ``phantoms`` has one object where ``sample_prompts`` puts its box;
``drawn_phantom`` draws as many as are needed, with the masks of their objects.
"""

from __future__ import annotations

import numpy as np

__all__ = ["drawn_phantom", "phantoms"]

EDGE_PIXELS = 1.5
"""Half the width of an edge: a scanner has no sharper one."""


class Canvas:
    """A grey image of values 0..1 that ellipses are blended into."""

    def __init__(self, height: int, width: int, seed: int) -> None:
        self.rows, self.columns = np.mgrid[:height, :width].astype(np.float64)
        self.grey = np.zeros((height, width))
        self.noise = np.random.default_rng(seed)

    def ellipse(
        self, centre: tuple[float, float], radii: tuple[float, float], grey: float, turn: float = 0.0
    ) -> np.ndarray:
        """Blend an ellipse in and return its pixels, bool (H, W).

        Centre and radii are shares of width and height, ``turn`` is in radians.
        """
        height, width = self.grey.shape
        x, y = self.columns - centre[0] * width, self.rows - centre[1] * height
        along = (x * np.cos(turn) + y * np.sin(turn)) / (radii[0] * width)
        across = (y * np.cos(turn) - x * np.sin(turn)) / (radii[1] * height)
        distance = (np.hypot(along, across) - 1) * min(radii[0] * width, radii[1] * height)  # pixels, about
        share = 1 / (1 + np.exp(np.clip(2 * distance / EDGE_PIXELS, -50, 50)))
        self.grey = self.grey * (1 - share) + grey * share
        inside: np.ndarray = share > 0.5
        return inside

    def grain(self, cells: int) -> np.ndarray:
        """Return noise of mean 0 and deviation 1 whose grains are squares of ``cells`` pixels, blended."""
        height, width = self.grey.shape
        coarse = self.noise.standard_normal((height // cells + 2, width // cells + 2))
        y, x = self.rows / cells, self.columns / cells
        top, left, down, right = y.astype(int), x.astype(int), y % 1, x % 1
        upper = coarse[top, left] * (1 - right) + coarse[top, left + 1] * right
        lower = coarse[top + 1, left] * (1 - right) + coarse[top + 1, left + 1] * right
        blended: np.ndarray = upper * (1 - down) + lower * down
        blended /= blended.std()
        return blended

    def pixels(self) -> np.ndarray:
        """Return the image, stretched to 0..255 between its percentiles 0.5 and 99.5. Shapes: uint8 (H, W, 3)"""
        low, high = np.percentile(self.grey, [0.5, 99.5])
        grey = np.clip((self.grey - low) / (high - low), 0, 1) * 255
        return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def slice_of_a_body() -> np.ndarray:
    """Return a cross-section as computed tomography shows one: body, two dark organs, a bright one in the middle."""
    canvas = Canvas(400, 520, seed=1)
    canvas.ellipse((0.5, 0.5), (0.47, 0.46), 0.45)
    canvas.ellipse((0.5, 0.5), (0.43, 0.41), 0.35)
    canvas.ellipse((0.15, 0.5), (0.06, 0.2), 0.08, turn=0.1)
    canvas.ellipse((0.87, 0.5), (0.05, 0.18), 0.08, turn=-0.1)
    canvas.ellipse((0.5, 0.475), (0.29, 0.31), 0.7, turn=0.05)
    canvas.ellipse((0.5, 0.88), (0.05, 0.05), 0.95)
    canvas.grey += 0.02 * canvas.grain(2) + 0.015 * canvas.grain(24)
    return canvas.pixels()


def echo_with_a_cyst() -> np.ndarray:
    """Return a field of speckle as ultrasound shows one, with a dark region."""
    canvas = Canvas(420, 360, seed=2)
    canvas.grey += 0.55 - 0.25 * canvas.rows / len(canvas.rows)
    canvas.ellipse((0.5, 0.48), (0.28, 0.3), 0.06, turn=-0.2)
    canvas.grey *= np.exp(0.35 * canvas.grain(3) + 0.15 * canvas.grain(16))
    return canvas.pixels()


def phantoms() -> tuple[tuple[str, np.ndarray], ...]:
    """Return all images by name. Shapes: uint8 (H, W, 3), the three channels equal"""
    return (("phantom of a body", slice_of_a_body()), ("phantom of an echo", echo_with_a_cyst()))


def drawn_phantom(seed: int) -> dict[str, np.ndarray]:
    """Return ``image`` and the ``masks`` of its two to four objects; even seeds show a body, odd ones an echo.

    Shapes: image uint8 (H, W, 3), the three channels equal; masks bool (K, H, W), disjoint
    """
    rng = np.random.default_rng(seed)
    canvas = Canvas(int(rng.integers(256, 520)), int(rng.integers(256, 520)), seed)
    body = seed % 2 == 0
    if body:
        canvas.ellipse((0.5, 0.5), (0.47, 0.46), 0.45)
        canvas.ellipse((0.5, 0.5), (0.44, 0.42), rng.uniform(0.25, 0.4))
    else:
        canvas.grey += 0.55 - 0.25 * canvas.rows / len(canvas.rows)
    masks = []
    quarters = [(x, y) for x in (0.33, 0.67) for y in (0.33, 0.67)]
    for index in rng.permutation(4)[: rng.integers(2, 5)]:
        centre = [middle + rng.uniform(-0.03, 0.03) for middle in quarters[index]]
        radii = (rng.uniform(0.04, 0.12), rng.uniform(0.04, 0.12))
        grey = rng.choice([rng.uniform(0.05, 0.15), rng.uniform(0.6, 0.9)]) if body else rng.uniform(0.04, 0.15)
        masks.append(canvas.ellipse((centre[0], centre[1]), radii, float(grey), turn=rng.uniform(-0.4, 0.4)))
    if body:
        canvas.grey += 0.02 * canvas.grain(2) + 0.015 * canvas.grain(24)
    else:
        canvas.grey *= np.exp(0.35 * canvas.grain(3) + 0.15 * canvas.grain(16))
    return {"image": canvas.pixels(), "masks": np.stack(masks)}
