"""What both benchmarks share: interleaved timing, a table, and a child process whose peak memory is known."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

__all__ = ["interleaved_ms", "machine", "print_ratios", "run_child"]


def interleaved_ms(
    candidates: dict[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Return times of each candidate; every round runs each once, so that drift of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + warm_up):
        for name, call in candidates.items():
            start = time.perf_counter_ns()
            call()
            if number >= warm_up:
                times[name].append((time.perf_counter_ns() - start) / 1e6)
    return times


def print_ratios(title: str, times: dict[str, list[float]], base: str, bars: Mapping[str, float] | None = None) -> None:
    """Print median, min, max and the ratio of medians to ``base``, beside the most that it may be."""
    reference = statistics.median(times[base])
    print(f"\n{title}")
    print(f"{'':34}{'median ms':>10}{'min':>9}{'max':>9}{'ratio':>8}{'bar':>7}")
    for name, values in times.items():
        middle = statistics.median(values)
        bar = f"{bars[name]:>7.2f}" if bars and name in bars else ""
        print(f"{name:34}{middle:>10.1f}{min(values):>9.1f}{max(values):>9.1f}{middle / reference:>8.2f}{bar}".rstrip())


def machine(threads: int) -> str:
    """Return the machine in one line."""
    import onnxruntime
    import torch

    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, Python {platform.python_version()}"
    return f"{platform.machine()} {platform.system()}, {threads} threads; {versions}"


def run_child(code: str, *arguments: str) -> dict:
    """Run Python code in a fresh process; return the JSON object it prints last, with its ``peak_mb`` added."""
    tail = """
import json, pathlib
# Not getrusage: what it reports of a child starts at the size of the parent that forked it.
status = pathlib.Path("/proc/self/status").read_text()
peak_mb = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({**result, "peak_mb": peak_mb}))
"""
    done = subprocess.run([sys.executable, "-c", code + tail, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmark child failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])
