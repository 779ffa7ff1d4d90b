"""What a search has found so far, so that the same command goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgesam_export.errors import UsageError

__all__ = ["State"]


class State:
    """A file of lines: what the search is of, then the name and the result of every finished step."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Raises UsageError for a file of another search, or one that cannot be read."""
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.found: dict[str, Any] = {}
        if path.exists():
            self.read()

    def read(self) -> None:
        """Take over finished steps; what an interrupted write left at the end is dropped."""
        try:
            contents = self.path.read_bytes()
            whole = contents[: contents.rfind(b"\n") + 1]
            if len(whole) < len(contents):
                with self.path.open("r+b") as file:
                    file.truncate(len(whole))
            first, *rows = [json.loads(line) for line in whole.splitlines()] or [self.identity]
            if not isinstance(first, dict):
                raise ValueError("its first line is no object")
            self.found = {row["step"]: row["result"] for row in rows}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"'{self.path}' is damaged ({error}); delete it to search again") from None
        if first != self.identity:
            name = next(key for key in {**self.identity, **first} if self.identity.get(key) != first.get(key))
            raise UsageError(
                f"'{self.path}' is of another search ({name} {str(first.get(name))[:60]}, now"
                f" {str(self.identity.get(name))[:60]}); delete it, or choose another --output"
            )

    def step(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the result of a step, JSON data: what was kept, or computed and kept now.

        Raises:
            UsageError: the file cannot be written.
        """
        if name not in self.found:
            row = json.dumps({"step": name, "result": compute()}, allow_nan=False)
            self.append(row)
            self.found[name] = json.loads(row)["result"]
        return self.found[name]

    def append(self, row: str) -> None:
        """Write a line; the first one of a file follows what it is of."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                if not file.tell():
                    file.write(json.dumps(self.identity) + "\n")
                file.write(row + "\n")
        except OSError as error:
            raise UsageError(f"cannot write '{self.path}': {error.strerror}; choose another --output") from None

    def remove(self) -> None:
        """Delete the file: the search is finished."""
        self.path.unlink(missing_ok=True)
