"""How PyTorch's threads wait is chosen before PyTorch is loaded."""

import os
import subprocess
import sys

import pytest

from edgesam_export.cli import threads
from edgesam_export.hardware import cores

CORES = os.cpu_count() or 1


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine on which so many tasks run; no setting of OpenMP is inherited."""
    for name in (threads.SPIN_COUNT, threads.WAIT_POLICY):
        monkeypatch.setenv(name, "")  # so that what a test sets is gone after it
        monkeypatch.delenv(name)
    monkeypatch.setattr(cores, "STAT", tmp_path / "stat")
    monkeypatch.setattr(cores, "state", {"shared": False})

    def with_tasks(count: int) -> None:
        cores.STAT.write_text(f"cpu  1 2 3\nprocs_running {count}\nprocs_blocked 0\n")

    return with_tasks


def test_threads_sleep_where_others_want_every_core_and_spin_elsewhere(machine):
    machine(CORES)
    threads.sleep_when_busy()
    assert threads.SPIN_COUNT not in os.environ and not cores.are_shared()
    machine(CORES + 1)
    threads.sleep_when_busy()
    assert os.environ[threads.SPIN_COUNT] == threads.SPINS and cores.are_shared()


@pytest.mark.parametrize("name", [threads.SPIN_COUNT, threads.WAIT_POLICY])
def test_what_the_user_chose_stays(machine, monkeypatch, name):
    machine(CORES + 8)
    monkeypatch.setenv(name, "7")
    before = dict(os.environ)
    threads.sleep_when_busy()
    assert dict(os.environ) == before and not cores.are_shared()


def test_a_system_that_does_not_tell_is_not_busy(machine):
    assert cores.running_tasks() == 0 and not cores.is_busy()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch's threads are not those of GNU's OpenMP")
def test_the_library_that_carries_the_threads_takes_the_setting(machine, tmp_path):
    machine(CORES + 1)
    code = f"""
from pathlib import Path
from edgesam_export.cli import main
from edgesam_export.hardware import cores
cores.STAT = Path({str(cores.STAT)!r})
try:
    main(["--help"])
except SystemExit:
    import torch
"""
    environment = {**os.environ, "OMP_DISPLAY_ENV": "verbose"}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert f"GOMP_SPINCOUNT = '{threads.SPINS}'" in shown.stderr
