"""The folder of a Core AI asset: its program file, found and compared with its digest without any of Apple's code.

An ``.aimodel`` holds ``main.mlirb`` (the program with its weights, MLIR bytecode), ``main.hash`` (its SHA-256) and
``metadata.json``. Apple's reader ends the process on most damaged programs and never compares the digest, so it is
compared here before anything else reads the program.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgesam_export.errors import ProgramError
from edgesam_export.files import feed, lies_inside

__all__ = ["SUFFIX", "find_bytecode"]

SUFFIX = ".aimodel"
BYTECODE, DIGEST = "main.mlirb", "main.hash"
MAGIC = b"ML\xefR"


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
