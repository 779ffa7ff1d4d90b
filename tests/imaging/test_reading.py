"""Images of every kind to RGB, errors in one line, and complete files."""

from __future__ import annotations

import io
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from edgesam_export.errors import EdgeSAMExportWarning, UsageError, collected_warnings
from edgesam_export.imaging import reading
from edgesam_export.imaging.reading import (
    any_image,
    image_for_prompts,
    mask_image,
    open_image,
    rgb_array,
    save_png,
    upright_size,
    warn_if_turned,
)
from edgesam_export.resources import SAMPLES


def stored(image: Image.Image, form: str = "PNG", **options) -> io.BytesIO:
    """The image as a file in memory."""
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return file


def one_row(values, dtype) -> np.ndarray:
    return np.array([values], dtype)


def grey_levels(array: np.ndarray) -> list[int]:
    """Return the first row of an image whose channels must be equal."""
    assert array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
    assert (array == array[..., :1]).all()
    return array[0, :, 0].tolist()


def test_rgb_is_read_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), stored(Image.fromarray(pixels))):
        array = open_image(source)
        np.testing.assert_array_equal(array, pixels)
        assert array.flags.writeable


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    # What a viewer must show, and how a camera held that way stores it (TIFF 6.0, tag 274).
    upright = np.zeros((2, 3, 3), np.uint8)
    upright[0, 0], upright[0, 2], upright[1, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    sideways = upright.transpose(1, 0, 2)
    as_stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: sideways,
        6: sideways[::-1],
        7: sideways[::-1, ::-1],
        8: sideways[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    file = stored(Image.fromarray(np.ascontiguousarray(as_stored)), exif=exif.tobytes())
    np.testing.assert_array_equal(open_image(file), upright)


def test_transparency_is_composited_over_white():
    pixels = np.array([[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    np.testing.assert_array_equal(
        open_image(stored(Image.fromarray(pixels))), [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]
    )


def test_grey_with_alpha_is_composited_over_white():
    pixels = Image.merge("LA", [Image.new("L", (1, 1), 0), Image.new("L", (1, 1), 51)])
    assert grey_levels(open_image(stored(pixels))) == [204]
    assert grey_levels(rgb_array(pixels.convert("La"))) == [204]


def palette_image() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    return image


def test_an_image_without_any_opacity_is_warned_of():
    with pytest.warns(EdgeSAMExportWarning, match="transparent everywhere and read as white"):
        assert (open_image(stored(Image.new("RGBA", (3, 2), (200, 9, 9, 0)))) == 255).all()


@pytest.mark.parametrize("orientation", range(9))
def test_an_image_that_is_stored_turned_is_warned_of(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.new("RGB", (7, 4))
    image.save(tmp_path / "a.jpg", exif=exif.tobytes())
    with collected_warnings(silent=True) as found:
        warn_if_turned(tmp_path / "a.jpg")
        with Image.open(tmp_path / "a.jpg") as opened:
            warn_if_turned(opened)
        warn_if_turned(tmp_path / "none.jpg")  # reading it says so
    assert len(found) == (2 if orientation > 1 else 0)
    upright = "4x7" if orientation > 4 else "7x4"
    assert all(f"EXIF orientation {orientation}) and read upright, {upright};" in text for text in found)


def test_the_preview_in_a_raw_file_is_warned_of(tmp_path):
    for kind in (0, 1):
        directory = TiffImagePlugin.ImageFileDirectory_v2()
        directory[254] = kind
        Image.new("RGB", (16, 12), (9, 99, 200)).save(tmp_path / f"{kind}.dng", format="TIFF", tiffinfo=directory)
    with collected_warnings(silent=True) as found:
        assert open_image(tmp_path / "1.dng").shape == (12, 16, 3)
    assert len(found) == 1 and "1.dng: its first image is a preview of 16x12 beside a larger one" in found[0]
    with collected_warnings(silent=True) as found:
        open_image(tmp_path / "0.dng")
    assert not found


def test_bytes_and_open_files_are_read_as_their_paths_are(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(one_row(range(0, 250, 25), np.uint8).repeat(3).reshape(1, -1, 3)).save(path, exif=exif.tobytes())
    expected, content = open_image(path), path.read_bytes()
    with path.open("rb") as opened, (tmp_path / "a.jpg").open() as as_text:
        assert opened.read(3)  # somebody looked at it before
        for source in (path, content, bytearray(content), memoryview(content), io.BytesIO(content), opened):
            with collected_warnings(silent=True) as found:
                assert np.array_equal(image_for_prompts(source), expected)
            assert len(found) == 1 and "EXIF orientation 6" in found[0]
        with pytest.raises(UsageError, match=r"open file: cannot be read as bytes: .* open it with mode 'rb'"):
            any_image(as_text)


@pytest.mark.parametrize(
    "address", ["https://example.org/a.jpg", "file:///tmp/a.jpg", "data:image/png;base64," + "A" * 999]
)
def test_an_address_is_no_file_and_is_not_repeated_at_length(address):
    with pytest.raises(UsageError, match="an address, not a file; fetch it first") as caught:
        any_image(address)
    assert len(str(caught.value)) < 220


@pytest.mark.parametrize("orientation", range(9))
def test_the_size_of_an_upright_image_is_read_from_its_header(tmp_path, monkeypatch, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", (7, 4)).save(tmp_path / "a.jpg", exif=exif.tobytes())
    expected = open_image(tmp_path / "a.jpg").shape[:2]
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("pixels were decoded"))
    assert upright_size(tmp_path / "a.jpg") == expected
    assert refusal(Path("https://example.org/a.jpg")).startswith("https:/example.org/a.jpg: an address, not a file")


def test_a_large_image_that_is_stored_turned_is_warned_of_in_our_words_alone(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif.tobytes())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow warns of 600 pixels then, an error under pytest
    with pytest.warns(EdgeSAMExportWarning, match="a.jpg: is stored turned") as found:
        warn_if_turned(tmp_path / "a.jpg")
    assert len(found) == 1


def test_palette_is_resolved():
    np.testing.assert_array_equal(open_image(stored(palette_image())), [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]])


@pytest.mark.parametrize("transparency, middle", [(1, [255, 255, 255]), (bytes([255, 51, 255]), [204, 255, 204])])
def test_palette_transparency_becomes_white(transparency, middle):
    array = open_image(stored(palette_image(), transparency=transparency))
    np.testing.assert_array_equal(array, [[[255, 0, 0], middle, [0, 0, 255]]])


def test_grey_and_one_bit():
    assert grey_levels(open_image(stored(Image.fromarray(one_row([0, 7, 255], np.uint8))))) == [0, 7, 255]
    assert grey_levels(open_image(stored(Image.fromarray(one_row([0, 1], bool))))) == [0, 255]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(form):
    image = Image.fromarray(one_row([0, 257, 300, 32896, 65535], np.uint16))
    assert grey_levels(open_image(stored(image, form))) == [0, 1, 1, 128, 255]


def test_dark_sixteen_bit_grey_is_read_as_fewer_bits_with_a_warning():
    with pytest.warns(
        EdgeSAMExportWarning, match="uint16 values from 0 to 200 are read with 0 as black and 255 as white"
    ):
        assert grey_levels(rgb_array(Image.fromarray(one_row([0, 200], np.uint16)))) == [0, 200]


@pytest.mark.parametrize(
    "values, levels",
    [
        ([0, 7, 255], [0, 7, 255]),
        ([0, 257, 65535], [0, 1, 255]),
    ],
)
def test_thirty_two_bit_integers_get_the_range_that_holds_them(values, levels):
    assert grey_levels(open_image(stored(Image.fromarray(one_row(values, np.int32)), "TIFF"))) == levels


@pytest.mark.parametrize(
    "values, levels",
    [
        ([0, 0.5, 1], [0, 128, 255]),
        ([0, 7, 255], [0, 7, 255]),
        ([0, 257, 65535], [0, 1, 255]),
        ([0, 0, 0], [0, 0, 0]),
        ([-4, -4, -4], [0, 0, 0]),
    ],
)
def test_floats_get_the_range_that_holds_them(values, levels):
    assert grey_levels(open_image(stored(Image.fromarray(one_row(values, np.float32)), "TIFF"))) == levels


@pytest.mark.parametrize(
    "values, kind, levels",
    [
        ([0, 50_000, 100_000], np.int32, [0, 128, 255]),
        ([-100, 0, 100], np.int32, [0, 128, 255]),
        ([-1, 0, 1], np.float32, [0, 128, 255]),
        ([0, 2.25, 4.5], np.float32, [0, 128, 255]),
        ([0, 2048, 4095], np.int32, [0, 128, 255]),
    ],
)
def test_another_range_is_stretched_with_a_warning(values, kind, levels):
    with pytest.warns(EdgeSAMExportWarning, match="are read with"):
        assert grey_levels(open_image(stored(Image.fromarray(one_row(values, kind)), "TIFF"))) == levels


def sixteen_bit_png(samples: np.ndarray) -> io.BytesIO:
    """A PNG of 16 bits per channel, which Pillow cannot write. Shapes: uint16 (H, W, C), C of grey to RGBA"""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    height, width, channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, kind, 0, 0, 0])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunks)


def test_sixteen_bit_colours_are_read_by_their_upper_byte():
    samples = np.array([[[0, 32768, 65535], [65535, 257, 0]]], np.uint16)
    assert open_image(sixteen_bit_png(samples)).tolist() == [[[0, 128, 255], [255, 1, 0]]]


@pytest.mark.parametrize("alpha", [None, 4095, 65535])
def test_twelve_bit_colours_in_sixteen_are_brightened_with_a_warning(alpha):
    samples = np.array([[[0, 2048, 4095], [4095, 2048, 0]]], np.uint16)
    if alpha is not None:
        samples = np.concatenate([samples, np.full((1, 2, 1), alpha, np.uint16)], axis=2)
    with pytest.warns(EdgeSAMExportWarning, match="only the upper 8 bits can be read, 16 levels"):
        array = open_image(sixteen_bit_png(samples))
    # 8 and 15 of 16 levels, of which 4095 is white; as much transparency as 15 of 16 leaves
    assert np.abs(array.astype(int) - [[[0, 128, 255], [255, 128, 0]]]).max() <= 16


def test_a_mask_of_ones_is_called_nearly_black():
    with pytest.warns(EdgeSAMExportWarning, match="nearly black, no value is above 1 of 255"):
        assert grey_levels(open_image(stored(Image.fromarray(one_row([0, 1], np.uint8))))) == [0, 1]


def heic_file() -> io.BytesIO:
    """Half red, half blue, as a camera of Apple's stores it."""
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32, 0], pixels[:, 32:, 2] = 255, 255
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(pixels)).save(file, quality=90)
    return file


def test_heic_is_read_where_its_reader_is_installed(tmp_path):
    content = heic_file()
    (tmp_path / "IMG_0001.HEIC").write_bytes(content.getvalue())
    for source in (tmp_path / "IMG_0001.HEIC", content):
        array = open_image(source)
        assert np.abs(array[32, [8, 56]].astype(int) - [[255, 0, 0], [0, 0, 255]]).max() < 30


def test_heic_without_its_reader_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(Image, "open", unidentified)
    (tmp_path / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x24ftypheic\0\0\0\0mif1heic")
    said = refusal(tmp_path / "IMG_0001.HEIC")
    assert "a HEIC image, which needs pillow-heif: pip install 'edgesam-export[heic]'" in said


def unidentified(*_, **__):
    raise UnidentifiedImageError("as without the reader, which once registered stays so")


def test_floats_that_are_no_numbers_are_refused():
    with pytest.raises(UsageError, match="NaN"):
        open_image(stored(Image.fromarray(one_row([0, np.nan], np.float32)), "TIFF"))


def test_cmyk_is_converted():
    ink = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    np.testing.assert_array_equal(open_image(stored(ink, "TIFF")), [[[255, 0, 0]]])
    lossy = open_image(stored(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=100))
    assert np.abs(lossy.astype(int) - (0, 255, 255)).max() <= 3


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animation_gives_its_first_frame(form):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    with pytest.warns(EdgeSAMExportWarning, match="has 2 frames, the first is used"):
        array = open_image(stored(frames[0], form, save_all=True, append_images=frames[1:], **options))
    np.testing.assert_array_equal(array, np.broadcast_to([255, 0, 0], (4, 4, 3)))


def refusal(source) -> str:
    """Text of the error, which must be one line."""
    with pytest.raises(UsageError) as caught:
        open_image(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_file_folder_and_text_are_named(tmp_path):
    assert refusal(tmp_path / "none.png") == f"{tmp_path / 'none.png'}: no such file"
    assert "Is a directory" in refusal(tmp_path) or os.name == "nt"
    for name, content in (("a.png", b"hello"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        assert "not an image" in refusal(tmp_path / name) and name in refusal(tmp_path / name)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_truncated_file_is_refused(form, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    content = stored(noise, form).getvalue()
    assert refusal(io.BytesIO(content[: int(len(content) * share)]))


def test_zero_size_is_refused():
    with pytest.raises(UsageError, match="size 0x5"):
        rgb_array(Image.new("RGB", (0, 5)))
    assert refusal(io.BytesIO(b"P5 0 4 255\n"))


def header_only_bmp(width: int, height: int) -> io.BytesIO:
    """A BMP that claims a size and has no pixels."""
    content = stored(Image.new("RGB", (1, 1)), "BMP").getvalue()
    return io.BytesIO(content[:18] + width.to_bytes(4, "little") + height.to_bytes(4, "little") + content[26:])


@pytest.mark.parametrize("side", [10_001, 40_000])  # the second is beyond Pillow's own limit
def test_image_above_the_limit_is_refused_before_decoding(side):
    said = refusal(header_only_bmp(side, 10_000))
    assert "larger than 100 megapixels" in said and "scale it down" in said


def test_limit_itself_is_allowed(monkeypatch):
    monkeypatch.setattr(reading, "MAX_PIXELS", 12)
    assert open_image(stored(Image.new("RGB", (4, 3)))).shape == (3, 4, 3)
    assert "4x4" in refusal(stored(Image.new("RGB", (4, 4))))


@pytest.mark.parametrize("sample", ["cat.jpg", "coffee.jpg"])
def test_samples_open(sample):
    array = open_image(SAMPLES / sample)
    assert array.std() > 20


def test_mask_image_is_black_and_white():
    image = mask_image(np.array([[True, False]]))
    assert image.mode == "L" and np.asarray(image).tolist() == [[255, 0]]


GREY = np.full((120, 160, 3), 100, np.uint8)


def square_mask() -> np.ndarray:
    mask = np.zeros((120, 160), bool)
    mask[30:90, 40:100] = True
    return mask


def test_save_png_round_trip(tmp_path):
    path = tmp_path / "out.png"
    assert save_png(GREY, path) == path
    np.testing.assert_array_equal(open_image(path), GREY)
    save_png(mask_image(square_mask()), str(path))  # replaces
    with Image.open(path) as image:
        assert image.mode == "L"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.png"]


def test_save_png_never_writes_at_the_final_path(tmp_path, monkeypatch):
    written = []
    save = Image.Image.save

    def recorded(self, target, **options):
        written.append(Path(target))
        save(self, target, **options)

    monkeypatch.setattr(Image.Image, "save", recorded)
    path = save_png(GREY, tmp_path / "out.png")
    assert path not in written and [file.parent for file in written] == [tmp_path]


def test_save_png_into_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write '.*out\.png': there is no folder '.*none'") as caught:
        save_png(GREY, tmp_path / "none" / "out.png")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_save_png_on_a_full_disk_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "out.png"
    path.write_bytes(b"old")

    def full(self, target, **options):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UsageError, match="No space left on device"):
        save_png(GREY, path)
    assert path.read_bytes() == b"old" and [entry.name for entry in tmp_path.iterdir()] == ["out.png"]


def test_save_png_over_a_folder_is_refused_and_leaves_nothing(tmp_path):
    (tmp_path / "out.png").mkdir()
    with pytest.raises(UsageError, match=r"cannot write '.*out\.png'"):
        save_png(GREY, tmp_path / "out.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.png"]
