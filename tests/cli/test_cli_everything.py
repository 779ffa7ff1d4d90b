"""The command ``everything``: masks that pycocotools reads, an overlay, cut-outs; bad input in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from edgesam_export.imaging.reading import open_image
from edgesam_export.predict import everything as library
from edgesam_export.resources import SAMPLES

SCENE = SAMPLES / "scene.png"
BUNDLED = ("--model", "edge_sam_tiny", "--grid", "4")


def test_masks_are_written_as_coco_and_shown(command, tmp_path):
    code, out, err = command("everything", SCENE, *BUNDLED, "--cutouts", "--output", tmp_path)
    assert code == 0, err
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert set(lines) == {"masks", "overlay", "cutouts"}
    document = json.loads(Path(lines["masks"]).read_text())
    pixels = open_image(SCENE)
    assert document["image"] == {"image_id": 1, "file_name": "scene.png", "height": 512, "width": 512}
    assert (document["runner"], document["score"]) == ("torch", "iou")
    found = document["annotations"]
    areas = [annotation["area"] for annotation in found]
    assert err.endswith(f"torch: {len(found)} masks, {min(areas)} to {max(areas)} pixels\n") and len(found) >= 2
    cutouts = sorted(Path(lines["cutouts"]).iterdir())
    for annotation, cutout in zip(found, cutouts, strict=True):
        mask = coco.decode(annotation["segmentation"]).astype(bool)
        assert (
            coco.toBbox(annotation["segmentation"]).tolist() == annotation["bbox"] and mask.sum() == annotation["area"]
        )
        assert annotation["predicted_iou"] > 0.88 and annotation["stability_score"] >= 0.95
        x, y, width, height = annotation["bbox"]
        with Image.open(cutout) as image:
            part = np.asarray(image)
        inside = mask[y : y + height, x : x + width]
        assert cutout.stem == f"{annotation['id']:04}" and np.array_equal(part[..., 3] == 255, inside)
        assert np.array_equal(part[..., :3], pixels[y : y + height, x : x + width])
    with Image.open(lines["overlay"]) as image:
        drawn = np.asarray(image)
    untouched = ~np.any([coco.decode(annotation["segmentation"]) for annotation in found], axis=0)
    assert drawn.shape == pixels.shape and (drawn[~untouched] != pixels[~untouched]).any(-1).mean() > 0.9
    assert (drawn[untouched] == pixels[untouched]).all(-1).mean() > 0.9  # but for the contours


@pytest.fixture
def onnx_files(onnx_pair: list[Path]) -> list[object]:
    return [word for path in onnx_pair for word in ("--artifact", path)]


def test_no_mask_is_a_result_with_a_warning(command, onnx_files, photo, tmp_path):
    words = ("--grid", "1", "--min-score", "1", "--output", tmp_path)
    assert command("everything", photo, *onnx_files, *words)[2].startswith("onnxruntime fp32: no mask\nwarning: ")
    code, out, err = command("everything", photo, *onnx_files, *words, "--json")
    document = json.loads(out)
    assert code == 0 and document["count"] == 0 and document["cutouts"] is None
    assert "no mask passed the filters; lower --min-score" in err and document["warnings"]
    assert json.loads((tmp_path / "photo_masks.json").read_text())["annotations"] == []
    assert np.array_equal(open_image(tmp_path / "photo_everything.png"), open_image(photo))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--grid", "0"), "'--grid': 0 is not in the range 1<=x<=256"),
        (("--crops", "5"), "'--crops': 5 is not in the range 0<=x<=4"),
        (("--min-score", "2"), "'--min-score': 2.0 is not in the range 0<=x<=1"),
        (("--min-score", "nan"), "pred_iou_thresh is nan; choose 0 to 1"),
        (("--min-area", "-1"), "'--min-area': -1 is not in the range x>=0"),
        (("--numerics", "fp8"), "fp8"),
        (("--backend", "torch"), "backend torch runs a model, not exported files"),
    ],
)
def test_options_that_cannot_be(refused, coreml_pair, photo, tmp_path, words, line):
    files = [word for path in coreml_pair for word in ("--artifact", path)]
    assert line in refused("everything", photo, *files, *words, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_cannot_be_used(refused, onnx_files, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    Image.new("RGB", (2, 1)).save(tmp_path / "small.png")
    for name, words, line in (
        ("none.png", (), "none.png: no such file"),
        ("text.png", (), "text.png: not an image that can be read"),
        ("small.png", ("--crops", "2"), "image of 2x1 pixels is too small for 2 layers of crops"),
    ):
        assert line in refused("everything", tmp_path / name, *onnx_files, *words, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing(refused, onnx_files, photo, monkeypatch, tmp_path):
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(library, "save_png", full_disk)
    words = ("--grid", "1", "--min-score", "0", "--min-stability", "0", "--output", tmp_path / "out")
    line = refused("everything", photo, *onnx_files, *words)
    assert "No space left on device" in line and list((tmp_path / "out").iterdir()) == []


def test_the_core_ml_packages_find_what_the_onnx_files_find(
    command: Callable, exported: Callable[..., Path], coreml_pair, onnx_files, photo, tmp_path
):
    words = ("--grid", "1", "--min-score", "0", "--min-stability", "0", "--max-overlap", "1", "--json", "--quiet")
    counts = []
    for number, files in enumerate(([word for path in coreml_pair for word in ("--artifact", path)], onnx_files)):
        code, out, err = command("everything", photo, *files, *words, "--output", tmp_path / str(number))
        assert code == 0, err
        counts.append([a["area"] for a in json.loads(Path(json.loads(out)["masks"]).read_text())["annotations"]])
    assert len(counts[0]) == len(counts[1]) > 0
    assert sorted(counts[0]) == pytest.approx(sorted(counts[1]), rel=0.05, abs=50)
