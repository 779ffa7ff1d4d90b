"""Mutated packages: every outcome is a ``Program`` or a ``ProgramError``, in bounded time and memory."""

import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from mutations import mutate_bytes

from edgesam_export.errors import EdgeSAMExportError, ProgramError
from edgesam_export.mil import load_program

FILES = ("Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin")
CASES = 500
"""Mutations of each file; the generator is seeded, so that every machine sees the same ones. ``make fuzz`` has more."""
SECONDS = 60.0
"""Of CPU time, far more than all cases of a file take: a length believed before it is checked takes longer."""


@pytest.mark.parametrize("name", FILES)
def test_mutated_package_gives_a_program_or_a_program_error(conv_package, tmp_path: Path, name: str) -> None:
    package = Path(shutil.copytree(conv_package[0], tmp_path / "model.mlpackage"))
    good, feed = (package / name).read_bytes(), {"x": np.ones((1, 3, 8, 8), np.float32)}
    generator, start, outcomes = random.Random(7), time.process_time(), {"runs": 0, "refused": 0}
    for case in range(CASES):
        # A new file each time: a file system may flush one that is overwritten, which took nine tenths of the test.
        (package / name).unlink()
        (package / name).write_bytes(mutate_bytes(good, generator))
        try:
            load_program(package).predict(feed)
            outcomes["runs"] += 1
        except EdgeSAMExportError as error:
            assert len(str(error).splitlines()) == 1, f"case {case}: {error!r}"
            outcomes["refused"] += 1
        except Exception as error:
            pytest.fail(f"case {case} of {name}: {type(error).__name__}: {error}")
    assert outcomes["refused"] > 20, outcomes
    assert time.process_time() - start < SECONDS


def test_file_replaced_after_loading_gives_a_program_error(conv_package, tmp_path: Path) -> None:
    package = Path(shutil.copytree(conv_package[0], tmp_path / "model.mlpackage"))
    program = load_program(package)
    (package / FILES[2]).write_bytes(b"short")
    with pytest.raises(ProgramError, match=r"lies outside the file|became shorter"):
        program.predict({"x": np.ones((1, 3, 8, 8), np.float32)})
