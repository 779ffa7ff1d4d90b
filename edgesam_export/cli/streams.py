"""What a shell or a CI hands a program: standard streams whose reader may leave, or none, and signals that end it."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TextIO

from edgesam_export.errors import UsageError

__all__ = ["Ended", "ended_by_signals", "standard_streams"]

ENDING = ("SIGTERM", "SIGHUP")
"""A cancelled job, ``docker stop``, ``timeout``; a terminal that was closed.  SIGINT is Python's KeyboardInterrupt."""


class Ended(KeyboardInterrupt):
    """A signal that ends the program; like Ctrl-C it unwinds, so that nothing half-written stays."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.name = signal.Signals(number).name


class Descriptor(io.FileIO):
    """A standard stream: what nobody reads any more is dropped, and the command goes on to its own exit code.

    ``parity build | head -1`` under ``set -o pipefail`` must fail when a gate does.
    """

    lost = False

    def write(self, data: Any) -> int:
        """Write bytes, or drop them after the reader left.

        Raises: UsageError, once, when the stream cannot take them, a full disk say.
        """
        if self.lost:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            self.lost = True
            return memoryview(data).nbytes
        except OSError as error:
            self.lost = True
            name = {1: "standard output", 2: "standard error"}.get(self.fileno(), "a stream")
            raise UsageError(f"cannot write to {name}: {error.strerror}") from None


@contextmanager
def standard_streams() -> Iterator[None]:
    """Let stdout and stderr of the process survive their readers; streams that are closed or replaced stay.

    A closed one (``>&-``) is the null device: the next file that is opened must not get its number.
    """
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = surviving(sys.stdout, sys.__stdout__), surviving(sys.stderr, sys.__stderr__)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream not in kept:
                stream.flush()
        sys.stdout, sys.stderr = kept


def surviving(stream: TextIO | None, original: TextIO | None) -> TextIO:
    """Return the stream, over a descriptor that does not mind a reader who left."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if stream is not original:
        return stream
    stream.flush()
    raw = Descriptor(stream.fileno(), "w", closefd=False)
    # a name that the terminal's encoding lacks, or that is no text at all, is shown as its codes
    errors = "backslashreplace" if stream.errors == "strict" else stream.errors
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, errors, line_buffering=bool(stream.line_buffering))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Unwind on signals that would end the process at once; those that somebody handles or ignores (nohup) stay."""
    owner, kept = os.getpid(), {}

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN if os.getpid() == owner else signal.SIG_DFL)
        if os.getpid() != owner:  # a worker that was forked: it has nothing to tidy up
            os.kill(os.getpid(), number)
        raise Ended(number)

    for number in (getattr(signal, name) for name in ENDING if hasattr(signal, name)):
        if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is signal.SIG_DFL:
            kept[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
