"""What an app's author gets by adding this repository's URL to a project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgesam_export.resources import read_toml

ROOT = Path(__file__).resolve().parents[1]
VERSION = read_toml(ROOT / "pyproject.toml")["project"]["version"]
MANIFEST = """\
// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "App",
    platforms: [.macOS(.v14)],
    dependencies: [.package(url: "URL", from: "VERSION")],
    targets: [
        .executableTarget(
            name: "App",
            dependencies: [
                .product(name: "EdgeSAM", package: "edgesam-export"),
                .product(name: "EdgeSAMUI", package: "edgesam-export"),
            ])
    ]
)
"""
PROGRAM = """\
import EdgeSAM
import EdgeSAMUI

// one import gives images and masks too
let mask = try BinaryMask(size: PixelSize(width: 2, height: 1), bits: [0, 1])
print(mask.rle().compressed, EdgeSAMPredictor.self, EdgeSAMOptions.defaultCompiledModelLimit)
"""

needs_swift = pytest.mark.skipif(shutil.which("swift") is None, reason="no swift on PATH")


def run(*command: str | Path, at: Path) -> str:
    """Return what a command prints."""
    done = subprocess.run([str(word) for word in command], cwd=at, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} {command[1]}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def tagged_repository(tmp_path) -> Path:
    """A repository with the Swift files of the working tree, tagged with the version."""
    repository = tmp_path / "edgesam-export"
    files = run("git", "ls-files", "-co", "--exclude-standard", "Package.swift", "swift", at=ROOT).splitlines()
    for name in files:
        if (ROOT / name).is_file():
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, repository / name)
    author = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    run("git", "init", "--quiet", at=repository)
    run("git", "add", "--all", at=repository)
    run("git", *author, "commit", "--quiet", "--message", "all", at=repository)
    run("git", *author, "tag", VERSION, at=repository)
    return repository


@needs_swift
def test_a_package_resolves_and_builds_with_it_by_url_and_tag(tagged_repository, tmp_path):
    app = tmp_path / "App"
    (app / "Sources" / "App").mkdir(parents=True)
    text = MANIFEST.replace("URL", tagged_repository.as_uri()).replace("VERSION", VERSION)
    (app / "Package.swift").write_text(text)
    (app / "Sources" / "App" / "main.swift").write_text(PROGRAM)
    # a cache of its own, which leaves none of the repository behind
    lean = ("-debug-info-format", "none", "--disable-index-store")
    shown = run("swift", "run", *lean, "--cache-path", tmp_path / "cache", "App", at=app)
    # by hand: one pixel of zeros, one of ones
    assert shown.splitlines()[-1] == "11 EdgeSAMPredictor 4"
    resolved = json.loads((app / "Package.resolved").read_text())
    (pin,) = resolved["pins"]
    assert (pin["identity"], pin["state"]["version"]) == ("edgesam-export", VERSION)


@needs_swift
def test_apps_are_offered_two_libraries_and_no_benchmark(tmp_path):
    manifest = json.loads(run("swift", "package", "dump-package", "--scratch-path", tmp_path, at=ROOT))
    products = {product["name"]: list(product["type"]) for product in manifest["products"]}
    assert products == {"EdgeSAM": ["library"], "EdgeSAMUI": ["library"]}
    platforms = {(platform["platformName"], platform["version"]) for platform in manifest["platforms"]}
    assert platforms == {("ios", "17.0"), ("maccatalyst", "17.0"), ("macos", "14.0"), ("visionos", "1.0")}
    assert manifest["dependencies"] == []
    assert not [target["name"] for target in manifest["targets"] if "Bench" in target["name"]]


def test_there_is_one_version():
    """``pyproject.toml`` has it; a release's tag is the same, which is where Swift's packages have theirs."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    settings = (ROOT / "swift/Apps/EdgeSAMBench/Config/Base.xcconfig").read_text()
    assert re.findall(r"^MARKETING_VERSION = (.*)$", settings, re.MULTILINE) == [VERSION]
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("swift/**/*.md")]
    shown = {number for page in pages for number in re.findall(r'from: "(\d+\.\d+\.\d+)"', page.read_text())}
    assert shown <= {VERSION}
