"""Objects of a pickle that are none of ours: kept with their parts, never made real."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from edgesam_export.errors import CheckpointError

__all__ = ["Inert", "InertTypes", "is_module", "may_run_code", "parts_of"]

MAX_TYPES = 4096
"""Different names of one pickle; a training state has a few dozen."""
HARMFUL_MODULES = {
    *("ctypes", "importlib", "nt", "os", "pip", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys"),
}
HARMFUL_BUILTINS = {
    *("__import__", "apply", "breakpoint", "compile", "eval", "exec", "execfile", "globals", "input", "open", "vars"),
}


def may_run_code(module: str, name: str) -> bool:
    """Return whether a name could only harm if it were called.

    Nothing in a pickle is called here. But a file that names these means harm wherever else it is loaded, so it is
    reported, not passed over.
    """
    top = module.partition(".")[0]
    builtin = top in ("builtins", "__builtin__") and name.partition(".")[0] in HARMFUL_BUILTINS
    return builtin or top in HARMFUL_MODULES


class Inert:
    """Stands for an object; whatever the pickle does to it is stored."""

    __slots__ = ("arguments", "entries", "items", "state")

    name: ClassVar[str] = "object"
    """Module and class of what it stands for."""
    arguments: tuple[Any, ...]
    state: Any
    entries: dict[Any, Any] | None
    items: list[Any] | None

    def __new__(cls, *arguments: Any, **_: Any) -> Inert:
        made = super().__new__(cls)
        made.arguments = arguments
        made.state = None
        made.entries = None
        made.items = None
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take whatever the real class would."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *arguments: Any, **_: Any) -> Inert:
        return Inert(*arguments)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries = self.entries or {}
        self.entries[key] = value

    def append(self, value: Any) -> None:
        self.items = self.items or []
        self.items.append(value)

    add = append


class InertTypes:
    """The types of one pickle by name, made when first named: unpickling by ``__new__`` asks for real types."""

    def __init__(self) -> None:
        self.types: dict[str, type[Inert]] = {}

    def named(self, full: str) -> type[Inert]:
        """Return the inert type of a name.

        Raises:
            CheckpointError: too many different names.
        """
        if full not in self.types:
            if len(self.types) == MAX_TYPES:
                raise CheckpointError(f"it names more than {MAX_TYPES} classes; it is no checkpoint")
            self.types[full] = type(full, (Inert,), {"__slots__": (), "name": full})
        return self.types[full]


def attributes(value: Inert) -> dict[Any, Any]:
    """Return the attributes that the pickle set."""
    states = value.state if isinstance(value.state, tuple) else (value.state,)
    return {key: item for state in states if isinstance(state, dict) for key, item in dict.items(state)}


def is_module(value: Any) -> bool:
    """Return whether it stands for a ``torch.nn.Module``."""
    return isinstance(value, Inert) and {"_parameters", "_modules"} <= attributes(value).keys()


def parts_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield key and value of what a container, or an inert object, holds; of a module what its state dict would.

    A pickle may give an ordered dictionary attributes that hide its methods, so ``dict``'s own are called.
    """
    if isinstance(value, dict):
        yield from dict.items(value)
    elif isinstance(value, list | tuple | set | frozenset):
        yield from enumerate(value)
    elif is_module(value):
        held = attributes(value)
        hidden = held.get("_non_persistent_buffers_set")
        hidden = hidden.arguments[0] if isinstance(hidden, Inert) and hidden.arguments else hidden
        for group in ("_parameters", "_buffers", "_modules"):
            rows = held.get(group)
            for key, item in dict.items(rows) if isinstance(rows, dict) else ():
                if group != "_buffers" or not isinstance(hidden, list | set | tuple) or key not in hidden:
                    yield key, item
    elif isinstance(value, Inert):
        yield from attributes(value).items()
        yield from (value.entries or {}).items()
        yield from enumerate(value.items or ())
        yield from enumerate(value.arguments)
