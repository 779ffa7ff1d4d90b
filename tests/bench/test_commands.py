"""Running programs: limits, groups, logs. Limits are tiny and nothing asserts how long something took."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from edgesam_export.bench.devices.commands import CommandLog, run_command

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "open(r'{0}.ready', 'w').close(); time.sleep(60)"])
open(r"{0}.tmp", "w").write(str(child.pid))
import os; os.rename(r"{0}.tmp", r"{0}")
time.sleep(60)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-IS", "-c", code]


def is_running(pid: int) -> bool:
    """Return whether a process is there and not a zombie waiting for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(condition) -> bool:
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_command_ends_with_its_status_and_streams(tmp_path):
    log = CommandLog(tmp_path / "log")
    code = "import sys; print('out'); print('noise', file=sys.stderr); sys.exit(3)"
    done = run_command(python(code), stem=log.next_stem("probe"), timeout_s=30)
    assert (done.returncode, done.stdout, done.stderr, done.timed_out, done.ok) == (3, "out\n", "noise\n", False, False)
    facts = json.loads((tmp_path / "log" / "0001_probe.command.json").read_text())
    assert facts["argv"] == python(code) and facts["returncode"] == 3 and facts["timed_out"] is False
    assert (tmp_path / "log" / "0001_probe.stdout").read_text() == "out\n"
    assert (tmp_path / "log" / "0001_probe.stderr").read_text() == "noise\n"


def test_numbers_go_on_in_a_folder_that_has_logs(tmp_path):
    CommandLog(tmp_path).next_stem("one").with_name("0001_one.json").write_text("{}")
    assert CommandLog(tmp_path).next_stem("two").name == "0002_two"


def test_words_are_passed_as_they_are(tmp_path):
    hostile = "a b; echo $HOME `id` 'q' \"d\" *"
    done = run_command([*python("import sys; print(sys.argv[1])"), hostile], stem=tmp_path / "x", timeout_s=30)
    assert done.stdout == hostile + "\n"


def test_a_program_that_is_not_there_is_status_127(tmp_path):
    done = run_command(["no-such-program-of-ours"], stem=tmp_path / "x", timeout_s=5)
    assert done.returncode == 127 and "cannot start no-such-program-of-ours: No such file" in done.stderr


def test_more_output_than_a_pipe_holds_does_not_block(tmp_path):
    done = run_command(
        python("import sys; sys.stdout.write('x' * 3000000); sys.stderr.write('y' * 3000000)"),
        stem=tmp_path / "x",
        timeout_s=60,
    )
    assert done.ok and len(done.stdout) == len(done.stderr) == 1 << 20
    assert (tmp_path / "x.stdout").stat().st_size == 3000000


def test_a_child_left_behind_with_the_streams_open_does_not_keep_us(tmp_path):
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    done = run_command(python(code), stem=tmp_path / "x", timeout_s=30)
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.ok


def test_a_group_that_ignores_sigterm_is_killed_with_its_children(tmp_path):
    mark = tmp_path / "pid"
    done = run_command(python(STUBBORN.format(mark)), stem=tmp_path / "x", timeout_s=1.5, grace_s=0.2)
    assert done.timed_out and done.returncode == -signal.SIGKILL
    assert (tmp_path / "pid.ready").exists()  # the child had come to ignore the signal
    assert eventually(lambda: not is_running(int(mark.read_text())))


def test_a_leader_that_obeys_does_not_save_a_child_that_ignores(tmp_path):
    mark = tmp_path / "pid"
    obeying = STUBBORN.format(mark).replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n", "", 1)
    done = run_command(python(obeying), stem=tmp_path / "x", timeout_s=1.5, grace_s=0.2)
    assert done.timed_out and done.returncode == -signal.SIGTERM
    assert eventually(lambda: not is_running(int(mark.read_text())))


def test_ctrl_c_ends_the_group(tmp_path):
    mark = tmp_path / "pid"
    code = (
        "import os, time; open(r'{0}.tmp', 'w').write(str(os.getpid())); os.rename(r'{0}.tmp', r'{0}'); time.sleep(60)"
    )

    def press() -> None:
        eventually(mark.exists)
        time.sleep(0.5)  # on a busy machine the program may run before the call that started it has returned
        os.kill(os.getpid(), signal.SIGINT)

    # A shell that starts the tests in the background lets them ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=press).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_command(python(code.format(mark)), stem=tmp_path / "x", timeout_s=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not is_running(int(mark.read_text()))
