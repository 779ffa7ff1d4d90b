"""An evaluation spread over processes and machines, and gone on with after it was interrupted.

Every process does every so many-th image. What it found is kept, image by image, in a file of its own; whoever goes on
reads all of them, however many processes there were. Results are put together in the order of the data, so that the
table is that of one process.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgesam_export.distill.processes import Processes
from edgesam_export.distill.results import ImageResult
from edgesam_export.errors import UsageError
from edgesam_export.spec import Progress

__all__ = ["Journal", "Share", "everyones"]


class Journal:
    """The folder of an evaluation that is not finished: for each process, what it is of and a line for each image."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, rank: int = 0, resume: bool = False) -> None:
        self.folder = folder
        self.path = folder / f"process_{rank:04d}.ndjson"
        self.identity = json.loads(json.dumps(identity))
        self.resume = resume

    def read(self) -> list[tuple[str, ImageResult]]:
        """Return what is finished: the subject's label and the result of each image.

        Raises:
            UsageError: something is and it was not asked to go on, or it is of another evaluation.
        """
        found = []
        for path in sorted(self.folder.glob("process_*.ndjson")):
            if not self.resume:
                raise UsageError(
                    f"{self.folder} holds an interrupted evaluation; go on with --resume, or delete the folder"
                )
            first, *rows = whole_lines(path) or [None]
            if first != self.identity:
                raise UsageError(
                    f"{self.folder} holds another evaluation ({self.difference(first)}); delete it, or choose another"
                    " --output"
                )
            found += [(row["subject"], ImageResult.of(row)) for row in rows]
        return found

    def difference(self, other: Any) -> str:
        """Return the first thing that another evaluation does otherwise."""
        if not isinstance(other, dict):
            return "its first line is damaged"
        key = next(key for key in {**self.identity, **other} if self.identity.get(key) != other.get(key))
        return f"{key} {other.get(key)}, not {self.identity.get(key)}"

    def add(self, label: str, result: ImageResult) -> None:
        """Keep the result of an image.

        Raises:
            UsageError: the folder cannot be written to.
        """
        row = json.dumps({"subject": label, **result.document()}) + "\n"
        try:
            if not self.path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                row = json.dumps(self.identity) + "\n" + row
            with self.path.open("a", encoding="utf-8") as file:
                file.write(row)
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror or error}; choose another --output") from None

    def remove(self) -> None:
        """Delete the folder; the evaluation is finished."""
        for path in self.folder.glob("process_*.ndjson"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def whole_lines(path: Path) -> list[Any]:
    """Return the JSON of each line of a journal, after what an interrupted write left at its end was removed."""
    contents = path.read_bytes()
    whole = contents[: contents.rfind(b"\n") + 1]
    if len(whole) < len(contents):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        raise UsageError(f"{path} is damaged; delete it to evaluate its images again") from None


class Share:
    """The images of one subject that this process does, and the results of all."""

    def __init__(
        self,
        where: Processes | None = None,
        *,
        label: str = "",
        journal: Journal | None = None,
        finished: Iterable[ImageResult] = (),
    ) -> None:
        self.where = where
        self.label = label
        self.journal = journal
        self.results = {result.index: result for result in finished}
        """By index; those of other processes once they are gathered."""

    def indexes(self, total: int, progress: Progress | None = None) -> Iterator[int]:
        """Yield the images that are left for this process to do."""
        left = [index for index in range(total) if index not in self.results]
        mine = left if self.where is None else left[self.where.rank :: self.where.world]
        for number, index in enumerate(mine, start=1):
            if progress is not None:
                progress(number - 1, len(mine), f"evaluating {number} of {len(mine)}")
            yield index

    def add(self, result: ImageResult) -> None:
        """Keep the result of an image."""
        self.results[result.index] = result
        if self.journal is not None:
            self.journal.add(self.label, result)

    def gathered(self) -> list[ImageResult]:
        """Return the results of all processes, in the order of the data."""
        for results in everyones(self.where, list(self.results.values())):
            self.results.update({result.index: result for result in results})
        return [self.results[index] for index in sorted(self.results)]


def everyones(where: Processes | None, value: Any) -> list[Any]:
    """Return this value of every process, when each has come here."""
    if where is None or where.world == 1:
        return [value]
    import torch

    values: list[Any] = [None] * where.world
    torch.distributed.all_gather_object(values, value)
    return values
