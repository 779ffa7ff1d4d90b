"""How PyTorch's threads wait for each other, chosen before PyTorch is loaded.

A library cannot choose: GNU's OpenMP, which carries those threads on Linux, reads the setting when it is loaded.
"""

from __future__ import annotations

import os

from edgesam_export.hardware import cores

__all__ = ["sleep_when_busy"]

SPIN_COUNT, WAIT_POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
SPINS = "100"
"""Some microseconds; the default are milliseconds, longer than the time slice of a thread that is waited for."""


def sleep_when_busy() -> None:
    """Have threads sleep at barriers, not spin, if other processes want all cores; what the user chose stays.

    Beside other work a thread that spins takes the core from the one that it waits for: a decoder takes two to three
    times as long. On idle cores sleeping would cost 25 %. Both are measured in docs/executor.md.
    """
    if SPIN_COUNT not in os.environ and WAIT_POLICY not in os.environ and cores.is_busy():
        os.environ[SPIN_COUNT] = SPINS
        cores.share()
