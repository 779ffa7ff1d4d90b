"""Data files that come with the package."""

from __future__ import annotations

from pathlib import Path

from edgesam_export.errors import SchemaError

__all__ = ["manifest_path", "shipped_file"]


def manifest_path() -> Path:
    """Return the manifest: inside an installed package, or beside the package in a checkout."""
    return shipped_file("models/manifest.toml")


def shipped_file(name: str) -> Path:
    """Return a data file that comes with the package: inside an installed one, or beside it in a checkout.

    Raises:
        SchemaError: it is in neither place.
    """
    package = Path(__file__).resolve().parent
    for folder in (package, package.parent):
        path = folder / name
        if path.is_file():
            return path
    raise SchemaError(f"{name} is missing from {package}; install the package again")
