"""The benchmark app's sources, as far as they can be judged without Xcode.

The views are type-checked against a stub of SwiftUI (swift/Apps/TypeCheck), everything else against the real modules.
The model, which knows no user interface, is run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SWIFT_FOLDER = Path(__file__).resolve().parents[1] / "swift"
APPS = SWIFT_FOLDER / "Apps"
STUBS = APPS / "TypeCheck"
SOURCES = sorted((APPS / "EdgeSAMBench" / "Sources").glob("*.swift"))
COMPILE = ["swiftc", "-swift-version", "6", "-parse-as-library", "-package-name", "edgesam"]
TYPE_CHECK = [*COMPILE, "-warnings-as-errors", "-typecheck", "-module-name", "EdgeSAMBench"]
# Bodies matter to whoever tests the package; the app sees only declarations.
DECLARATIONS = ["-Xfrontend", "-experimental-skip-all-function-bodies"]
MODEL_FILES = ["BenchmarkEngine", "BenchmarkModel", "ResultTable", "ScreenText", "LaunchRequest"]
CHECKS = {
    "waits_when_nothing_is_pushed",
    "shows_the_last_heartbeat_and_the_result",
    "keeps_a_result_when_nothing_new_waits_and_drops_it_when_the_next_run_fails",
    "lets_the_screen_lock_again_after_a_failure",
    "runs_once_at_a_time_and_passes_events_on_during_a_run_only",
    "tabulates_raw_samples",
    "writes_numbers_for_people",
    "reads_the_launch_environment",
}

needs_swift = pytest.mark.skipif(shutil.which("swiftc") is None, reason="no swift on PATH")


def run_tool(*command: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=SWIFT_FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[0]} {command[1]}:\n{done.stdout}{done.stderr}"
    return done.stdout


def module_sources(target: dict) -> list[Path]:
    folder = SWIFT_FOLDER / (target.get("path") or f"Sources/{target['name']}")
    return sorted(folder.rglob("*.swift"))


def emit_module(name: str, sources: list[Path], folder: Path, *more: str | Path) -> None:
    output = folder / f"{name}.swiftmodule"
    run_tool(*COMPILE, "-emit-module", "-module-name", name, "-I", folder, "-emit-module-path", output, *more, *sources)


def in_order(targets: dict[str, dict], name: str, found: list[str]) -> list[str]:
    """``name`` and what it depends on, each after its own dependencies."""
    for dependency in targets[name]["dependencies"]:
        in_order(targets, dependency["byName"][0], found)
    if name not in found:
        found.append(name)
    return found


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> Path:
    """A folder with a module for everything that the app imports."""
    folder = tmp_path_factory.mktemp("modules")
    manifest = json.loads(run_tool("swift", "package", "dump-package", "--scratch-path", folder / "scratch"))
    targets = {target["name"]: target for target in manifest["targets"]}
    for name in in_order(targets, "EdgeSAMBenchRuntime", []):
        emit_module(name, module_sources(targets[name]), folder, *DECLARATIONS)
    for name in ("SwiftUI", "UIKit"):
        emit_module(name, [STUBS / f"{name}.swift"], folder, *DECLARATIONS)
    return folder


@needs_swift
def test_the_sources_are_formatted():
    run_tool("swift", "format", "lint", "--strict", "--configuration", ".swift-format", "--recursive", APPS)


@needs_swift
def test_the_app_type_checks(modules):
    run_tool(*TYPE_CHECK, "-I", modules, *SOURCES)


@needs_swift
@pytest.mark.parametrize(
    ("file", "good", "bad"),
    [
        ("BenchmarkModel.swift", "activity: .running", "activity: .runing"),
        ("StatusSections.swift", "status.physFootprint", "status.footprint"),
        ("BenchmarkView.swift", ".padding()", ".paddding()"),
        ("DeviceSession.swift", "@MainActor\n", ""),
    ],
)
def test_the_type_check_finds_a_mistake(modules, tmp_path, file, good, bad):
    original = next(path for path in SOURCES if path.name == file)
    text = original.read_text(encoding="utf-8")
    assert good in text
    (tmp_path / file).write_text(text.replace(good, bad, 1), encoding="utf-8")
    changed = [tmp_path / file if path == original else path for path in SOURCES]
    with pytest.raises(AssertionError, match="error:"):
        run_tool(*TYPE_CHECK, "-I", modules, *changed)


@needs_swift
def test_the_model_behaves(tmp_path):
    libraries = []
    for name in ("EdgeSAMDigest", "EdgeSAMBenchCore"):
        sources = sorted((SWIFT_FOLDER / "Sources" / name).rglob("*.swift"))
        libraries.insert(0, tmp_path / f"lib{name}.a")
        emit_module(name, sources, tmp_path, "-emit-library", "-static", "-o", libraries[0])
    files = [path for path in SOURCES if path.stem in MODEL_FILES]
    assert len(files) == len(MODEL_FILES)
    program = tmp_path / "checks"
    run_tool(*COMPILE, "-I", tmp_path, "-o", program, *files, STUBS / "ModelChecks.swift", *libraries)
    lines = run_tool(program, "").splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert {line.removeprefix("ok ") for line in lines} == CHECKS


@pytest.mark.parametrize("name", ["EdgeSAMDemoApp.swift", "BundledModels.swift"])
def test_the_document_shows_the_demos_files(name):
    document = (SWIFT_FOLDER.parent / "docs" / "integrating.md").read_text(encoding="utf-8")
    source = (APPS / "EdgeSAMDemo" / "Sources" / name).read_text(encoding="utf-8")
    assert f"<!-- {name} -->\n```swift\n{source}```\n" in document


def test_the_user_interfaces_model_knows_none():
    sources = sorted((SWIFT_FOLDER / "Sources" / "EdgeSAMUI").glob("*.swift"))
    with_interface = {path.name for path in sources if "import SwiftUI" in path.read_text(encoding="utf-8")}
    assert with_interface == {"SegmentationView.swift"}


def test_only_the_views_know_a_user_interface():
    with_interface = {
        path.name for path in SOURCES if {"import SwiftUI", "import UIKit"} & set(path.read_text().split("\n"))
    }
    views = {"BenchmarkView.swift", "ResultSections.swift", "StatusSections.swift"}
    assert with_interface == {"EdgeSAMBenchApp.swift", "DeviceSession.swift", *views}


def test_no_statistics_and_no_forced_unwrapping_in_the_app():
    for path in SOURCES:
        code = [line.split("//")[0] for line in path.read_text(encoding="utf-8").splitlines()]
        for line in code:
            assert "try!" not in line and "as!" not in line, f"{path.name}: {line}"
            assert not any(word in line for word in ("median", "percentile", "average", "mean(")), (
                f"{path.name}: {line}"
            )
