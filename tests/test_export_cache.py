"""Exports that tests share: made once by whoever comes first, made anew when the sources or the files changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import export_cache
import pytest
from export_cache import ABOVE, RUNNING, cached_folder, damaged_entries, digest_of_sources
from test_architecture import ROOMS

ASK = """
import sys, time
from pathlib import Path
from export_cache import cached_folder

def make(folder):
    with open(sys.argv[1] + "/made.txt", "a") as log:
        log.write("made\\n")
    (folder / "half").write_text("half")
    time.sleep(0.5)
    (folder / "half").rename(folder / "whole")

folder = cached_folder(Path(sys.argv[1]) / "sources", "a toy", make)
print(*(member.name for member in folder.iterdir()))
"""


def make_toy(folder: Path) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "weights.bin").write_bytes(b"weights")


def test_two_processes_that_ask_at_once_make_it_once_and_see_it_whole(tmp_path):
    here = str(Path(export_cache.__file__).parent)
    words = [sys.executable, "-c", ASK, str(tmp_path)]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=here) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in running] == ["whole\n"] * 2
    assert (tmp_path / "made.txt").read_text() == "made\n"


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "no record", "record of nothing"])
def test_a_damaged_entry_is_named_and_made_anew(tmp_path, damage):
    entry = cached_folder(tmp_path, "a toy", make_toy)
    assert damaged_entries(tmp_path) == []
    weights, record = entry / "package" / "weights.bin", entry.with_suffix(".json")
    if damage == "changed":
        weights.write_bytes(b"Weights")
    elif damage == "missing":
        weights.unlink()
    elif damage == "added":
        (entry / "surplus").touch()
    elif damage == "no record":
        record.unlink()
    else:
        record.write_text("[]")
    assert damaged_entries(tmp_path) == ([] if damage == "no record" else [entry])
    assert cached_folder(tmp_path, "a toy", make_toy) == entry
    assert [member.name for member in entry.iterdir()] == ["package"] and weights.read_bytes() == b"weights"
    assert json.loads(record.read_text())["description"] == "a toy"


def test_what_is_there_is_not_made_again_and_another_description_is_another_entry(tmp_path):
    def refuse(folder: Path) -> None:
        raise AssertionError("made twice")

    entry = cached_folder(tmp_path, "a toy", make_toy)
    assert cached_folder(tmp_path, "a toy", refuse) == entry
    assert cached_folder(tmp_path, "another toy", make_toy) != entry


def test_an_export_that_fails_leaves_no_entry(tmp_path):
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached_folder(tmp_path, "a toy", fail)
    assert [member.suffix for member in tmp_path.iterdir()] == [".lock"]


def test_a_changed_source_is_another_key_and_a_room_above_is_not(tmp_path):
    package = tmp_path / "package"
    for name in ("profiles/default.py", "rewrites/table.toml", "cli/main.py", "profiles/__pycache__/default.pyc"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("old")
    found = [digest_of_sources(package=package)]
    for name in ("cli/main.py", "profiles/__pycache__/default.pyc"):
        (package / name).write_text("new")
        assert digest_of_sources(package=package) == found[0]
    for name in ("profiles/default.py", "rewrites/table.toml"):
        (package / name).write_text("new")
        found.append(digest_of_sources(package=package))
    (package / "profiles" / "added.py").touch()
    found.append(digest_of_sources(package=package))
    assert len(set(found)) == 4


@pytest.mark.parametrize(("left_out", "lowest"), [(ABOVE, "formats"), (RUNNING, "predict")])
def test_only_rooms_above_do_not_count(left_out, lowest):
    floor = next(number for number, rooms in enumerate(ROOMS) if lowest in rooms)
    beside = set(ROOMS[floor]) - {lowest} if lowest == "predict" else set()
    above = {room for rooms in ROOMS[:floor] for room in rooms} | beside | {"catalogue"}
    assert {name.removesuffix(".py") for name in left_out} <= above
