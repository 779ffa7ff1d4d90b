"""Images in and out: any file Pillow reads to 8-bit RGB, masks to PNG, arrays from NPY. No torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgesam_export.errors import UsageError, first_line
from edgesam_export.files import write_beside

__all__ = ["MAX_PIXELS", "mask_image", "open_image", "read_array", "rgb_array", "save_png"]

MAX_PIXELS = 100_000_000
"""Pixels of the largest image that is opened; decoded, it takes 300 MB."""


def open_image(path_or_file: str | Path | BinaryIO) -> np.ndarray:
    """Decode an image file to upright 8-bit RGB; of an animation the first frame. Conversions: see ``rgb_array``.

    Shapes: returns uint8 (H, W, 3)
    Raises: UsageError when there is no such file, or it is no image, cut short, or larger than ``MAX_PIXELS``.
    """
    name = str(getattr(path_or_file, "name", "image") if hasattr(path_or_file, "read") else path_or_file)
    try:
        with warnings.catch_warnings():
            # Pillow warns at 89 megapixels; the limit here is MAX_PIXELS, checked before anything is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path_or_file)
    except FileNotFoundError:
        raise UsageError(f"{name}: no such file") from None
    except Image.DecompressionBombError:
        raise too_large(name, "") from None
    except UnidentifiedImageError:
        raise UsageError(f"{name}: not an image that can be read; give a PNG, JPEG, TIFF, WebP or the like") from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror or first_line(error)}") from None
    except Exception as error:  # decoders raise any exception for a broken header
        raise UsageError(f"{name}: not an image that can be read: {first_line(error)}") from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise too_large(name, f" {width}x{height}")
        return rgb_array(image, name)


def rgb_array(image: Image.Image, name: str = "image") -> np.ndarray:
    """Return upright 8-bit RGB of a Pillow image.

    EXIF orientation is applied. Transparency is composited over white. 16-bit grey is scaled by 255 / 65535. 32-bit
    integer and float images have no range of their own: the smallest of 1 (float only), 255 and 65535 that holds all
    values becomes white; values beyond that, or below zero, are stretched from their minimum to their maximum.

    Shapes: returns uint8 (H, W, 3)
    Raises: UsageError for an image without pixels, cut short, with NaN, or in a mode Pillow cannot convert.
    """
    if 0 in image.size:
        raise UsageError(f"{name}: has size {image.width}x{image.height}; both sides must be at least 1 pixel")
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith(("I", "F")):
            return np.repeat(grey_to_8_bits(upright, name)[..., None], 3, axis=2)
        if upright.has_transparency_data:
            coloured = upright.convert("LA") if upright.mode == "La" else upright
            coloured = coloured.convert("RGBA")
            white = Image.new("RGBA", coloured.size, "white")
            upright = Image.alpha_composite(white, coloured)
        pixels: np.ndarray = np.array(upright.convert("RGB"))
        return pixels
    except UsageError:
        raise
    except Exception as error:  # decoders raise any exception for a broken file
        raise UsageError(f"{name}: cannot be decoded, the file is damaged or cut short: {first_line(error)}") from None


def grey_to_8_bits(image: Image.Image, name: str) -> np.ndarray:
    """Return 16-bit and 32-bit grey as uint8 (H, W), by the rule of ``rgb_array``."""
    sixteen_bit = image.mode.startswith("I;16")
    values = np.asarray(image, np.float32 if sixteen_bit else np.float64)
    if not np.isfinite(values).all():
        raise UsageError(f"{name}: has NaN or infinite pixel values; replace them before")
    low, high = values.min(), values.max()
    if sixteen_bit:
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 65535:
        tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        low, high = 0.0, next(top for top in tops if high <= top)
    levels: np.ndarray = np.floor((values - low) * 255.0 / max(high - low, 1e-30) + 0.5).astype(np.uint8)
    return levels


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
        array: np.ndarray = np.load(path, allow_pickle=False)
        return array
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise UsageError(f"'{path}' is not a .npy array of numbers: {' '.join(str(error).split())}") from None
