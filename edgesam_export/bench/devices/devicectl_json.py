"""The JSON files that devicectl writes: every field is optional and may have any type."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgesam_export.bench.devices.failures import ErrorLink

__all__ = ["Envelope", "integer_at", "list_at", "read_envelope", "string_at", "value_at", "word_at"]

KNOWN_VERSIONS = frozenset({2, 3, 4, 5})
MAX_BYTES = 64 << 20
MAX_DEPTH = 16


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One answer of the tool. ``problem`` is the reason why there is none, for a message."""

    problem: str | None = None
    outcome: str | None = None
    result: dict[str, Any] | None = None
    chain: tuple[ErrorLink, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """True when the tool reports success."""
        return self.problem is None and not self.chain and self.outcome != "failed"


def read_envelope(path: Path) -> Envelope:
    """Return the tool's answer; one with a ``problem`` when the file is missing or damaged."""
    if not path.is_file():
        return Envelope(problem="it wrote no JSON file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        return Envelope(problem=f"its JSON file has {size} bytes, more than the {MAX_BYTES} allowed")
    content = path.read_bytes()
    if not content.strip():
        return Envelope(problem="its JSON file is empty")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return Envelope(problem="its JSON file is not JSON")
    if not isinstance(document, dict):
        return Envelope(problem=f"its JSON file holds a {type(document).__name__} instead of an object")
    version = value_at(document, "info", "jsonVersion")
    if version is not None and not (isinstance(version, int) and version in KNOWN_VERSIONS):
        warnings.warn(f"devicectl wrote JSON of version {version}, which is not known here", stacklevel=2)
    result, error = document.get("result"), document.get("error")
    return Envelope(
        outcome=string_at(document, "info", "outcome"),
        result=result if isinstance(result, dict) else None,
        chain=tuple(error_links(error)) if isinstance(error, dict) else (),
    )


def error_links(error: dict[str, Any], depth: int = 0) -> Iterator[ErrorLink]:
    """Yield an error and all that it wraps, outermost first."""
    if depth >= MAX_DEPTH:
        return
    details = error.get("userInfo")
    values = list(details.values()) if isinstance(details, dict) else []
    words = [value["string"] for value in values if isinstance(value, dict) and isinstance(value.get("string"), str)]
    yield string_at(error, "domain") or "unknown", integer_at(error, "code"), "; ".join(words)
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            nested = item.get("error") if isinstance(item, dict) else None
            if isinstance(nested, dict):
                yield from error_links(nested, depth + 1)


def value_at(document: Any, *path: str) -> Any:
    """Return the value at a path of keys, None where the path ends early."""
    for key in path:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


def string_at(document: Any, *path: str) -> str | None:
    """Return the text at a path of keys; None for an empty one and for any other type."""
    value = value_at(document, *path)
    return value if isinstance(value, str) and value else None


def word_at(document: Any, *path: str) -> str | None:
    """Return a state at a path of keys: the text itself, or the only key of an object like ``{"enabled": {...}}``."""
    value = value_at(document, *path)
    if isinstance(value, dict) and len(value) == 1:
        value = next(iter(value))
    return value if isinstance(value, str) and value else None


def integer_at(document: Any, *path: str) -> int | None:
    """Return the integer at a path of keys; None for any other type."""
    value = value_at(document, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def list_at(document: Any, *path: str) -> list[Any]:
    """Return the list at a path of keys; an empty one for any other type."""
    value = value_at(document, *path)
    return value if isinstance(value, list) else []
