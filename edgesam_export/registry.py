"""An open set of named things: a decorator adds, a duplicate raises, iteration is sorted."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from edgesam_export.errors import UsageError

__all__ = ["Registry", "import_submodules"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Names mapped to values; ``kind`` is the noun that error messages use."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that stores its argument under ``name``.

        Raises:
            ValueError: the name is taken.
        """

        def store(value: T) -> T:
            if name in self.entries:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self.entries[name] = value
            return value

        return store

    def __getitem__(self, name: str) -> T:
        try:
            return self.entries[name]
        except KeyError:
            known = ", ".join(sorted(self.entries))
            near = difflib.get_close_matches(name, self.entries, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"unknown {self.kind} '{name}'; choose one of: {known}{meant}") from None

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.entries))

    def __len__(self) -> int:
        return len(self.entries)


def import_submodules(package: str) -> None:
    """Import every module of ``package``, so that dropping a file into the folder is enough to register it.

    ``__main__`` is left out: importing it would run the program.
    """
    path = importlib.import_module(package).__path__
    for module in sorted(item.name for item in pkgutil.iter_modules(path)):
        if module != "__main__":
            importlib.import_module(f"{package}.{module}")
