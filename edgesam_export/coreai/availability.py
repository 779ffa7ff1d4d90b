"""Whether Apple's Core AI packages can be used here; they are an extra, with wheels for few systems."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from edgesam_export.errors import RunnerUnavailableError

__all__ = ["PINNED", "require_coreai", "why_unavailable"]

PINNED = {"coreai-core": "1.0.0b3", "coreai-torch": "0.4.3"}
"""Packages of the extra ``coreai`` and their versions: both are betas that change between releases."""
OLDEST_PYTHON = (3, 11)
OLDEST_GLIBC = (2, 34)


def why_unavailable() -> str | None:
    """Return why Core AI files can be neither made nor read here, None when they can."""
    return why_not_here() or why_not_installed()


def why_not_here() -> str | None:
    """Return what of this machine the packages have no wheel for, None when there is one."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        return f"Core AI's packages need Python 3.11 or newer, this is {sys.version_info[0]}.{sys.version_info[1]}"
    system, machine = platform.system(), platform.machine()
    if (system, machine) not in (("Linux", "x86_64"), ("Darwin", "arm64")):
        return f"Core AI's packages exist for Linux x86-64 and macOS arm64 only, this is {system} {machine}"
    library, release = platform.libc_ver()
    if system == "Linux" and (library != "glibc" or numbers(release) < OLDEST_GLIBC):
        return (
            f"Core AI's packages need glibc 2.34 or newer, this is {library or 'another C library'} {release}".rstrip()
        )
    return None


def why_not_installed() -> str | None:
    """Return which package is missing or of another version, None when all are as pinned."""
    for name, pinned in PINNED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            return f"{name} is not installed; pip install 'edgesam-export[coreai]'"
        if found != pinned:
            return f"{name} is {found}, only {pinned} is known to work; pip install 'edgesam-export[coreai]'"
    return None


def numbers(release: str) -> tuple[int, ...]:
    """Return the numbers of a release such as ``2.36``."""
    return tuple(int(part) for part in release.split(".") if part.isdigit())


def require_coreai() -> None:
    """Raise RunnerUnavailableError, with the reason, unless Core AI files can be made and read here."""
    if reason := why_unavailable():
        raise RunnerUnavailableError(f"Core AI (experimental) is not available: {reason}")
