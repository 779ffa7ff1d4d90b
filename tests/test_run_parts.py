"""``make test`` runs its parts at once: what it prints, its exit code, and what an interrupt leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("run_parts.py")
PARTS = """\
set -eu
case $1 in
  good) echo "3 passed";;
  bad) echo "first line"; echo "it broke" >&2; exit 3;;
  endless) sh -c 'while :; do echo alive >> "$0.alive"; sleep 0.05; done' "$0" & wait;;
esac
"""


@pytest.fixture
def start(tmp_path):
    """``start(part, ...)`` -> the driver's process, running parts of a small script."""
    script = tmp_path / "parts.sh"
    script.write_text(PARTS)

    def started(*parts: str) -> subprocess.Popen:
        words = [sys.executable, DRIVER, tmp_path / "logs", f"sh {script}", *parts]
        return subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True)

    return started


def test_all_good_parts_are_a_line_each(start):
    process = start("good", "unknown")
    out, _ = process.communicate(timeout=60)
    lines = [line.split() for line in out.splitlines()]
    assert process.returncode == 0
    assert ["good", "ok", "3", "passed"] in [[*line[:2], *line[4:]] for line in lines]
    assert out.splitlines()[-1] == "2 of 2 parts passed: good, unknown"


def test_what_a_failed_part_printed_is_shown_and_the_others_go_on(start, tmp_path):
    process = start("bad", "good")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (
        out.index("good         ok") < out.index("bad failed with 3; all of it: ") < out.index("first line\nit broke")
    )
    assert out.splitlines()[-1] == "1 of 2 parts passed: bad, good"
    assert (tmp_path / "logs" / "bad.log").read_text() == "first line\nit broke\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_parts_and_what_they_started(start, tmp_path, number):
    process = start("endless")
    alive = tmp_path / "parts.sh.alive"
    deadline = time.monotonic() + 60
    while not alive.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and out.startswith("interrupted; ")
    before = alive.read_text()
    time.sleep(0.5)
    assert alive.read_text() == before
