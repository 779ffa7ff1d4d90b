"""A sample of ``make fuzz``, the same in every run; and that the harness sees what it looks for."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from fuzz import fuzz, make_mutant, parse_arguments, try_mutant
from fuzz_seeds import seed_packages
from mutations import MUTATIONS, damage_folder, read_contents, write_contents

SAMPLE = 300


def options(folder: Path, *words: str):
    return parse_arguments(["--folder", str(folder), "--count", str(SAMPLE), *words])


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over the sample."""
    folder = tmp_path_factory.mktemp("fuzz")
    tally = fuzz(options(folder))
    assert tally.faults == []
    return folder


def test_damaged_packages_give_a_report_or_one_line(record: Path) -> None:
    document = json.loads((record / "1.json").read_text())
    assert document["mutants"] == SAMPLE == sum(document["outcomes"].values())
    for name in MUTATIONS:  # each mutation leaves some packages whole enough, and damages others beyond use
        assert document["outcomes"][f"{name}: analysed"] and document["outcomes"][f"{name}: refused"], name


def test_a_run_goes_on_where_it_was_stopped(record: Path, tmp_path: Path) -> None:
    shutil.copy(record / "1.json", tmp_path)
    (tmp_path / "1.json").write_text((record / "1.json").read_text().replace(f'"mutants": {SAMPLE}', '"mutants": 295'))
    tally = fuzz(options(tmp_path))
    assert tally.mutants == SAMPLE and sum(tally.outcomes.values()) == SAMPLE + 5


def test_a_mutant_is_made_of_its_number_alone() -> None:
    originals = {name: read_contents(path.parent) for name, path in seed_packages().items()}
    assert [make_mutant(n, 1, originals) for n in range(30)] == [make_mutant(n, 1, originals) for n in range(30)]
    assert make_mutant(1, 1, originals) != make_mutant(1, 2, originals)


@pytest.mark.parametrize("name", ["convolution", "two_functions"])
def test_an_undamaged_package_is_analysed_and_predicted_with(tmp_path: Path, name: str) -> None:
    write_contents(read_contents(seed_packages()[name].parent), tmp_path / "mutant")
    package = tmp_path / "mutant" / "model.mlpackage"
    assert (try_mutant(package, 0), try_mutant(package, 1, True)) == ("analysed", "predicted")


FAULTY = """
import os, signal
import edgesam_export.artifacts as artifacts
from edgesam_export.errors import ProgramError

load = artifacts.load_program

def load_program(path, **options):
    number = int(open({progress!r}).read())
    if number == 3:
        raise KeyError("missing")
    if number == 5:
        raise ProgramError("two\\nlines")
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return load(path, **options)

artifacts.load_program = load_program
"""


def test_faults_are_found_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(FAULTY.format(progress=str(tmp_path / "run" / "progress")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    tally = fuzz(parse_arguments(["--folder", str(tmp_path / "run"), "--count", "12"]))
    errors = {fault["number"]: fault["error"] for fault in tally.faults}
    assert tally.mutants == 12 and sorted(errors) == [3, 5, 7]
    assert errors[3].startswith("KeyError: 'missing'")
    assert errors[5].startswith("AssertionError: a message must be one line")
    assert errors[7] == "process ended with -9: "


def test_a_folder_may_lose_its_last_file_before_further_damage(tmp_path: Path) -> None:
    for seed in range(300):
        contents: dict = {"model.mlmodel": b""}
        damage_folder(contents, random.Random(seed))
        write_contents(contents, tmp_path / "out" / "mutant")
