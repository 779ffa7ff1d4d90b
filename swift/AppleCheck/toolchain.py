"""The Swift toolchain on PATH, and what of it other Apple triples can be compiled from."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TESTED = "6.3"
"""Swift whose interfaces are known to carry over, with the counts in ``sdk.DROPPED``."""
NEEDS = ("swiftc", "swift-synthesize-interface")


class UnsuitableToolchainError(Exception):
    """The toolchain cannot do this; the message says what is missing."""


@dataclass(frozen=True)
class Toolchain:
    """A toolchain for Linux. ``usr`` is the folder with its ``bin`` and ``lib``."""

    usr: Path

    @classmethod
    def on_path(cls) -> Toolchain:
        """Return the toolchain of the ``swiftc`` on PATH.

        Raises:
            UnsuitableToolchainError: no Swift, no textual interfaces, or a version that was never tried.
        """
        missing = [tool for tool in NEEDS if shutil.which(tool) is None]
        if missing:
            raise UnsuitableToolchainError(f"no {' and no '.join(missing)} on PATH; install Swift {TESTED} for Linux")
        toolchain = cls(Path(str(shutil.which("swiftc"))).resolve().parents[1])
        if not toolchain.interface("Swift").is_file():
            raise UnsuitableToolchainError(f"no textual interfaces in {toolchain.linux}; install Swift {TESTED}")
        if f"Swift version {TESTED}" not in toolchain.version:
            raise UnsuitableToolchainError(
                f"the check is known to work with Swift {TESTED}, this is {toolchain.version.splitlines()[0]}"
            )
        return toolchain

    @property
    def linux(self) -> Path:
        """The folder with the standard library's modules for Linux."""
        return self.usr / "lib" / "swift" / "linux"

    @cached_property
    def version(self) -> str:
        """What ``swiftc --version`` prints."""
        return subprocess.run(["swiftc", "--version"], capture_output=True, text=True, check=True).stdout

    @cached_property
    def machine(self) -> str:
        """The first part of the names of Linux's modules, such as ``x86_64-unknown-linux-gnu``."""
        names = [path.stem for path in (self.linux / "Swift.swiftmodule").glob("*.swiftinterface")]
        public = [name for name in names if not name.endswith((".private", ".package"))]
        if len(public) != 1:
            raise UnsuitableToolchainError(f"{len(public)} textual interfaces of Swift in {self.linux}, one expected")
        return public[0]

    def interface(self, module: str) -> Path:
        """Return the path of a module's textual interface for Linux."""
        return self.linux / f"{module}.swiftmodule" / f"{self.machine}.swiftinterface"

    def printed(self, module: str) -> str:
        """Return all declarations of a module, as ``swift-synthesize-interface`` prints them."""
        command = ["swift-synthesize-interface", "-target", self.machine, "-swift-version", "5"]
        command += ["-print-fully-qualified-types", "-module-name", module]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
