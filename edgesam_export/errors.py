"""Every error this package raises on purpose, and the one way in which it warns.

    EdgeSAMExportError            exit code 2 unless a subclass says otherwise
    ├── UsageError                a value the caller gave cannot be used (option, prompt, path, image)
    ├── CheckpointError           a checkpoint file cannot be read or obtained, or is another model's
    ├── ConversionError           an export could not be made
    ├── ProgramError              a Core ML package cannot be loaded or executed
    │   └── UnsupportedOpError    the executor has no such operation
    ├── RunnerUnavailableError    this machine cannot do that (exit code 3)
    ├── SchemaError               a report or record file does not match a schema that this version reads
    └── DeviceFailure             a benchmark on a device failed (exit code 6)
        ├── DeviceSetupFailure    this machine cannot drive a device (exit code 3)
        ├── DeviceNotReady        no such device, or it does not accept work now (exit code 4)
        ├── BuildFailure          the app could not be built, signed or installed (exit code 5)
        └── InvalidResult         a case is not a valid measurement, under --strict (exit code 7)

A message is one line: what, where, which values, what to do.
A check that fails (parity out of tolerance, an ANE finding) is a result, never an exception.

A value that can be used, but perhaps not as the caller means it, is a warning: ``warn`` issues it as a Python warning
and hands it to every ``collected_warnings`` around the call. The command line prints each once, as a line
``warning: ...`` on stderr, and lists them under ``warnings`` in its JSON.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

__all__ = [
    "BuildFailure",
    "CheckpointError",
    "ConversionError",
    "DeviceFailure",
    "DeviceNotReady",
    "DeviceSetupFailure",
    "EdgeSAMExportError",
    "EdgeSAMExportWarning",
    "InvalidResult",
    "ProgramError",
    "RunnerUnavailableError",
    "SchemaError",
    "UnsupportedOpError",
    "UsageError",
    "collected_warnings",
    "current_warnings",
    "first_line",
    "printable",
    "warn",
]

COLLECTORS: ContextVar[tuple[list[str], ...]] = ContextVar("COLLECTORS", default=())
"""Lists of the ``collected_warnings`` around the current call, the outermost first."""


class EdgeSAMExportError(Exception):
    """Base of all errors that a user can cause; ``exit_code`` is that of the command line."""

    exit_code = 2


class UsageError(EdgeSAMExportError):
    """A value that the caller gave cannot be used."""


class CheckpointError(EdgeSAMExportError):
    """A checkpoint cannot be read, does not fit the model, or cannot be obtained."""


class ConversionError(EdgeSAMExportError):
    """An export could not be made."""


class ProgramError(EdgeSAMExportError):
    """A Core ML package cannot be loaded or executed."""


class UnsupportedOpError(ProgramError):
    """The executor has no function for an operation of the program."""


class RunnerUnavailableError(EdgeSAMExportError):
    """This machine cannot execute the request."""

    exit_code = 3


class SchemaError(EdgeSAMExportError):
    """A stored report or record does not match a schema that this version reads."""


class DeviceFailure(EdgeSAMExportError):
    """A benchmark on a device failed.

    ``kind`` names the row of the failure table, ``chain`` holds the tool's nested errors as (domain, code, text), and
    ``record`` is the file that holds the measurements made before the failure, if any.
    """

    exit_code = 6

    def __init__(
        self,
        message: str,
        *,
        kind: str = "unclassified",
        chain: tuple[tuple[str, int | None, str], ...] = (),
        record: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.chain = chain
        self.record = record


class DeviceSetupFailure(DeviceFailure):
    """This machine cannot drive a device."""

    exit_code = 3


class DeviceNotReady(DeviceFailure):
    """There is no such device, or it does not accept work now."""

    exit_code = 4


class BuildFailure(DeviceFailure):
    """The benchmark app could not be built, signed or installed."""

    exit_code = 5


class InvalidResult(DeviceFailure):
    """A case is not a valid measurement, and the caller asked for strictness."""

    exit_code = 7


def printable(text: str, limit: int = 200) -> str:
    """Return text fit for one line of a message: no control characters, no more than ``limit`` characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type when it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class EdgeSAMExportWarning(UserWarning):
    """A value is used in a way that the caller may not expect; base of all warnings of this package."""


def warn(message: str, category: type[EdgeSAMExportWarning] = EdgeSAMExportWarning, *, stacklevel: int = 3) -> None:
    """Issue a warning of one line: what is assumed, for which value, what to do. Collectors take each text once."""
    message = " ".join(message.split())
    for texts in COLLECTORS.get():
        if message not in texts:
            texts.append(message)
    warnings.warn(message, category, stacklevel=stacklevel)


@contextmanager
def collected_warnings(*, silent: bool = False, apart: bool = False) -> Iterator[list[str]]:
    """Yield a list that fills with the texts of the warnings issued inside; ``silent`` keeps Python from showing them.

    Collectors around this one get them too, so that a report and the command that makes it list the same ones; unless
    ``apart``, where whoever collects says it in other words.
    """
    texts: list[str] = []
    token = COLLECTORS.set((texts,) if apart else (*COLLECTORS.get(), texts))
    try:
        with warnings.catch_warnings() if silent else nullcontext():
            if silent:
                warnings.simplefilter("ignore", EdgeSAMExportWarning)
            yield texts
    finally:
        COLLECTORS.reset(token)


def current_warnings() -> list[str]:
    """Return the texts that the outermost collector has so far; empty outside of one."""
    return list(next(iter(COLLECTORS.get()), ()))
