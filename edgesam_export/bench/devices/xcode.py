"""Xcode: finding it, checking its version, building and signing the benchmark app with it."""

from __future__ import annotations

import plistlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from edgesam_export.bench.devices import BackendOptions
from edgesam_export.bench.devices.commands import CommandLog, CompletedCommand, run_command
from edgesam_export.bench.devices.failures import BUILD_FAILURES, classify, make_failure
from edgesam_export.errors import BuildFailure, DeviceSetupFailure, UsageError

__all__ = [
    "BUNDLE_PREFIX",
    "MINIMUM_XCODE",
    "Xcode",
    "build_app",
    "bundle_identifier",
    "find_swift_folder",
    "find_xcode",
    "first_error",
    "last_words",
    "verify_signature",
]

MINIMUM_XCODE = 15
"""First Xcode with devicectl."""
QUICK_S = 60.0
BUILD_S = 1800.0
SCHEME = "EdgeSAMBench"
BUNDLE_PREFIX = "org.edgesam.bench"
"""Config/Base.xcconfig appends the team: an identifier belongs to one team in the world."""
PROJECT = Path("Apps/EdgeSAMBench/EdgeSAMBench.xcodeproj")
PRODUCT = Path("Build/Products/Release-iphoneos/EdgeSAMBench.app")
SELECT = "install Xcode 15 or later and select it with `sudo xcode-select -s /Applications/Xcode.app`"


@dataclass(frozen=True, kw_only=True)
class Xcode:
    """The selected Xcode."""

    folder: str
    version: str
    build: str | None
    devicectl: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def find_xcode(log: CommandLog, *, platform: str = sys.platform) -> Xcode:
    """Return the selected Xcode.

    Raises:
        DeviceSetupFailure: not a Mac, no Xcode, the Command Line Tools only, or an Xcode without devicectl.
    """
    if platform != "darwin":
        raise DeviceSetupFailure(
            f"an iPhone is reached through Xcode, which needs macOS (this is {platform}); "
            "run the same command on a Mac, or measure this machine with --host",
            kind="not_macos",
        )
    selected = ask(log, "xcode_select", "xcode-select", "-p")
    folder = selected.stdout.strip()
    if not selected.ok or not folder:
        raise DeviceSetupFailure(f"no Xcode is selected: {last_words(selected)}; {SELECT}", kind="no_xcode")
    if folder.rstrip("/").endswith("CommandLineTools"):
        raise DeviceSetupFailure(
            f"only the Command Line Tools are selected ({folder}), which have no devicectl; {SELECT}", kind="tools_only"
        )
    answer = ask(log, "xcodebuild_version", "xcodebuild", "-version")
    match = re.search(r"Xcode (\d+(?:\.\d+)*)", answer.stdout)
    if not answer.ok or match is None:
        raise DeviceSetupFailure(f"xcodebuild does not run: {last_words(answer)}; {SELECT}", kind="no_xcode")
    version = match.group(1)
    build = re.search(r"Build version (\S+)", answer.stdout)
    devicectl = ask(log, "devicectl_version", "xcrun", "devicectl", "--version")
    if int(version.split(".")[0]) < MINIMUM_XCODE or not devicectl.ok:
        raise DeviceSetupFailure(
            f"Xcode {version} at {folder} has no usable devicectl: Xcode {MINIMUM_XCODE} or later is needed; {SELECT}",
            kind="old_xcode",
        )
    return Xcode(
        folder=folder, version=version, build=build and build.group(1), devicectl=devicectl.stdout.strip() or "unknown"
    )


def ask(log: CommandLog, name: str, *argv: str) -> CompletedCommand:
    """Return the outcome of a short command."""
    return run_command(argv, stem=log.next_stem(name), timeout_s=QUICK_S)


def last_words(command: CompletedCommand) -> str:
    """Return the last line of a command's output, or the reason why there is none."""
    if command.timed_out:
        return "it did not answer in time"
    lines = (command.stderr.strip() or command.stdout.strip()).splitlines()
    return lines[-1].strip()[:300] if lines else f"exit status {command.returncode} without a word"


def find_swift_folder(options: BackendOptions) -> Path:
    """Return the folder of Package.swift: the one given, in the current folder, or beside this package's checkout.

    Raises:
        UsageError: there is none.
    """
    beside = Path(__file__).resolve().parents[3] / "swift"
    candidates = [options.swift_folder] if options.swift_folder else [Path.cwd() / "swift", Path.cwd(), beside]
    for folder in candidates:
        if (folder / "Package.swift").is_file():
            return folder.resolve()
    looked = ", ".join(str(folder) for folder in candidates)
    raise UsageError(f"no Package.swift in {looked}; run in a checkout of edgesam-export or give its swift folder")


def build_app(log: CommandLog, options: BackendOptions, derived_data: Path, udid: str | None) -> Path:
    """Build and sign the app for release and return it.

    Raises:
        BuildFailure: xcodebuild failed; the full log is kept.
        UsageError: no project, or a device to be registered has no udid.
    """
    argv = build_arguments(options, derived_data, udid)
    project = find_swift_folder(options)
    if not (project / PROJECT).is_dir():
        raise UsageError(f"{project / PROJECT} is missing; run in a complete checkout of edgesam-export")
    done = run_command(argv, stem=log.next_stem("xcodebuild"), timeout_s=BUILD_S, cwd=project)
    if not done.ok:
        words = f"{done.stdout}\n{done.stderr}"
        row = classify((), words, table=BUILD_FAILURES)
        detail = "it did not finish in time" if done.timed_out else first_error(words) or last_words(done)
        failure = make_failure("building EdgeSAMBench", row, (), detail, log=f"{done.log}.stdout")
        raise failure if row else BuildFailure(str(failure), kind="build_failed")
    app = derived_data / PRODUCT
    if not app.is_dir():
        raise BuildFailure(f"xcodebuild succeeded but left no {app}; log: {done.log}.stdout", kind="build_failed")
    return app


def build_arguments(options: BackendOptions, derived_data: Path, udid: str | None) -> list[str]:
    """Return xcodebuild's command line."""
    destination = "generic/platform=iOS"
    registration = []
    if options.register_device:
        if udid is None:
            raise UsageError("--register-device needs a device whose udid is known; connect it with a cable")
        destination, registration = f"platform=iOS,id={udid}", ["-allowProvisioningDeviceRegistration"]
    argv = ["xcodebuild", "build", "-project", str(PROJECT), "-scheme", SCHEME, "-configuration", "Release"]
    argv += ["-destination", destination, "-derivedDataPath", str(derived_data), "-allowProvisioningUpdates"]
    argv += registration
    if options.authentication_key:
        path, key, issuer = options.authentication_key
        argv += ["-authenticationKeyPath", str(path), "-authenticationKeyID", key]
        argv += ["-authenticationKeyIssuerID", issuer]
    argv += [f"DEVELOPMENT_TEAM={options.team}"] if options.team else []
    argv += [f"PRODUCT_BUNDLE_IDENTIFIER={options.bundle_id}"] if options.bundle_id else []
    argv += ["EDGESAM_INCREASED_MEMORY=YES"] if options.increased_memory else []
    return [*argv, "CODE_SIGN_STYLE=Automatic"]


def first_error(words: str) -> str | None:
    """Return the first line in which a compiler or xcodebuild reports an error."""
    return next((line.strip() for line in words.splitlines() if re.search(r"\berror: ", line)), None)


def verify_signature(log: CommandLog, app: Path) -> None:
    """Check that an app is signed before a device refuses it with a shorter message.

    Raises:
        BuildFailure: it is not.
    """
    done = run_command(
        ["codesign", "--verify", "--deep", "--strict", str(app)], stem=log.next_stem("codesign"), timeout_s=QUICK_S
    )
    if not done.ok:
        row = classify((), done.stderr, table=BUILD_FAILURES)
        failure = make_failure(
            f"checking the signature of {app.name}", row, (), last_words(done), log=f"{done.log}.stderr"
        )
        raise failure if row else BuildFailure(f"{failure}; build it with --team", kind="not_signed")


def bundle_identifier(app: Path) -> str:
    """Return the bundle identifier in an app's Info.plist.

    Raises:
        BuildFailure: there is no readable Info.plist with an identifier.
    """
    path = app / "Info.plist"
    try:
        contents: Any = plistlib.loads(path.read_bytes())
        identifier = contents["CFBundleIdentifier"]
    except (OSError, ExpatError, KeyError, TypeError, ValueError) as error:
        raise BuildFailure(
            f"{path} names no bundle identifier ({error}); build the app again", kind="build_failed"
        ) from None
    if not isinstance(identifier, str) or not re.fullmatch(r"[A-Za-z0-9.-]+", identifier):
        raise BuildFailure(f"{path} has a strange bundle identifier {identifier!r}", kind="build_failed")
    return identifier
