"""Finding the files of a Core ML model on disk: a ``.mlpackage`` folder or a bare ``.mlmodel``."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgesam_export.errors import ProgramError, printable
from edgesam_export.files import lies_inside, stand_in

__all__ = ["ModelFiles", "find_files"]

MODEL_PATH_PREFIX = "@model_path/"
MAX_MANIFEST_BYTES = 16 << 20
"""Ten thousand times what a manifest takes."""


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lives; every path that the model names is resolved against it and must stay inside."""

    path: Path
    """What the caller gave."""
    model: Path
    """The protobuf file; links are not resolved, as weights lie beside the link."""
    root: Path
    """Folder that no reference may leave, see ``files.lies_inside``."""

    def resolve(self, reference: str) -> Path:
        """Return the file a program refers to as ``@model_path/...``.

        Raises:
            ProgramError: it lies outside the model, or is no such reference.
        """
        if not reference.startswith(MODEL_PATH_PREFIX) or not reference.isprintable():
            raise ProgramError(f"{self.path}: weight file '{printable(reference)}' does not start with @model_path/")
        return inside(self.model.parent / reference[len(MODEL_PATH_PREFIX) :], self.root, self.path)


def find_files(path: Path) -> ModelFiles:
    """Return where the model at ``path`` keeps its files.

    Raises:
        ProgramError: nothing there, not a Core ML model, or a damaged package.
    """
    if path.suffix == ".mlmodelc":
        raise ProgramError(f"{path}: this is a compiled model; give the .mlpackage it was compiled from")
    if path.suffix == ".onnx":
        raise ProgramError(f"{path}: this is an ONNX file; expected a .mlpackage or .mlmodel of Core ML")
    if os.path.isfile(path):  # unlike Path.is_file, false for a name that is too long
        return ModelFiles(path=path, model=path, root=path.parent)
    if not os.path.isdir(path):
        raise ProgramError(f"{path}: no such file or folder; expected a .mlpackage or .mlmodel")
    model = inside(path / "Data" / root_item_path(path), path / "Data", path)
    if not os.path.isfile(model):
        name = printable(model.name)
        raise ProgramError(f"{path}: damaged package: Manifest.json names {name}, which is not there")
    return ModelFiles(path=path, model=model, root=path)


def root_item_path(package: Path) -> str:
    """Return the path, relative to ``Data``, of the item that the manifest calls the root model."""
    manifest = read_manifest(package)
    entries, root = manifest.get("itemInfoEntries"), manifest.get("rootModelIdentifier")
    item = entries.get(root) if isinstance(entries, dict) and isinstance(root, str) else None
    relative = item.get("path") if isinstance(item, dict) else None
    if not isinstance(relative, str) or not relative or not relative.isprintable():
        raise ProgramError(f"{package}: damaged package: Manifest.json names no root model")
    return relative


def hint_of_members(folder: Path) -> str:
    """Return which packages a folder holds that is none itself, empty for none."""
    names = sorted(path.name for path in folder.glob("*.mlpackage"))[:4]
    return f"; give one of those in it: {', '.join(names)}" if names else ""


def read_manifest(package: Path) -> dict[str, Any]:
    path = package / "Manifest.json"
    try:
        if not path.is_file():  # opening a pipe would wait for somebody who writes to it
            raise FileNotFoundError
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ProgramError(
                f"{package}: damaged package: Manifest.json is larger than {MAX_MANIFEST_BYTES >> 20} MiB"
            )
        manifest = json.loads(path.read_bytes())
    except OSError:
        raise ProgramError(
            f"{package}: not a Core ML package: it has no readable Manifest.json{hint_of_members(package)}"
        ) from None
    except (ValueError, RecursionError):
        raise ProgramError(
            f"{package}: Manifest.json {stand_in(path) or 'is not JSON: the package is damaged'}"
        ) from None
    if not isinstance(manifest, dict):
        raise ProgramError(f"{package}: damaged package: Manifest.json is not an object")
    return manifest


def inside(path: Path, root: Path, package: Path) -> Path:
    """Return ``path`` if it lies below ``root``, its links followed.

    Raises:
        ProgramError: it does not.
    """
    try:
        allowed = lies_inside(path, root)
    except (OSError, RuntimeError, ValueError):
        raise ProgramError(f"{package}: cannot resolve '{printable(path.name)}'") from None
    if not allowed:
        raise ProgramError(
            f"{package}: refers to a file outside of itself: '{printable(str(path))}'; copy the package with its links"
            " resolved (cp -rL)"
        )
    return path
