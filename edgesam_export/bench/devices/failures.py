"""What can go wrong on the way to a device, as data: how to recognise it, what it means, what to do.

A tool reports a chain of nested errors, the outermost being a wrapper. ``classify`` looks at (domain, code) from the
innermost outwards and only then at words, because words change between versions and are translated.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgesam_export.bench.devices.build_failures import BUILD_FAILURES
from edgesam_export.bench.devices.failure_rows import RETRIES, ErrorLink, Failure
from edgesam_export.errors import BuildFailure, DeviceFailure, DeviceNotReady, DeviceSetupFailure

__all__ = [
    "BUILD_FAILURES",
    "FAILURES",
    "RETRIES",
    "ErrorLink",
    "Failure",
    "classify",
    "describe_chain",
    "failure_of_kind",
    "make_failure",
]

CORE = "com.apple.dt.CoreDeviceError"
FBS = "FBSOpenApplicationErrorDomain"
UNLOCK = "unlock the device and keep its screen on"
PAIR = "connect the cable, unlock the device and tap Trust, or run `xcrun devicectl manage pair`"
DEVELOPER_MODE = "switch on Settings > Privacy & Security > Developer Mode and restart the device"
CABLE = "connect the device with a cable"
TRUST = "on the device open Settings > General > VPN & Device Management and trust the developer"
ROOM = "free storage on the device; the models are stored twice, once as pushed and once compiled"
READ_ONLY = "uninstall the app to remove files that it may not change"
REMOVE_APP = "delete an app of this team from the device, or sign with a paid team"
EXPIRED = "build and install the app again: the profile of a free account is valid for 7 days"
CRASHED_AT_ONCE = "start the run again, and look for a crash report of EdgeSAMBench if it persists"
LOOK = "look at the device's screen for a question that waits for an answer"

FAILURES: tuple[Failure, ...] = (
    # what is asked for and its state
    Failure("not_paired", CORE, 2, None, "the device is not paired", PAIR, DeviceNotReady),
    Failure("wifi_only", CORE, 4, None, "no connection over Wi-Fi", CABLE, DeviceNotReady),
    Failure("device_gone", CORE, 1000, None, "the device was not found", CABLE, DeviceNotReady, "reconnect"),
    Failure("device_gone", CORE, 1011, None, "the device was not found", CABLE, DeviceNotReady, "reconnect"),
    Failure(
        "unsupported", CORE, 1001, None, "the device cannot do that", "use a physical iPhone or iPad", DeviceNotReady
    ),
    Failure(
        "developer_mode", CORE, 12040, None, "the developer disk image is not usable", DEVELOPER_MODE, DeviceNotReady
    ),
    # launching: 10002 is a wrapper, the reason lies below
    Failure("locked", FBS, 7, None, "the device is locked", UNLOCK, DeviceNotReady, "unlock"),
    Failure("untrusted", FBS, 3, None, "the developer is not trusted on the device", TRUST, DeviceNotReady),
    Failure("busy", FBS, None, "busy", "the device is busy", LOOK, DeviceNotReady, "busy"),
    # below 12040: the disk image cannot be mounted on a device that is locked
    Failure("locked", "mobiledevice", -402652958, None, "the device is locked", UNLOCK, DeviceNotReady, "unlock"),
    Failure("locked", "mobiledevice", -402653181, None, "the device may be locked", UNLOCK, DeviceNotReady, "unlock"),
    Failure(
        "not_installed", "NSOSStatusErrorDomain", -10814, None, "the app is not installed", "install it", DeviceFailure
    ),
    # Xcode 27: seen on the first launch after an installation, gone a moment later
    Failure(
        "launch_refused",
        "NSPOSIXErrorDomain",
        22,
        None,
        "the launch was refused, which happens right after an installation",
        "start the run again",
        DeviceFailure,
        "transient",
        only_in="launch",
    ),
    Failure(
        "app_exited",
        "FBProcessExit",
        None,
        "exited",
        "the app ended at once",
        CRASHED_AT_ONCE,
        DeviceFailure,
        only_in="launch",
    ),
    # installing: the limits of a free account are reasons below a general refusal, known by their words
    *(
        row
        for domain, code in (("MIInstallerErrorDomain", 13), (CORE, 3002))
        for row in (
            Failure(
                "free_apps",
                domain,
                code,
                "free developer profile",
                "a free account may have three apps on a device",
                REMOVE_APP,
                BuildFailure,
            ),
            Failure(
                "profile_expired",
                domain,
                code,
                "valid provisioning profile|0xe8008011|0xe8008015",
                "no valid profile covers the app and this device",
                EXPIRED,
                BuildFailure,
            ),
        )
    ),
    Failure("bundle_invalid", CORE, 3000, None, "the app bundle is not valid", "build the app again", BuildFailure),
    Failure(
        "install_interrupted",
        "IXRemoteErrorDomain",
        6,
        None,
        "the installation was interrupted",
        "leave the cable alone and try again",
        BuildFailure,
        "once",
    ),
    Failure(
        "install_refused",
        CORE,
        3002,
        None,
        "the device refused the app",
        "check team, profile and free storage, and delete an app of the same identifier from another team",
        BuildFailure,
    ),
    # connections
    Failure("transient", CORE, 4000, None, "the connection broke right away", CABLE, DeviceNotReady, "transient"),
    Failure("transient", "RemotePairingError", 4, None, "the tunnel broke", CABLE, DeviceNotReady, "transient"),
    Failure(
        "device_gone",
        "com.apple.CoreDevice.ControlChannelConnectionError",
        1,
        None,
        "the device left in the middle",
        CABLE,
        DeviceNotReady,
        "reconnect",
    ),
    Failure(
        "device_gone", "Network.NWError", 60, None, "the device does not answer", CABLE, DeviceNotReady, "reconnect"
    ),
    # files
    Failure("file_missing", CORE, 7000, None, "no such file on the device", "wait for it", DeviceFailure, "expected"),
    Failure("source_missing", CORE, 1005, None, "a file to copy is missing", "prepare the run again", DeviceFailure),
    Failure("disk_full", "NSPOSIXErrorDomain", 28, None, "the device has no room left", ROOM, DeviceFailure),
    Failure("disk_full", "NSCocoaErrorDomain", 640, None, "the device has no room left", ROOM, DeviceFailure),
    Failure("not_writable", "NSCocoaErrorDomain", 513, None, "the file cannot be changed", READ_ONLY, DeviceFailure),
    Failure("not_writable", "NSPOSIXErrorDomain", 1, None, "the file cannot be changed", READ_ONLY, DeviceFailure),
    Failure("not_writable", "NSPOSIXErrorDomain", 13, None, "the file cannot be changed", READ_ONLY, DeviceFailure),
    Failure(
        "process_gone", "NSPOSIXErrorDomain", 3, None, "the process has ended", "", DeviceFailure, only_in="terminate"
    ),
    # words, for versions that carry no known code
    Failure(
        "untrusted", None, None, "not been explicitly trusted", "the developer is not trusted", TRUST, DeviceNotReady
    ),
    Failure(
        "locked",
        None,
        None,
        "could not be, unlocked|is locked|device was locked|unlock the device",
        "the device is locked",
        UNLOCK,
        DeviceNotReady,
        "unlock",
    ),
    Failure("developer_mode", None, None, "developer mode", "Developer Mode is off", DEVELOPER_MODE, DeviceNotReady),
    Failure("not_paired", None, None, "must be paired|not paired", "the device is not paired", PAIR, DeviceNotReady),
    Failure(
        "not_installed", None, None, "fbsapplicationlibrary", "the app is not installed", "install it", DeviceFailure
    ),
    Failure(
        "disk_full",
        None,
        None,
        "no space left|not enough space|insufficient storage",
        "no room left",
        ROOM,
        DeviceFailure,
    ),
    Failure(
        "container_missing",
        None,
        None,
        "container not found|no container|container for",
        "the app has no data folder yet",
        "start the app once",
        DeviceFailure,
        only_in="push",
    ),
    Failure(
        "option_unknown",
        None,
        None,
        "unknown option",
        "this version of devicectl lacks an option",
        "update Xcode",
        DeviceSetupFailure,
    ),
    Failure(
        "tool_missing",
        None,
        None,
        "unable to find utility|command not found|no such file or directory: xcrun",
        "devicectl is not to be had",
        "install Xcode 15 or later and select it with `sudo xcode-select -s /Applications/Xcode.app`",
        DeviceSetupFailure,
    ),
    # what the commands themselves do; no error of the tool behind them
    Failure("tool_timeout", None, None, None, "the command did not finish in time", CABLE, DeviceNotReady, "once"),
    Failure(
        "no_answer",
        None,
        None,
        None,
        "the command gave no answer that can be read",
        "try again, and report the log if it persists",
        DeviceFailure,
        "once",
    ),
)
"""Failures of device commands. Among rows that match, the innermost error's wins, then the first of the table."""


def classify(
    chain: Iterable[ErrorLink], words: str = "", *, command: str = "", table: tuple[Failure, ...] = FAILURES
) -> Failure | None:
    """Return the row that explains a chain of errors, outermost first, or what a tool printed; None for the unknown."""
    links = tuple(chain)
    rows = [row for row in table if row.only_in in (None, command)]
    for link in reversed(links):
        for row in rows:
            if row.matches_code(link):
                return row
    for domain, _, text in reversed(links):
        for row in rows:
            if row.matches_text(domain, text.lower()):
                return row
    return next((row for row in rows if row.matches_text(None, words.lower())), None)


def failure_of_kind(kind: str) -> Failure:
    """Return the first row of a kind."""
    return next(row for row in (*FAILURES, *BUILD_FAILURES) if row.kind == kind)


def describe_chain(chain: Iterable[ErrorLink]) -> str:
    """Return a chain in one line, outermost first."""
    links = []
    for domain, code, text in chain:
        number = "" if code is None else f" {code}"
        phrase = " ".join(text.split())
        links.append(f"{domain}{number}{f': {phrase}' if phrase else ''}")
    return " -> ".join(links)


def make_failure(
    what: str, row: Failure | None, chain: tuple[ErrorLink, ...] = (), detail: str = "", *, log: str | None = None
) -> DeviceFailure:
    """Return the exception for a row, or a generic one that carries the whole chain.

    ``what`` names the command and the device, ``detail`` is what is known where there is no chain.
    """
    evidence = describe_chain(chain) or " ".join(detail.split())[:300]
    where = f"; log: {log}" if log else ""
    if row is None:
        return DeviceFailure(f"{what} failed: {evidence or 'no reason was given'}{where}", chain=chain)
    reason = f" ({evidence})" if evidence else ""
    hint = f"; {row.hint}" if row.hint else ""
    return row.error(f"{what} failed: {row.meaning}{reason}{hint}{where}", kind=row.kind, chain=chain)
