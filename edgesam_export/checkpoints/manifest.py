"""The manifest of known checkpoint files."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from edgesam_export.errors import SchemaError
from edgesam_export.resources import manifest_path, read_toml

__all__ = ["CheckpointFile", "checkpoint_for", "manifest"]

CHECKPOINT = "checkpoint"
"""Kind of a file of weights; any other kind is the name of an export format, of a file from another exporter."""


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """One file of the manifest; ``models/README.md`` explains the fields."""

    name: str
    model: str
    family: str
    kind: str
    home: str
    licence: str
    evidence: str
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    notice: str | None = None
    note: str | None = None
    package: str | None = None
    """Distribution of the Python package index that holds the file; it is read where that is installed."""
    bundled: bool = False
    """The file is in ``models/`` beside the manifest and comes with the package; there is nothing to download."""

    def __post_init__(self) -> None:
        if not self.name or self.name != Path(self.name).name or self.name.startswith("."):
            raise SchemaError(f"manifest: '{self.name}' is not a plain file name")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", str(self.kind)):
            raise SchemaError(f"manifest: {self.name} has kind '{self.kind}'; write {CHECKPOINT} or a format's name")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise SchemaError(f"manifest: sha256 of {self.name} is not 64 hexadecimal digits")
        if not isinstance(self.bundled, bool):
            raise SchemaError(f"manifest: bundled of {self.name} is '{self.bundled}'; write true or leave it out")
        if self.package is not None and (self.url is not None or self.sha256 is None or self.bundled):
            raise SchemaError(f"manifest: {self.name} is part of a package; give its sha256, no url, and not bundled")
        if self.bundled and (self.url is not None or self.bytes is None or self.sha256 is None):
            raise SchemaError(f"manifest: {self.name} is bundled; give its bytes and sha256, and no url")


@lru_cache(maxsize=1)
def manifest() -> tuple[CheckpointFile, ...]:
    """Return every known file, in the order of the manifest.

    Raises:
        SchemaError: the manifest is not valid.
    """
    path = manifest_path()
    try:
        tables = read_toml(path)["file"]
    except (SchemaError, KeyError) as error:
        raise SchemaError(f"{path} is not a manifest: {error}") from error
    known = {field.name for field in fields(CheckpointFile)}
    rows = []
    for table in tables:
        # A newer manifest may have more keys: readers ignore what they do not know.
        try:
            rows.append(CheckpointFile(**{key: value for key, value in table.items() if key in known}))
        except TypeError as error:
            raise SchemaError(f"{path}: entry '{table.get('name')}' is incomplete: {error}") from error
    return tuple(rows)


def checkpoint_for(model: str) -> CheckpointFile | None:
    """Return the PyTorch checkpoint of a model, None when no released one is known."""
    return next((file for file in manifest() if file.model == model and file.kind == CHECKPOINT), None)
