"""The check of the Swift sources for Apple systems finds what it is for (swift/AppleCheck)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SWIFT = ROOT / "swift"
CORE, LIBRARY, APP = (SWIFT / path for path in ("Sources/EdgeSAMCore", "Sources/EdgeSAM", "Apps/EdgeSAMBench/Sources"))
sys.path.insert(0, str(SWIFT / "AppleCheck"))

import check  # noqa: E402
import interfaces  # noqa: E402
import targets  # noqa: E402
from toolchain import Toolchain, UnsuitableToolchainError  # noqa: E402

SEEDS = {
    "a too new API in the library": (
        "EdgeSAMCore",
        CORE / "NPYArray.swift",
        ("String(bytes: bytes[prefix..<prefix + length], encoding: .utf8)",
         "String(validating: bytes[prefix..<prefix + length], as: UTF8.self)"),
        "'init(validating:as:)' is only available in iOS 18.0 or newer",
    ),
    "a too new API in the app": (
        "EdgeSAMBench",
        APP / "ScreenText.swift",
        ("\nenum ScreenText", "\nfunc seeded() -> Int { [1].span.count }\n\nenum ScreenText"),
        "'span' is only available in iOS 26",
    ),
    "a missing #available": (
        "EdgeSAM",
        LIBRARY / "EdgeSAMOptions.swift",
        ("if #available(iOS 17.4, macOS 14.4, visionOS 1.1, *), let", "if let"),
        "'optimizationHints' is only available in iOS 17.4 or newer",
    ),
    "a data race": (
        "EdgeSAM",
        LIBRARY / "ImageEmbedding.swift",
        ("import EdgeSAMCore\n",
         "import EdgeSAMCore\n\nfunc seeded(_ box: Box) { Task.detached { box.count += 1 }; box.count += 1 }\n"
         "final class Box { var count = 0 }\n"),
        "risks causing data races",
    ),
}  # fmt: skip
"""What is wrong -> module, file, the change that makes it wrong, what must be found."""


@pytest.fixture(scope="module")
def phone() -> Iterator[check.Check]:
    """The check of iOS 17 with the modules of all targets."""
    try:
        Toolchain.on_path()
    except UnsuitableToolchainError as error:
        pytest.skip(f"cannot type-check for Apple systems: {error}")
    with check.opened(targets.PHONE, check.cache_folder(), print) as sdk:
        prepared = check.Check(sdk, print)
        assert prepared.run() == []
        yield prepared


@pytest.mark.parametrize("name", SEEDS)
def test_a_seeded_error_is_found(phone, name):
    module, file, (good, bad), expected = SEEDS[name]
    (target,) = (target for target in targets.targets(targets.PHONE) if target.name == module)
    text = file.read_text(encoding="utf-8")
    assert good in text
    findings = phone.findings(target, {file: text.replace(good, bad, 1)})
    assert any(expected in finding for finding in findings), findings


def test_every_target_of_both_packages_is_checked():
    checked = {path for triple in targets.TRIPLES for target in targets.targets(triple) for path in target.files()}
    sources = {*(SWIFT / "Sources").rglob("*.swift"), *(SWIFT / "Apps").glob("*/Sources/**/*.swift")}
    assert not sources - checked


def test_another_toolchain_is_a_line_and_no_failure(tmp_path):
    for name in ("swiftc", "swift-synthesize-interface"):
        tool = tmp_path / "usr/bin" / name
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text('#!/bin/sh\necho "Swift version 6.0 (swift-6.0-RELEASE)"\n')
        tool.chmod(0o755)
    module = tmp_path / "usr/lib/swift/linux/Swift.swiftmodule"
    module.mkdir(parents=True)
    (module / "x86_64-unknown-linux-gnu.swiftinterface").touch()
    command = [sys.executable, SWIFT / "AppleCheck/check.py", "--folder", tmp_path / "out"]
    for path, line in ((tmp_path / "usr/bin", "this is Swift version 6.0"), (tmp_path, "no swiftc")):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={"PATH": f"{path}:/usr/bin:/bin"}
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert line in done.stdout and done.stdout.count("\n") == 1


def test_a_dropped_declaration_goes_with_its_attributes_and_its_body():
    lines = ["head", "@frozen", "@available(macOS 10.0, *)", "public struct A {", "  public func f()", "}", "tail"]
    assert interfaces.drop(lines, 1) == "public struct A {"
    assert lines == ["head", "", "", "", "", "", "tail"]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("  public private(set) var count: Swift.Int", "  public var count: Swift.Int { get set }"),
        ("  weak public var owner: A?", "  public var owner: A? { get set }"),
        ("  public let size: Swift.Int { get }", "  public let size: Swift.Int"),
        ("  public var size: Swift.Int { get }", "  public var size: Swift.Int { get }"),
        ("  case some(var: Swift.Int)", "  case some(var: Swift.Int)"),
    ],
)
def test_printed_variables_become_those_of_an_interface(printed, expected):
    assert interfaces.declaration(printed, "Foundation") == expected


def test_declarations_get_the_release_of_vision_os():
    text = "@available(macOS 14.4, iOS 17.4, *)\n@available(macOS 10.10, iOS 8.0, *)\n@available(macOS 26, iOS 26, *)\n"
    expected = (
        "@available(macOS 14.4, visionOS 1.4, iOS 17.4, *)\n@available(macOS 10.10, visionOS 1.0, iOS 8.0, *)\n"
        "@available(macOS 26, visionOS 26.0, iOS 26.0, *)\n"
    )
    assert interfaces.with_vision_os(text) == expected
    stated = "@available(macOS 15.0, iOS 18.0, visionOS 2.0, *)\n@available(iOS, introduced: 2.0, deprecated: 26.0)\n"
    assert interfaces.with_vision_os(stated) == stated
