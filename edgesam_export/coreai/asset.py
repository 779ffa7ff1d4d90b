"""The folder of a Core AI asset: its files, their digest and metadata. None of Apple's code is needed for these.

An ``.aimodel`` holds ``main.mlirb`` (the program with its weights, MLIR bytecode), ``main.hash`` (its SHA-256) and
``metadata.json``. Apple's reader ends the process on most damaged programs and never compares the digest, so it is
compared here before anything else reads the program.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edgesam_export.errors import ProgramError
from edgesam_export.files import feed, lies_inside

__all__ = ["SUFFIX", "find_bytecode", "read_asset_metadata"]

SUFFIX = ".aimodel"
BYTECODE, DIGEST, METADATA = "main.mlirb", "main.hash", "metadata.json"
MAGIC = b"ML\xefR"
ASSET_VERSION = "2."
MAX_METADATA_BYTES = 16 << 20
"""A contract takes some 20 kB; this is what is read of a file that claims to be more."""


def find_bytecode(path: Path) -> Path:
    """Return the program file of an asset whose digest fits.

    Raises:
        ProgramError: not an asset, a file of it is missing or links elsewhere, or the program is not the one stored.
    """
    bytecode, stored = member(path, BYTECODE), member(path, DIGEST)
    digest = hashlib.sha256()
    try:
        with bytecode.open("rb") as stream:
            magic = stream.read(len(MAGIC))
        feed(digest, bytecode)
        expected = stored.read_bytes()
    except OSError as error:
        raise ProgramError(f"{path}: cannot read the asset ({error.strerror or error})") from None
    if digest.digest() != expected:
        raise ProgramError(f"{path}: damaged asset: {BYTECODE} does not have the digest in {DIGEST}; export it again")
    if magic != MAGIC:
        raise ProgramError(f"{path}: damaged asset: {BYTECODE} is no MLIR bytecode; export it again")
    return bytecode


def member(path: Path, name: str) -> Path:
    """Return a file of the asset.

    Raises:
        ProgramError: there is no such asset or file, or it lies elsewhere.
    """
    if not path.is_dir():
        kind = "a file; an asset is a folder" if path.exists() else "not there"
        raise ProgramError(f"{path}: this is {kind}; expected a {SUFFIX} folder")
    file = path / name
    try:
        inside = lies_inside(file, path)
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        raise ProgramError(f"{path}: {name} is a link out of the asset; copy it with its links resolved (cp -rL)")
    if not file.is_file():
        raise ProgramError(f"{path}: damaged asset: it has no {name}; export it again")
    return file


def read_asset_metadata(path: Path) -> dict[str, str]:
    """Return an asset's metadata: what its creator stored, nested values as JSON text, and ``author`` and the like.

    Raises:
        ProgramError: not an asset, no readable metadata, or of a version that is not known.
    """
    file = member(path, METADATA)
    try:
        with file.open("rb") as stream:
            document = json.loads(stream.read(MAX_METADATA_BYTES))
    except OSError as error:
        raise ProgramError(f"{path}: cannot read {METADATA} ({error.strerror or error})") from None
    except (ValueError, RecursionError):
        raise ProgramError(f"{path}: damaged asset: {METADATA} is not JSON") from None
    if not isinstance(document, dict):
        raise ProgramError(f"{path}: damaged asset: {METADATA} is not an object")
    version = document.get("assetVersion")
    if not str(version).startswith(ASSET_VERSION):
        raise ProgramError(
            f"{path}: asset version {str(version)[:20]} is not known; this version reads {ASSET_VERSION}x"
        )
    stated = {key: document[key] for key in ("author", "license", "description") if key in document}
    own = document.get("creatorDefinedMetadata")
    return {key: as_text(value) for key, value in {**stated, **(own if isinstance(own, dict) else {})}.items()}


def as_text(value: Any) -> str:
    """Return a metadata value as text; anything but text as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
