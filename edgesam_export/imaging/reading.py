"""Images in and out: any file Pillow reads to 8-bit RGB, masks to PNG, arrays from NPY. No torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgesam_export.errors import UsageError, first_line, warn
from edgesam_export.files import is_address, stand_in, write_beside
from edgesam_export.imaging.levels import (
    NEARLY_BLACK,
    array_pixels,
    brightened,
    grey_to_rgb,
    over_white,
    to_8_bits,
    warn_if_black,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "any_image",
    "grey_floats",
    "image_files",
    "image_for_prompts",
    "mask_image",
    "open_image",
    "read_array",
    "rgb_array",
    "save_png",
    "upright_size",
    "warn_if_turned",
]

MAX_PIXELS = 100_000_000
"""Pixels of the largest image that is opened; decoded, it takes 300 MB."""
BRAND_BYTES = 64
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Major or compatible brands of ISO/IEC 23008-12 files, of which Pillow alone reads none but AVIF."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Of the files that are taken for images where a folder is given."""
ORIENTATION = 274
"""EXIF tag."""
TURNED = range(5, 9)
"""Orientations whose sides change places."""
SUBFILE_TYPE, REDUCED = 254, 1
"""TIFF tag, and its bit for an image that is a smaller version of another image of the file (TIFF 6.0, section 8)."""
NPY_MAGIC = b"\x93NUMPY"
SHOWN = 120
"""Characters of a name in messages; an image in Base64 has millions."""
DEEP_MODES = ("RGB", "RGBA", "LA")
"""Modes whose files may hold 16 bits per channel, which Pillow has no mode for."""


def image_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are images by their names, sorted; "._NAME" is what macOS keeps beside NAME.

    Raises:
        UsageError: the folder cannot be read.
    """
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("._") and path.is_file()
        )
    except OSError as error:
        raise UsageError(f"cannot read folder '{folder}': {error.strerror or error}") from None


def open_image(path_or_file: str | Path | BinaryIO, formats: tuple[str, ...] | None = None) -> np.ndarray:
    """Decode an image file to upright 8-bit RGB; of several frames the first. Conversions: see ``rgb_array``.

    Shapes: returns uint8 (H, W, 3)
    Raises: UsageError as ``image_file``, or when the image is cut short.
    """
    with image_file(path_or_file, formats) as (image, name):
        frames = frame_count(image)
        if frames > 1:
            warn(f"{name}: has {frames} frames, the first is used; save the others as files of their own")
        if is_preview(image):
            warn(
                f"{name}: its first image is a preview of {image.width}x{image.height} beside a larger one, as in a"
                " camera's raw files; the preview is used, and coordinates are its pixels; convert the file to use the"
                " larger one"
            )
        return rgb_array(image, name)


def upright_size(path: str | Path) -> tuple[int, int]:
    """Return height and width of an image file as ``open_image`` reads it, from its header alone.

    Raises: UsageError as ``image_file``.
    """
    with image_file(path) as (image, _):
        height, width = image.height, image.width
        return (width, height) if orientation_of(image) in TURNED else (height, width)


@contextmanager
def image_file(
    path_or_file: str | Path | BinaryIO, formats: tuple[str, ...] | None = None
) -> Iterator[tuple[Image.Image, str]]:
    """Yield an image file of which only the header is read, and its name for messages.

    ``formats`` are Pillow's names of those that may be tried, None: all that it has; HEIC is always tried.

    Raises: UsageError when there is no such file, or it is no image, or larger than ``MAX_PIXELS``.
    """
    name = str(getattr(path_or_file, "name", "image") if hasattr(path_or_file, "read") else path_or_file)
    name = name if len(name) <= SHOWN else f"{name[:SHOWN]}…"
    if isinstance(path_or_file, str | Path) and is_address(path_or_file):
        raise UsageError(f"{name}: an address, not a file; fetch it first and give the file or its bytes")
    try:
        with up_to_our_limit():
            image = opened(path_or_file, name, formats)
    except UsageError:
        raise
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file") from None
    except Image.DecompressionBombError:
        raise too_large(name, "") from None
    except UnidentifiedImageError:
        found = stand_in(Path(path_or_file)) if isinstance(path_or_file, str | Path) else ""
        raise UsageError(
            f"{name}: {found or 'not an image that can be read; give a PNG, JPEG, TIFF, WebP or the like'}"
        ) from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror or first_line(error)}") from None
    except Exception as error:  # decoders raise any exception for a broken header
        raise UsageError(f"{name}: not an image that can be read: {first_line(error)}") from None
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise too_large(name, f" {image.width}x{image.height}")
        yield image, name


@contextmanager
def up_to_our_limit() -> Iterator[None]:
    """Keep Pillow from warning at 89 megapixels: the limit is ``MAX_PIXELS``, checked before anything is decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def frame_count(image: Image.Image) -> int:
    """Return the frames of an animation or a stack; the second image of a camera's MPO is a preview, and counts not."""
    try:
        return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    except Exception:  # decoders raise any exception for a broken file; decoding it will say so
        return 1


def is_preview(image: Image.Image) -> bool:
    """Return whether a TIFF file calls its first image a reduced version of another one."""
    kind = getattr(image, "tag_v2", {}).get(SUBFILE_TYPE, 0)
    return isinstance(kind, int) and bool(kind & REDUCED)


def warn_if_turned(image: str | Path | BytesIO | Image.Image) -> tuple[int, int] | None:
    """Warn of an image that is stored turned: coordinates given with it may be those of the pixels as stored.

    Returns its upright width and height, None of a file that is no image: whoever reads it says what is wrong.
    """
    if isinstance(image, Image.Image):
        orientation, size = orientation_of(image), image.size
    else:
        try:
            with up_to_our_limit(), Image.open(image) as stored:
                orientation, size = orientation_of(stored), stored.size
        except Exception:
            return None
    width, height = size[::-1] if orientation in TURNED else size
    if orientation in range(2, 9):
        name = image if isinstance(image, str | Path) else "image"
        warn(
            f"{name}: is stored turned or mirrored (EXIF orientation {orientation}) and read upright, {width}x{height};"
            " coordinates are those of the upright image"
        )
    return width, height


def orientation_of(image: Image.Image) -> int:
    """Return the orientation that an image's EXIF data state, 1 (upright) when there is none."""
    orientation = image.getexif().get(ORIENTATION, 1)
    return orientation if isinstance(orientation, int) else 1


def any_image(image: Any, name: str = "image") -> np.ndarray:
    """Return a path, an open file, a file's bytes, a Pillow image or an array as 8-bit RGB.

    Shapes: returns uint8 (H, W, 3)
    Raises: UsageError as ``open_image``, ``rgb_array`` and ``array_pixels``.
    """
    if isinstance(image, Image.Image):
        return rgb_array(image, name)
    source = file_of(image)
    return array_pixels(image, name) if source is None else open_image(source)


def image_for_prompts(image: Any) -> np.ndarray:
    """Return what ``any_image`` does of the image that prompts refer to: turned as it is stored, it is warned of."""
    if not isinstance(image, Image.Image):
        image = file_of(image) or image
    if isinstance(image, Image.Image | str | Path | BytesIO):
        warn_if_turned(image)
    return any_image(image)


def file_of(image: Any) -> str | Path | BytesIO | None:
    """Return an image file as it can be opened more than once: a path or its bytes; None for what is no file.

    Raises: UsageError when an open file cannot be read.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return BytesIO(image)
    if isinstance(image, str | Path):
        return image
    if isinstance(image, PathLike):
        return Path(image)
    if not hasattr(image, "read"):
        return None
    try:
        if image.seekable():  # whoever read it before
            image.seek(0)
        return BytesIO(image.read())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"open file: cannot be read as bytes: {first_line(error)}; open it with mode 'rb'") from None


def opened(path_or_file: str | Path | BinaryIO, name: str, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Return a file as Pillow opens it; HEIC, an iPhone's default, through ``pillow-heif`` where that is installed.

    Raises: UsageError for a HEIC file without it.
    """
    try:
        return Image.open(path_or_file, formats=formats)
    except UnidentifiedImageError:
        if not is_heic(path_or_file):
            raise
    try:
        import pillow_heif
    except ImportError:
        raise UsageError(
            f"{name}: a HEIC image, which needs pillow-heif: pip install 'edgesam-export[heic]'; or save it as JPEG"
        ) from None
    pillow_heif.register_heif_opener()
    return Image.open(path_or_file, formats=["HEIF"])


def is_heic(path_or_file: str | Path | BinaryIO) -> bool:
    """Return whether the file's first box names a brand of HEIF; a file object is left at its start."""
    if isinstance(path_or_file, str | Path):
        with Path(path_or_file).open("rb") as stream:
            head = stream.read(BRAND_BYTES)
    else:
        path_or_file.seek(0)
        head = path_or_file.read(BRAND_BYTES)
        path_or_file.seek(0)
    return head[4:8] == b"ftyp" and any(brand in head[8:] for brand in HEIC_BRANDS)


def rgb_array(image: Image.Image, name: str = "image") -> np.ndarray:
    """Return upright 8-bit RGB of a Pillow image.

    EXIF orientation is applied. Transparency is composited over white. 16-bit grey, 32-bit integers and floats are
    scaled by the rule of ``imaging/levels.py``. Of colours of 16 bits Pillow reads the upper 8.

    Shapes: returns uint8 (H, W, 3)
    Raises: UsageError for an image without pixels, cut short, with NaN, or in a mode Pillow cannot convert.
    """
    if 0 in image.size:
        raise UsageError(f"{name}: has size {image.width}x{image.height}; both sides must be at least 1 pixel")
    halved = image.mode in DEEP_MODES and any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith(("I", "F")):
            return grey_to_rgb(to_8_bits(grey_values(upright), name))
        transparent = upright.has_transparency_data
        coloured = upright.convert("LA") if upright.mode == "La" else upright
        pixels: np.ndarray = np.array(coloured.convert("RGBA" if transparent else "RGB"))
        if halved:
            pixels = brightened(pixels, name)
        else:
            warn_if_black(pixels[..., :3], name)
        if not transparent:
            return pixels
        if pixels[..., 3].max() < NEARLY_BLACK:
            warn(f"{name}: is transparent everywhere and read as white; remove its transparency if there is an image")
        return over_white(pixels)
    except UsageError:
        raise
    except Exception as error:  # decoders raise any exception for a broken file
        raise UsageError(f"{name}: cannot be decoded, the file is damaged or cut short: {first_line(error)}") from None


def grey_floats(path: Path) -> np.ndarray:
    """Return one channel as the numbers that a file stores: no scaling, 8-bit colours as their luma, 0 to 255.

    Shapes: returns float32 (H, W)
    """
    with up_to_our_limit():
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")) and image.width * image.height <= MAX_PIXELS:
                    return np.asarray(ImageOps.exif_transpose(image), np.float32)
        except OSError:  # ``open_image`` names what is wrong
            pass
    return np.asarray(Image.fromarray(open_image(path)).convert("L"), np.float32)


def grey_values(image: Image.Image) -> np.ndarray:
    """Return the numbers of 16-bit or 32-bit grey. Shapes: uint16, int32 or float32 (H, W)"""
    return np.asarray(image, np.uint16 if image.mode.startswith("I;16") else None)


def too_large(name: str, size: str) -> UsageError:
    """Return the error for an image above ``MAX_PIXELS``."""
    limit = MAX_PIXELS // 1_000_000
    return UsageError(f"{name}: the image{size} is larger than {limit} megapixels; scale it down and try again")


def mask_image(mask: np.ndarray) -> Image.Image:
    """Return the mask as a grey Pillow image, 0 outside and 255 inside.

    Shapes: mask bool (H, W)
    """
    return Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))


def save_png(image: Image.Image | np.ndarray, path: str | Path) -> Path:
    """Write an image so that a file at ``path`` is always complete; return the path.

    Raises: UsageError when the folder is not writable or full; nothing is left behind then.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UsageError(f"cannot write '{path}': there is no folder '{path.parent}'; choose another path")
    pixels = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    with write_beside(path) as beside:
        pixels.save(beside, format="PNG")
    return path


def read_array(path: Path) -> np.ndarray:
    """Return the array in a ``.npy`` file; object arrays, which are pickles, are refused."""
    try:
        with path.open("rb") as stream:
            if stream.read(len(NPY_MAGIC)) != NPY_MAGIC:  # ``numpy.load`` would take it for an archive or a pickle
                found = stand_in(path) or "is not a .npy array; save one with numpy.save"
                raise UsageError(f"'{path}' {found}")
        array: np.ndarray = np.load(path, allow_pickle=False)
        return array
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise UsageError(f"'{path}' is not a .npy array of numbers: {' '.join(str(error).split())}") from None
