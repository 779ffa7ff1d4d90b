"""Type-check the Swift sources for Apple systems with a Linux toolchain; README.md beside this file says how.

``python swift/AppleCheck/check.py [--triple TRIPLE]... [--folder FOLDER]``. Exit code 0: clean, or a toolchain that the
check was not made for, which a line says; 1: findings; 2: the modules of an Apple system cannot be made.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sdk import SDK, ModuleError
from targets import SWIFT, TRIPLES, Target, targets
from toolchain import Toolchain, UnsuitableToolchainError

FINDING = re.compile(r"^\S.*: (error|warning): ")
PACKAGE = ("-package-name", "edgesam")
"""All targets are of one package, so that they may use what is declared ``package``."""
Report = Callable[[str], None]


@dataclass
class Check:
    """The check of one triple."""

    sdk: SDK
    report: Report
    keys: dict[str, str] = field(default_factory=dict)
    """Name of a target that was looked at -> digest of its sources and of everything before it."""

    def run(self) -> list[str]:
        """Return all findings; targets whose sources and imports are as at the last clean run are not compiled."""
        found: list[str] = []
        previous = self.sdk.key
        for target in targets(self.sdk.triple):
            previous = self.keys[target.name] = digest(previous, target)
            stamp = self.sdk.folder / f"{target.name}.clean"
            if stamp.is_file() and stamp.read_text() == previous:
                continue
            stamp.unlink(missing_ok=True)
            here = [] if target.framework else self.findings(target)
            here += self.emit(target)
            found += here
            if not target.framework:
                self.report(f"  {target.name}: {len(here)} findings")
            if not here:
                stamp.write_text(previous)
        return found

    def findings(self, target: Target, replaced: Mapping[Path, str] | None = None) -> list[str]:
        """Return errors and warnings of a target, as far as the mandatory SIL passes, where data races are found.

        Args:
            target: one of ours; the modules that it imports are there.
            replaced: other texts for some of its files, for the check of the check.
        """
        work = self.sdk.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        files = target.files()
        for number, (path, text) in enumerate((replaced or {}).items()):
            (work / f"{number}").mkdir()
            (work / f"{number}" / path.name).write_text(text)
            files[files.index(path)] = work / f"{number}" / path.name
        program = any(path.name == "main.swift" for path in files)
        done = self.sdk.frontend(
            "-emit-sil", "-swift-version", "6", *([] if program else ["-parse-as-library"]),
            # nothing is linked: the modules made from interfaces hold no bodies for the linker pass
            "-Xllvm", "-sil-disable-pass=mandatory-linker",
            *PACKAGE, "-module-name", target.name, *files, "-o", work / "out.sil", at=work,
        )  # fmt: skip
        return diagnostics(done)

    def emit(self, target: Target) -> list[str]:
        """Make a target's module for those that import it; return what stands in the way."""
        files = [path for path in target.files() if path.name != "main.swift"]
        if target.imports:
            files.append(self.sdk.folder / f"{target.name}Imports.swift")
            files[-1].write_text(target.imports + "\n")
        done = self.sdk.frontend(
            "-emit-module", "-swift-version", "6", "-disable-availability-checking",
            "-experimental-skip-all-function-bodies", "-parse-as-library", *PACKAGE, "-module-name", target.name,
            *files, "-o", self.sdk.modules / f"{target.name}.swiftmodule", at=self.sdk.folder,
        )  # fmt: skip
        return diagnostics(done) if done.returncode else []


def digest(previous: str, target: Target) -> str:
    """Return a digest of a target's sources and of what came before it."""
    text = hashlib.sha256(f"{previous}{target.name}{target.imports}".encode())
    for path in target.files():
        text.update(f"{path.relative_to(SWIFT)}\0".encode() + path.read_bytes() + b"\0")
    return text.hexdigest()


def diagnostics(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines with errors and warnings; all of the output where it failed without one."""
    output = done.stdout + done.stderr
    found = [line.replace(f"{SWIFT}/", "") for line in output.splitlines() if FINDING.match(line)]
    return found or ([output.strip() or f"the compiler ended with {done.returncode}"] if done.returncode else [])


def check(triples: Sequence[str], folder: Path, report: Report) -> list[str]:
    """Return the findings of all triples; modules are kept in ``folder``."""
    found: list[str] = []
    for triple in triples:
        with opened(triple, folder, report) as sdk:
            here = Check(sdk, report).run()
        report(f"{triple}: {len(here)} findings")
        found += [f"{triple}: {finding}" for finding in here]
    return found


def cache_folder() -> Path:
    """Return the folder for modules that all checkouts have in common."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(configured) if Path(configured).is_absolute() else Path.home() / ".cache"
    return home / "edgesam-export" / "swift-apple-check"


@contextmanager
def opened(triple: str, folder: Path, report: Report) -> Iterator[SDK]:
    """Yield the modules of a triple, made if need be; one process at a time uses them."""
    folder.mkdir(parents=True, exist_ok=True)
    sdk = SDK(Toolchain.on_path(), triple, folder.resolve())
    with (folder / f"{triple}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not sdk.is_built:
            report(f"{triple}: making modules of the standard library and Foundation, once for a toolchain")
            sdk.build()
        yield sdk


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--triple", action="append", help=f"default: {' and '.join(TRIPLES)}")
    parser.add_argument(
        "--folder", type=Path, default=cache_folder(), help="where modules are kept; default: %(default)s"
    )
    options = parser.parse_args(arguments)
    try:
        found = check(options.triple or TRIPLES, options.folder, lambda line: print(line, flush=True))
    except UnsuitableToolchainError as error:
        print(f"swift-apple-check: nothing is checked for Apple systems here: {error}")
        return 0
    except ModuleError as error:
        print(f"swift-apple-check: {error}", file=sys.stderr)
        return 2
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
