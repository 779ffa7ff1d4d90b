"""What ``shrink`` refuses, in one line each."""

from __future__ import annotations

import pytest
from PIL import Image

TINY = "edge_sam_tiny"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give either --min-iou or --max-mb, one of both"),
        (("--min-iou", 0.9, "--max-mb", 4), "give either --min-iou or --max-mb, one of both"),
        (("--min-iou", 98), "--min-iou is 98; choose more than 0 and less than 1, for example 0.98"),
        (("--max-mb", -1), "--max-mb is -1; choose more than 0"),
        (("--max-mb", 4, "--scheme", "palettize5"), "palettize5"),
        (("--max-mb", 4, "--scheme", "palettize4_g16"), "scheme palettize4_g16 needs target iOS18, not iOS17"),
        (("--max-mb", 4, "--points", 1), "points is 1"),
        (("--max-mb", 4, "--images", "none/"), "data 'none/' is neither scenes:SEED:COUNT, nor an existing folder"),
        (("--max-mb", 4, "--images", "scenes:1:3"), "3 images: half of them are held out, give at least 4"),
        (("--max-mb", 4, "--recover", "--random-weights", 0), "--recover trains weights on their own masks"),
    ],
    ids=str,
)
def test_a_search_that_cannot_be_is_refused(command, tmp_path, words, message):
    code, out, err = command("shrink", TINY, *words, "--quiet", "--output", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err, err
    assert err.startswith("edgesam-export shrink: ") and not (tmp_path / "out").exists()


def test_a_damaged_image_names_its_file(command, tmp_path):
    for number in range(4):
        Image.new("RGB", (40, 30), (number, 90, 200)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"\x89PNG damaged")
    code, out, err = command("shrink", TINY, "--max-mb", 4, "--images", tmp_path, "--quiet", "--output", tmp_path / "o")
    assert (code, out, err.count("\n")) == (2, "", 1) and "2.png" in err
