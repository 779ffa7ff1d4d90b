"""Every error this package raises on purpose.

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
"""

from __future__ import annotations

__all__ = [
    "BuildFailure",
    "CheckpointError",
    "ConversionError",
    "DeviceFailure",
    "DeviceNotReady",
    "DeviceSetupFailure",
    "EdgeSAMExportError",
    "InvalidResult",
    "ProgramError",
    "RunnerUnavailableError",
    "SchemaError",
    "UnsupportedOpError",
    "UsageError",
    "first_line",
]


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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type when it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
