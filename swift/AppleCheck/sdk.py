"""Modules of the standard library, of Foundation and of small stubs for an Apple triple, from a toolchain for Linux."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import interfaces
from toolchain import Toolchain

HERE = Path(__file__).resolve().parent
STUBS = HERE / "Stubs"
BEFORE_DARWIN = ("Swift", "SwiftOnoneSupport", "_Concurrency", "_Builtin_float", "_RegexParser", "_StringProcessing")
AFTER_DARWIN = ("Synchronization", "Observation")
DROPPED = {"Dispatch": 0, "FoundationEssentials": 5, "FoundationInternationalization": 36, "Foundation": 141}
"""Printed modules in the order of their imports, with how many declarations cannot be carried over (Swift 6.3.1).

Another number means that the check looks at less, or at more, than it did when the numbers were last looked at.
"""


KEPT = 3
"""States of what the modules of a triple are made from whose modules stay."""


class ModuleError(Exception):
    """A module of an Apple system cannot be made; the message says which and why."""


@dataclass(frozen=True)
class SDK:
    """Where the modules of one triple lie, and how to compile against them."""

    toolchain: Toolchain
    triple: str
    root: Path
    """Where the folders of all triples lie; several checkouts may have it in common."""

    @cached_property
    def folder(self) -> Path:
        """The folder of this triple for this content."""
        return self.root / f"{self.triple}-{self.key[:12]}"

    @property
    def modules(self) -> Path:
        """The folder of compiled modules."""
        return self.folder / "modules"

    @cached_property
    def key(self) -> str:
        """A digest of everything that the modules are made from."""
        digest = hashlib.sha256(self.toolchain.version.encode() + self.triple.encode())
        own = [HERE / name for name in ("interfaces.py", "sdk.py", "toolchain.py")]
        own += [STUBS / "Darwin.swift", STUBS / "ObjectiveC.swift", *sorted(STUBS.glob("*.swiftinterface"))]
        for path in own:
            digest.update(path.read_bytes())
        return digest.hexdigest()

    @property
    def is_built(self) -> bool:
        """Whether the modules are there for this content."""
        done = self.folder / "done"
        return done.is_file() and done.read_text() == self.key

    def frontend(self, *arguments: str | Path, at: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the compiler's frontend for the triple."""
        command = ["swiftc", "-frontend", *arguments, "-target", self.triple, "-disable-objc-interop"]
        command += ["-resource-dir", self.folder / "resources", "-module-cache-path", self.folder / "cache"]
        command += ["-I", self.modules, "-plugin-path", self.toolchain.usr / "lib/swift/host/plugins"]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, cwd=at)

    def build(self) -> None:
        """Make the modules unless they are there already for this content.

        Raises:
            ModuleError: something does not compile, or another number of declarations was dropped.
        """
        if self.is_built:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        older = sorted(self.root.glob(f"{self.triple}-*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in older[KEPT - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("modules", "resources", "interfaces"):
            (self.folder / name).mkdir(parents=True)
        resources = self.toolchain.usr / "lib" / "swift"
        shutil.copytree(resources / "shims", self.folder / "resources" / "shims")
        (self.folder / "resources" / "clang").symlink_to((resources / "clang").resolve())
        for name in BEFORE_DARWIN:
            self._standard_library(name)
        self._darwin()
        for name in AFTER_DARWIN:
            self._standard_library(name)
        self._stub("ObjectiveC", STUBS / "ObjectiveC.swift")
        for name, expected in DROPPED.items():
            self._printed(name, expected)
        (self.folder / "done").write_text(self.key)

    def _standard_library(self, name: str) -> None:
        text = interfaces.standard_library(self.toolchain.interface(name).read_text(), self.triple)
        path = self.folder / "interfaces" / f"{name}.swiftinterface"
        path.write_text(text)
        self._require(self._compiled(name, path, *(["-parse-stdlib"] if "-parse-stdlib" in text else [])), name)

    def _compiled(self, name: str, interface: Path, *more: str) -> subprocess.CompletedProcess[str]:
        return self.frontend(
            "-compile-module-from-interface", "-disable-availability-checking", "-module-name", name, *more,
            "-o", self.modules / f"{name}.swiftmodule", interface,
        )  # fmt: skip

    def _darwin(self) -> None:
        glibc = self.toolchain.interface("Glibc").read_text()
        found = re.search(r"(?ms)^public enum POSIXErrorCode.*?^}", glibc)
        cases = re.findall(r"(?m)^ +case E.*$", found[0]) if found else []
        code = ["public enum POSIXErrorCode: Int32, Sendable {", *cases, "}"]
        source = self.folder / "Darwin.swift"
        source.write_text((STUBS / "Darwin.swift").read_text() + "\n".join(code) + "\n")
        self._stub("Darwin", source)

    def _stub(self, name: str, source: Path) -> None:
        done = self.frontend(
            "-emit-module", "-parse-as-library", "-swift-version", "5", "-module-name", name,
            "-o", self.modules / f"{name}.swiftmodule", source,
        )  # fmt: skip
        self._require(done, name)

    def _printed(self, name: str, expected: int) -> None:
        more = STUBS / f"{name}More.swiftinterface"
        path = self.folder / "interfaces" / f"{name}.swiftinterface"
        path.write_text(
            interfaces.as_interface(
                name, self.toolchain.printed(name), triple=self.triple,
                compiler=self.toolchain.version.splitlines()[0], more=more.read_text() if more.is_file() else "",
            )
        )  # fmt: skip
        try:
            dropped = interfaces.prune(path, lambda: self._compiled(name, path))
        except RuntimeError as error:
            raise ModuleError(str(error)) from None
        (self.folder / f"{name}.dropped").write_text("\n".join(dropped) + "\n")
        if len(dropped) != expected:
            raise ModuleError(
                f"{len(dropped)} declarations of {name} cannot be carried over, {expected} were expected; "
                f"look at {self.folder / name}.dropped and correct DROPPED in {Path(__file__).name}"
            )

    def _require(self, done: subprocess.CompletedProcess[str], name: str) -> None:
        if done.returncode:
            raise ModuleError(f"module {name} for {self.triple} does not compile:\n{done.stderr}")
