"""Install what the tests use of other projects, for ``make setup``: trained weights, and programs that read our files.

The pins are the dependency groups of pyproject.toml. None of their dependencies are installed: those would replace
PyTorch, or bring windows and browsers. Weights go beside our own dependencies. Each program gets a folder of its own,
``consumers/<name>`` of the virtual environment, because two of them have the same module; ``other_programs.py`` imports
them from there. What cannot be installed is named, and its tests are skipped.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from edgesam_export.resources import read_toml

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sys.prefix) / "consumers"
PIN = re.compile(r"([\w.-]+)==([\w.]+)")


def pins(group: str) -> dict[str, str]:
    """Return the version of each distribution of a dependency group."""
    lines = read_toml(ROOT / "pyproject.toml")["dependency-groups"][group]
    matches = [PIN.fullmatch(line) for line in lines]
    return {match[1]: match[2] for match in matches if match is not None}


def install(requirement: str, *options: str) -> None:
    """Install one distribution without its dependencies, or say that it is missing."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, *options, requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        print(f"{requirement}: not installed ({reason}); its tests are skipped", file=sys.stderr)


def main() -> None:
    """Install every distribution of both groups that is not there in its version."""
    for name, version in pins("weights").items():
        install(f"{name}=={version}")
    for name, version in pins("consumers").items():
        folder = PROGRAMS / name
        if not list(folder.glob(f"*-{version}.dist-info")):
            install(f"{name}=={version}", "--upgrade", "--target", str(folder))


if __name__ == "__main__":
    main()
