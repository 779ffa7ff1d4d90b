"""Readers that leave, streams that are closed or full, and signals: the exit code is the command's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgesam_export.rendering import text_table

PROGRAM = [sys.executable, "-m", "edgesam_export.cli"]
SLEEPER = """
import time
from pathlib import Path

import click

from edgesam_export.cli.app import cli
from edgesam_export.cli.main import main
from edgesam_export.files import staging_folder

@cli.command()
@click.argument("folder")
def sleep(folder):
    with staging_folder(Path(folder)) as staging:
        (staging / "half.bin").write_bytes(b"0")
        click.echo("ready")
        time.sleep(60)

main()
"""


def shell(words: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``words`` in bash with pipefail, as GitHub's runner does; ``$0`` and the following are the program's."""
    program = ["bash", "-o", "pipefail", "-c", words, *PROGRAM, *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("pipe", ['"$0" "$@" --quiet | true', '"$0" "$@" 2>&1 >/dev/null | true'])
def test_a_failed_gate_fails_the_pipeline_whose_reader_left(coreml_pair, tmp_path, pipe):
    done = shell(pipe, "analyze", coreml_pair[1], "--fail-on", "warning", "--output", tmp_path)
    assert done.returncode == 1, done.stderr


def test_a_reader_that_left_is_no_error():
    done = shell('"$0" "$@" | true', "explain", "A25")
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_streams_are_no_error(tmp_path):
    script = '"$0" "$@" >&- 2>&-'
    assert shell(script, "explain", "A25").returncode == 0
    assert shell(script, "explain", "none").returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_behind_stdout_is_one_line():
    done = shell('"$0" "$@" > /dev/full', "explain", "A25")
    assert done.returncode == 2
    assert done.stderr == "edgesam-export explain: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_cancelled_job_leaves_nothing_half_written(tmp_path, name):
    number = getattr(signal, name)
    program = [sys.executable, "-c", SLEEPER, "sleep", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, text=True, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert err.strip() == f"edgesam-export sleep: ended by {name}; nothing half-written was left"
    assert os.listdir(tmp_path) == []


def test_a_broken_pipe_to_another_program_is_an_error(command, monkeypatch, tmp_path):
    def broken(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("edgesam_export.ane.inspection.inspect_package", broken)
    code, out, err = command("analyze", tmp_path)
    assert (code, out) == (2, "") and err.count("\n") == 1 and "went away" in err


def test_a_name_that_the_output_cannot_hold_is_shown_as_its_codes(tmp_path):
    # a C or Latin-1 terminal, and a file name whose bytes are no UTF-8
    code = "import click; from edgesam_export.cli.app import cli; from edgesam_export.cli.main import main\n"
    code += "cli.add_command(click.Command('say', callback=lambda: click.echo('\\u65e5 \\udcff')))\nmain(['say'])"
    for encoding in ("utf-8:strict", "latin-1", "cp1252"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
        assert done.returncode == 0 and done.stdout.endswith(b" \\udcff\n"), done.stderr


def test_a_name_cannot_begin_a_line_that_a_ci_obeys(command):
    code, _, err = command("analyze", "x\n::error::\x1b[31mname.mlpackage")
    assert code == 2 and err.count("\n") == 1 and "\x1b" not in err
    table = text_table(("image",), [("cat\n::add-mask::a",)])
    assert table.splitlines() == ["image", "cat?::add-mask::a"]
