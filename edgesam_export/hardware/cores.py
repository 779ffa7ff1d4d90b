"""The cores of this machine, and whether other tasks want them."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["are_shared", "is_busy", "share"]

STAT = Path("/proc/stat")
SAMPLES, PAUSE_S = 3, 0.004

state = {"shared": False}


def share() -> None:
    """Let what this process computes take no more threads than help beside other work, until it ends."""
    state["shared"] = True


def are_shared() -> bool:
    """Return whether this process computes beside others that want the cores, as found when it started."""
    return state["shared"]


def is_busy() -> bool:
    """Return whether other tasks than this one want as many cores as there are; False where Linux does not tell."""
    for _ in range(SAMPLES):
        if running_tasks() - 1 < (os.cpu_count() or 1):
            return False
        time.sleep(PAUSE_S)
    return True


def running_tasks() -> int:
    """Return how many tasks run or could run now, this one included; 0 where Linux does not tell."""
    try:
        lines = STAT.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("procs_running ")), 0)
