"""Images and masks from scenes, COCO files and folders: the exact pixels, and what hostile files get."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as coco

from edgesam_export.distill import annotations, data, scenes
from edgesam_export.distill.data import ENDLESS, mask_of, open_data
from edgesam_export.distill.samples import Reading, Sample, Skipped
from edgesam_export.errors import EdgeSAMExportError, EdgeSAMExportWarning, UsageError

SIZE = (3, 4)
DRAWN = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]], bool)
# Read down the columns 000 110 011 000; as text, the last two are differences to the numbers two before.
COUNTS, TEXT = [3, 2, 2, 2, 3], "32201"
RLE = {"size": [3, 4], "counts": COUNTS}


def save_image(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    Image.fromarray(rows).save(path)


def coco_file(folder: Path, annotations: list[dict], **image: Any) -> Path:
    """A COCO file of one image of 3 x 4 pixels, and the image."""
    save_image(folder / "images" / "a.png")
    entry = {"id": 7, "file_name": "a.png", "height": 3, "width": 4, **image}
    path = folder / "instances.json"
    path.write_text(
        json.dumps({"images": [entry], "annotations": [{"id": 1, "image_id": 7, **a} for a in annotations]})
    )
    return path


# ------------------------------------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("counts", [COUNTS, TEXT])
def test_run_lengths_walk_down_the_columns(counts):
    assert (mask_of({"size": [3, 4], "counts": counts}, SIZE, "a") == DRAWN).all()


def test_a_polygon_covers_the_pixels_between_its_edges():
    expected = np.zeros((6, 8), bool)
    expected[1:3, 1:4] = True
    assert (mask_of([[1, 1, 4, 1, 4, 3, 1, 3]], (6, 8), "a") == expected).all()
    expected[4:6, 6:8] = True
    two = [[1, 1, 4, 1, 4, 3, 1, 3], [6.0, 4.0, 8.0, 4.0, 8.0, 6.0, 6.0, 6.0]]
    assert (mask_of(two, (6, 8), "a") == expected).all()


@pytest.mark.parametrize("seed", range(12))
def test_text_of_any_mask_decodes_as_pycocotools_encodes_it(seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(side) for side in rng.integers(1, 300, 2))
    mask = np.repeat(rng.random(size) < rng.random(), 1 + seed * 3, axis=0)  # long runs take several characters
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    segment = {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    assert (mask_of(segment, mask.shape, "a") == mask).all()


FAR = [[0, 0, 1e6, 0, 1, 1]]
BAD_SEGMENTS = {
    "nothing": (None, "segmentation is None; give polygons or run lengths"),
    "number": (5, "segmentation is 5"),
    "no polygon": ([], "it has no polygon; a box alone is no mask"),
    "line": ([[0, 0, 1, 1]], "a polygon is a list of 4; give x, y of at least three points"),
    "odd": ([[0, 0, 1, 1, 2, 0, 3]], "a list of 7"),
    "flat and short": ([0, 0, 1, 1], "a polygon is a list of 4"),
    "pairs": ([[[0, 0], [1, 1], [2, 0]]], "a polygon is a list of 3; give x, y of at least three points, as x, y, x"),
    "numbers and lists": ([0, 0, [1, 1]], "a polygon is 0"),
    "shares": (
        [[0.1, 0.2, 0.9, 0.2, 0.9, 1]],
        "between 0 and 1, shares of the image as it seems; multiply x by 4 and y",
    ),
    "text of bytes": ({"size": [3, 4], "counts": f"b'{TEXT}'"}, "are Python's text of bytes, "),
    "text inside": ([[0, 0, "1", 1, 2, 0]], "no numbers of pixels"),
    "not a number": ([[0, 0, float("nan"), 1, 2, 0]], "no numbers of pixels"),
    "infinite": ([[0, 0, float("inf"), 1, 2, 0]], "no numbers of pixels"),
    "beyond a double": ([[0, 0, 10**400, 1, 2, 0]], "no numbers of pixels"),
    "far outside": (FAR, "reaches from x 0 to 1e+06, far outside the image of 4x3 pixels"),
    "far above": ([[0, -900, 1, 0, 1, 1]], "from y -900 to 1"),
    "without end": ([[0, 0, 4, 3] * 600_000], "outlines of 2.64e+07 points, at most 2e+07"),
    "other size": ({"size": [4, 3], "counts": COUNTS}, "have size [4, 3], the image [3, 4] (height, width)"),
    "huge size": ({"size": [1 << 20, 1 << 20], "counts": "0"}, "have size [1048576, 1048576]"),
    "no size": ({"counts": COUNTS}, "have size None"),
    "no counts": ({"size": [3, 4]}, "counts are None; give integers from 0 to 12"),
    "negative": ({"size": [3, 4], "counts": [-1, 13]}, "counts are a list of 2"),
    "fractions": ({"size": [3, 4], "counts": [3.5, 8.5]}, "counts are a list of 2"),
    "one too many": ({"size": [3, 4], "counts": [3, 2, 2, 2, 4]}, "cover 13 pixels, the image has 12"),
    "one too few": ({"size": [3, 4], "counts": [3, 2, 2, 2, 2]}, "cover 11 pixels"),
    "empty list": ({"size": [3, 4], "counts": []}, "cover 0 pixels"),
    "empty text": ({"size": [3, 4], "counts": ""}, "counts '' are not COCO's run lengths"),
    "cut text": ({"size": [3, 4], "counts": "3220Q"}, "counts '3220Q' are not"),
    "foreign text": ({"size": [3, 4], "counts": "3 2"}, "are not COCO's run lengths"),
    "not ascii": ({"size": [3, 4], "counts": "32é01"}, "are not COCO's run lengths"),
    "text too long": ({"size": [3, 4], "counts": "32205"}, "cover 16 pixels"),
    "negative text": ({"size": [3, 4], "counts": "O0<"}, "the image has 12"),
    "huge number": ({"size": [3, 4], "counts": "o" * 40 + "0"}, "a number of 41 characters"),
}


@pytest.mark.parametrize("name", BAD_SEGMENTS)
def test_a_malformed_annotation_is_one_line_with_its_file_and_number(tmp_path, name):
    segment, line = BAD_SEGMENTS[name]
    found = open_data(str(coco_file(tmp_path, [{"id": 41, "segmentation": segment}])))
    with pytest.raises(UsageError) as error:
        found[0]
    assert line in str(error.value) and f"{tmp_path / 'instances.json'}: annotation 41: " in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_random_text_is_a_mask_or_an_error_and_nothing_else():
    rng = np.random.default_rng(1)
    decoded = 0
    for _ in range(3000):
        text = "".join(chr(code) for code in rng.integers(47, 113, rng.integers(0, 9)))
        try:
            decoded += mask_of({"size": [3, 4], "counts": text}, SIZE, "a").shape == SIZE
        except UsageError:
            continue
    assert decoded < 3000


# ----------------------------------------------------------------------------------------------------------------- COCO


def test_a_coco_file_gives_every_object_but_crowds_and_empty_ones(tmp_path):
    path = coco_file(
        tmp_path,
        [
            {"segmentation": RLE},
            {"segmentation": RLE, "iscrowd": 1},
            {"segmentation": {"size": [3, 4], "counts": [12]}},
            {"segmentation": [[2, 0, 4, 0, 4, 2, 2, 2]]},
        ],
    )
    found = open_data(str(path))
    assert (len(found), found.name) == (1, "instances.json")
    with pytest.warns(EdgeSAMExportWarning, match="cover no pixel were left out: 1, the first is 1"):
        sample = found[0]
    square = np.zeros(SIZE, bool)
    square[:2, 2:] = True
    assert sample.name == "a.png" and (sample.masks == [DRAWN, square]).all() and sample.masks.dtype == bool
    assert (sample.image == np.arange(36).reshape(3, 4, 3)).all()


def test_images_beside_the_file_go_before_those_in_images(tmp_path):
    path = coco_file(tmp_path, [])
    Image.new("RGB", (4, 3), (90, 80, 70)).save(tmp_path / "a.png")
    sample = open_data(str(path))[0]
    assert (sample.image == (90, 80, 70)).all() and sample.masks.shape == (0, 3, 4)


@pytest.mark.parametrize("images", ["val2017", "images/val2017"])
def test_images_where_coco_puts_them(tmp_path, images):
    made = coco_file(tmp_path / "made", [])
    (tmp_path / "annotations").mkdir()
    path = made.rename(tmp_path / "annotations" / "instances_val2017.json")
    save_image(tmp_path / images / "a.png")
    assert open_data(str(path))[0].image.shape == (3, 4, 3)
    (tmp_path / images / "a.png").unlink()
    with pytest.raises(UsageError, match=r"'.*annotations/images', '.*/val2017', '.*images/val2017'"):
        open_data(str(path))[0]


def test_only_the_index_is_read_before_a_sample_is_asked_for(tmp_path):
    path = coco_file(tmp_path, [{"segmentation": FAR}])
    (tmp_path / "images" / "a.png").unlink()
    found = open_data(str(path))
    with pytest.raises(UsageError, match=r"image 'a\.png' is in none of"):
        found[0]


OUTSIDE = "leaves the folder"


@pytest.mark.parametrize(
    ("image", "line"),
    [
        ({"file_name": "../outside.png"}, OUTSIDE),
        ({"file_name": "x/../../outside.png"}, OUTSIDE),
        ({"file_name": "/etc/passwd"}, OUTSIDE),
        ({"file_name": "link.png"}, OUTSIDE),
        ({"file_name": "a\0.png"}, "no file name"),
        ({"file_name": "\ud800.png"}, "no file name"),
        ({"file_name": "x" * 5000}, "is in none of"),
        ({"file_name": 5}, "file_name is 5"),
        ({"height": 30}, "'a.png' is declared as 4x30, but the image is 4x3"),
        ({"height": -3}, "height -3 and width 4 are no sizes"),
        ({"width": True}, "width True are no sizes"),
        ({"id": [1]}, "its id is missing or used twice"),
        ({"id": 8}, "annotation 1: image_id 7 is none of the images"),
    ],
)
def test_what_a_coco_file_says_about_its_image_is_checked(tmp_path, image, line):
    folder = tmp_path / "inner"
    save_image(tmp_path / "outside.png")
    path = coco_file(folder, [{"segmentation": RLE}], **image)
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(UsageError) as error:
        open_data(str(path))[0]
    assert line in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\xff", "is not JSON"),
        ("[]", "holds a list of 0"),
        ("{}", "'images' is None"),
        ('{"images": [], "annotations": 3}', "'annotations' is 3"),
        ('{"images": [1], "annotations": []}', "'images' is a list of 1"),
    ],
)
def test_a_file_that_is_no_coco_file(tmp_path, text, line):
    path = tmp_path / "instances.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as error:
        open_data(str(path))
    assert line in str(error.value) and str(path) in str(error.value)


def test_files_and_objects_without_limit_are_refused(tmp_path, monkeypatch):
    path = coco_file(tmp_path, [{"segmentation": RLE}] * 2001)
    with pytest.raises(UsageError, match="2001 objects in one image, at most 2000"):
        open_data(str(path))[0]
    with pytest.raises(UsageError, match="200 masks of 10000x5000 take more than 2 GiB"):
        annotations.check_count(200, (5000, 10000), "a")
    monkeypatch.setattr(data, "MAX_INDEX_BYTES", 1000)
    with pytest.raises(UsageError, match="more than 0 MiB; split it"):
        open_data(str(path))


LENIENT = Reading(strict=False)


def test_names_and_sizes_are_read_as_other_programs_write_them(tmp_path):
    path = coco_file(
        tmp_path,
        [{"segmentation": {"size": [3.0, 4.0], "counts": [float(run) for run in COUNTS]}}],
        file_name="deep\\a.png",
        height=3.0,
        width=4.0,
    )
    save_image(tmp_path / "images" / "deep" / "a.png")
    assert (open_data(str(path))[0].masks == [DRAWN]).all()


def test_a_backslash_does_not_lead_out_of_the_folder(tmp_path):
    save_image(tmp_path / "outside.png")
    path = coco_file(tmp_path / "inner", [], file_name="..\\outside.png")
    with pytest.raises(UsageError, match=OUTSIDE):
        open_data(str(path))[0]


def test_a_damaged_annotation_is_left_out_and_noted(tmp_path):
    path = coco_file(tmp_path, [{"id": 5, "segmentation": []}, {"id": 6, "segmentation": RLE}])
    sample = open_data(str(path), reading=LENIENT)[0]
    assert (sample.masks == [DRAWN]).all()
    assert sample.damaged == (f"{path}: annotation 5: it has no polygon; a box alone is no mask",)
    with pytest.raises(UsageError, match="annotation 5: it has no polygon"):
        open_data(str(path), reading=Reading(strict=True))[0]


def test_a_damaged_entry_is_that_image_alone(tmp_path):
    save_image(tmp_path / "a.png")
    entries = [{"id": 1, "file_name": 5}, {"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "a.png"}]
    entries = [{"height": 3, "width": 4, **entry} for entry in entries]
    rows = [{"id": 9, "image_id": 2, "segmentation": RLE}, {"id": 10, "image_id": 3, "segmentation": RLE}]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": entries, "annotations": rows}))
    with pytest.warns(EdgeSAMExportWarning, match=r"1 annotations belong to no image .* image_id 3 is none"):
        found = open_data(str(path), reading=LENIENT)
    assert (found[2].masks == [DRAWN]).all()
    for index, line in enumerate(("file_name is 5", "used twice")):
        with pytest.raises(UsageError, match=line):
            found[index]


def test_warnings_of_many_images_are_kept_for_one(tmp_path):
    path = coco_file(tmp_path, [])
    Image.new("RGB", (4, 3), (9, 8, 7)).save(tmp_path / "images" / "a.png")
    skipped, found = Skipped(), open_data(str(path), reading=LENIENT)
    for _ in range(2):
        skipped.read(found, 0)
    assert len(skipped.notes) == 2 and "a.png: is nearly black" in skipped.notes[0]
    assert len(skipped.without_repeats().notes) == 1


ORIENTATIONS = range(1, 9)


def oriented(path: Path, orientation: int, size: tuple[int, int]) -> None:
    """Save an image of ``size`` as stored that notes an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(*size, 3)
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_masks_of_stored_pixels_are_turned_as_pillow_turns_the_image(tmp_path, orientation):
    save_image(tmp_path / "images" / "a.png")
    path = coco_file(tmp_path, [{"segmentation": RLE}])
    oriented(tmp_path / "images" / "a.png", orientation, SIZE)
    sample = open_data(str(path), reading=Reading(frame="raw"))[0]
    drawn = Image.fromarray(DRAWN.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    drawn.info["exif"] = exif.tobytes()
    drawn.getexif()[0x0112] = orientation
    assert (sample.masks == [np.asarray(ImageOps.exif_transpose(drawn)).astype(bool)]).all()
    assert sample.masks.shape[1:] == sample.image.shape[:2] and sample.orientation == orientation


def test_another_orientation_than_the_annotations_is_named(tmp_path):
    path = coco_file(tmp_path, [{"segmentation": RLE}])
    oriented(tmp_path / "images" / "a.png", 6, SIZE)
    with pytest.raises(UsageError, match=r"upright: its EXIF orientation is 6; give --annotations-frame raw if"):
        open_data(str(path))[0]
    path = coco_file(tmp_path, [{"segmentation": {"size": [4, 3], "counts": [0, 12]}}], height=4, width=3)
    oriented(tmp_path / "images" / "a.png", 6, SIZE)
    with pytest.raises(UsageError, match=r"as stored: its EXIF orientation is 6; give --annotations-frame upright if"):
        open_data(str(path), reading=Reading(frame="raw"))[0]
    assert open_data(str(path))[0].image.shape == (4, 3, 3)


def test_what_was_passed_over_is_counted_and_listed(tmp_path):
    skipped = Skipped(images=[f"{name}.jpg: damaged" for name in "abcd"], annotations=["x: annotation 5: bad"])
    with pytest.warns(EdgeSAMExportWarning) as found:
        skipped.warn(None)
    assert str(found[0].message) == (
        "4 damaged images and 1 damaged annotation left out (--strict stops at the first): "
        "a.jpg: damaged; b.jpg: damaged; c.jpg: damaged; and 2 more"
    )
    with pytest.warns(EdgeSAMExportWarning, match=r"^2 images came with a warning: a: dark; b: dark$"):
        Skipped(notes=["a: dark", "b: dark"]).warn(None)
    turned = Skipped(turned=["a.jpg"])
    turned.warn("upright")
    with pytest.warns(
        EdgeSAMExportWarning, match=r"annotated images that EXIF turns: 1 \(a\.jpg\); annotations are taken"
    ):
        turned.warn(None)


# --------------------------------------------------------------------------------------------------------------- folder


def test_a_folder_takes_annotations_masks_or_nothing(tmp_path):
    for name in ("a.png", "b.jpg", "c.PNG", "d.png", "notes.txt"):
        save_image(tmp_path / "f" / name) if name != "notes.txt" else (tmp_path / "f" / name).write_text("no")
    folder = tmp_path / "f"
    rows = [{"id": 5, "segmentation": {"size": [3, 4], "counts": TEXT}}, {"segmentation": RLE, "iscrowd": 1}]
    (folder / "a.json").write_text(json.dumps({"image": {"file_name": "../x"}, "annotations": rows}))
    values = np.array([[0, 1, 0, 0], [0, 1, 300, 0], [0, 0, 300, 2]], np.uint16)
    Image.fromarray(values).save(folder / "b_mask.png")
    (folder / "masks").mkdir()
    Image.fromarray(np.stack([DRAWN * 255, DRAWN * 7, ~DRAWN * 9], axis=2).astype(np.uint8)).save(
        folder / "masks" / "c.png"
    )
    found = open_data(str(folder))
    samples = [found[index] for index in range(len(found))]
    assert [sample.name for sample in samples] == ["a.png", "b.jpg", "c.PNG", "d.png"]
    assert (samples[0].masks == [DRAWN]).all()
    assert (samples[1].masks == [values == 1, values == 2, values == 300]).all()
    assert (samples[2].masks == [~DRAWN, DRAWN]).all()
    assert samples[3].masks.shape == (0, 3, 4)
    assert [sample.name for sample in found] == [sample.name for sample in samples]
    with pytest.raises(IndexError):
        found[-1]


def test_values_of_a_palette_are_the_objects_whatever_their_colours(tmp_path):
    save_image(tmp_path / "a.png")
    values = np.array([[0, 1, 1, 2], [0, 1, 2, 2], [0, 0, 0, 0]], np.uint8)
    image = Image.fromarray(values, mode="P")
    image.putpalette([0, 0, 0] * 256)
    image.save(tmp_path / "a_mask.png")
    assert (open_data(str(tmp_path))[0].masks == [values == 1, values == 2]).all()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda path: Image.new("L", (4, 4)).save(path), "is 4x4, its image 4x3"),
        (lambda path: Image.new("RGBA", (4, 3)).save(path), "has mode RGBA; save masks in grey"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50), "not an image that can be read"),
    ],
)
def test_a_mask_file_that_does_not_fit(tmp_path, make, line):
    save_image(tmp_path / "a.png")
    make(tmp_path / "a_mask.png")
    with pytest.raises(UsageError, match=line) as error:
        open_data(str(tmp_path))[0]
    assert "a_mask.png" in str(error.value)


def test_a_photograph_is_no_mask(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "a_mask.png"):
        Image.fromarray(rng.integers(0, 256, (60, 60, 3), dtype=np.uint8)).save(tmp_path / name)
    with pytest.raises(UsageError, match="objects in one image, at most 2000 are read; is it a mask"):
        open_data(str(tmp_path))[0]


def test_what_lies_beside_an_image_must_lie_in_the_folder(tmp_path):
    save_image(tmp_path / "f" / "a.png")
    save_image(tmp_path / "outside.png")
    (tmp_path / "f" / "a_mask.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(UsageError, match=OUTSIDE):
        open_data(str(tmp_path / "f"))[0]


# ---------------------------------------------------------------------------------------------------------------- texts


@pytest.fixture
def drawn(monkeypatch) -> list[tuple[int, int, int]]:
    """Scenes that only note what was asked for."""
    asked: list[tuple[int, int, int]] = []

    def draw(seed: int, index: int, size: int, photographs: None) -> SimpleNamespace:
        asked.append((seed, index, size))
        return SimpleNamespace(image=np.zeros((size, size, 3), np.uint8), masks=np.zeros((0, size, size), bool))

    monkeypatch.setattr(scenes, "draw_scene", draw)
    return asked


def test_scenes_are_drawn_when_asked_for(drawn):
    found, endless = open_data("scenes:5:3", size=64), open_data("scenes:9")
    assert (len(found), len(endless), found.name, endless.name) == (3, ENDLESS, "scenes:5:3", "scenes:9")
    assert drawn == []
    assert len(list(found)) == 3 and isinstance(endless[10**6], Sample)
    assert drawn == [(5, 0, 64), (5, 1, 64), (5, 2, 64), (9, 10**6, 512)]


def test_a_real_scene_is_a_sample():
    sample = open_data("scenes:3:1", size=64)[0]
    assert sample.image.shape == (64, 64, 3) and sample.masks.shape[1:] == (64, 64)
    assert len(sample.masks) and sample.masks.any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    "text",
    ["scenes:", "scenes:x", "scenes:-1:5", "scenes:1:0", "scenes:1:2:3", "scenes:4294967296:1", "scenes:1:9999999999",
     "scenes:٣:1", "scenes:1:" + "9" * 5000, "", "nowhere", "nowhere.json", "photo.png", "a\0b"],
)  # fmt: skip
def test_a_text_that_names_no_data_is_one_line(text):
    with pytest.raises(EdgeSAMExportError) as error:
        open_data(text)[0]
    assert "\n" not in str(error.value)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "only_mask.png").write_bytes(b"")
    with pytest.raises(UsageError, match="holds no images"):
        open_data(str(tmp_path))


def test_the_kept_sample_is_what_the_generator_draws():
    """Four scenes as a COCO file in the repository: reading it and drawing them again must agree."""
    kept = open_data(str(Path(__file__).parents[1] / "goldens" / "scenes_coco" / "annotations.json"))
    assert len(kept) == 4
    for index in range(4):
        sample, scene = kept[index], scenes.draw_scene(11, index, 128)
        assert np.abs(sample.image.astype(int) - scene.image).max() <= 2  # other builds of NumPy may round otherwise
        assert len(sample.masks) == len(scene.masks)
        for mask, drawn in zip(sample.masks, scene.masks):
            assert (mask & drawn).sum() / (mask | drawn).sum() > 0.98
