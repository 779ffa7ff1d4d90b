"""Values of options as Python callers pass them: made Python's own, or refused by the field's name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from numbers import Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from edgesam_export.errors import UsageError

__all__ = ["make_plain"]


def make_plain(options: Any) -> None:
    """Replace flags, numbers and lists in the fields of a frozen dataclass by Python's own bool, int, float and tuple.

    NumPy's numbers and lists mean what they say, and so do 8.0 for an integer, 0 and 1 for a flag, None for a flag that
    is not set and for an empty list. A text is neither: "no" would set a flag, and a name be taken apart into letters.
    Fields of other types are left as they are.

    Raises:
        UsageError: a value of another type, by the name of its field.
    """
    hints = get_type_hints(type(options))
    for field in fields(options):
        value = getattr(options, field.name)
        object.__setattr__(options, field.name, plain(field.name, value, hints[field.name]))


def plain(name: str, value: Any, hint: Any) -> Any:
    """Return the value of one field, see ``make_plain``."""
    kinds = (hint,) if get_origin(hint) is tuple else get_args(hint) or (hint,)
    if value is None and type(None) in kinds:
        return None
    listed = next((kind for kind in kinds if get_origin(kind) is tuple), None)
    if listed is not None:
        return tuple(plain(name, entry, get_args(listed)[0]) for entry in entries(name, value))
    if bool in kinds:
        return flag(name, value)
    if isinstance(value, str) and any(get_origin(kind) is Literal for kind in kinds):
        return value  # which words there are is checked elsewhere
    if int in kinds or float in kinds:
        return number(name, value, int if int in kinds else float)
    return value


def entries(name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise UsageError(f"{name} is {value!r:.60}; give a tuple, of one value ({value!r:.60},)")
    return list(value)


def flag(name: str, value: Any) -> bool:
    if isinstance(value, str | bytes) or value not in (None, False, True):
        raise UsageError(f"{name} is {value!r:.60}; give True or False")
    return bool(value)


def number(name: str, value: Any, kind: type[int] | type[float]) -> int | float:
    numeric = isinstance(value, Real) and not isinstance(value, bool)
    if not numeric or value != value or (kind is int and value != value // 1):
        raise UsageError(f"{name} is {value!r:.60}; give {'an integer' if kind is int else 'a number'}")
    return kind(value)
