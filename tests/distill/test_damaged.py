"""Data of others in training and evaluation: damaged files in a long run, and images that EXIF turns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesam_export.cli.main import main
from edgesam_export.distill.config import DistillConfig, Phase
from edgesam_export.distill.dataset import Batch, batches
from edgesam_export.distill.scenes import draw_scene
from edgesam_export.errors import UsageError

SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three images with masks; the second is cut short."""
    path = tmp_path_factory.mktemp("images")
    for index in range(3):
        scene = draw_scene(1, index, SIDE)
        Image.fromarray(scene.image).save(path / f"{index}.png")
        Image.fromarray(scene.masks[0].astype(np.uint8)).save(path / f"{index}_mask.png")
    damaged = path / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    return path


def read(folder: Path, **options: object) -> list[Batch]:
    config = DistillConfig(
        student="edge_sam_tiny", data=str(folder), schedule=(Phase(size=SIDE, batch=3, steps=2),), **options
    )
    return list(batches(config))


def test_the_next_image_stands_in_for_a_damaged_one_in_any_process(folder):
    here, apart = read(folder, workers=0), read(folder, workers=1)
    for one, other in zip(here, apart, strict=True):
        assert one.indexes == other.indexes and sorted(one.indexes) == [0, 2, 2]
        assert (one.images == other.images).all() and (one.masks == other.masks).all()
        assert one.skipped == other.skipped and len(one.skipped.images) == 1
        assert "1.png: cannot be decoded, the file is damaged or cut short" in one.skipped.images[0]


def test_a_strict_run_ends_with_the_same_line_in_any_process(folder):
    lines = []
    for workers in (0, 1):
        with pytest.raises(UsageError) as error:
            read(folder, workers=workers, strict=True)
        lines.append(str(error.value))
    assert lines[0] == lines[1] and lines[0].startswith(f"{folder}/1.png: cannot be decoded") and "\n" not in lines[0]


def test_data_of_nothing_but_damaged_images_is_one_line(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"2 damaged images in a row: .*\.png: not an image that can be read"):
        read(tmp_path, workers=1)


# ----------------------------------------------------------------------------------------------------------------- EXIF


def run_lengths(mask: np.ndarray) -> list[int]:
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *edges, mask.size]).tolist()


def coco(folder: Path, orientation: int) -> Path:
    """A square scene stored turned, with annotations of the pixels as stored; upright it is always the same."""
    scene = draw_scene(1000, 0, 256)
    turns = {1: 0, 6: 1}[orientation]  # anticlockwise, which the orientation takes back
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(scene.image, turns)).save(folder / "a.png", exif=exif)
    rows = [
        {"image_id": 1, "segmentation": {"size": [256, 256], "counts": run_lengths(np.rot90(mask, turns))}}
        for mask in scene.masks
    ]
    images = [{"id": 1, "file_name": "a.png", "height": 256, "width": 256}]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    return path


def test_annotations_of_stored_pixels_are_evaluated_as_such(tmp_path, capsys):
    def evaluated(path: Path, *words: str) -> tuple[float, list[str]]:
        with pytest.raises(SystemExit) as end:
            main(["eval", "edge_sam_tiny", "--data", str(path), "--prompts", "box", "--objects", "4", "--json", *words])
        assert not end.value.code
        document = json.loads(capsys.readouterr().out)
        (report,) = document["subjects"].values()
        return report["results"]["box"]["miou"], document["warnings"]

    expected, warnings = evaluated(coco(tmp_path, 1))
    assert warnings == []
    stored = coco(tmp_path, 6)
    assert evaluated(stored, "--annotations-frame", "raw") == (pytest.approx(expected, abs=1e-6), [])
    wrong, warnings = evaluated(stored)
    assert wrong < expected - 0.2
    assert len(warnings) == 1 and warnings[0].startswith("annotated images that EXIF turns: 1 (a.png); ")
