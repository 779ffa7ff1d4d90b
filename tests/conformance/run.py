"""Run coremltools' op tests against the executor and count what passed: ``python tests/conformance/run.py``.

Columns: *passed* (predicted, and outputs were compared), *failed*, *listed* (a failure that exceptions.toml explains),
*n/a* (the test never asks for a prediction, or skips itself). Exit code 1 if a test fails that is not listed, if a
listed one passes, or if nothing was compared at all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgesam_export.resources import read_toml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COREMLTOOLS = Path(find_spec("coremltools").origin).parent
OP_TESTS = COREMLTOOLS / "converters" / "mil" / "mil" / "ops" / "tests"
TORCH_TESTS = COREMLTOOLS / "converters" / "mil" / "frontend" / "torch" / "test"
TORCH_CLASSES = (
    "TestConv",
    "TestLayerNorm",
    "TestBatchNorm",
    "TestUpsample",
    "TestSoftmax",
    "TestMatMul",
    "TestLinear",
    "TestActivation",
    "TestScaledDotProductAttention",
)
"""Classes of coremltools' PyTorch tests whose ops an exported Segment Anything model consists of."""
COLUMNS = ("passed", "failed", "listed", "n/a")
TIMEOUT_SECONDS = 7200


@dataclass(frozen=True)
class Verdict:
    """What one test says about the executor."""

    test: str
    kind: str
    message: str = ""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="test files, e.g. iOS17/test_linear.py (default: all)")
    parser.add_argument("-n", type=int, default=1, metavar="N", help="files at a time")
    parser.add_argument("--sample", action="store_true", help="only the tests of sample.txt: under three minutes")
    parser.add_argument("--one-in", type=int, default=1, metavar="N", help="a fixed choice of one test in N")
    parser.add_argument("--record", action="store_true", help="write sample.txt and covered.json from this run")
    parser.add_argument("--torch", action="store_true", help="coremltools' PyTorch conversion tests instead")
    parser.add_argument("--all-opsets", action="store_true", help="every test with every op set from iOS15 to iOS18")
    parser.add_argument("--break-op", metavar="OP", help="break an op on purpose; everything that uses it must fail")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every test's record here")
    options = parser.parse_args(arguments)
    partial = options.files or options.sample or options.one_in > 1 or options.torch or options.break_op
    if options.record and partial:
        parser.error("--record replaces the records of every test: run it with every file and without other choices")
    return options


def test_files(root: Path = OP_TESTS) -> list[str]:
    """Return the files with op tests, relative to ``root``."""
    return sorted(path.relative_to(root).as_posix() for path in root.glob("*/test_*.py"))


def run_file(name: str, options: argparse.Namespace, root: Path, only: Path | None) -> dict[str, dict[str, Any]]:
    """Run one file in a process of its own; return its records by test id."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT)]),
        "PYMIL_TEST_TARGETS": "mlprogram",
        "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
        "RUN_BACKWARD_COMPATIBILITY": "1" if options.all_opsets else "0",
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "records.json"
        environment["TMPDIR"] = scratch
        command = [sys.executable, "-m", "pytest", "-p", "plugin", "-p", "no:cacheprovider", "-q", "--no-header"]
        command += ["-c", os.devnull, f"--rootdir={root}", "--tb=no", "-W", "ignore", f"--conformance-json={target}"]
        command += [f"--conformance-only={only}"] if only else []
        command += [f"--conformance-one-in={options.one_in}"]
        command += [f"--conformance-break={options.break_op}"] if options.break_op else []
        command += ["-k", " or ".join(TORCH_CLASSES)] if options.torch else []
        command += [str(root / part) for part in name.split()]
        done = subprocess.run(
            command, env=environment, cwd=root, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
        if not target.exists() or done.returncode not in (0, 1, 5):
            tail = (done.stdout + done.stderr).strip().splitlines()[-5:]
            return {f"{name}::collection": {"outcome": "failed", "predictions": 1, "message": " | ".join(tail)}}
        return json.loads(target.read_text(encoding="utf-8"))


def verdict_of(test: str, record: dict[str, Any], exceptions: dict[str, str]) -> Verdict:
    """Return the verdict on a record: see the columns in the module's docstring."""
    message = record.get("message", "")
    if record["outcome"] == "failed":
        return Verdict(test, "listed" if test in exceptions else "failed", message)
    if record["outcome"] == "passed" and (record["reads"] or record["refusals"]):
        if test in exceptions:
            return Verdict(test, "failed", "is listed in exceptions.toml but passes; remove it there")
        return Verdict(test, "passed")
    return Verdict(test, "n/a", message)


def read_exceptions(path: Path = HERE / "exceptions.toml") -> dict[str, str]:
    """Return test id -> reason."""
    return {test: group["reason"] for group in read_toml(path).get("exception", []) for test in group["tests"]}


def choose_sample(records: dict[str, dict[str, Any]], exceptions: dict[str, str]) -> list[str]:
    """Return one passing test per test function: the one whose id has the smallest CRC-32.

    Left out: ids that spell out arrays (drawn when the file is imported), and tests that iOS17's file inherits from
    iOS14's, which pytest does not collect a second time when one process runs both.
    """
    best: dict[str, str] = {}
    for test, record in records.items():
        if (
            verdict_of(test, record, exceptions).kind == "passed"
            and record["seconds"] < 2
            and not ("array(" in test or is_inherited(test))
        ):
            function = test.partition("[")[0]
            best[function] = min(test, best.get(function, test), key=lambda name: zlib.crc32(name.encode()))
    return sorted(best.values())


def is_inherited(test: str) -> bool:
    """Whether a test of a newer op set's file runs with the backends of the oldest one."""
    return not test.startswith(("iOS14/", "iOS15/")) and "AvailableTarget.iOS15" in test


def table(verdicts: dict[str, list[Verdict]]) -> str:
    """Return one aligned row per file and a last row with the sums."""
    counts = {name: Counter(verdict.kind for verdict in found) for name, found in verdicts.items()}
    counts["total"] = sum(counts.values(), Counter())
    width = max(map(len, counts))
    lines = [f"{'file':<{width}}" + "".join(f"{column:>8}" for column in COLUMNS)]
    lines += [f"{name:<{width}}" + "".join(f"{row[column]:>8}" for column in COLUMNS) for name, row in counts.items()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    root = TORCH_TESTS if options.torch else OP_TESTS
    names = options.files or (["test_torch_ops.py"] if options.torch else test_files())
    only = HERE / "sample.txt" if options.sample else None
    if only:
        listed = only.read_text(encoding="utf-8").splitlines()
        names = [" ".join(sorted({test.partition("::")[0] for test in listed}))]
    exceptions, records, verdicts = read_exceptions(), {}, {}
    with ThreadPoolExecutor(options.n) as pool:
        for name, found in zip(names, pool.map(lambda name: run_file(name, options, root, only), names)):
            records |= found
            label = "sample" if only else name
            verdicts[label] = [verdict_of(test, record, exceptions) for test, record in found.items()]
            write_records(options, records)
            print(table({label: verdicts[label]}).splitlines()[1], file=sys.stderr, flush=True)
    if only:
        verdicts["sample"] += [Verdict(test, "failed", "did not run") for test in listed if test not in records]
        verdicts["sample"] = [
            Verdict(v.test, "failed", "compared nothing") if v.kind == "n/a" else v for v in verdicts["sample"]
        ]
    return finish(options, records, verdicts, exceptions)


def write_records(options: argparse.Namespace, records: dict[str, dict[str, Any]]) -> None:
    """Write what has been found so far, if asked to: a long run may be stopped."""
    if options.json:
        options.json.write_text(json.dumps(records, indent=1, sort_keys=True), encoding="utf-8")


def finish(
    options: argparse.Namespace,
    records: dict[str, dict[str, Any]],
    verdicts: dict[str, list[Verdict]],
    exceptions: dict[str, str],
) -> int:
    """Write what was asked for, print the table and the failures, return the exit code."""
    if options.record:
        (HERE / "sample.txt").write_text("\n".join(choose_sample(records, exceptions)) + "\n", encoding="utf-8")
        covered = Counter(
            op
            for name, record in records.items()
            if verdict_of(name, record, exceptions).kind == "passed"
            for op in record["ops"]
        )
        (HERE / "covered.json").write_text(json.dumps(covered, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    everything = [verdict for found in verdicts.values() for verdict in found]
    failed = [verdict for verdict in everything if verdict.kind == "failed"]
    for verdict in failed:
        print(f"FAILED {verdict.test}: {verdict.message}")
    print(table(verdicts))
    compared = sum(verdict.kind == "passed" for verdict in everything)
    print(f"conformance: {compared} tests predicted and compared, {len(failed)} failed")
    return 1 if failed or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
