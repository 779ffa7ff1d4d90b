"""Scenes with surfaces of photographs: which pixels they show, the same ones every time, and folders that hold none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesam_export.distill import scene_photographs, scenes
from edgesam_export.distill.curves import SHIFT, SHOWN, sample_source
from edgesam_export.distill.data import ENDLESS, open_data
from edgesam_export.distill.samples import readable
from edgesam_export.distill.scene_photographs import SMALLEST_CUT, Photographs
from edgesam_export.distill.scene_textures import frame_of
from edgesam_export.distill.scenes import draw_scene
from edgesam_export.errors import EdgeSAMExportError, UsageError

WHOLE = np.array([0.5, 0.5])


def save(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """One image of 400 x 250 pixels: red counts columns, green counts rows, both in halves."""
    pixels = np.zeros((250, 400, 3))
    pixels[..., 0] = np.arange(400)[None, :] / 2
    pixels[..., 1] = np.arange(250)[:, None] / 2
    folder = tmp_path / "ramp"
    folder.mkdir()
    save(folder / "ramp.png", pixels)
    return folder


@pytest.fixture
def garden(tmp_path: Path) -> Path:
    """Two images of smooth noise."""
    folder = tmp_path / "garden"
    folder.mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg")
    return folder


def test_a_cut_is_a_square_of_the_image_turned_or_mirrored(ramp: Path):
    """Columns and rows can be read from the colours: both run evenly, over as many pixels, inside of the image."""
    photographs, frame = Photographs(ramp), frame_of(64, slice(0, 64), slice(0, 64), WHOLE, 0.5)
    forms, lengths = set(), []
    for seed in range(60):
        red, green, blue = 2 * photographs.cut(np.random.default_rng(seed), frame, grey=False).astype(float)
        steps = [float(np.diff(plane[8:-8, 8:-8], axis=axis).mean()) for plane in (red, green) for axis in (1, 0)]
        along = [step for step in steps if abs(step) > 0.1]
        assert len(along) == 2 and abs(along[0]) == pytest.approx(abs(along[1]), abs=0.06)  # halves are cut off
        forms.add(tuple(np.sign(np.round(steps, 1))))
        lengths.append(abs(along[0]) * 64)
        assert red.min() >= 0 and red.max() <= 398 and green.min() >= 0 and green.max() <= 248 and blue.max() == 0
    assert len(forms) == 8, "four turns, mirrored and not"
    assert min(lengths) >= SMALLEST_CUT * 250 - 4 and max(lengths) <= 254 and max(lengths) > 2 * min(lengths)


def test_a_part_of_a_frame_shows_that_part_of_the_cut(ramp: Path):
    whole = frame_of(64, slice(0, 64), slice(0, 64), WHOLE, 0.5)
    corner = frame_of(64, slice(16, 48), slice(40, 64), WHOLE, 0.5)
    large, part = (Photographs(ramp).cut(np.random.default_rng(5), frame, grey=False) for frame in (whole, corner))
    assert np.abs(large[:, 16:48, 40:64] - part)[:, 2:-2, 2:-2].max() <= 1


def test_the_background_is_the_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One colour, no light, no lens: what no object covers has that colour, and what one covers has another."""
    save(tmp_path / "green.png", np.full((40, 40, 3), (20, 90, 40)))
    monkeypatch.setattr(scenes, "PHOTOGRAPHED", 0.0)
    monkeypatch.setattr(scenes, "PHOTOGRAPHED_SCENERY", 1.0)
    monkeypatch.setattr(scenes, "GREY_SHARE", 0.0)
    monkeypatch.setattr(scenes, "MIN_AREA", 0.0)
    monkeypatch.setattr(scenes, "MIN_VISIBLE", 0.0)
    monkeypatch.setattr(scenes, "cast_shadow", lambda *_: None)
    monkeypatch.setattr(scenes, "photograph", lambda rng, world, frame: world.canvas.transpose(1, 2, 0).copy())
    monkeypatch.setattr(scenes, "paint", lambda rng, frame, first, second, scenery=False: first[:, None, None])
    monkeypatch.setattr(scenes, "shade", lambda *_: np.ones((1, 1)))
    photographs = Photographs(tmp_path)
    for index in range(6):
        scene = draw_scene(4, index, 128, photographs)
        covered = scene.masks.any(axis=0)
        same = np.abs(scene.image - (20, 90, 40)).max(axis=2) < 0.5
        assert not same[covered].any()
        assert same[~covered].mean() > 0.9, "the rest are edges, of which an object covers less than half"


def test_objects_have_surfaces_of_photographs(garden: Path):
    """Twenty scenes hold more colours with photographs than without."""
    plain, photographed = (
        [draw_scene(3, index, 96, source) for index in range(20)] for source in (None, Photographs(garden))
    )
    colours = [
        np.mean([len(np.unique(scene.image[mask] // 16, axis=0)) for scene in series for mask in scene.masks])
        for series in (plain, photographed)
    ]
    assert colours[1] > 1.3 * colours[0]


def test_the_same_arguments_give_the_same_pixels(garden: Path):
    first, again = (draw_scene(3, 7, 96, Photographs(garden)) for _ in range(2))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.masks, again.masks)
    assert first.masks.sum(axis=0).max() == 1


@pytest.mark.parametrize("index", range(4))
def test_the_size_changes_the_resolution_alone(index: int, garden: Path):
    small, large = (draw_scene(0, index, size, Photographs(garden)) for size in (128, 256))
    assert small.kinds == large.kinds
    halved = np.asarray(Image.fromarray(large.image).reduce(16)).astype(int)
    assert np.abs(halved - np.asarray(Image.fromarray(small.image).reduce(8))).mean() < 4


def test_a_grey_scene_stays_grey(garden: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scenes, "GREY_SHARE", 1.0)
    image = draw_scene(1, 2, 64, Photographs(garden)).image.astype(int)
    assert np.ptp(image, axis=2).max() <= 60, "the light's colour alone"


def test_large_images_are_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scene_photographs, "SIDE", 100)
    save(tmp_path / "large.png", np.zeros((300, 900, 3)))
    assert scene_photographs.reduced(tmp_path / "large.png").size == (100, 33)


def test_data_names_the_folder(garden: Path):
    ended, endless = open_data(f"scenes:3:2:{garden}", size=96), open_data(f"scenes:3:{garden}", size=96)
    assert (len(ended), len(endless)) == (2, ENDLESS)
    assert (ended.name, endless.name) == (f"scenes:3:2:{garden}", f"scenes:3:{garden}")
    expected = draw_scene(3, 1, 96, Photographs(garden)).image
    assert np.array_equal(ended[1].image, expected) and np.array_equal(endless[1].image, expected)
    assert not np.array_equal(open_data("scenes:3:2", size=96)[1].image, expected)


def test_a_folder_named_by_a_number(garden: Path, monkeypatch: pytest.MonkeyPatch):
    garden.rename(garden.parent / "400")
    monkeypatch.chdir(garden.parent)
    assert len(open_data("scenes:3:400")) == 400
    assert len(open_data("scenes:3:./400")) == ENDLESS


def test_sample_images_are_of_the_same_photographs():
    assert sample_source("scenes:7:photos") == f"scenes:{7 + SHIFT}:{SHOWN}:photos"
    assert sample_source("scenes:7:90") == f"scenes:{7 + SHIFT}:{SHOWN}"
    assert sample_source("a/folder") == "a/folder"


@pytest.mark.parametrize("name", ["nowhere", "x" * 5000, "a\0b", "readme.txt", ""])
def test_folders_that_do_not_exist(name: str, tmp_path: Path):
    (tmp_path / "readme.txt").write_text("no folder")
    path = f"{tmp_path}/{name}" if name else f"{tmp_path}/"
    with pytest.raises(UsageError, match=r"photographs '.*': (no such folder|holds no images)") as caught:
        open_data(f"scenes:1:5:{path}")
    assert "\n" not in str(caught.value)


def test_a_damaged_photograph_is_named_and_another_scene_stands_in(garden: Path):
    (garden / "2.png").write_bytes(b"no image")
    data = open_data(f"scenes:3:60:{garden}", size=64)
    with pytest.raises(EdgeSAMExportError, match=r"2\.png: not an image that can be read"):
        for index in range(60):
            data[index]
    sample, chosen, skipped = readable(data, index, strict=False)
    assert chosen != index and len(sample.masks) and "2.png" in skipped.images[0]
