"""Data files that come with the package; sample images lie beside this file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from edgesam_export.errors import SchemaError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SAMPLES", "manifest_path", "read_toml", "shipped_file"]

SAMPLES = Path(__file__).resolve().parent / "samples"
"""Folder of the bundled images: two photographs and a drawn scene."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the document in a TOML file; a byte order mark, as editors of Windows write it, is passed over.

    Raises:
        SchemaError: the file cannot be read or is not TOML.
    """
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SchemaError(f"'{path}' is not TOML: {error}") from None
    return document


def manifest_path() -> Path:
    """Return the manifest: inside an installed package, or beside the package in a checkout."""
    return shipped_file("models/manifest.toml")


def shipped_file(name: str) -> Path:
    """Return a data file that comes with the package: inside an installed one, or beside it in a checkout.

    Raises:
        SchemaError: it is in neither folder.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package, package.parent):
        path = folder / name
        if path.is_file():
            return path
    raise SchemaError(f"{name} is missing from {package}; install the package again")
