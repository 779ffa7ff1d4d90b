"""What is checked, in the order of imports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SWIFT = Path(__file__).resolve().parents[1]
STUBS = SWIFT / "AppleCheck" / "Stubs"
PHONE, MAC = "arm64-apple-ios17.0", "arm64-apple-macos14.0"
TRIPLES = (PHONE, MAC)
"""What ``make test`` checks. The other systems of Package.swift are checked with ``--triple``."""


@dataclass(frozen=True)
class Target:
    """A module: a framework's stand-in, of which only declarations count, or one of ours, which is checked."""

    name: str
    sources: tuple[Path, ...]
    """Folders and files."""
    framework: bool = False
    without: tuple[str, ...] = ()
    """Names of files that are left out."""
    imports: str = ""
    """Further lines of source."""

    def files(self) -> list[Path]:
        """Return the source files, sorted."""
        found: list[Path] = []
        for source in self.sources:
            found += sorted(source.rglob("*.swift")) if source.is_dir() else [source]
        return [path for path in found if path.name not in self.without]


def framework(name: str, *sources: Path, without: tuple[str, ...] = (), imports: str = "") -> Target:
    """Return a target of declarations that stand for Apple's."""
    return Target(name, sources, framework=True, without=without, imports=imports)


def targets(triple: str) -> list[Target]:
    """Return every target for a triple, each after those that it imports."""
    types = SWIFT / "Apps" / "TypeCheck"
    core_video, names = SWIFT / "StandIns" / "CoreVideo", "CoreFoundationNames.swift"
    phone = "-ios" in triple and not triple.endswith("-macabi")
    interface = "AppKit" if "-macos" in triple else "UIKit"
    shared = [types / "UIKit.swift"] if interface == "UIKit" else []
    more = {
        name: [STUBS / f"{name}.swift"] if phone else [] for name in ("ImageIOWriting", "UIKitPhone", "SwiftUIPhone")
    }
    found = [
        framework("CoreFoundation", core_video / names, STUBS / "CoreFoundation.swift"),
        framework("CoreGraphics", STUBS / "CoreGraphics.swift"),
        framework("ImageIO", STUBS / "ImageIO.swift", *more["ImageIOWriting"]),
        framework("CoreVideo", core_video, without=(names,), imports="@_exported import CoreFoundation"),
        framework("CoreML", SWIFT / "StandIns" / "CoreML"),
        framework("VideoToolbox", STUBS / "VideoToolbox.swift"),
        framework("os", STUBS / "os.swift"),
        framework(interface, *shared, STUBS / f"{interface}.swift", *more["UIKitPhone"]),
        *(framework(name, STUBS / f"{name}.swift") for name in ("UniformTypeIdentifiers", "CoreTransferable")),
        framework("SwiftUI", types / "SwiftUI.swift", STUBS / "SwiftUIMore.swift", *more["SwiftUIPhone"]),
        framework("PhotosUI", STUBS / "PhotosUI.swift"),
        *(own(name) for name in ("EdgeSAMCore", "EdgeSAM", "EdgeSAMUI")),
    ]
    if triple in TRIPLES:
        found += [own(name) for name in ("EdgeSAMDigest", "EdgeSAMBenchCore", "EdgeSAMBenchRuntime")]
    if triple == MAC:
        found.append(Target("edgesam_bench_host", (SWIFT / "Sources" / "edgesam-bench-host",)))
        found.append(Target("demo_states", (SWIFT / "Tools" / "Sources" / "demo-states",)))
    if phone:
        apps = sorted(path.parent for path in (SWIFT / "Apps").glob("*/Sources"))
        found += [Target(app.name, (app / "Sources",)) for app in apps]
    return found


def own(name: str) -> Target:
    """Return a target of ours."""
    return Target(name, (SWIFT / "Sources" / name,))
