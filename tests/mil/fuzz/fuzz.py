"""Damaged packages through ``load_program`` and ``analyze``: ``python tests/mil/fuzz/fuzz.py`` (``make fuzz``).

Every outcome must be a report or one line of a deliberate error. Mutants are numbered: seed and number decide what is
damaged, so a run that was stopped goes on where it was, and ``--replay NUMBER`` makes one again. A child process takes
a few hundred, with a limit on memory and on each mutant's CPU time; a child that dies names the mutant, and another
goes on behind it. Counts are printed and written to ``out/fuzz/<seed>.json``; exit code 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from fuzz_seeds import seed_packages
from mutations import MUTATIONS, Contents, read_contents, write_contents

from edgesam_export.errors import EdgeSAMExportError
from edgesam_export.mil.features import FeatureSpec
from edgesam_export.mil.program import Program

__all__ = ["Tally", "fuzz", "make_mutant", "try_mutant"]

ROOT = Path(__file__).resolve().parents[3]
SEED = 1
CHILD_MUTANTS = 1000
MEMORY_BYTES = 3 << 30
"""Of a child's address space. Loading needs a few hundred MB, most of them libraries; a file of 2 GiB is hashed."""
PYTORCH_BYTES = 4 << 30
"""What importing PyTorch reserves on top of it, most of it never touched."""
MAX_ELEMENTS = 1 << 20
"""Of all inputs of a mutant that is executed."""
CPU_SECONDS = 20
"""Of one mutant. An undamaged one takes a hundredth of a second."""
STALL_SECONDS = 300
"""Without a new mutant, after which a child counts as hanging."""
MESSAGE_LENGTH = 4000
"""A few names of the file, each of which may be long."""
PROGRESS = "progress"
"""File that holds the number of the mutant that is being tried."""
FAMILIES = ("H13", "H14", "H15", "H16", "H17", "H18", *("A15", "M2", "iPhone 14"), "all")


@dataclass
class Tally:
    """What came of the mutants so far."""

    mutants: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """``mutation: loaded and analysed``, ``mutation: refused``, ``mutation: not analysed``."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    peak_bytes: int = 0

    def add(self, other: dict[str, Any]) -> None:
        self.mutants += other["mutants"]
        self.outcomes.update(other["outcomes"])
        self.faults += other["faults"]
        self.peak_bytes = max(self.peak_bytes, other["peak_bytes"])

    def document(self) -> dict[str, Any]:
        return {**vars(self), "outcomes": dict(sorted(self.outcomes.items()))}


class TooSlowError(BaseException):
    """A mutant used up its CPU time; nothing that it runs may catch this."""


def make_mutant(number: int, seed: int, originals: dict[str, Contents]) -> tuple[str, Contents]:
    """Return the mutation and the damaged contents of one mutant."""
    generator = random.Random(f"{seed}/{number}")
    contents = dict(originals[generator.choice(sorted(originals))])
    names = list(MUTATIONS)
    (name,) = generator.choices(names, [MUTATIONS[name][0] for name in names])
    MUTATIONS[name][1](contents, generator)
    return name, contents


def try_mutant(package: Path, number: int, predicts: bool = False) -> str:
    """Load and analyse a package, some with its reports, or predict with it; return the outcome.

    Raises: whatever is no deliberate error of one printable line.
    """
    from edgesam_export import analyze, load_program
    from edgesam_export.ane.render import json as as_json
    from edgesam_export.ane.render import write_ane_reports

    try:
        program = load_program(package, require_weights=number % 3 != 0)
    except EdgeSAMExportError as error:
        check_message(error)
        return "refused"
    if predicts:
        return try_prediction(program)
    try:
        report = analyze(program, target=FAMILIES[number % len(FAMILIES)])
        if number % 5 == 0:
            as_json.render(report)
        if number % 100 == 0:
            write_ane_reports(report, package.parent / "reports")
    except EdgeSAMExportError as error:
        check_message(error)
        return "not analysed"
    return "analysed"


def try_prediction(program: Program) -> str:
    """Predict with ones, twice if there is state; a loop whose condition was damaged may go on for good."""
    if sum(prod(spec.shape) for spec in (*program.inputs, *program.states)) > MAX_ELEMENTS:
        return "too large"
    feed = {spec.name: ones(spec) for spec in program.inputs}
    try:
        state = program.make_state() if program.states else None
        program.predict(feed, state=state)
    except EdgeSAMExportError as error:
        check_message(error)
        return "not predicted"
    except TooSlowError:
        if any(operation.type == "while_loop" for operation in program.operations):
            return "goes on for good"
        raise
    return "predicted"


def ones(spec: FeatureSpec) -> np.ndarray:
    """Return a value that an input takes."""
    if spec.kind != "image":
        return np.ones(spec.shape)
    _, channels, *size = spec.shape
    return np.ones((*size, channels) if channels == 3 else size, np.uint8)


def check_message(error: EdgeSAMExportError) -> None:
    text = str(error)
    if not text or not text.isprintable() or len(text) > MESSAGE_LENGTH:
        raise AssertionError(f"a message must be one line that can be printed: {text[:500]!r}")


def work(first: int, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Try some mutants in this process, which is limited for good, and return their tally as JSON data."""
    memory = MEMORY_BYTES + (PYTORCH_BYTES if options.predict else 0)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.signal(signal.SIGPROF, stop_slow)
    originals = {name: read_contents(path.parent) for name, path in seed_packages().items()}
    tally = Tally()
    numbers = [number for number in range(first, first + count) if number not in options.skip]
    with tempfile.TemporaryDirectory(dir=shared_memory()) as scratch, (options.folder / PROGRESS).open("w") as log:
        package = Path(scratch, "mutant", "model.mlpackage")
        for number in numbers:
            log.seek(0)
            log.write(f"{number}\n")
            log.flush()
            name, contents = make_mutant(number, options.seed, originals)
            write_contents(contents, package.parent)
            tally.mutants += 1
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            try:
                tally.outcomes[f"{name}: {try_mutant(package, number, options.predict)}"] += 1
            except (Exception, TooSlowError) as error:
                tally.faults.append({"number": number, "mutation": name, "error": describe(error)})
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
    tally.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return tally.document()


def stop_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {CPU_SECONDS} s of CPU time")


def describe(error: BaseException) -> str:
    """Return an error with the innermost lines of ours that it came through."""
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if "edgesam_export" in frame.filename]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(lines[-3:]))
    return f"{type(error).__name__}: {str(error)[:300]} [{where}]"


def shared_memory() -> str | None:
    """Return a folder in memory where there is one: mutants are many small files."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def run_child(first: int, count: int, options: argparse.Namespace, skipped: frozenset[int]) -> dict[str, Any]:
    """Try mutants in a child process; one that it dies or hangs at is a fault, and the rest is tried anew."""
    folder, progress = options.folder, options.folder / PROGRESS
    progress.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--child", str(first), str(count), "--seed", str(options.seed)]
    command += ["--folder", str(folder), *(["--predict"] if options.predict else [])]
    command += [f"--skip={number}" for number in sorted(skipped)]
    with (folder / "child.json").open("w+") as output, (folder / "child.log").open("w+") as errors:
        paths = [str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        child = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        reason = wait_for(child, progress)
        output.seek(0)
        text = output.read()
        if reason is None and child.returncode == 0:
            return json.loads(text)
        errors.seek(0)
        last = (errors.read().strip().splitlines() or [""])[-1]
    if not progress.exists():
        raise RuntimeError(f"the child process did not start: {last}")
    number = int(progress.read_text())
    death = {"number": number, "mutation": "", "error": reason or f"process ended with {child.returncode}: {last}"}
    rest = run_child(first, count, options, skipped | {number})
    return rest | {"mutants": rest["mutants"] + 1, "faults": [*rest["faults"], death]}


def wait_for(child: subprocess.Popen[bytes], progress: Path) -> str | None:
    """Wait until a child ends; end one that does not get on, and return why."""
    seen, since = "", time.monotonic()
    while child.poll() is None:
        time.sleep(0.05)
        now = progress.read_text() if progress.exists() else ""
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > STALL_SECONDS:
            child.kill()
            child.wait()
            return f"hangs: no answer in {STALL_SECONDS} s"
    return None


def fuzz(options: argparse.Namespace) -> Tally:
    """Try mutants 0 to ``count``; those that an earlier run finished are taken from its record."""
    options.folder.mkdir(parents=True, exist_ok=True)
    seed_packages()  # converted here, where memory is not limited
    record, tally = options.folder / f"{options.seed}{'-predict' if options.predict else ''}.json", Tally()
    if record.exists():
        tally.add(json.loads(record.read_text()))
    while tally.mutants < options.count:
        count = min(CHILD_MUTANTS, options.count - tally.mutants)
        tally.add(run_child(tally.mutants, count, options, frozenset()))
        record.write_text(json.dumps(tally.document(), indent=1))
        if sys.stderr.isatty():
            print(f"\r{tally.mutants} of {options.count}, {len(tally.faults)} faults", end="", file=sys.stderr)
    return tally


def replay(options: argparse.Namespace) -> str:
    """Write one mutant into the folder and try it; return the outcome, or raise what it raises."""
    originals = {name: read_contents(path.parent) for name, path in seed_packages().items()}
    name, contents = make_mutant(options.replay, options.seed, originals)
    write_contents(contents, options.folder / "mutant")
    return f"{name}: {try_mutant(options.folder / 'mutant' / 'model.mlpackage', options.replay, options.predict)}"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="mutants in all, those of earlier runs included")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "fuzz")
    parser.add_argument("--predict", action="store_true", help="predict with what loads, in place of its analysis")
    parser.add_argument("--replay", type=int, metavar="NUMBER", help="write one mutant into the folder and try it")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, action="append", default=[], help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    if options.child:
        print(json.dumps(work(*options.child, options)))
        return 0
    if options.replay is not None:
        print(replay(options))
        return 0
    tally = fuzz(options)
    for fault in tally.faults:
        print(f"FAULT {fault['number']} {fault['mutation']}: {fault['error']}")
    for outcome, number in sorted(tally.outcomes.items()):
        print(f"{number:>8}  {outcome}")
    print(f"fuzz: {tally.mutants} mutants, {len(tally.faults)} faults, peak memory {tally.peak_bytes / 2**20:.0f} MiB")
    return 1 if tally.faults or not tally.mutants else 0


if __name__ == "__main__":
    sys.exit(main())
