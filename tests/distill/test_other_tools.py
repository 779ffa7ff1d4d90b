"""Annotations as other programs write them: read, or named with what to do; never silently less than is there."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from edgesam_export.distill.data import open_data
from edgesam_export.errors import EdgeSAMExportWarning, UsageError
from edgesam_export.parity.instances import is_crowd
from tests.distill.test_data import DRAWN, LENIENT, RLE, SIZE, coco_file, save_image


def named(folder: Path, name: str, *files: str, **more: object) -> Path:
    """Return a COCO file of one image that is called ``name``, beside files of other names."""
    path = coco_file(folder, [{"segmentation": RLE}], file_name=name, **more)
    (folder / "images" / "a.png").unlink()
    for file in files:
        save_image(folder / "images" / file)
    return path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("C:\\Users\\me\\data\\a.png", "a.png"),
        ("/data/upload/4/a.png", "a.png"),
        ("..\\..\\label-studio\\media\\upload\\4\\a.png", "a.png"),
        ("https://host/bucket/a%20b.png", "a b.png"),
        ("IMG_1.PNG", "img_1.png"),
        (unicodedata.normalize("NFC", "café.png"), unicodedata.normalize("NFD", "café.png")),
    ],
)
def test_a_path_of_another_machine_is_the_only_file_of_that_name_with_a_warning(tmp_path, name, file):
    path = named(tmp_path, name, file, "other.png")
    with pytest.warns(EdgeSAMExportWarning, match="is taken to be '.*the only file that is called so"):
        sample = open_data(str(path))[0]
    assert (sample.masks == [DRAWN]).all()


def test_a_name_that_several_files_or_images_have_stands_for_none(tmp_path):
    path = named(tmp_path, "b/A.png", "a.png", "a.PNG")
    with pytest.raises(UsageError, match="is in none of"):
        open_data(str(path))[0]
    document = json.loads(path.read_text())
    (tmp_path / "images" / "a.PNG").unlink()
    document["images"].append({**document["images"][0], "id": 77, "file_name": "c/A.png"})
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match="is in none of"):
        open_data(str(path))[0]


def test_a_file_outside_of_the_folder_is_not_found_by_its_name_either(tmp_path):
    path = named(tmp_path / "f", "../a.png")
    save_image(tmp_path / "a.png")
    with pytest.raises(UsageError, match="leaves the folder"):
        open_data(str(path))[0]
    (tmp_path / "f" / "images" / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(UsageError, match="leaves the folder"):
        open_data(str(path))[0]


@pytest.mark.parametrize("images", ["", "images"])
def test_images_beside_a_folder_called_annotations(tmp_path, images):
    (tmp_path / "annotations").mkdir()
    path = coco_file(tmp_path / "made", [{"segmentation": RLE}]).rename(tmp_path / "annotations" / "train.json")
    save_image(tmp_path / images / "a.png")
    assert (open_data(str(path))[0].masks == [DRAWN]).all()


def test_crowds_are_numbers_or_text():
    assert [is_crowd({"iscrowd": value}) for value in (1, True, "1", "true")] == [True] * 4
    assert [is_crowd({"iscrowd": value}) for value in (0, None, False, "0", " 0", "", "False", 0.0)] == [False] * 8
    assert not is_crowd({})


def test_masks_that_a_program_marked_as_crowds_are_not_left_out_silently(tmp_path):
    rows = [{"segmentation": RLE, "iscrowd": 1}, {"segmentation": RLE, "iscrowd": 1}, {"segmentation": RLE}]
    with pytest.warns(EdgeSAMExportWarning, match=r"2 of 3 annotations are left out as crowds .* set iscrowd to 0"):
        found = open_data(str(coco_file(tmp_path, rows)))
    assert len(found[0].masks) == 1
    open_data(str(coco_file(tmp_path, rows[1:] + rows[2:])))  # a few are what COCO has


def test_a_polygon_without_the_list_around_it_and_pieces_without_area(tmp_path):
    square = [2, 0, 4, 0, 4, 2, 2, 2]
    path = coco_file(tmp_path, [{"segmentation": square}, {"segmentation": [[0, 0, 1, 1], square, []]}])
    expected = np.zeros(SIZE, bool)
    expected[:2, 2:] = True
    assert (open_data(str(path))[0].masks == [expected, expected]).all()


def labelme(shapes: list[dict], **more: object) -> str:
    return json.dumps({"version": "5.4.1", "shapes": shapes, "imagePath": "a.png", "imageData": None, **more})


def test_labelmes_polygons_rectangles_and_groups_are_objects(tmp_path):
    save_image(tmp_path / "a.png")
    shapes = [
        {"label": "x", "points": [[2, 0], [4, 0], [4, 2], [2, 2]], "shape_type": "polygon", "group_id": None},
        {"label": "x", "points": [[0, 1], [2, 3]], "shape_type": "rectangle"},
        {"label": "x", "points": [[0, 0], [1, 0], [1, 1], [0, 1]], "shape_type": "polygon", "group_id": 3},
        {"label": "x", "points": [[3, 2], [4, 2], [4, 3], [3, 3]], "shape_type": "polygon", "group_id": 3},
        {"label": "x", "points": [[1, 1], [2, 2]], "shape_type": "circle"},
    ]
    (tmp_path / "a.json").write_text(labelme(shapes, imageHeight=3, imageWidth=4))
    sample = open_data(str(tmp_path), reading=LENIENT)[0]
    expected = np.zeros((3, *SIZE), bool)
    expected[0, :2, 2:] = expected[1, 1:, :2] = expected[2, 0, 0] = expected[2, 2, 3] = True
    assert (sample.masks == expected).all()
    assert (
        len(sample.damaged) == 1 and "a shape of kind 'circle'; polygons and rectangles are read" in sample.damaged[0]
    )
    with pytest.raises(UsageError, match="a shape of kind 'circle'"):
        open_data(str(tmp_path))[0]
    (tmp_path / "a.json").write_text(labelme(shapes, imageHeight=4, imageWidth=3))
    with pytest.raises(UsageError, match=r"is of an image of 3x4, its image has 4x3"):
        open_data(str(tmp_path))[0]


@pytest.mark.parametrize("points", [None, [1, 2], [[1, 2, 3]], [["a", "b"]] * 3, [[float("nan"), 1]] * 3])
def test_hostile_shapes_are_one_line(tmp_path, points):
    save_image(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(labelme([{"points": points, "group_id": [1], "label": {"a": 1}}]))
    with pytest.raises(UsageError, match="annotation"):
        open_data(str(tmp_path))[0]


@pytest.mark.parametrize(
    ("document", "line"),
    [
        ({"shapes": [], "imagePath": "a.png"}, "an annotation of labelme for one image"),
        ({"_via_img_metadata": {}}, "a project of VIA: export it as COCO"),
    ],
)
def test_documents_of_other_programs_are_named(tmp_path, document, line):
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=line):
        open_data(str(tmp_path / "a.json"))


def disc(side: int = 96) -> Image.Image:
    y, x = np.mgrid[:side, :side]
    return Image.fromarray((((y - side / 2) ** 2 + (x - side / 2) ** 2 < side * side / 9) * 255).astype(np.uint8))


def saved_mask(folder: Path, mask: Image.Image, name: str = "a_mask.png", **options: int) -> Path:
    Image.new("RGB", mask.size, (90, 80, 70)).save(folder / "a.png")
    mask.save(folder / name, **options)
    return folder


@pytest.mark.parametrize(
    "spoil",
    [
        lambda mask: mask.filter(ImageFilter.GaussianBlur(1)),
        lambda mask: mask.resize((32, 32), Image.Resampling.BILINEAR).resize(mask.size, Image.Resampling.BICUBIC),
        lambda mask: mask.rotate(10, Image.Resampling.BICUBIC),
    ],
)
def test_smoothed_edges_are_no_objects(tmp_path, spoil):
    with pytest.raises(UsageError, match=r"values are no object but edges: the mask was smoothed, resized, or"):
        open_data(str(saved_mask(tmp_path, spoil(disc()))))[0]


@pytest.mark.parametrize("name", ["a_mask.png", "a_mask.tif", "a_mask.bmp"])
def test_many_small_objects_and_a_clean_mask_are_objects(tmp_path, name):
    assert len(open_data(str(saved_mask(tmp_path, disc(), name)))[0].masks) == 1
    values = np.zeros((60, 60), np.uint8)
    for number in range(100):
        y, x = divmod(number, 10)
        values[6 * y : 6 * y + 3, 6 * x : 6 * x + 3] = number + 1
    values[3, :4] = (201, 202, 203, 204)  # and four specks
    assert len(open_data(str(saved_mask(tmp_path, Image.fromarray(values), name)))[0].masks) == 104


def test_a_jpeg_of_masks_is_refused_with_the_reason(tmp_path):
    with pytest.raises(UsageError, match="is a JPEG, whose values are not exact: save masks as PNG"):
        open_data(str(saved_mask(tmp_path, disc(), "a_mask.jpg", quality=97)))[0]


def test_the_void_border_of_a_palette_is_no_object(tmp_path):
    values = np.zeros((12, 12), np.uint8)
    values[2:8, 2:8], values[3:7, 3:7], values[9:, 9:] = 255, 1, 2
    image = Image.fromarray(values).convert("P")
    image.putdata(values.reshape(-1))
    masks = open_data(str(saved_mask(tmp_path, image)))[0].masks
    assert (masks == [values == 1, values == 2]).all()
    image.putdata((values == 255).astype(np.uint8).reshape(-1) * 255)
    assert (open_data(str(saved_mask(tmp_path, image)))[0].masks == [values == 255]).all()


def test_what_macos_keeps_beside_a_file_is_no_image(tmp_path):
    save_image(tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"\0\5\x16\7")
    assert len(open_data(str(tmp_path))) == 1
