"""Procedural scenes whose masks are exact, because whoever draws an object knows its pixels.

A scene is a function of (seed, index). Everything random is drawn independently of the resolution, in fractions of the
image's side, so ``size`` changes how finely a scene is drawn, not what is in it; sensor noise alone is per pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as count_from
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from edgesam_export.distill.scene_photographs import Photographs
from edgesam_export.distill.scene_shapes import KINDS, SHAPES, SOLID, coverage_of, pose
from edgesam_export.distill.scene_textures import Frame, any_colour, apart, frame_of, paint, shade
from edgesam_export.errors import UsageError
from edgesam_export.files import staging_folder, write_json

__all__ = ["KINDS", "Scene", "draw_scene", "montage", "write_coco"]

MIN_SIZE, MAX_SIZE = 32, 4096
SEED_LIMIT = 1 << 32
"""Seeds and indexes are one 32-bit word each, so that no two pairs start the same random numbers."""
OBJECTS = (3, 9)
DIAMETERS = (0.08, 0.55)
"""Longest side of an object's bounding box, of the image's side; log-uniform."""
MIN_AREA, MIN_VISIBLE = 0.003, 0.25
"""Less of the image, or less of the object, is nothing that a person would be asked to outline."""
MARGIN = 0.04
"""Least distance of an object's centre from the image's edge."""
NEIGHBOUR_SHARE = 0.4
"""Objects that are put beside the one before, or over it, as things in images stand together."""
GREY_SHARE = 0.08
HARD_SHARE = 0.2
"""Objects nearly of the colour of what lies behind them."""
PHOTOGRAPHED, PHOTOGRAPHED_SCENERY = 0.6, 0.85
"""Share of objects and of backgrounds with a surface of a photograph, where there are any."""
MOVED = (0.3, 1.0)
"""How far the mean colour of an object's photographed surface is moved to the colour chosen for the object."""
CONTRAST, HARD_CONTRAST = (70.0, 115.0), (26.0, 48.0)
"""Least distance of an object's colour from the mean behind it, and the distance of a hard one; RGB, 0 to 255."""

Rng = np.random.Generator
OUTLINES = (
    (255, 64, 64),
    (64, 224, 96),
    (72, 136, 255),
    (255, 208, 48),
    (255, 96, 232),
    (48, 224, 232),
    (255, 144, 48),
)


@dataclass(frozen=True)
class Scene:
    """One image and what is in it, back to front.

    Shapes: image uint8 (S, S, 3); masks bool (K, S, S), visible parts, disjoint; kinds K names of ``KINDS``
    """

    image: np.ndarray
    masks: np.ndarray
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """A scene being drawn.

    Shapes: canvas float32 (3, S, S), 0 to 255; owner uint8 (S, S), number of the object in front; light (2,), length 1
    """

    canvas: np.ndarray
    owner: np.ndarray
    light: np.ndarray
    grey: bool
    photographs: Photographs | None = None


@dataclass(frozen=True)
class Placed:
    """An object in the image: its kind, its pixels with those that are hidden or outside, its centre (fractions)."""

    kind: str
    whole: int
    centre: np.ndarray


def cast_shadow(rng: Rng, world: World, cover: Image.Image, corner: tuple[int, int]) -> None:
    """Darken what lies behind an object, on the side away from the light."""
    cast, blur, offset = rng.random() < 0.45, rng.uniform(0.004, 0.02), rng.uniform(0.005, 0.025)
    strength = np.float32(rng.uniform(0.2, 0.6) / 255)
    if not cast:
        return
    size = world.canvas.shape[-1]
    radius = blur * size
    pad = math.ceil(3 * radius)
    soft = Image.new("L", (cover.width + 2 * pad, cover.height + 2 * pad))
    soft.paste(cover, (pad, pad))
    soft = soft.filter(ImageFilter.GaussianBlur(radius))
    left = corner[0] - pad - round(float(world.light[0]) * offset * size)
    top = corner[1] - pad - round(float(world.light[1]) * offset * size)
    inside, part = clip_to(size, left, top, soft.width, soft.height)
    world.canvas[:, inside[0], inside[1]] *= 1 - strength * np.asarray(soft)[part].astype(np.float32)


def clip_to(size: int, left: int, top: int, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return (rows, columns) of a patch in the image, and of that part in the patch; empty when it lies outside."""
    x0, x1, y0, y1 = max(left, 0), min(left + width, size), max(top, 0), min(top + height, size)
    x1, y1 = max(x0, x1), max(y0, y1)
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def rim(rng: Rng, cover: Image.Image, size: int) -> np.ndarray | None:
    """Return the coverage of an object's thin outline, None without one. Shapes: -> (h, w), 0 to 1"""
    outlined, width = rng.random() < 0.2, rng.uniform(0.004, 0.01) * size
    if not outlined:
        return None
    soft = np.asarray(cover.filter(ImageFilter.BoxBlur(width))).astype(np.float32)
    kept: np.ndarray = np.clip((235 - soft) * np.float32(0.05), 0, 1)
    return kept


def add_object(rng: Rng, world: World, number: int, near: np.ndarray | None) -> Placed:
    """Draw one object over all others, sometimes beside the one ``near``, and write ``number`` where it is."""
    size = world.canvas.shape[-1]
    kind = KINDS[int(rng.integers(len(KINDS)))]
    shape, sides = pose(SHAPES[kind](rng), rng.uniform(0, 2 * math.pi))
    diameter, centre = math.exp(rng.uniform(*np.log(DIAMETERS))), rng.uniform(MARGIN, 1 - MARGIN, 2)
    beside, step = rng.random() < NEIGHBOUR_SHARE, rng.normal(0, 0.12, 2)
    if beside and near is not None:
        centre = np.clip(near + step, MARGIN, 1 - MARGIN)
    left, top = (math.floor((middle - diameter * side / 2) * size) - 1 for middle, side in zip(centre, sides))
    width, height = (math.ceil(diameter * side * size) + 3 for side in sides)
    cover = coverage_of(shape, centre * size - (left, top), width, height, diameter * size)
    cast_shadow(rng, world, cover, (left, top))
    inside, part = clip_to(size, left, top, width, height)
    behind, covered = world.canvas[:, inside[0], inside[1]], np.asarray(cover)[part]
    first, second, ink = colours_on(rng, behind, covered, world)
    frame = frame_of(size, *inside, centre, diameter / 2)
    surface = surface_of(rng, world, frame, first, second)
    outline = rim(rng, cover, size)
    if outline is not None:
        surface = surface + outline[part] * (ink.astype(np.float32)[:, None, None] - surface)
    surface = surface * shade(rng, frame, world.light)
    behind += (covered.astype(np.float32) / 255) * (surface - behind)
    world.owner[inside][covered > SOLID] = number
    return Placed(kind, sum(cover.histogram()[SOLID + 1 :]), centre)


def surface_of(rng: Rng, world: World, frame: Frame, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return a drawn texture between two colours, or a photographed one near the first. Shapes: -> (3, h, w)"""
    if world.photographs is None or rng.random() >= PHOTOGRAPHED:
        return paint(rng, frame, first, second)
    cut, share = world.photographs.cut(rng, frame, grey=world.grey), np.float32(rng.uniform(*MOVED))
    moved: np.ndarray = cut + share * (first.astype(np.float32) - cut.mean(axis=(1, 2)))[:, None, None]
    return moved


def colours_on(rng: Rng, behind: np.ndarray, covered: np.ndarray, world: World) -> tuple[np.ndarray, ...]:
    """Choose two colours that are seen on what lies behind, and one for an outline, which is seen on the first.

    Shapes: behind (3, h, w), covered (h, w) -> three of (3,)
    """
    base, other, ink = (any_colour(rng, world.grey) for _ in range(3))
    hard, least, narrow = rng.random() < HARD_SHARE, rng.uniform(*CONTRAST), rng.uniform(*HARD_CONTRAST)
    contrast = rng.uniform(0.15, 1)
    step = max(1, behind.shape[-1] // 64)  # a mean needs no more
    seen = covered[::step, ::step] > SOLID
    mean = behind[:, ::step, ::step][:, seen].mean(axis=1, dtype=np.float64) if seen.any() else np.full(3, 128.0)
    mean = np.clip(mean, 0, 255)  # a highlight may be brighter than the image can show
    first = apart(base, mean, narrow if hard else least, exactly=hard)
    second = apart(first + contrast * (other - first), mean, narrow if hard else 0.7 * least, exactly=hard)
    return first, second, apart(ink, first, 60.0)


def try_scene(seed: int, index: int, attempt: int, size: int, photographs: Photographs | None = None) -> Scene:
    """Draw a scene that may have no object worth a mask."""
    rng = np.random.Generator(np.random.PCG64([seed, index, attempt]))
    grey, turn = rng.random() < GREY_SHARE, rng.uniform(0, 2 * math.pi)
    base = any_colour(rng, grey)
    other = base + rng.uniform(0.15, 0.6) * (any_colour(rng, grey) - base)
    frame = frame_of(size, slice(0, size), slice(0, size), np.array([0.5, 0.5]), 0.5)
    canvas = np.empty((3, size, size), np.float32)
    if photographs is not None and rng.random() < PHOTOGRAPHED_SCENERY:
        canvas[:] = photographs.cut(rng, frame, grey=grey)
    else:
        canvas[:] = paint(rng, frame, base, other, scenery=True)
    light = np.array([math.cos(turn), math.sin(turn)])
    world = World(canvas, np.zeros((size, size), np.uint8), light, grey, photographs)
    placed: list[Placed] = []
    for number in range(1, int(rng.integers(OBJECTS[0], OBJECTS[1] + 1)) + 1):
        placed.append(add_object(rng, world, number, placed[-1].centre if placed else None))
    areas = np.bincount(world.owner.ravel(), minlength=len(placed) + 1)[1:]
    kept = [
        number
        for number, (thing, area) in enumerate(zip(placed, areas), start=1)
        if area >= MIN_AREA * size * size and area >= MIN_VISIBLE * thing.whole
    ]
    masks = world.owner == np.array(kept, np.uint8)[:, None, None]
    image = photograph(rng, world, frame)
    return Scene(image=image, masks=masks, kinds=tuple(placed[number - 1].kind for number in kept))


def photograph(rng: Rng, world: World, frame: Frame) -> np.ndarray:
    """Light the whole scene, and add what a lens and a sensor do. Shapes: -> uint8 (S, S, 3)"""
    slope, vignette = np.float32(rng.uniform(0, 0.25)), np.float32(rng.uniform(0, 0.12))
    cast = rng.normal(0, 0.1, 3) if rng.random() < 0.3 else np.zeros(3)
    sigma, noise = rng.uniform(-0.5, 1), rng.gamma(1.5, 2.0) if rng.random() < 0.7 else 0.0
    quantiles = np.clip(noise * rng.standard_normal(256), -40, 40).round().astype(np.int16)
    along, down = (slope * np.float32(part) for part in world.light)
    lit = (1 + along * frame.x - vignette * frame.x**2) + (down * frame.y - vignette * frame.y**2)
    for plane, factor in zip(world.canvas, (1 + cast).astype(np.float32)):
        plane *= lit * factor
    size = world.canvas.shape[-1]
    image = np.ascontiguousarray(np.clip(world.canvas, 0, 255).astype(np.uint8).transpose(1, 2, 0))
    if sigma > 0:
        image = np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma * size / 512)))
    if noise > 0:  # a table of 256 normal numbers is five times as fast as a normal number per pixel
        shift = quantiles[rng.integers(0, 256, (size, size, 1 if world.grey else 3), np.uint8)]
        image = np.clip(image + shift, 0, 255).astype(np.uint8)
    return image


def draw_scene(seed: int, index: int, size: int = 512, photographs: Photographs | None = None) -> Scene:
    """Draw scene ``index`` of the series ``seed``; the same arguments give the same pixels.

    With ``photographs`` most surfaces, of objects and behind them, are cut out of these.
    Objects that are too small or too much covered to be asked for are in the image but not in the masks. Whether one
    just on that limit counts may differ between two sizes.
    Raises: UsageError for a seed or index that is negative or does not fit in 32 bits, for an unusable size, and for a
    photograph that cannot be read.
    """
    check(seed, index, size)
    scenes = (try_scene(seed, index, attempt, size, photographs) for attempt in count_from())
    return next(scene for scene in scenes if len(scene.masks))


def check(seed: int, index: int, size: int) -> None:
    """Raise UsageError for arguments of which no scene can be drawn."""
    check_integer("seed", seed, 0, SEED_LIMIT - 1)
    check_integer("index", index, 0, SEED_LIMIT - 1)
    check_integer("size", size, MIN_SIZE, MAX_SIZE)


def check_integer(name: str, value: int, low: int, high: int) -> None:
    """Raise UsageError for anything but an integer from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise UsageError(f"scenes: {name} {value!r} is not possible; give an integer from {low} to {high}")


def montage(scenes: Sequence[Scene], *, columns: int = 6, tile: int = 256) -> Image.Image:
    """Return images side by side, every mask outlined in a colour of its own, frontmost objects last."""
    if not scenes:
        raise UsageError("montage: no scenes; pass at least one")
    columns = min(columns, len(scenes))
    sheet = Image.new("RGB", (columns * tile, -(-len(scenes) // columns) * tile))
    for index, scene in enumerate(scenes):
        image = np.asarray(Image.fromarray(scene.image).resize((tile, tile), Image.Resampling.LANCZOS)).copy()
        for number, mask in enumerate(scene.masks):
            solid = Image.fromarray(mask.astype(np.uint8) * 255).resize((tile, tile), Image.Resampling.BOX)
            solid = solid.point(lambda value: 255 if value > SOLID else 0)
            border = (np.asarray(solid) > 0) & (np.asarray(solid.filter(ImageFilter.MinFilter(3))) == 0)
            image[border] = OUTLINES[number % len(OUTLINES)]
        sheet.paste(Image.fromarray(image), (index % columns * tile, index // columns * tile))
    return sheet


def write_coco(folder: Path, *, seed: int, count: int, size: int = 512) -> Path:
    """Write ``count`` scenes as ``images/*.png`` and a COCO instances file; return the latter's path.

    Raises: UsageError when pycocotools is missing, the folder has such files already or cannot be written to.
    """
    check(seed, 0, size)
    check_integer("count", count, 1, SEED_LIMIT)
    try:
        from pycocotools import mask as rle
    except ImportError:
        raise UsageError("writing COCO files needs pycocotools: pip install edgesam-export[distill]") from None
    for name in ("images", "annotations.json"):
        if (folder / name).exists():
            raise UsageError(f"'{folder / name}' is already there; choose another folder or remove it")
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with staging_folder(folder) as staging:
        (staging / "images").mkdir()
        for index in range(count):
            scene = draw_scene(seed, index, size)
            name = f"{index:06d}.png"
            Image.fromarray(scene.image).save(staging / "images" / name)
            images.append({"id": index + 1, "file_name": name, "width": size, "height": size})
            for kind, mask in zip(scene.kinds, scene.masks):
                packed = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
                annotation = {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": KINDS.index(kind) + 1,
                    "segmentation": {"size": [size, size], "counts": packed["counts"].decode("ascii")},
                    "bbox": rle.toBbox(packed).tolist(),
                    "area": int(rle.area(packed)),
                    "iscrowd": 0,
                }
                annotations.append(annotation)
        categories = [{"id": number + 1, "name": kind} for number, kind in enumerate(KINDS)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        write_json(staging / "annotations.json", document)
    return folder / "annotations.json"
