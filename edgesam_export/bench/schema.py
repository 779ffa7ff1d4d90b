"""Checking benchmark documents against their JSON schemas, on writing and on reading.

The schemas are data of this package, one file for each kind and version. Readers tolerate unknown fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from edgesam_export.errors import SchemaError, first_line

__all__ = [
    "KINDS",
    "PROTOCOL_VERSION",
    "SCHEMA_VERSION",
    "check_document",
    "empty_result",
    "parse_document",
    "read_document",
]

SCHEMA_VERSION = 1
PROTOCOL_VERSION = 1
"""Version of what host and app exchange: request and status."""
KINDS = ("request", "status", "result", "record")
SCHEMAS = Path(__file__).with_name("schemas")
VERSIONS = {
    "request": ("protocol_version", PROTOCOL_VERSION),
    "status": ("protocol_version", PROTOCOL_VERSION),
    "result": ("schema_version", SCHEMA_VERSION),
    "record": ("schema_version", SCHEMA_VERSION),
}
"""Field of a document's version, and the version read here, by kind."""
MAX_BYTES = {"request": 4 << 20, "status": 1 << 20, "result": 256 << 20, "record": 256 << 20}
"""A status of megabytes or a result of more than all samples of a day is no such document."""
SHOWN_CHARACTERS = 60


@cache
def validator_of(kind: str) -> Any:
    """Return the validator of one kind of document, built once."""
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    schemas = {
        f"{name}_v{SCHEMA_VERSION}.schema.json": json.loads(
            (SCHEMAS / f"{name}_v{SCHEMA_VERSION}.schema.json").read_text(encoding="utf-8")
        )
        for name in KINDS
    }
    empty: Any = Registry()  # attrs hides the types of its constructor
    registry = empty.with_resources((name, Resource.from_contents(schema)) for name, schema in schemas.items())
    return Draft202012Validator(schemas[f"{kind}_v{SCHEMA_VERSION}.schema.json"], registry=registry)


def check_document(document: Any, kind: str, where: str) -> None:
    """Raise SchemaError, one line, unless the document has the form of its kind."""
    field, expected = VERSIONS[kind]
    version = document.get(field) if isinstance(document, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and version != expected:
        raise SchemaError(
            f"{where}: $.{field}: found {version}, expected {expected}; it was written by another version"
        )
    try:
        problem = next(validator_of(kind).iter_errors(document), None)
    except RecursionError:
        raise SchemaError(f"{where}: nested too deeply for a {kind}") from None
    if problem is not None:
        raise SchemaError(f"{where}: {problem.json_path}: {finding(problem)}")


def finding(error: Any) -> str:
    """Return the value found and the value expected, in words."""
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"found no '{missing}', expected {', '.join(error.validator_value)}"
    expected: dict[str, Callable[[Any], str]] = {
        "const": lambda value: json.dumps(value),
        "enum": lambda value: "one of " + ", ".join(json.dumps(item) for item in value),
        "type": lambda value: " or ".join([value] if isinstance(value, str) else value),
        "pattern": lambda value: f"text like {value}",
        "minimum": lambda value: f"at least {value}",
        "exclusiveMinimum": lambda value: f"more than {value}",
        "maximum": lambda value: f"at most {value}",
    }
    rule, value = str(error.validator), error.validator_value
    text = expected[rule](value) if rule in expected else f"{rule} {json.dumps(value)}"
    return f"found {shown(error.instance)}, expected {text}"


def shown(value: Any) -> str:
    """Return a value in a few characters."""
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def parse_document(text: str, where: str) -> Any:
    """Return JSON data; NaN and numbers too large to be finite are refused.

    Raises:
        SchemaError: not JSON, or a number that JSON does not have.
    """

    def refuse(word: str) -> float:
        raise SchemaError(f"{where}: found {word}, expected finite numbers only")

    def finite(word: str) -> float:
        value = float(word)
        return value if abs(value) != float("inf") else refuse(word)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: found no JSON document ({first_line(error)}); it may be cut off") from None


def read_document(path: Path, kind: str) -> dict[str, Any]:
    """Return a checked document from a file.

    Raises:
        SchemaError: missing, too large, not JSON, or not of this kind.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES[kind]:
            raise SchemaError(f"{path}: found {size} bytes, expected at most {MAX_BYTES[kind]}; not a {kind}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SchemaError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise SchemaError(f"{path}: found bytes that are not UTF-8, expected a JSON document") from None
    document: dict[str, Any] = parse_document(text, str(path))
    check_document(document, kind, str(path))
    return document


def empty_result(run_id: str, nonce: str) -> dict[str, Any]:
    """Return the fields that every result begins with."""
    return {"schema_version": SCHEMA_VERSION, "protocol_version": PROTOCOL_VERSION, "run_id": run_id, "nonce": nonce}
