"""Drawn scenes: the same everywhere, and masks that are what the image shows."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesam_export.distill import scenes
from edgesam_export.distill.scene_shapes import KINDS, SHAPES, SOLID, coverage_of, pose
from edgesam_export.distill.scene_textures import TEXTURES, apart, frame_of, lattice
from edgesam_export.distill.scenes import MIN_AREA, MIN_VISIBLE, Scene, draw_scene, montage, write_coco
from edgesam_export.errors import UsageError

HASH = """
import hashlib
from edgesam_export.distill.scenes import draw_scene
scene = draw_scene(7, 3, 96)
print(hashlib.sha256(scene.image.tobytes() + scene.masks.tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def series() -> list[Scene]:
    return [draw_scene(3, index, 128) for index in range(40)]


# ---- the same scene


def test_another_process_draws_the_same_pixels():
    done = subprocess.run([sys.executable, "-c", HASH], capture_output=True, text=True, check=True)
    scene = draw_scene(7, 3, 96)
    assert done.stdout.strip() == hashlib.sha256(scene.image.tobytes() + scene.masks.tobytes()).hexdigest()


def test_a_scene_does_not_depend_on_what_was_drawn_before(series: list[Scene]):
    again = draw_scene(3, 17, 128)
    assert np.array_equal(again.image, series[17].image)
    assert np.array_equal(again.masks, series[17].masks)
    assert again.kinds == series[17].kinds


def test_seed_index_and_attempt_all_matter():
    calls = [(0, 1, 0), (1, 0, 0), (0, 0, 1), (0, 0, 0), (0, 2, 0), (2**32 - 1, 2**32 - 1, 0)]
    assert len({scenes.try_scene(*call, 64).image.tobytes() for call in calls}) == len(calls)


@pytest.mark.parametrize("index", range(8))
def test_the_size_changes_the_resolution_alone(index: int):
    small, large = draw_scene(0, index, 256), draw_scene(0, index, 512)
    assert small.kinds == large.kinds
    quarters = large.masks.reshape(-1, 256, 2, 256, 2).mean(axis=(2, 4))
    decided = quarters != 0.5  # half a pixel belongs to neither side
    both = (small.masks & (quarters > 0.5) & decided).sum(axis=(1, 2))
    either = ((small.masks | (quarters > 0.5)) & decided).sum(axis=(1, 2))
    assert (both / either).min() > 0.95
    halved = np.asarray(Image.fromarray(large.image).reduce(16)).astype(int)
    assert np.abs(halved - np.asarray(Image.fromarray(small.image).reduce(8))).mean() < 3


# ---- the masks


def test_forms(series: list[Scene]):
    for scene in series:
        assert scene.image.shape == (128, 128, 3) and scene.image.dtype == np.uint8
        assert scene.masks.dtype == bool and scene.masks.shape == (len(scene.kinds), 128, 128)
        assert 1 <= len(scene.masks) <= 9
        assert scene.masks.sum(axis=0).max() == 1, "masks are disjoint"
        assert scene.masks.mean(axis=(1, 2)).min() >= 0.003


def test_scenes_vary(series: list[Scene]):
    assert {kind for scene in series for kind in scene.kinds} == set(KINDS)
    assert len({len(scene.masks) for scene in series}) >= 5
    areas = np.concatenate([scene.masks.mean(axis=(1, 2)) for scene in series])
    assert areas.min() < 0.006 and areas.max() > 0.12
    grey = [np.ptp(scene.image.astype(int), axis=2).max() == 0 for scene in series]
    assert 0 < sum(grey) < 10


def test_objects_hardly_seen_are_drawn_but_not_asked_for(monkeypatch: pytest.MonkeyPatch):
    """Counted from outside: every object's pixels just after it was drawn, and what is left of them at the end."""
    fresh: list[int] = []
    draw = scenes.add_object

    def spying(rng, world, number, near):
        thing = draw(rng, world, number, near)
        fresh.append(int((world.owner == number).sum()))
        assert thing.whole >= fresh[-1]
        owners.append(world.owner)
        return thing

    monkeypatch.setattr(scenes, "add_object", spying)
    left_out = 0
    for index in range(25):
        fresh, owners = [], []
        scene = scenes.try_scene(5, index, 0, 128)
        kept = {mask.tobytes() for mask in scene.masks}
        for number, before in enumerate(fresh, start=1):
            mask = owners[-1] == number
            if mask.tobytes() in kept:
                assert mask.sum() >= max(MIN_AREA * 128 * 128, MIN_VISIBLE * before)
            elif mask.sum() >= MIN_AREA * 128 * 128:
                left_out += 1
    assert left_out > 0, "no object was left out because it is covered or outside"


def test_what_covers_an_object_cuts_its_mask(monkeypatch: pytest.MonkeyPatch):
    loose = [scenes.try_scene(5, index, 0, 128) for index in range(10)]
    monkeypatch.setattr(scenes, "MIN_VISIBLE", 0.9)
    strict = [scenes.try_scene(5, index, 0, 128) for index in range(10)]
    assert sum(len(scene.masks) for scene in strict) < sum(len(scene.masks) for scene in loose)
    for some, all_of_them in zip(strict, loose):
        assert np.array_equal(some.image, all_of_them.image)
        assert {mask.tobytes() for mask in some.masks} <= {mask.tobytes() for mask in all_of_them.masks}


def test_a_scene_without_masks_is_drawn_anew(monkeypatch: pytest.MonkeyPatch):
    empty = Scene(np.zeros((64, 64, 3), np.uint8), np.zeros((0, 64, 64), bool))
    draw = scenes.try_scene
    monkeypatch.setattr(
        scenes, "try_scene", lambda s, i, attempt, *z: empty if attempt < 2 else draw(s, i, attempt, *z)
    )
    assert np.array_equal(draw_scene(1, 1, 64).image, draw(1, 1, 2, 64).image)


def test_every_pixel_of_a_plain_object_has_its_colour(monkeypatch: pytest.MonkeyPatch):
    """Without patterns, light, lens and sensor, a mask and the image's areas of one colour are the same thing."""
    monkeypatch.setattr(scenes, "paint", lambda rng, frame, first, second, scenery=False: first[:, None, None])
    monkeypatch.setattr(scenes, "shade", lambda *_: np.ones((1, 1)))
    monkeypatch.setattr(scenes, "rim", lambda *_: None)
    monkeypatch.setattr(scenes, "cast_shadow", lambda *_: None)
    monkeypatch.setattr(scenes, "photograph", lambda rng, world, frame: world.canvas.transpose(1, 2, 0).copy())
    seen = mixed = 0
    for index in range(12):
        scene = draw_scene(11, index, 192)
        for mask in scene.masks:
            inner = scene.image[shrunk(mask)]
            if len(inner):
                colour = np.median(inner, axis=0)
                seen += len(inner)
                mixed += (np.abs(inner - colour).max(axis=1) > 0.01).sum()
                assert np.abs(scene.image[~mask] - colour).max(axis=1).min() > 0.01, "its colour is outside the mask"
    assert seen > 30_000
    assert mixed < 0.001 * seen, "the sharp end of another object may cover a part of a pixel and own none"


def shrunk(mask: np.ndarray) -> np.ndarray:
    """The mask without the pixels at its border, which are mixed with their neighbours."""
    inner = mask.copy()
    for axis in (0, 1):
        rows, before = np.moveaxis(inner, axis, 0), np.moveaxis(inner.copy(), axis, 0)
        rows[1:] &= before[:-1]
        rows[:-1] &= before[1:]
    return inner


@pytest.mark.parametrize("axis", [0, 1])
def test_the_image_changes_where_the_mask_ends(series: list[Scene], axis: int):
    """The step across mask borders is largest for the mask in its place, and as small to the left as to the right."""
    steps = {shift: np.mean([border_step(scene, shift, axis) for scene in series]) for shift in range(-3, 4)}
    assert max(steps, key=lambda shift: steps[shift]) == 0
    assert steps[0] > 2 * max(steps[-2], steps[2])
    assert abs(steps[-1] - steps[1]) < 0.1 * steps[0]


def border_step(scene: Scene, shift: int, axis: int) -> float:
    image, masks = scene.image.astype(int), np.roll(scene.masks, shift, axis + 1)
    ends = np.diff(masks, axis=axis + 1)[:, 5:-5, 5:-5]
    change = np.abs(np.diff(image, axis=axis)).sum(axis=2)[5:-5, 5:-5]
    return float(np.mean([change[end].mean() for end in ends if end.any()]))


# ---- shapes, against point-in-polygon arithmetic


def crossings(points: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Even-odd rule: how often the ray to the right of (x, y) meets the polygon is odd."""
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0)):
        meets = (y0 > y) != (y1 > y)
        slope = (x1 - x0) / (y1 - y0 if y1 != y0 else 1)
        inside ^= meets & (x < x0 + (y - y0) * slope)
    return inside


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_covers_the_pixels_inside_its_polygons(kind: str):
    rng = np.random.default_rng(4)
    y, x = np.mgrid[0:140, 0:140] + 0.5
    for _ in range(4):
        shape, sides = pose(SHAPES[kind](rng), rng.uniform(0, 6))
        assert max(sides) == pytest.approx(1) and min(sides) > 0.05
        cover = np.asarray(coverage_of(shape, np.array([70.3, 68.9]), 140, 140, 120))
        truth = np.zeros((140, 140), bool)
        for points, adds in shape:
            inside = crossings(points * 120 + [70.3, 68.9], x, y)
            truth = truth | inside if adds else truth & ~inside
        wrong = (cover > SOLID) != truth
        border = ~shrunk(truth) & ~shrunk(~truth)
        assert not (wrong & ~border).any()
        assert wrong.sum() < 0.12 * border.sum(), "a border pixel is wrong only when it is nearly half covered"


def test_a_disc_has_its_area_and_centre():
    disc = [(0.5 * np.stack([np.cos(t := np.linspace(0, 2 * np.pi, 400)), np.sin(t)], axis=1), True)]
    cover = np.asarray(coverage_of(disc, np.array([50.2, 49.6]), 100, 100, 80)).astype(float) / 255
    y, x = np.mgrid[0:100, 0:100] + 0.5
    assert cover.sum() == pytest.approx(math.pi * 40**2, rel=0.01)
    assert (cover * x).sum() / cover.sum() == pytest.approx(50.2, abs=0.06)
    assert (cover * y).sum() / cover.sum() == pytest.approx(49.6, abs=0.06)


# ---- colours and textures


def test_colours_stay_apart_and_in_range():
    rng = np.random.default_rng(0)
    for _ in range(500):
        colour, behind, least = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3).round(), rng.uniform(20, 127)
        for exactly in (False, True):
            moved = apart(colour, behind, least, exactly)
            distance = np.linalg.norm(moved - behind)
            assert moved.min() >= 0 and moved.max() <= 255
            assert distance == pytest.approx(least) if exactly else distance >= least - 1e-6
    assert np.linalg.norm(apart(behind, behind, 50.0) - behind) == pytest.approx(50)


def test_texture_shares_are_shares():
    for column in (1, 2):
        assert sum(row[column] for row in TEXTURES) == pytest.approx(1)


def test_the_part_of_a_texture_is_the_part_of_the_whole():
    """An object cut by the image's edge shows the same noise as the whole object."""
    noise, middle = lattice(np.random.default_rng(1), (3, 6, 12)), np.array([0.5, 0.5])
    whole = frame_of(128, slice(0, 128), slice(0, 128), middle, 0.5).enlarged(noise)
    part = frame_of(128, slice(32, 80), slice(16, 128), middle, 0.5).enlarged(noise)
    assert np.abs(whole[32:80, 16:128] - part).max() < 0.02
    assert np.ptp(whole) > 0.5


# ---- files and sheets


def test_coco_files_are_read_back(tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco")
    path = write_coco(tmp_path / "data", seed=2, count=3, size=96)
    assert path == tmp_path / "data" / "annotations.json"
    assert sorted(item.name for item in path.parent.iterdir()) == ["annotations.json", "images"]
    data = coco.COCO(str(path))
    assert sorted(data.imgs) == [1, 2, 3]
    for number, entry in data.imgs.items():
        scene = draw_scene(2, number - 1, 96)
        with Image.open(path.parent / "images" / entry["file_name"]) as image:
            assert np.array_equal(np.asarray(image), scene.image)
        assert (entry["width"], entry["height"]) == (96, 96)
        found = data.loadAnns(data.getAnnIds(imgIds=[number]))
        assert len(found) == len(scene.masks)
        for annotation, mask, kind in zip(found, scene.masks, scene.kinds):
            assert np.array_equal(data.annToMask(annotation).astype(bool), mask)
            rows, columns = np.nonzero(mask)
            left, top = columns.min(), rows.min()
            assert annotation["bbox"] == [left, top, columns.max() - left + 1, rows.max() - top + 1]
            assert annotation["area"] == mask.sum() and annotation["iscrowd"] == 0
            assert data.cats[annotation["category_id"]]["name"] == kind


def test_coco_replaces_nothing(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="already there; choose another folder"):
        write_coco(tmp_path, seed=0, count=1, size=64)
    assert [item.name for item in tmp_path.rglob("*")] == ["images", "mine.txt"]


def test_coco_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pycocotools")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scenes, "write_json", full)
    with pytest.raises(UsageError, match="No space left"):
        write_coco(tmp_path, seed=0, count=1, size=64)
    assert list(tmp_path.iterdir()) == []


def test_coco_without_pycocotools_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(UsageError, match=r"pip install edgesam-export\[distill\]"):
        write_coco(tmp_path, seed=0, count=1, size=64)


def test_coco_is_plain_json(tmp_path: Path):
    pytest.importorskip("pycocotools")
    document = json.loads(write_coco(tmp_path, seed=0, count=1, size=64).read_text())
    assert set(document) == {"images", "annotations", "categories"}
    assert [row["name"] for row in document["categories"]] == list(KINDS)


def test_a_montage_outlines_masks_and_leaves_the_rest(series: list[Scene]):
    sheet = montage(series[:5], columns=3, tile=128)
    assert sheet.size == (384, 256)
    for place, scene in enumerate(series[:5]):
        tile = np.asarray(
            sheet.crop((place % 3 * 128, place // 3 * 128, place % 3 * 128 + 128, place // 3 * 128 + 128))
        )
        changed = (tile != scene.image).any(axis=2)
        allowed = np.zeros((128, 128), bool)
        for mask in scene.masks:
            allowed |= mask & ~shrunk(shrunk(mask))
            assert (changed & mask).any()
        assert not (changed & ~allowed).any()


# ---- what cannot be drawn


@pytest.mark.parametrize(
    "arguments, name",
    [
        ((-1, 0, 64), "seed -1"),
        ((2**32, 0, 64), "seed 4294967296"),
        ((0.5, 0, 64), "seed 0.5"),
        ((True, 0, 64), "seed True"),
        ((0, -1, 64), "index -1"),
        ((0, 2**32, 64), "index"),
        ((0, 0, 31), "size 31"),
        ((0, 0, 1 << 20), "size 1048576"),
        ((0, 0, None), "size None"),
    ],
)
def test_impossible_arguments(arguments: tuple, name: str):
    with pytest.raises(UsageError, match=f"scenes: {name}.* is not possible; give an integer from") as caught:
        draw_scene(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, -3, 2.0, 10**12])
def test_impossible_counts(count: object, tmp_path: Path):
    with pytest.raises(UsageError, match="scenes: count"):
        write_coco(tmp_path, seed=0, count=count, size=64)
    assert list(tmp_path.iterdir()) == []


def test_a_montage_of_nothing():
    with pytest.raises(UsageError, match="no scenes"):
        montage([])


def test_the_smallest_size():
    for index in range(20):
        assert draw_scene(0, index, 32).image.shape == (32, 32, 3)
