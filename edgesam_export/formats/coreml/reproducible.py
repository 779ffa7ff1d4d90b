"""The same export as the same bytes: a package's digest names what it computes, in records, caches and commits.

coremltools names the items of a package at random, writes the day of the conversion, and the tables of a message in
whatever order they have in memory.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

from edgesam_export.mil.package import find_files
from edgesam_export.mil.program import read_model

__all__ = ["make_reproducible"]

DATE = "com.github.apple.coremltools.conversion_date"


def make_reproducible(package: Path) -> None:
    """Write a saved package's model and manifest anew, without what differs from one export to the next."""
    files = find_files(package)
    model = read_model(files)
    model.description.metadata.userDefined.pop(DATE, None)
    content = model.SerializeToString(deterministic=True)
    files.model.write_bytes(content)
    path = package / "Manifest.json"
    manifest = json.loads(path.read_bytes())
    entries, digest = manifest["itemInfoEntries"], hashlib.sha256(content).hexdigest()
    # UUIDs as Core ML's own are, of the program and the item
    names = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, f"{digest}/{entries[name]['path']}")).upper() for name in entries}
    manifest["itemInfoEntries"] = {names[name]: item for name, item in entries.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    path.write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8")
