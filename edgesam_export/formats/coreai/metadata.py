"""``metadata.json`` of an asset: plain JSON, read and written without Apple's code.

Apple's reader refuses ``null`` anywhere in it, and its writer puts keys in random order, so the contract is written
without the fields that are null, whose paths stand beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgesam_export.errors import ProgramError, UsageError
from edgesam_export.export.contract import CONTRACT_KEY, summary
from edgesam_export.files import read_json, write_json

__all__ = ["read_metadata", "write_metadata"]

NAME = "metadata.json"
OURS = "creatorDefinedMetadata"
NULLS_KEY = "edgesam_export.nulls"
"""Paths of the contract's fields that are null, each a list of keys."""
CREATED = "19800101T000000Z"
"""Creation date of every asset: with the real one, no two exports would be equal."""


def write_metadata(asset: Path, contract: dict[str, Any]) -> None:
    """Write description, licence and contract into a saved asset."""
    written = read_json(asset / NAME)
    kept, nulls = without_nulls(contract)
    written |= {
        "author": f"edgesam-export {contract['versions']['edgesam-export']}",
        "creationDate": CREATED,
        "description": summary(contract),
        "license": contract["weights"]["licence"],
        OURS: {CONTRACT_KEY: kept, NULLS_KEY: nulls},
    }
    write_json(asset / NAME, written)


def read_metadata(path: Path) -> dict[str, str]:
    """Return what an asset's creator wrote into its metadata; values that are no texts as JSON.

    Raises:
        ProgramError: the folder has no such metadata.
    """
    try:
        document = read_json(path / NAME)
    except UsageError as error:
        raise ProgramError(f"cannot read '{path}' as a Core AI asset: {error}") from None
    values = document.get(OURS, {}) if isinstance(document, dict) else None
    if not isinstance(values, dict):
        raise ProgramError(f"'{path}' is no Core AI asset: {NAME} is not an object with an object '{OURS}'")
    if CONTRACT_KEY in values:
        put_nulls(values[CONTRACT_KEY], values.pop(NULLS_KEY, []))
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def without_nulls(fields: dict[str, Any]) -> tuple[dict[str, Any], list[list[str]]]:
    """Return fields without those that are null, at any depth, and the paths of these."""
    kept, nulls = {}, []
    for key, value in fields.items():
        if value is None:
            nulls.append([key])
        elif isinstance(value, dict):
            kept[key], inner = without_nulls(value)
            nulls.extend([key, *path] for path in inner)
        else:
            kept[key] = value
    return kept, nulls


def put_nulls(fields: Any, paths: Any) -> None:
    """Add null fields at ``paths``, as far as these are paths of objects."""
    for path in paths if isinstance(paths, list) else []:
        target = fields
        for key in path[:-1] if isinstance(path, list) else []:
            target = target.get(key) if isinstance(target, dict) and isinstance(key, str) else None
        if isinstance(target, dict) and path and isinstance(path[-1], str):
            target.setdefault(path[-1])
