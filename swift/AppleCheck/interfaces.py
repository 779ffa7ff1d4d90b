"""Textual Swift interfaces for an Apple triple, from what the Linux toolchain has."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

ATTRIBUTE = re.compile(r"\s*@\w+(\(.*\))?$")
DECLARES_VARIABLE = re.compile(r"\b(var \w+|subscript\b.*->|var `\w+`)")
ROUNDS = 12
"""Dropping one declaration can break another; Foundation takes five rounds."""


VISION_OS = {17: 1, 18: 2}
"""Release of iOS -> the visionOS that came with it; what is older is in visionOS 1, from 26 on they agree."""


def with_vision_os(text: str) -> str:
    """Return an interface whose ``@available`` also say since when visionOS has a declaration.

    An Apple SDK brings the table that the compiler would do this with. The months between releases are kept as minor
    versions, which is late rather than early: iOS 17.4 came with visionOS 1.1.
    """

    def since(match: re.Match[str]) -> str:
        major, minor = int(match[2]), int(match[3] or 0)
        release = f"{VISION_OS.get(major, major)}.{minor}" if major >= 17 else "1.0"
        return f"{match[1]}visionOS {release}, iOS {match[2]}.{minor}"

    return re.sub(r"(@available\((?![^)]*visionOS)[^)]*?)\biOS (\d+)(?:\.(\d+))?(?:\.\d+)?", since, text)


def standard_library(text: str, triple: str) -> str:
    """Return an interface of the standard library for another triple.

    Bodies of ``@backDeployed`` functions are not in Linux's interfaces; without them the attribute adds nothing to
    ``@available``.  Three bodies call functions of Linux's runtime; they are never run here.
    """
    replacements = (
        (r"(?m)^(// swift-module-flags:.*)-target x86_64-unknown-linux-gnu", rf"\1-target {triple}"),
        (r"(?m)^(// swift-module-flags:.*)-target aarch64-unknown-linux-gnu", rf"\1-target {triple}"),
        (r"_swift_stdlib_gettid\(\)", "(0 as UInt32)"),
        (r"_stdlib_remainderl\(self, other\)", "self + other"),
        (r"_stdlib_squareRootl\(self\)", "self + self"),
        (r"@backDeployed\(before: [^)]*\)", ""),
        (r"(?m)^(@_exported )?import Glibc$", r"\1import Darwin"),
    )
    for pattern, replacement in replacements:
        text = re.sub(pattern, replacement, text)
    return with_vision_os(text) if "-xros" in triple else text


def as_interface(name: str, printed: str, *, triple: str, compiler: str, more: str = "") -> str:
    """Return a module's printed declarations as a textual interface for a triple.

    ``printed`` is what ``swift-synthesize-interface`` prints; ``more`` are declarations that Linux's module lacks.
    """
    lines = [re.sub(r"\b(Glibc|CDispatch)\b", "Darwin", line) for line in printed.splitlines()]
    lines = [declaration(line, name) for line in lines if not line.lstrip().startswith("//")]
    if name == "Foundation":
        lines = foundation(lines)
    flags = "-disable-objc-interop -enable-library-evolution -swift-version 5 -disable-availability-checking"
    head = [
        "// swift-interface-format-version: 1.0",
        f"// swift-compiler-version: {compiler}",
        f"// swift-module-flags: -target {triple} {flags} -module-name {name}",
        "import Swift",
        "import _Concurrency",
        "import _StringProcessing",
        *(["@_exported import ObjectiveC"] if name == "Foundation" else []),
    ]
    text = "\n".join([*head, *lines, more]) + "\n"
    return with_vision_os(text) if "-xros" in triple else text


def declaration(line: str, module: str) -> str:
    """Return a printed line as an interface writes it."""
    stripped = line.strip()
    if stripped != "}" and not stripped.endswith("{"):
        line = re.sub(r"\b(internal|private|fileprivate)\(set\) ", "", line)
        stored = not re.search(r"\blet \w", line) and DECLARES_VARIABLE.search(line) and not stripped.endswith("}")
        if stored and not re.match(r"\s*(case|@available)", line):
            line = re.sub(r"\b(weak|lazy|unowned|unowned\(unsafe\)) (?=.*\bvar )", "", line) + " { get set }"
    if re.search(r"\blet \w", line):
        line = re.sub(r" \{ get \}$", "", line)
    if module == "Dispatch":
        line = line.replace("override public init()", "public init()")
    return re.sub(r"typealias NSRange$", "typealias NSRange = Foundation._NSRange", line)


def foundation(lines: Iterable[str]) -> list[str]:
    """Return Foundation's lines with its globals once each, its parts exported again, and its own ``NSRange``."""
    seen: set[str] = set()
    unique = []
    for line in lines:
        if re.match(r"public (let|var) ", line):
            if line in seen:
                continue
            seen.add(line)
        unique.append(re.sub(r"^import (Foundation\w+|Dispatch|Darwin)$", r"@_exported import \1", line))
    return [
        *unique,
        "public struct _NSRange : Swift.Equatable, Swift.Hashable, Swift.Sendable {",
        "  public var location: Swift.Int",
        "  public var length: Swift.Int",
        "  public init(location: Swift.Int, length: Swift.Int)",
        "}",
    ]


def prune(path: Path, compile_interface: Callable[[], subprocess.CompletedProcess[str]]) -> list[str]:
    """Compile an interface, dropping what does not compile; return the dropped declarations.

    Raises:
        RuntimeError: nothing more can be dropped and it still does not compile.
    """
    dropped: list[str] = []
    for _ in range(ROUNDS):
        done = compile_interface()
        if done.returncode == 0:
            return dropped
        found = re.finditer(re.escape(str(path)) + r":(\d+):\d+: error: (?!failed to build)", done.stdout + done.stderr)
        wrong = sorted({int(match[1]) - 1 for match in found}, reverse=True)
        if not wrong:
            break
        lines = path.read_text().split("\n")
        for number in wrong:
            dropped.append(drop(lines, number))
        path.write_text("\n".join(lines))
    raise RuntimeError(f"{path.name} does not compile: {done.stdout}{done.stderr}")


def drop(lines: list[str], number: int) -> str:
    """Empty the declaration at a line, its attributes and its body included; return its first line."""
    while ATTRIBUTE.match(lines[number]):  # an attribute's error belongs to the declaration below it
        number += 1
    end = number
    if lines[number].endswith("{"):
        closing = lines[number][: len(lines[number]) - len(lines[number].lstrip())] + "}"
        end = lines.index(closing, number)
    start = number
    while ATTRIBUTE.match(lines[start - 1]):
        start -= 1
    text = lines[number].strip()
    lines[start : end + 1] = [""] * (end + 1 - start)
    return text
