"""Run commands at once: ``python tests/run_parts.py LOGS COMMAND PART...`` runs ``COMMAND PART`` for each part.

Each part writes to ``LOGS/<part>.log``.  A line is printed when a part ends, and every half minute for those still
running; what a failed part printed follows at the end.  Exit code 1 if a part failed, 130 after an interrupt.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HEARTBEAT_S, POLL_S, GRACE_S = 30.0, 0.2, 10.0
TAIL_LINES, WIDTH = 200, 100


@dataclass
class Part:
    """A running command with its log."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    started: float

    def last_line(self) -> str:
        """Return the end of its output, shortened to a line."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip()[:WIDTH] for line in reversed(lines) if line.strip()), "")


def start(name: str, command: Sequence[str], logs: Path) -> Part:
    """Start a part in a process group of its own, so that an interrupt reaches its workers through us alone."""
    log = logs / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, name], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    return Part(name, log, process, time.monotonic())


def finished(parts: Sequence[Part], stop: Sequence[int], say: Callable[[str], None]) -> Iterator[Part]:
    """Yield each part as it ends, until there is a signal in ``stop``; report the others every half minute."""
    running, spoken = list(parts), time.monotonic()
    while running and not stop:
        for part in [part for part in running if part.process.poll() is not None]:
            running.remove(part)
            yield part
        if running and time.monotonic() - spoken >= HEARTBEAT_S:
            spoken = time.monotonic()
            for part in running:
                say(f"  {part.name:<12} running  {spoken - part.started:4.0f} s  {part.last_line()}")
        time.sleep(POLL_S)


def end(parts: Sequence[Part]) -> None:
    """Interrupt what still runs, wait a little, and kill what is left, processes that a part left behind included."""
    running = [part for part in parts if part.process.poll() is None]
    for number in (signal.SIGINT, signal.SIGKILL):
        for part in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.process.pid, number)
        deadline = time.monotonic() + GRACE_S
        while any(part.process.poll() is None for part in running) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def report_failures(failed: Sequence[Part], say: Callable[[str], None]) -> None:
    """Print the end of each failed part's log."""
    for part in failed:
        lines = part.log.read_text(errors="replace").rstrip("\n").split("\n")
        say(f"\n{'=' * 20} {part.name} failed with {part.process.returncode}; all of it: {part.log}")
        say("\n".join(lines[-TAIL_LINES:]))


def main(arguments: Sequence[str]) -> int:
    """Run the parts named by the arguments; return the exit code."""
    logs, command, *names = Path(arguments[0]), *arguments[1:]
    logs.mkdir(parents=True, exist_ok=True)
    # Noted, not raised: an exception between the start of a process and its entry in the list would lose it.
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stop.append(number))

    def say(line: str) -> None:
        print(line, flush=True)

    failed: list[Part] = []
    parts = [start(name, command.split(), logs) for name in names]
    for part in finished(parts, stop, say):
        verdict = "FAILED " if part.process.returncode else "ok     "
        say(f"  {part.name:<12} {verdict}  {time.monotonic() - part.started:4.0f} s  {part.last_line()}")
        if part.process.returncode:
            failed.append(part)
    if stop:
        end(parts)
        say(f"interrupted; what was printed is in {logs}")
        return 130
    report_failures(failed, say)
    say(f"\n{len(parts) - len(failed)} of {len(parts)} parts passed: {', '.join(names)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
