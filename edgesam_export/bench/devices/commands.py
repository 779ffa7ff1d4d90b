"""Running another program: by argument vector, in its own process group, for a limited time, with everything kept."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgesam_export.files import json_text

__all__ = ["CommandLog", "CompletedCommand", "end_group", "run_command", "tail"]

KEPT_CHARACTERS = 1 << 20
GRACE_S = 5.0
POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class CompletedCommand:
    """What came of a command; the streams are their last mebibyte."""

    argv: tuple[str, ...]
    returncode: int
    """127 when there is no such program; negative when a signal ended it."""
    stdout: str
    stderr: str
    timed_out: bool
    log: str
    """Path and beginning of the names of the files in which everything was kept."""

    @property
    def ok(self) -> bool:
        """True when the program ended by itself with status 0."""
        return self.returncode == 0 and not self.timed_out


class CommandLog:
    """Numbered files of a run's commands: ``NNNN_name`` with ``.command.json``, ``.stdout``, ``.stderr``, ``.json``."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="edgesam-export-log-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        taken = [re.match(r"(\d+)_", path.name) for path in self.folder.iterdir()]
        self.count = max((int(match.group(1)) for match in taken if match), default=0)

    def next_stem(self, name: str) -> Path:
        """Return a path without extension that no earlier command has used."""
        self.count += 1
        return self.folder / f"{self.count:04d}_{name}"


def run_command(
    argv: Sequence[str],
    *,
    stem: Path,
    timeout_s: float,
    cwd: Path | None = None,
    grace_s: float = GRACE_S,
) -> CompletedCommand:
    """Run a program to its end, or end it and all it started when the time is over.

    The streams go to files, so that a program that writes much never waits for us and one that leaves a child behind
    does not keep us waiting for the end of a pipe.
    """
    words = tuple(str(part) for part in argv)
    out, err = stem.with_name(f"{stem.name}.stdout"), stem.with_name(f"{stem.name}.stderr")
    started = time.monotonic()
    with out.open("wb") as stdout, err.open("wb") as stderr:
        returncode, timed_out = run_to_end(words, stdout, stderr, timeout_s, cwd, grace_s)
    completed = CompletedCommand(
        argv=words, returncode=returncode, stdout=tail(out), stderr=tail(err), timed_out=timed_out, log=str(stem)
    )
    facts = {"argv": list(words), "returncode": returncode, "timed_out": timed_out}
    facts |= {"timeout_s": timeout_s, "duration_s": round(time.monotonic() - started, 3), "cwd": cwd and str(cwd)}
    stem.with_name(f"{stem.name}.command.json").write_text(json_text(facts))
    for path in (out, err):
        if not path.stat().st_size:
            path.unlink()
    return completed


def run_to_end(
    argv: tuple[str, ...], stdout: IO[bytes], stderr: IO[bytes], timeout_s: float, cwd: Path | None, grace_s: float
) -> tuple[int, bool]:
    """Return the exit status and whether time ran out."""
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=cwd, start_new_session=True
        )
    except OSError as error:
        stderr.write(f"cannot start {argv[0]}: {error.strerror}\n".encode())
        return 127, False
    try:
        return process.wait(timeout_s), False
    except subprocess.TimeoutExpired:
        end_group(process.pid, process.poll, grace_s)
        return process.wait(), True
    except BaseException:  # Ctrl-C must not leave a tool behind that holds the device
        end_group(process.pid, process.poll, grace_s)
        process.wait()
        raise


def end_group(group: int, poll: Callable[[], object], grace_s: float = GRACE_S) -> None:
    """End a process group: SIGTERM, and SIGKILL for whoever is left after ``grace_s``.

    ``poll`` reaps the group's leader, which would otherwise count as a member for ever.
    """
    # macOS answers "not permitted" for a group of which only the unreaped leader is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        until = time.monotonic() + grace_s
        while time.monotonic() < until:
            poll()
            os.killpg(group, 0)
            time.sleep(POLL_S)
        os.killpg(group, signal.SIGKILL)


def tail(path: Path) -> str:
    """Return the end of a text file."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - KEPT_CHARACTERS))
        return stream.read().decode("utf-8", errors="replace")
