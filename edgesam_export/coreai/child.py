"""Apple's code in a child process with bounds on time and memory: a damaged program ends the child, not its parent."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgesam_export.coreai.availability import require_coreai
from edgesam_export.errors import ProgramError

__all__ = ["Interpreter", "read_graphs"]

SCRIPT = Path(__file__).with_name("apple.py")
MEMORY_BYTES = 8 << 30
"""What a child may take beside its program, which is held several times over: as bytes, as a module, lowered."""
COPIES = 6
READ_SECONDS = 60.0
READ_BYTES_PER_SECOND = 10e6
"""A program of 360 MB takes 2 s where these were chosen."""
RUN_SECONDS = 3600.0
"""Apple's interpreter took 58 s for an encoder of 28 MB, and larger ones grow with the work."""


def command(use: str, program_bytes: int, *arguments: str) -> list[str]:
    """Return the command line of a child; ``-P`` keeps the script's folder from being searched for modules."""
    memory = MEMORY_BYTES + COPIES * program_bytes
    return [sys.executable, "-P", str(SCRIPT), use, str(memory), *arguments]


def read_graphs(path: Path, bytecode: Path, folder: Path) -> None:
    """Have the graphs and constants of a program written into a folder.

    Raises:
        ProgramError: Apple's reader refused the program, died of it, or took too long.
        RunnerUnavailableError: it is not installed.
    """
    require_coreai()
    size = bytecode.stat().st_size
    seconds = READ_SECONDS + size / READ_BYTES_PER_SECOND
    try:
        done = subprocess.run(
            command("read", size, os.path.abspath(bytecode), str(folder)),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{path}: Apple's reader had not finished after {seconds:.0f} s and was ended") from None
    if done.returncode:
        raise ProgramError(f"{path}: {verdict(done.returncode, done.stderr)}")


def verdict(status: int, stderr: bytes) -> str:
    """Return how a child ended, on one line."""
    if status > 0:
        lines = stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        return f"Apple's code refused the program: {lines[-1]}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"damaged asset: Apple's code died of the program ({name}); export it again"


class Interpreter:
    """Apple's interpreter with one function of an asset, in a child that lives until ``close``.

    Raises:
        RunnerUnavailableError: it is not installed.
    """

    def __init__(self, path: Path, bytecode: Path, function: str) -> None:
        require_coreai()
        self.path, self.bytecode, self.function = path, bytecode, function
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        self.process: subprocess.Popen[str] | None = None
        self.answers: queue.Queue[str | None] = queue.Queue()

    def start(self) -> subprocess.Popen[str]:
        """Return the running child, started at the first call."""
        if self.process is None:
            self.folder = tempfile.TemporaryDirectory(prefix="edgesam-export-coreai-", ignore_cleanup_errors=True)
            errors = (Path(self.folder.name) / "stderr").open("wb")
            # Absolute, for the child works in its own folder, where whatever it leaves is removed.
            asset = os.path.abspath(self.path)
            self.process = subprocess.Popen(
                command("run", self.bytecode.stat().st_size, asset, self.function, self.folder.name),
                cwd=self.folder.name,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            errors.close()
            threading.Thread(target=collect, args=(self.process, self.answers), daemon=True).start()
            self.require_answer()
        return self.process

    def predict(self, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the outputs by name.

        Raises:
            ProgramError: the interpreter refused the program or the feed, died, or took too long.
        """
        process = self.start()
        assert self.folder is not None and process.stdin is not None
        folder = Path(self.folder.name)
        np.savez(folder / "inputs.npz", **dict(feed))
        try:
            process.stdin.write("\n")
            process.stdin.flush()
        except OSError:
            pass  # it died; the missing answer says so
        self.require_answer()
        with np.load(folder / "outputs.npz", allow_pickle=False) as outputs:
            return {name: outputs[name] for name in outputs.files}

    def require_answer(self) -> None:
        """Wait for the child's next line, which is empty when all went well; end the child otherwise."""
        assert self.process is not None and self.folder is not None
        try:
            answer = self.answers.get(timeout=RUN_SECONDS)
        except queue.Empty:
            self.close()
            raise ProgramError(
                f"{self.path}: Apple's interpreter had not finished after {RUN_SECONDS:.0f} s and was ended"
            ) from None
        if answer is None:
            status = self.process.wait()
            stderr = (Path(self.folder.name) / "stderr").read_bytes()
            self.close()
            raise ProgramError(f"{self.path}: {verdict(status, stderr) if status else 'the interpreter ended early'}")
        if answer:
            raise ProgramError(f"{self.path}: Apple's interpreter: {answer}")

    def close(self) -> None:
        """End the child and remove its files; the next prediction starts another."""
        process, self.process = self.process, None
        folder, self.folder = self.folder, None
        self.answers = queue.Queue()
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        if folder is not None:
            folder.cleanup()

    def __del__(self) -> None:
        if getattr(self, "process", None) is not None:
            self.close()


def collect(process: subprocess.Popen[str], answers: queue.Queue[str | None]) -> None:
    """Put each line of a child's stdout into a queue, and None when there are no more."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            answers.put(line.rstrip("\n"))
    except (OSError, ValueError):  # closed by ``close``
        pass
    answers.put(None)
