"""How PyTorch's threads wait for each other, chosen before PyTorch is loaded.

A library cannot choose: GNU's OpenMP, which carries those threads on Linux, reads the setting when it is loaded.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["sleep_when_busy"]

SPIN_COUNT, WAIT_POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
SPINS = "100"
"""Some microseconds; the default are milliseconds, longer than the time slice of a thread that is waited for."""
STAT = Path("/proc/stat")
SAMPLES, PAUSE_S = 3, 0.004


def sleep_when_busy() -> None:
    """Have threads sleep at barriers, not spin, if other processes want all cores; what the user chose stays.

    Beside other work a thread that spins takes the core from the one that it waits for: a decoder takes two to three
    times as long. On idle cores sleeping would cost 25 %. Both are measured in docs/executor.md.
    """
    if SPIN_COUNT not in os.environ and WAIT_POLICY not in os.environ and is_busy():
        os.environ[SPIN_COUNT] = SPINS


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
