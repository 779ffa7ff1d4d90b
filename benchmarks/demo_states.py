"""Draw docs/demo_states.jpg: what the iOS demo shows after each of some gestures, by the demo's own Swift code.

``make demo-app`` exports the bundled model first. The frame and the captions are this script's, everything inside the
image is drawn by EdgeSAMUI.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
EXPORT = ROOT / "out" / "demo-app" / "edge_sam_tiny"
SCENE = ROOT / "edgesam_export" / "resources" / "samples" / "scene.png"
TARGET = ROOT / "docs" / "demo_states.jpg"
SIDE, GAP, TEXT = 360, 14, 34
STATES = (
    ("425,384", "tap: what belongs to the object"),
    ("-408,262", "hold: what does not belong to it"),
    ("clear", ""),
    ("95,40,355,230", "drag: a box around another object"),
)
"""Steps of demo-states and their captions; one without a caption is not shown."""


def main() -> None:
    """Run the Swift program on the bundled model and join what it drew."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "scene.npy", np.asarray(Image.open(SCENE).convert("RGB")))
        packages = [EXPORT / f"edge_sam_tiny_{part}.mlpackage" for part in ("encoder", "decoder")]
        command = ["swift", "run", "--package-path", ROOT / "swift" / "Tools", "demo-states"]
        subprocess.run(
            [*command, *packages, folder / "scene.npy", folder, *(step for step, _ in STATES)],
            check=True,
            env={**os.environ, "EDGESAM_PYTHON": sys.executable},
        )
        shown = [(number, words) for number, (_, words) in enumerate(STATES, start=1) if words]
        tiles = [(Image.fromarray(np.load(folder / f"{number}.npy")), words) for number, words in shown]
        tiles.append((on_squares(np.load(folder / "cut-out.npy")), "what is shared: the cut-out"))
    join(tiles).save(TARGET, quality=90)


def on_squares(pixels: np.ndarray) -> Image.Image:
    """Return an image with alpha, shown on grey squares; pixels (H, W, 4)."""
    y, x = np.mgrid[0 : pixels.shape[0], 0 : pixels.shape[1]]
    squares = np.where((x // 16 + y // 16) % 2, 205, 245).astype(np.uint8)
    below = Image.fromarray(np.repeat(squares[..., None], 3, axis=2)).convert("RGBA")
    return Image.alpha_composite(below, Image.fromarray(pixels)).convert("RGB")


def join(tiles: list[tuple[Image.Image, str]]) -> Image.Image:
    """Return the images beside each other, each with its caption below."""
    width = GAP + (SIDE + GAP) * len(tiles)
    sheet = Image.new("RGB", (width, SIDE + 2 * GAP + TEXT), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=17)
    for index, (image, words) in enumerate(tiles):
        left = GAP + index * (SIDE + GAP)
        sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, GAP))
        draw.text((left, GAP + SIDE + 8), words, fill="black", font=font)
    return sheet


if __name__ == "__main__":
    main()
